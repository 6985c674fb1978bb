"""Cleaning: what nothing refers to, in a store on this machine and in the cache.

    objects/<content>   that no manifest names, nor a sealing that was interrupted
    work/<recipe>       that no process holds and nobody touched for some days
    damaged/...         what was set aside, and old copies and notes of the cache

What a manifest names stays, whether a deployment shows it or not: it may be shown again. Of a store
in a bucket the cache alone is cleaned, for only its makers know what is in progress there.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.artifacts import ArtifactStore
from storage.manifests import DAMAGED, ArtifactError

ORPHAN, WORK = "no manifest names it", "work that was given up"
_DAY = 86_400.0  # seconds


@dataclass(frozen=True)
class Rubbish:
    """A file or folder that may go, its size in bytes, and why."""

    path: Path
    size: int
    why: str


def rubbish(store: ArtifactStore, days: float) -> Iterator[Rubbish]:
    """What may be removed; of work, of what was set aside and of the cache, what nobody touched
    for a number of days.
    """
    before = time.time() - days * _DAY
    if store.is_local:
        # Objects first: of one whose sealing ends meanwhile, the note or the manifest is seen.
        objects = _entries(store.local / "objects")
        named = _named(store)
        yield from (_told(path, ORPHAN) for path in objects if path.name not in named)
        for path in _works(store):
            if _touched(path) < before and not _held(store, path.name):
                yield _told(path, WORK)
        yield from _old(_entries(store.local / DAMAGED / "objects"), before, "it was set aside")
    if store.cache is not None:
        yield from _old(store.cache.glob("verified/*/*"), before, "an old note of the cache")
        if not store.is_local and not any(_held(store, w.name) for w in _works(store)):
            yield from _old(_entries(store.local / "objects"), before, "an old copy of the cache")


def remove(store: ArtifactStore, found: Rubbish) -> bool:
    """Remove one of them, unless somebody has begun to need it; returns whether it is gone."""
    if found.why == ORPHAN:
        aside = found.path.with_name(f"{found.path.name}.unnamed")
        found.path.replace(aside)
        if found.path.name in _named(store):
            aside.replace(found.path)
            return False
        shutil.rmtree(aside)
    elif found.why == WORK:
        with suppress(ArtifactError), store.work(found.path.name) as work:
            shutil.rmtree(work)
    elif found.path.is_dir():
        shutil.rmtree(found.path)
    else:
        found.path.unlink(missing_ok=True)
    return not found.path.exists()


def _named(store: ArtifactStore) -> set[str]:
    """Contents that a manifest names, legible or not, or a sealing that may still be finished."""
    named = set()
    for note in (store.local / "work").glob("*/sealing.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            named.add(str(json.loads(note.read_bytes())["content"]))
    keys = store.place.keys("manifests/")
    return named | {Path(key).stem for key in keys if key.endswith(".json")}


def _held(store: ArtifactStore, recipe: str) -> bool:
    try:
        with store.work(recipe):
            return False
    except ArtifactError:
        return True


def _works(store: ArtifactStore) -> list[Path]:
    return [path for path in _entries(store.local / "work") if path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _old(paths: Iterator[Path] | list[Path], before: float, why: str) -> Iterator[Rubbish]:
    yield from (_told(path, why) for path in sorted(paths) if _touched(path) < before)


def _whole(path: Path) -> Iterator[Path]:
    yield path
    yield from path.rglob("*")


def _touched(path: Path) -> float:
    """When anything below a path was last changed, or a file read, in seconds since 1970."""
    states = [(p.is_file(), p.lstat()) for p in _whole(path)]
    # A folder is read by whoever looks into it, as is done here.
    return max(max(state.st_mtime, is_file * state.st_atime) for is_file, state in states)


def _told(path: Path, why: str) -> Rubbish:
    return Rubbish(path, sum(p.lstat().st_size for p in _whole(path) if p.is_file()), why)
