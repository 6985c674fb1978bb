"""The audit: what an artifact was made from and went into, and what nothing refers to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from pipelines.lineage import (
    Unread,
    checkpoints_that_saw,
    descendants,
    find_sources,
    sources,
)
from pipelines.node import Graph
from pipelines.schemas import nearest
from storage import cleaning
from storage.artifacts import ArtifactError, ArtifactStore, Manifest
from storage.digests import digest_file

SHOWN = 20  # source files told in full


def lineage(store: ArtifactStore, graph: Graph, of: str, out: TextIO) -> None:
    """Print the lineage of an asset, of whatever a digest names, or of a file on this machine.

    Raises ArtifactError when nothing in the store answers to the name, with the nearest asset.
    """
    unread: Unread = []
    for manifest, why in _found(store, graph, of, unread):
        print(why, file=out)
        for line in (
            *_made(manifest, store),
            *_ancestry(manifest, store, graph, unread),
            *_descent(manifest, store, unread),
            *_sources(manifest, store),
        ):
            print(f"  {line}", file=out)
    _tell(unread, out)


def _tell(unread: Unread, out: TextIO) -> None:
    """Say once of each manifest that it cannot be read: what is told without it may lack more."""
    for problem in dict.fromkeys(map(str, unread)):
        print(f"not read: {problem}", file=out)


def _found(
    store: ArtifactStore, graph: Graph, of: str, unread: Unread
) -> list[tuple[Manifest, str]]:
    """(manifest, a line that says how the name led to it) for everything that `of` names."""
    path = Path(of)
    asset, _, partition = of.partition("/")
    if asset in graph.by_name:
        shown = list(_shown(store, asset, partition, unread))
        if not shown:
            never = ArtifactError(f"{of} was never materialized: run `vjepa2 run {asset}`")
            raise unread[0] if unread else never
        return [(manifest, manifest.name) for manifest in shown]
    if path.is_file():
        digest = digest_file(path)
        held = store.holders(digest, unread)
        if not held:
            raise ArtifactError(
                f"no artifact of this store holds {of} (sha256 {digest[:16]}…): its bytes were "
                "changed after sealing, or it was made elsewhere; give the other store with --store"
                f"{_of_unread(unread)}"
            )
        return [(m, f"{of} is {_place(m, digest)} of {m.name}") for m in held]
    if re.fullmatch("[0-9a-f]{4,64}", of):
        held = store.holders(of, unread)
        if held:
            return [(m, f"{of} is {_place(m, of)} of {m.name}") for m in held]
        raise ArtifactError(
            f"no artifact, recipe or file of this store has a digest {of}…{_of_unread(unread)}"
        )
    raise ArtifactError(f"{of}: no asset, no file, no digest{nearest(of, graph.by_name)}")


def _shown(store: ArtifactStore, asset: str, partition: str, unread: Unread) -> Iterator[Manifest]:
    for key in store.refs():
        if key[0] == asset and partition in ("", key[1]):
            try:
                if manifest := store.ref(*key):
                    yield manifest
            except ArtifactError as error:
                unread.append(error)


def _of_unread(unread: Unread) -> str:
    return f" ({len(unread)} manifests cannot be read: see `vjepa2 verify`)" if unread else ""


def _place(manifest: Manifest, digest: str) -> str:
    if manifest.content.startswith(digest):
        return "the content"
    if manifest.recipe.startswith(digest):
        return "the recipe"
    return next(entry.path for entry in manifest.files if entry.digest.startswith(digest))


def _made(manifest: Manifest, store: ArtifactStore) -> Iterator[str]:
    record, recipe_inputs = manifest.record, manifest.recipe_inputs
    commit = str(record.get("git_commit") or "unknown")[:12]
    dirty = " with uncommitted changes" if record.get("git_dirty") else ""
    size = f"{len(manifest.files)} files, {manifest.size / 1e6:.3f} MB"
    yield f"content   {manifest.content}  ({size})"
    yield f"recipe    {manifest.recipe}"
    yield f"manifest  {store.place.location}/{manifest.key}"
    yield f"stage     {recipe_inputs['stage']} version {recipe_inputs['version']}"
    yield f"code      commit {commit}{dirty}, sources {str(record.get('source_digest'))[:12]}"
    yield (
        f"ran on    python {record.get('python')}, torch {record.get('torch')}, "
        f"{record.get('device')}, {record.get('workers')} workers, {record.get('seconds')} s"
    )
    for name, value in _leaves(recipe_inputs["config"]):
        yield f"asked     {name} = {value}"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _ancestry(
    manifest: Manifest, store: ArtifactStore, graph: Graph, unread: Unread
) -> Iterator[str]:
    ancestors = store.ancestors(manifest, unread)
    yield f"made from {len(ancestors)} artifacts:"
    order = {asset: -place for place, asset in enumerate(graph.by_name)}
    for parent in sorted(ancestors, key=lambda m: (order.get(m.asset, 1), m.partition or "")):
        shards = sum(entry.path.endswith(".tar") for entry in parent.files)
        held = f"  {shards} shard{'s' * (shards > 1)}" if shards else ""
        yield f"  {_named(parent)}{held}"


def _descent(manifest: Manifest, store: ArtifactStore, unread: Unread) -> Iterator[str]:
    below = descendants(store, manifest, unread)
    if below:
        yield f"went into {len(below)} artifacts:"
    for child in below:
        yield f"  {_named(child)}"


def _named(manifest: Manifest) -> str:
    return f"{manifest.name:<30} content {manifest.content[:12]}  recipe {manifest.recipe[:12]}"


def _sources(manifest: Manifest, store: ArtifactStore) -> Iterator[str]:
    """The files that training could draw clips of (or that are listed, before any training)."""
    found = list(sources(store, manifest, []))  # what is unread was told with the ancestry
    yield f"{len(found)} source files:"
    for source in found[:SHOWN]:
        clips = f", {source.clips} clips" if source.clips else ""
        yield f"  {source.listed.name:<24} {source.path}  sha256 {source.sha256[:16]}…{clips}"
    if len(found) > SHOWN:
        yield f"  … and {len(found) - SHOWN} more, in the payloads of raw_videos and droid_episodes"


def seen(store: ArtifactStore, video: str, out: TextIO) -> None:
    """Print what one video (id, sha256, path) went into: every artifact trained or made with it.

    Raises ArtifactError when no artifact lists such a file.
    """
    unread: Unread = []
    for source in find_sources(store, video, unread):
        print(f"{source.path}  sha256 {source.sha256}  listed in {source.listed.name}", file=out)
    sightings = checkpoints_that_saw(store, video, [])
    if not sightings:
        print("  training could draw no clip of it: nothing was made with it", file=out)
    for sighting in sightings:
        made = sighting.artifact
        print(
            f"  {_named(made)}  through {len(sighting.clips)} clips of {sighting.index.name}",
            file=out,
        )
    _tell(unread, out)


def clean(store: ArtifactStore, days: float, remove: bool, out: TextIO) -> None:
    """Print what nothing refers to, and remove it when asked; days as in `storage.cleaning`."""
    count = size = 0
    for found in list(cleaning.rubbish(store, days)):
        if remove and not cleaning.remove(store, found):
            print(f"kept      {found.path}: somebody needs it now", file=out)
            continue
        count, size = count + 1, size + found.size
        did = "removed" if remove else "unneeded"
        print(f"{did:<9} {found.path}  {found.size / 1e6:.3f} MB: {found.why}", file=out)
    end = "removed" if remove else "may go: `vjepa2 clean --remove` removes them"
    print(f"{count} files and folders, {size / 1e6:.1f} MB, {end}", file=out)
