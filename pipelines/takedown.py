"""Taking a video down: who holds it, the line that bans its bytes, and what has to be made again.

holdings(graph, store, video)           every artifact that a video is in, and how
ban(store, listed_at, video, ...)       its line in the list of takedowns
concerned(graph, profile, store, bans)  what the deployment shows of what was made from it
record(store, banned, stale, held)      all of it, signed and logged
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipelines.graph import Key, upstream_keys
from pipelines.lineage import (
    Sighting,
    Source,
    Unread,
    checkpoints_that_saw,
    descendants,
    find_sources,
)
from pipelines.node import Graph, Held, Node, Profile, source_of
from pipelines.training.drawn import behind, of_keys
from storage.artifacts import ArtifactError, ArtifactStore, Manifest
from storage.digests import canonical_json, digest_file
from storage.envelopes import statement
from storage.takedowns import Takedown, TakedownError, add

TAKEDOWN = "urn:vjepa2:takedown"
"""What kind of statement the signed record of a takedown makes."""


@dataclass(frozen=True)
class Holding:
    """An artifact that a video is in."""

    artifact: Manifest
    how: str
    """`3 scenes`, or how often trainings drew it."""


def holdings(
    graph: Graph, store: ArtifactStore, video: str, unread: Unread | None = None
) -> list[Holding]:
    """Every artifact that a video (or robot recording) is in, those that list it first.

    `video` is what `lineage.find_sources` takes. Raises ArtifactError when nothing lists it.
    """
    found: dict[str, Holding] = {}
    listed = find_sources(store, video, unread)
    for source in listed:
        family = [source.listed, *descendants(store, source.listed, unread)]
        named = {source.identity} | {i for m in family for i in _scenes(store, m, source)}
        for manifest in family:
            if (held := _held(graph, manifest)) is None or manifest.key in found:
                continue
            if rows := _rows(store, manifest, held, str(source.listed.partition), named):
                found[manifest.key] = Holding(manifest, f"{rows} {held.row}{'s' * (rows > 1)}")
    for identity in {source.identity for source in listed}:
        for seen in checkpoints_that_saw(store, identity, unread):
            found.setdefault(seen.artifact.key, Holding(seen.artifact, _drew(store, seen)))
    return list(found.values())


def _drew(store: ArtifactStore, seen: Sighting) -> str:
    """How often the trainings behind an artifact drew a video, its own at each checkpoint."""
    clips = f"{len(seen.clips)} clip{'s' * (len(seen.clips) > 1)}"
    try:
        found = [d for d in behind(store, seen.artifact) if d.index.content == seen.index.content]
    except ArtifactError:  # a manifest behind it cannot be read: its order is not known
        found = []
    if not found:
        return f"training could draw {clips} of it through {seen.index.name}"
    counts = [(drawn, of_keys(store, drawn, seen.clips)) for drawn in found]
    times = [
        f"{drawn.training.name} {number[drawn.steps]} times in {drawn.steps} steps"
        for drawn, number in counts
    ]
    own = next((n for d, n in counts if d.training.key == seen.artifact.key), {})
    by_step = ", ".join(f"{number} by step {step}" for step, number in own.items())
    total = sum(number[drawn.steps] for drawn, number in counts)
    return (
        f"drawn {total} times ({clips} through {seen.index.name}): {'; '.join(times)}"
        f"{f'; its checkpoints: {by_step}' if len(own) > 1 else ''}"
    )


def _scenes(store: ArtifactStore, manifest: Manifest, source: Source) -> Iterator[str]:
    if manifest.asset == "scenes":
        names = ["video_id", "scene_id"]
        table = store.handle(manifest).columns("scenes.parquet", names)
        yield from table["scene_id"][table["video_id"] == source.identity].tolist()


def _held(graph: Graph, manifest: Manifest) -> Held | None:
    """The table that the declaration of an artifact's asset names; of another graph's none."""
    node = graph.by_name.get(manifest.asset)
    return node.held if node else None


def _rows(
    store: ArtifactStore, manifest: Manifest, held: Held, listed_in: str, named: set[str]
) -> int:
    """How many rows of an artifact's table are of the video or one of its scenes."""
    artifact, table = store.handle(manifest), held.path.format(listed_in)
    if not artifact.has(table):
        return 0
    column = artifact.columns(table, [held.column])[held.column]
    return int(np.isin(column.astype(str), list(named)).sum())


