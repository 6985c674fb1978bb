"""The audit: what an artifact was made from and went into, and what nothing refers to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from pipelines.lineage import Unread, descendants, sources
from pipelines.node import Graph
from pipelines.schemas import nearest
from pipelines.training.drawn import TABLE, Drawn, behind, checkpoint_of, rows
from storage import cleaning
from storage.artifacts import ArtifactError, ArtifactStore, Manifest
from storage.digests import digest_file
from storage.manifests import manifest_key
from storage.tables import TableWriter

SHOWN = 20  # source files told in full


def lineage(store: ArtifactStore, graph: Graph, of: str, draws: Path | None, out: TextIO) -> None:
    """Print the lineage of an asset, of whatever a digest names, or of a file on this machine.

    Every sample that its trainings drew, with how often, is written to `draws` (parquet).
    Raises ArtifactError when nothing in the store answers to the name, with the nearest asset.
    """
    unread: Unread = []
    tables: list[dict[str, Any]] = []
    for manifest, why, upto in found(store, graph, of, unread):
        print(why, file=out)
        drawn = trainings(manifest, store, upto, unread)
        tables += [rows(store, each) for each in drawn]
        for line in (
            *_made(manifest, store),
            *_ancestry(manifest, store, unread),
            *_descent(manifest, store, unread),
            *(line for each in drawn for line in _drawn(each, store)),
            *_sources(manifest, store, drawn),
        ):
            print(f"  {line}", file=out)
    if draws is not None:
        print(f"{_write(draws, tables)} drawn samples are listed in {draws}", file=out)
    tell(unread, out)


def _write(path: Path, tables: list[dict[str, Any]]) -> int:
    try:
        with TableWriter(path, TABLE) as table:
            for columns in tables:
                table.write(columns)
    except OSError as error:
        raise ArtifactError(f"--draws {path}: {error}; give a file that can be written") from None
    return sum(len(columns["draws"]) for columns in tables)


def trainings(
    manifest: Manifest, store: ArtifactStore, upto: int | None, unread: Unread
) -> list[Drawn]:
    """What the trainings behind an artifact drew; nothing where a manifest cannot be read."""
    try:
        return behind(store, manifest, upto)
    except ArtifactError as error:
        unread.append(error)
        return []


def _drawn(drawn: Drawn, store: ArtifactStore) -> Iterator[str]:
    """How many samples a training drew, by source."""
    table = rows(store, drawn)
    instead = f", {drawn.replaced} of them instead of an unreadable one" if drawn.replaced else ""
    yield (
        f"{drawn.training.name} drew {drawn.total.sum()} samples of {drawn.index.name} in "
        f"{drawn.steps} steps{instead}:"
    )
    for source in sorted(set(table["source"])):
        here = table["source"] == source
        yield (
            f"  {source:<24} {table['draws'][here].sum()} draws of {here.sum()} clips, "
            f"{len(set(table['scene'][here]) - {''})} scenes, "
            f"{len(set(table['video'][here]))} files"
        )


def _by_file(store: ArtifactStore, drawn: list[Drawn]) -> Counter[tuple[str, str]]:
    """(partition, id of the video or episode) -> draws."""
    found: Counter[tuple[str, str]] = Counter()
    for each in drawn:
        table = rows(store, each)
        for *file, number in zip(table["partition"], table["video"], table["draws"], strict=True):
            found[str(file[0]), str(file[1])] += int(number)
    return found


def tell(unread: Unread, out: TextIO) -> None:
    """Say once of each manifest that it cannot be read: what is told without it may lack more."""
    for problem in dict.fromkeys(map(str, unread)):
        print(f"not read: {problem}", file=out)


def found(
    store: ArtifactStore, graph: Graph, of: str, unread: Unread
) -> list[tuple[Manifest, str, int | None]]:
    """(manifest, a line that says how the name led to it, the steps behind it where it is of a
    checkpoint) for everything that `of` names.
    """
    path = Path(of)
    asset, _, partition = of.partition("/")
    if asset in graph.by_name:
        shown = list(_shown(store, asset, partition, unread))
        if not shown:
            never = ArtifactError(f"{of} was never materialized: run `vjepa2 run {asset}`")
            raise unread[0] if unread else never
        return [(manifest, manifest.name, None) for manifest in shown]
    if path.is_file():
        digest = digest_file(path)
        held = store.holders(digest, unread)
        if not held:
            raise ArtifactError(
                f"no artifact of this store holds {of} (sha256 {digest[:16]}…): its bytes were "
                "changed after sealing, or it was made elsewhere; give the other store with --store"
                f"{_of_unread(unread)}"
            )
        return [_held(m, of, digest) for m in held]
    if re.fullmatch("[0-9a-f]{4,64}", of):
        held = store.holders(of, unread)
        _refuse_several(of, held)
        if held:
            return [_held(m, of, of) for m in held]
        raise ArtifactError(
            f"no artifact, recipe or file of this store has a digest {of}…{_of_unread(unread)}"
        )
    raise ArtifactError(f"{of}: no asset, no file, no digest{nearest(of, graph.by_name)}")


def _refuse_several(of: str, held: list[Manifest]) -> None:
    """Refuse the beginning of a digest that is also the beginning of another one."""
    named = {
        digest: manifest.name
        for manifest in held
        for digest in (manifest.recipe, manifest.content, *(e.digest for e in manifest.files))
        if digest.startswith(of)
    }
    if len(named) > 1:
        told = ", ".join(
            f"{digest[: len(of) + 6]}… ({n})" for digest, n in sorted(named.items())[:4]
        )
        raise ArtifactError(f"{of} fits {len(named)} digests: {told}; give more digits")


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


def _held(manifest: Manifest, of: str, digest: str) -> tuple[Manifest, str, int | None]:
    place = _place(manifest, digest)
    return manifest, f"{of} is {place} of {manifest.name}", checkpoint_of(place)


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


def _ancestry(manifest: Manifest, store: ArtifactStore, unread: Unread) -> Iterator[str]:
    """What an artifact was made from, as a tree in which every artifact stands once."""
    known = {parent.key: parent for parent in store.ancestors(manifest, unread)}
    yield f"made from {len(known)} artifacts:"
    yield from _branches(manifest, known, {manifest.key}, "  ")


def _branches(
    manifest: Manifest, known: Mapping[str, Manifest], shown: set[str], indent: str
) -> Iterator[str]:
    parents = [known.get(manifest_key(*pair)) for _, pair in sorted(manifest.parents.items())]
    fresh = [parent for parent in parents if parent and parent.key not in shown]
    shown.update(parent.key for parent in fresh)
    for parent in fresh:
        shards = sum(entry.path.endswith(".tar") for entry in parent.files)
        held = f"  {shards} shard{'s' * (shards > 1)}" if shards else ""
        yield f"{indent}{_named(parent)}{held}"
        yield from _branches(parent, known, shown, f"{indent}  ")


def _descent(manifest: Manifest, store: ArtifactStore, unread: Unread) -> Iterator[str]:
    below = descendants(store, manifest, unread)
    if below:
        yield f"went into {len(below)} artifacts:"
    for child in below:
        yield f"  {_named(child)}"


def _named(manifest: Manifest) -> str:
    return f"{manifest.name:<30} content {manifest.content[:12]}  recipe {manifest.recipe[:12]}"


def _sources(manifest: Manifest, store: ArtifactStore, drawn: list[Drawn]) -> Iterator[str]:
    """The files that training could draw clips of (or that are listed, before any training)."""
    found = list(sources(store, manifest, []))  # what is unread was told with the ancestry
    yield f"{len(found)} source files:"
    times = _by_file(store, drawn)
    for source in found[:SHOWN]:
        clips = f", {source.clips} clips" if source.clips else ""
        if drawn:
            clips += f", drawn {times[str(source.listed.partition), source.identity]} times"
        yield f"  {source.listed.name:<24} {source.path}  sha256 {source.sha256[:16]}…{clips}"
    if len(found) > SHOWN:
        yield f"  … and {len(found) - SHOWN} more, in the payloads of raw_videos and droid_episodes"


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
