"""Raw videos: every file of a source probed, digested and listed; broken ones set aside.

A source is a folder, an S3 prefix (`s3://bucket/prefix`) or the generated internet. A row in
videos.parquet means that every frame of the file was decoded once without a complaint. The files of
a folder or bucket stay where they are; generated ones are part of the payload.

Payload:
    videos.parquet      one row a file, sorted by path
    quarantine.parquet  files that cannot be used, each with its reason
    media/              the files themselves, where the source is generated

Labels come from a `labels.csv` (columns path, label, split) at the top of the source, as the
generator writes it; split is train or validation. Other annotation layouts have to be brought into
this form.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.compute import map_items
from pipelines.curation.internet import (
    CountsConfig,
    InternetConfig,
    StyleConfig,
    SyntheticVideo,
    make,
    synthetic_videos,
)
from pipelines.stage import ExecutionConfig, Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.digests import digest_bytes, digest_json
from storage.media import MediaError, open_media
from storage.pictures import VideoError
from storage.places import write_file
from storage.tables import QUARANTINE, write_table
from storage.video import probe

GENERATED = "generated"
LABELS = "labels.csv"
SPLITS = ("train", "validation")
SOURCES = ("ssv2", "kinetics", "howto100m", "yt1b", "imagenet", "coin", "epic_kitchens")
COLUMNS = {
    "video_id": "string", "source": "string", "path": "string", "sha256": "string",
    "bytes": "int64", "kind": "string", "container": "string", "codec": "string", "width": "int32",
    "height": "int32", "fps": "float64", "frames": "int64", "seconds": "float64",
    "label": "string", "split": "string",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where one source comes from."""

    location: str = GENERATED
    """A folder, `s3://bucket/prefix`, or "generated"."""
    buckets: int = 1
    """Partitions; a file belongs to one by the digest of its path."""
    accept_damaged: bool = False
    """Keep files in which some frames are lost or corrupt (what they decode to may vary)."""

    def __post_init__(self) -> None:
        if not self.location:
            raise ValueError("location is empty; give a folder, s3://bucket/prefix or 'generated'")
        if not 1 <= self.buckets <= 4096:
            raise ValueError(f"buckets is {self.buckets}; give 1 to 4096")


@dataclass(frozen=True, kw_only=True)
class SourcesConfig:
    """Every source of VideoMix22M and every retrieval target."""

    ssv2: SourceConfig = SourceConfig()
    """Something-Something v2: labelled, trained on, a target."""
    kinetics: SourceConfig = SourceConfig()
    """Kinetics 400/600/700: labelled, trained on, a target."""
    howto100m: SourceConfig = SourceConfig()
    """HowTo100M: trained on."""
    yt1b: SourceConfig = SourceConfig()
    """YT-Temporal-1B, the pool that is cut and curated."""
    imagenet: SourceConfig = SourceConfig()
    """ImageNet-1K: pictures, trained on as still clips."""
    coin: SourceConfig = SourceConfig()
    """COIN: a target only."""
    epic_kitchens: SourceConfig = SourceConfig()
    """EPIC-Kitchens: a target only."""


@dataclass(frozen=True, kw_only=True)
class RawVideosConfig:
    """Where the videos come from."""

    sources: SourcesConfig = field(default_factory=SourcesConfig)
    """One entry for each source."""
    internet: InternetConfig = field(default_factory=InternetConfig)
    """What is generated for sources whose location is "generated"."""


@dataclass(frozen=True, kw_only=True)
class PartitionConfig:
    """What one partition depends on: its source, and the internet only where it is generated."""

    source: SourceConfig
    count: int = 0
    broken: int = 0
    style: StyleConfig | None = None


def partition_config(config: RawVideosConfig, partition: str | None) -> PartitionConfig:
    """The part of the config that a partition (`ssv2`, `yt1b-03`) depends on."""
    name, _ = split_partition(partition)
    source = getattr(config.sources, name)
    if source.location != GENERATED:
        return PartitionConfig(source=source)
    counts: CountsConfig = config.internet.counts
    return PartitionConfig(
        source=source,
        count=getattr(counts, name),
        broken=counts.broken if name in ("yt1b", "ssv2") else 0,
        style=config.internet.style,
    )


def split_partition(partition: str | None) -> tuple[str, int]:
    """Source and bucket: `yt1b-03` -> (yt1b, 3), `ssv2` -> (ssv2, 0)."""
    match = re.fullmatch(r"(\w+?)(?:-(\d+))?", partition or "")
    if not match or match[1] not in SOURCES:
        raise ValueError(f"raw_videos has no partition {partition!r}; sources are {SOURCES}")
    return match[1], int(match[2] or 0)


def bucket_of(path: str, buckets: int) -> int:
    """Which of `buckets` the file at a path (relative to its source, posix) belongs to."""
    return int(digest_bytes(path.encode())[:16], 16) % buckets


def observe(
    config: RawVideosConfig, partition: str | None, execution: ExecutionConfig
) -> dict[str, str]:
    """What lies outside the store: path -> digest of each file of this partition, and the labels.

    Digests of local files are kept in `execution.cache` and taken again when size or time changed;
    of S3 objects the ETag stands for the content.
    """
    name, bucket = split_partition(partition)
    source: SourceConfig = getattr(config.sources, name)
    if source.location == GENERATED:
        return {}
    media = open_media(source.location)
    here = [path for path in media.paths() if bucket_of(path, source.buckets) == bucket]
    labels = [LABELS] if media.has(LABELS) else []
    book = f"{digest_json([media.location, source.buckets, bucket])[:32]}.json"
    return media.digests([*here, *labels], execution.cache / "digests" / book)


