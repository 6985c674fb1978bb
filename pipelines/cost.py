"""What so many videos would cost: rates of runs that were made here, times hours of video.

Every rate is that of artifacts which the deployment shows, and names them: seconds times workers of
their records, over the hours of video of the raw_videos that they were made from. Stages that start
anew for a few small files tell more than they will cost by the thousand; what resumed half-way, and
what found in the store what is known of its files, less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.node import Graph
from storage.artifacts import ArtifactStore, Manifest
from storage.errors import InputError


@dataclass(frozen=True)
class Films:
    """The videos that are asked about."""

    count: int
    seconds: float
    """Of all together."""

    @property
    def hours(self) -> float:
        """The same in hours."""
        return self.seconds / 3600


@dataclass(frozen=True)
class Rate:
    """What one stage took in earlier runs."""

    asset: str
    device: str
    """cpu or cuda: whether its seconds are those of cores or of GPUs."""
    worker_seconds: float
    """Seconds times workers; an hour of video, or of a training, all of it."""
    size: float
    """Bytes of payload and, of raw_videos, of the files; the same way."""
    source: str
    """Which artifacts say so, for people."""
    by_hour: bool = True
    """Whether it is of an hour of video; else of a training, however many videos there are."""


def films(videos: str, mean_seconds: float) -> Films:
    """Some videos by their number, or by a list: a file of one `path` or `path,seconds` a line.

    A line without seconds has the mean's. Raises InputError for what is neither, and for a line
    whose length is none.
    """
    if videos.isdecimal() and int(videos):
        return Films(int(videos), int(videos) * mean_seconds)
    count, seconds = 0, 0.0
    try:
        with Path(videos).open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f"videos {videos!a}: line {number}"
                    count, seconds = count + 1, seconds + _length(line, where, mean_seconds)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"videos {videos!a}: {error}; give a number from 1, or a file of lines path,seconds"
        ) from None
    if not count:
        raise InputError(f"videos {videos!a}: has no line; give one path or path,seconds a line")
    return Films(count, seconds)


def _length(line: str, where: str, otherwise: float) -> float:
    """The seconds of a line, or `otherwise` where it has none (nothing stands after its path)."""
    _, comma, length = line.rpartition(",")
    if not comma or not length.strip():
        return otherwise
    try:
        told = float(length)
    except ValueError:
        told = -1.0
    if not 0 <= told < float("inf"):
        raise InputError(
            f"{where}: {length.strip()!a} is no length; give seconds from 0, or nothing after the "
            "last comma"
        )
    return told


def measured(graph: Graph, store: ArtifactStore) -> tuple[list[Rate], float]:
    """Rates of the stages that the deployment shows, and the mean length of its videos, seconds.

    Raises:
        InputError: nothing that it shows has an hour of video behind it.
    """
    shown = [m for key in store.refs() if (m := store.ref(*key))]
    raw = [m for m in shown if m.asset == "raw_videos"]
    # Those of a generator spend their time on making the films.
    real = [m for m in raw if m.record.get("media") != "payload"] or raw
    videos = sum(m.record["metrics"]["videos"] for m in real)
    if not videos:
        raise InputError(
            f"{store.place.location} shows no videos to take rates from: run `vjepa2 run` on some "
            "of yours first (raw_videos.sources.<source>.location)"
        )
    costs = {node.asset: node.costs for node in graph.nodes}
    by_hour = [
        _rate(store, asset, _of(asset, shown, real)) for asset in costs if costs[asset] == "by_hour"
    ]
    by_step = [_training(m) for m in shown if costs.get(m.asset) == "by_step"]
    mean = sum(m.record["metrics"]["seconds"] for m in real) / videos
    return [rate for rate in (*by_hour, *by_step) if rate], mean


def _of(asset: str, shown: Iterable[Manifest], real: Iterable[Manifest]) -> list[Manifest]:
    """The artifacts of an asset, of the same partitions as the raw videos that are taken."""
    partitions = {m.partition for m in real}
    return [m for m in shown if m.asset == asset and m.partition in partitions]


def _rate(store: ArtifactStore, asset: str, made: list[Manifest]) -> Rate | None:
    hours = sum(seconds for m in made for seconds in _seconds_behind(store, m)) / 3600
    if not hours:
        return None
    size = sum(m.size for m in made)
    if asset == "raw_videos":  # the files, which a generator has in its payload
        size = sum(m.record["metrics"]["bytes"] for m in made)
    spent = sum(_spent(m) for m in made) / hours
    return Rate(asset, made[0].record["device"], spent, size / hours, _named(made, hours))


def _seconds_behind(store: ArtifactStore, manifest: Manifest) -> Iterator[float]:
    """Seconds of video of the raw_videos that an artifact is, or was made from: its parents, or
    those of its partition that lie further back.
    """
    if manifest.asset == "raw_videos":
        yield manifest.record["metrics"]["seconds"]
        return
    above = [store.manifest(*p) for n, p in manifest.parents.items() if n.startswith("raw_videos/")]
    for raw in above or store.ancestors(manifest):
        if raw.asset == "raw_videos" and (above or raw.partition == manifest.partition):
            yield raw.record["metrics"]["seconds"]


def _training(made: Manifest) -> Rate:
    clips, spent = made.record["metrics"]["clips"], _spent(made)
    source = f"{clips:,} clips of {made.name} {made.content[:12]}, {clips / spent:.3g} a second"
    return Rate(made.asset, made.record["device"], spent, float(made.size), source, by_hour=False)


def _spent(manifest: Manifest) -> float:
    return float(manifest.record["seconds"] * manifest.record["workers"])


def _named(made: list[Manifest], hours: float) -> str:
    first = f"{made[0].name} {made[0].content[:12]}"
    more = f" and {len(made) - 1} more" if len(made) > 1 else ""
    films = " (with the making of the films)" if _makes_films(made[0]) else ""
    return f"{hours:.3g} hours of {first}{more}{films}"


def _makes_films(manifest: Manifest) -> bool:
    return manifest.asset == "raw_videos" and manifest.record.get("media") == "payload"