def ban(store: ArtifactStore, listed_at: str, video: str, reason: str, date: str) -> Takedown:
    """Note in the list at `listed_at` that a file must never be used again; returns its line.

    `video` is what `lineage.find_sources` takes, a file of this machine, or the whole SHA-256 of a
    file that no ingest has met yet; `date` is a day, YYYY-MM-DD.

    Raises:
        TakedownError: the name fits several files or a robot recording, or there is no reason.
        ArtifactError: no ingest has met the file, and its digest is not given.
    """
    file = Path(video)
    wanted = digest_file(file) if file.is_file() else video
    try:
        found = find_sources(store, wanted)
    except ArtifactError:
        if not re.fullmatch("[0-9a-f]{64}", wanted):
            raise
        found = []
    if robots := [source for source in found if source.listed.asset != "raw_videos"]:
        raise TakedownError(
            f"{video} is a recording of {robots[0].listed.name}; videos of raw_videos can be taken "
            "down, a recording is removed from its folder"
        )
    digests = sorted({source.sha256 for source in found} or {wanted})
    if len(digests) > 1:
        raise TakedownError(f"{video} fits {len(digests)} files; give one of {', '.join(digests)}")
    if found:
        found = find_sources(store, digests[0])  # wherever else these bytes were met
    try:
        line = Takedown(
            digests[0], reason, date, tuple(sorted(set(_marks(found)))),
            tuple(sorted({(source_of(str(s.listed.partition)), s.path) for s in found})),
        )  # fmt: skip
    except ValueError as error:
        raise TakedownError(f"takedown of {video}: {error}") from None
    return add(listed_at, line)


def _marks(found: list[Source]) -> Iterator[str]:
    """What listings of buckets called the bytes."""
    for source in found:
        mark = source.listed.recipe_inputs.get("external_inputs", {}).get(source.path)
        if mark and mark != source.sha256:
            yield mark


def concerned(
    graph: Graph, profile: Profile, store: ArtifactStore, banned: Takedown
) -> dict[Key, Manifest]:
    """What the deployment shows of the partitions that list a file, and of all made from them:
    all of it is stale, upstream first.
    """
    reached: set[Key] = set()  # also through what is missing
    found: dict[Key, Manifest] = {}
    for node in graph.nodes:
        for partition in graph.keys(node.asset, profile):
            key, first = (node.asset, partition), node.asset == "raw_videos"
            if not first and reached.isdisjoint(upstream_keys(graph, node, partition, profile)):
                continue
            shown = store.ref(*key)
            if first and not (shown and _lists(node, store, shown, banned)):
                continue
            reached.add(key)
            if shown:
                found[key] = shown
    return found


def record(
    store: ArtifactStore, banned: Takedown, stale: Mapping[Key, Manifest], held: Mapping[str, str]
) -> str:
    """Sign and log what was decided and what has to be made again; returns the key's id, "" where
    the store signs nothing. `held` says of manifests' keys how the file is in them.
    """
    if store.signatures is None:
        return ""
    remake = [
        {"name": m.name, "recipe": m.recipe, "content": m.content, "holds": held.get(m.key, "")}
        for m in stale.values()
    ]
    decided = {**asdict(banned), "deployment": store.deployment, "remake": remake}
    told = statement({"video": banned.sha256}, TAKEDOWN, json.loads(canonical_json(decided)))
    return store.signatures.record(told).keyid


def _lists(node: Node, store: ArtifactStore, raw: Manifest, banned: Takedown) -> bool:
    return bool(node.held and _rows(store, raw, node.held, "", {banned.sha256[:32]}))