def run(config: PartitionConfig, _: Inputs, out: Workspace) -> dict[str, Any]:
    """Probe and digest every file of the partition."""
    name, bucket = split_partition(out.partition)
    buckets = config.source.buckets
    if config.style is not None:
        files = synthetic_videos(name, config.count, config.broken, config.style)
        mine = {video.path: video for video in files}
        chosen = [path for path in sorted(mine) if bucket_of(path, buckets) == bucket]
        _write_labels(out.payload / "media" / LABELS, [mine[path] for path in chosen])
        items = {path: (mine[path], config.style, out.payload / "media" / path) for path in chosen}
        location = str(out.payload / "media")
        results = map_items(_generate, items, out, noun=f"{name} files")
    else:
        location = config.source.location
        chosen = [p for p in open_media(location).paths() if bucket_of(p, buckets) == bucket]
        results = map_items(_ingest, {p: (location, p) for p in chosen}, out, noun=f"{name} files")
    rows, aside = _sorted_out(results, config.source.accept_damaged)
    labels = read_labels(location)
    for row in rows:
        label, split = labels.get(row["path"], (None, None))
        row |= {"source": name, "label": label, "split": split}
    write_table(out.payload / "videos.parquet", rows, COLUMNS)
    write_table(out.payload / "quarantine.parquet", aside, QUARANTINE)
    return {
        "media": "payload" if config.style is not None else open_media(location).location,
        "videos": sum(row["kind"] == "video" for row in rows),
        "images": sum(row["kind"] == "image" for row in rows),
        "quarantined": len(aside),
        "bytes": sum(row["bytes"] for row in rows),
        "frames": sum(row["frames"] for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 3),
    }


def read_media(artifact: Artifact, row: Mapping[str, Any]) -> bytes:
    """The bytes of one row of videos.parquet (or of any table with its path and sha256).

    Raises:
        MediaError: the file is gone, or its bytes are not those that were ingested.
    """
    media = artifact.record["media"]
    location = str(artifact.path / "media") if media == "payload" else media
    data = open_media(location).read(row["path"])
    if digest_bytes(data) != row["sha256"]:
        raise MediaError(
            f"{location}: {row['path']} is no longer the file that was ingested (sha256 "
            f"{row['sha256'][:12]}); put it back or materialize raw_videos again"
        )
    return data


def read_labels(location: str) -> dict[str, tuple[str | None, str | None]]:
    """Path -> (label, split) from the labels.csv of a source; empty where there is none.

    Raises:
        MediaError: a column is missing, or a split is neither train nor validation.
    """
    media = open_media(location)
    if not media.has(LABELS):
        return {}
    where = f"{location}: {LABELS}"
    try:
        table = csv.DictReader(io.StringIO(media.read(LABELS).decode("utf-8-sig")))
        rows = list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise MediaError(f"{where} cannot be read ({error}); save it as UTF-8 CSV") from None
    if missing := {"path", "label"} - set(table.fieldnames or ()):
        raise MediaError(f"{where} has no column {sorted(missing)}; give path,label,split")
    labels: dict[str, tuple[str | None, str | None]] = {}
    for number, row in enumerate(rows, 2):
        split = row.get("split") or None
        if split not in (None, *SPLITS):
            raise MediaError(f"{where} line {number}: split {split!r} is not one of {SPLITS}")
        labels[row["path"]] = (row["label"] or None, split)
    return labels


def _generate(item: tuple[SyntheticVideo, StyleConfig, Path]) -> dict[str, Any]:
    video, style, target = item
    data = make(video, style)
    write_file(target, data)
    return _described(data)


def _ingest(item: tuple[str, str]) -> dict[str, Any]:
    location, path = item
    try:
        return _described(open_media(location).read(path))
    except MediaError as error:
        return {"reason": str(error)}


def _described(data: bytes) -> dict[str, Any]:
    """A row of videos.parquet, or the reason why there is none."""
    try:
        found = probe(data)
    except VideoError as error:
        return {"reason": str(error), "sha256": digest_bytes(data)}
    digest = digest_bytes(data)
    row: dict[str, Any] = {name: getattr(found, name) for name in COLUMNS if hasattr(found, name)}
    row |= {"video_id": digest[:32], "sha256": digest, "bytes": len(data)}
    return row | {"damaged": found.damaged, "fault": found.fault}


def _sorted_out(
    results: Mapping[str, dict[str, Any]], accept_damaged: bool
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows that go on, and the quarantine with its reasons."""
    rows: list[dict[str, Any]] = []
    aside: list[dict[str, str]] = []
    first: dict[str, str] = {}  # sha256 -> path
    for path, result in results.items():
        reason = result.get("reason")
        damaged, fault = result.pop("damaged", 0), result.pop("fault", None)
        if reason is None and fault and not accept_damaged:
            reason = f"damaged ({damaged} of {result['frames']} frames bad): {fault}"
        elif reason is None and result["sha256"] in first:
            reason = f"same bytes as {first[result['sha256']]}"
        if reason is None:
            first[result["sha256"]] = path
            rows.append({**result, "path": path})
        else:
            aside.append({"item": path, "stage": STAGE.name, "reason": reason})
    return rows, aside


def _write_labels(path: Path, files: list[SyntheticVideo]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "label", "split"))
    table.writerows((p.path, p.label, p.split) for p in files if not p.breakage)
    write_file(path, text.getvalue().encode())


STAGE = Stage(
    "raw_videos", version=2, config=RawVideosConfig, run=run, narrow=partition_config,
    observe=observe,
)  # fmt: skip
