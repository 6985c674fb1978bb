"""Lineage: from a checkpoint back to every video, from a video on to all that saw it.

Between artifacts it is a walk over manifests; inside them, the parquet tables say which clip comes
from which file. Nothing but the store is asked, and only the tables of it are fetched.

    sources(store, manifest)            the source videos and robot recordings behind an artifact
    checkpoints_that_saw(store, video)  what was made with one video or recording
    descendants(store, manifest)        what was made with one artifact
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from storage.artifacts import ArtifactError, ArtifactStore, Manifest


@dataclass(frozen=True)
class _Kind:
    """Where a kind of source file is listed, and the index of what was trained on."""

    listed_in: str
    table: str
    identity: str
    path: str
    digest: str
    indexed_in: str
    foreign: str
    """The index's column that holds the source's identity."""


_KINDS = (
    _Kind("raw_videos", "videos.parquet", "video_id", "path", "sha256", "videomix22m", "video_id"),
    _Kind("droid_episodes", "episodes.parquet", "episode", "mp4", "mp4_sha256",
          "episode_shards", "episode"),
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One source file: a raw video (or image), or the recording of a robot episode."""

    listed: Manifest
    """The raw_videos or droid_episodes artifact that lists it."""
    identity: str
    """video_id, or the episode's id."""
    path: str
    """Relative to the media root, which is `listed.record["media"]`."""
    sha256: str
    clips: int = 0
    """How many clips of it training could draw (`sources` only)."""


@dataclass(frozen=True)
class Sighting:
    """An artifact that was made with a video."""

    artifact: Manifest
    index: Manifest
    """The mixture or episode shards through which it came in."""
    clips: tuple[str, ...]
    """Keys of the clips of that video that training could draw."""


Unread = list[ArtifactError]
"""Where questions note which manifests cannot be read; without it, the first of them raises."""


def sources(
    store: ArtifactStore, manifest: Manifest, unread: Unread | None = None
) -> Iterator[Source]:
    """The source files whose clips training could draw for an artifact, in order of path.

    An artifact that no training set lies behind (a table of scenes, say) has those that its
    raw_videos or droid_episodes list, with `clips` 0.
    """
    lineage = [manifest, *store.ancestors(manifest, unread)]
    for kind in _KINDS:
        indices = [m for m in lineage if m.asset == kind.indexed_in]
        drawn: Counter[tuple[str, str]] = Counter()
        for index in indices:
            drawn.update((clip.partition, clip.identity) for clip in _drawable(store, kind, index))
        for listed in sorted((m for m in lineage if m.asset == kind.listed_in), key=_by_name):
            for found in _listed(store, kind, listed):
                clips = drawn[str(listed.partition), found.identity]
                if clips or not indices:
                    yield replace(found, clips=clips)


def find_sources(store: ArtifactStore, video: str, unread: Unread | None = None) -> list[Source]:
    """Source files by video id or episode, by SHA-256 (or its beginning), by path or file name.

    Raises:
        ArtifactError: no artifact of the store lists such a file.
    """
    found = [
        source
        for kind in _KINDS
        for manifest in store.manifests(unread=unread)
        if manifest.asset == kind.listed_in
        for source in _listed(store, kind, manifest)
        if video in (source.path, Path(source.path).name, source.identity)
        or (len(video) >= 6 and source.sha256.startswith(video))
    ]
    if not found:
        raise ArtifactError(
            f"no raw_videos or droid_episodes of {store.place.location} list {video!r}; give a "
            "video id, a sha256 (6 digits or more) or a path as in videos.parquet"
        )
    return found


def checkpoints_that_saw(
    store: ArtifactStore, video: str, unread: Unread | None = None
) -> list[Sighting]:
    """Every encoder, world model, report and bundle that was made with a video or robot recording.

    `video` is what `find_sources` takes. A video counts as seen when training could draw a clip of
    it: curation may have dropped all its scenes, a validation clip is not trained on, and a source
    may have weight 0.

    Raises:
        ArtifactError: no artifact of the store lists such a file.
    """
    identities = {source.identity for source in find_sources(store, video, unread)}
    manifests = list(store.manifests(unread=None if unread is None else []))
    sightings: dict[str, Sighting] = {}
    for kind in _KINDS:
        for index in (m for m in manifests if m.asset == kind.indexed_in):
            seen = (clip for clip in _drawable(store, kind, index) if clip.identity in identities)
            clips = tuple(clip.key for clip in seen)
            for artifact in _below(manifests, index) if clips else ():
                sighting = Sighting(artifact, index, clips)
                sightings[f"{artifact.key} {index.key}"] = sighting
    return sorted(sightings.values(), key=lambda s: (_by_name(s.artifact), s.artifact.key))


def descendants(
    store: ArtifactStore, manifest: Manifest, unread: Unread | None = None
) -> list[Manifest]:
    """Everything that was made with an artifact, nearest first, each once.

    A child counts when it was made with these bytes under this name, whichever recipe they
    came from: recipes hold contents, so one child may serve under several.
    """
    return _below(list(store.manifests(unread=unread)), manifest)


def _below(manifests: list[Manifest], manifest: Manifest) -> list[Manifest]:
    found: dict[str, Manifest] = {}
    queue = [manifest]
    while queue:
        parent = queue.pop(0)
        for child in manifests:
            used = child.parents.get(parent.name)
            if used and used[1] == parent.content and child.key not in found:
                found[child.key] = child
                queue.append(child)
    return list(found.values())


class _Clip(NamedTuple):
    partition: str
    identity: str
    key: str


def _drawable(store: ArtifactStore, kind: _Kind, index: Manifest) -> Iterator[_Clip]:
    """Every clip of an index that training could draw."""
    artifact = store.handle(index)
    if kind.indexed_in != "videomix22m":
        columns = artifact.columns("index.parquet", [kind.foreign, "key"])
        for identity, key in zip(columns[kind.foreign], columns["key"], strict=True):
            yield _Clip(str(index.partition), identity, key)
        return
    weights = index.recipe_inputs["config"]["weights"]
    names = ("partition", kind.foreign, "key", "weight", "source")
    columns = artifact.columns("index.parquet", names)
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    for partition, identity, key, weight, source in rows:
        if weight > 0 and weights[source] > 0:
            yield _Clip(partition, identity, key)


def _listed(store: ArtifactStore, kind: _Kind, manifest: Manifest) -> Iterator[Source]:
    columns = (kind.identity, kind.path, kind.digest)
    table = store.handle(manifest).columns(kind.table, columns)
    for identity, path, digest in zip(*(table[name] for name in columns), strict=True):
        yield Source(manifest, identity, path, digest)


def _by_name(manifest: Manifest) -> tuple[str, str]:
    return manifest.asset, manifest.partition or ""
