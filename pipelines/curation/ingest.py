"""Raw videos: every file of a source probed, digested and listed; broken ones set aside.

A source is a folder, an S3 prefix (`s3://bucket/prefix`), the tars in either, a list of addresses,
or the generated internet. A row in videos.parquet means that every frame of the file was decoded
once without a complaint. The files of a folder or bucket stay where they are, those of addresses
are fetched into the store; generated ones are part of the payload.

Payload:
    videos.parquet      one row a file, sorted by path
    segments.parquet    one row a segment, where the clips of a source are segments of its files
    quarantine.parquet  files that cannot be used, each with its reason
    media/              the files themselves, where the source is generated

A file that was taken down is quarantined under whatever name its bytes come, and those of generated
ones are not in the payload. The takedowns of its own files are part of a partition's recipe.

Labels and segments come from the annotation files of the source, see `annotations`; the metrics say
how many items of this bucket they name and how many of these are files.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any

from pipelines.answers import FetchConfig
from pipelines.curation import fetched_sources
from pipelines.curation.annotations.segments import write_segments
from pipelines.curation.annotations.sheets import Sheets
from pipelines.curation.bookkeeping import note
from pipelines.curation.internet import SyntheticVideo, make, synthetic_videos
from pipelines.curation.labels import LABELS, Labels, write_labels
from pipelines.curation.partitions import belongs, bucket_number, bucket_of
from pipelines.curation.probing import COLUMNS, File, counts, described, probed, sorted_out
from pipelines.curation.source_config import GENERATED, SourceConfig
from pipelines.curation.sources import POOL, SOURCES, Source
from pipelines.curation.themes import StyleConfig, Theme
from pipelines.execution import ExecutionConfig
from pipelines.isolation import Limits
from pipelines.node import source_of
from pipelines.settings import Natural, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.confined import in_tables
from storage.digests import digest_bytes, digest_json
from storage.errors import InputError
from storage.media import FETCHED, MediaError, listings_kept, open_files, open_media
from storage.tables import QUARANTINE, write_table
from storage.takedowns import takedowns
from storage.work import Work

TAKEN_DOWN = "/takedowns"
# Films of a moving camera that one task makes: some 15 ms each, the others take up to a second.
_AT_ONCE = 16


@settings
class InternetConfig:
    """The generated internet."""

    counts: dict[str, Natural] = field(default_factory=lambda: {s.name: s.files for s in SOURCES})
    """Files of each source; the first ones stay the same when a number grows."""
    broken: Natural = 6
    """Broken files of each source that has some: cut short, empty, a web page, ..."""
    themes: dict[str, Theme] = field(default_factory=lambda: {s.name: s.theme for s in SOURCES})
    """What the files of each source show."""
    style: StyleConfig = field(default_factory=StyleConfig)
    """What all sources have in common."""


@settings
class RawVideosConfig:
    """Where the videos come from."""

    sources: dict[str, SourceConfig] = field(
        default_factory=lambda: {s.name: SourceConfig() for s in SOURCES}
    )
    """One entry for each source."""
    internet: InternetConfig = field(default_factory=InternetConfig)
    """What is generated for sources whose location is "generated"."""
    limits: Limits = field(default_factory=Limits)
    """What the decoding of one file may take; what takes more is quarantined."""
    fetch: FetchConfig = field(default_factory=FetchConfig)
    """How files are fetched that a source names by their addresses."""


def generated(sources: Sequence[Source] = SOURCES, **buckets: int) -> RawVideosConfig:
    """Some sources, all of them generated; `buckets` says how many partitions one has, if not 1."""
    return RawVideosConfig(
        sources={s.name: SourceConfig(buckets=buckets.get(s.name, 1)) for s in sources},
        internet=InternetConfig(
            counts={s.name: s.files for s in sources}, themes={s.name: s.theme for s in sources}
        ),
    )


@settings
class PartitionConfig:
    """What one partition depends on: its source, and the internet only where it is generated."""

    source: SourceConfig
    limits: Limits | None = None
    count: Natural = 0
    broken: Natural = 0
    style: StyleConfig | None = None
    theme: Theme | None = None


def partition_config(config: RawVideosConfig, partition: str | None) -> PartitionConfig:
    """The part of the config that a partition (`ssv2`, `yt1b-03`) depends on."""
    name, source, _ = located(config, partition)
    if source.location != GENERATED:
        return PartitionConfig(source=source, limits=config.limits)
    internet = config.internet
    return PartitionConfig(
        source=source,
        count=internet.counts[name],
        broken=internet.broken if internet.themes[name].broken else 0,
        style=internet.style,
        theme=internet.themes[name],
    )


def located(config: RawVideosConfig, partition: str | None) -> tuple[str, SourceConfig, int]:
    """Source, its settings and the bucket of a partition: `yt1b-03` -> (yt1b, ..., 3).

    Raises:
        ValueError: the sources of `config` have no such partition.
    """
    name = source_of(partition or "")
    source, bucket = config.sources.get(name), bucket_number(partition)
    if source is None or bucket >= source.buckets:
        raise InputError(
            f"raw_videos has no partition {partition!r}; sources are {', '.join(config.sources)}"
        )
    return name, source, bucket


def observe(
    config: RawVideosConfig, partition: str | None, execution: ExecutionConfig
) -> dict[str, Any]:
    """What lies outside the recipe: path -> digest of each file of this partition, and the labels;
    and, under a name that no file has, which of these files were taken down, and why.

    Digests of local files are kept in `execution.cache` and taken again when size or time changed;
    of S3 objects the ETag stands for the content.
    """
    name, source, bucket = located(config, partition)
    listed = takedowns(execution.takedowns)
    if source.location == GENERATED:  # its bytes are not known before they are made
        contents = {}
        mine = [
            t for t in listed if t.lay_in(name, lambda p: bucket_of(p, source.buckets) == bucket)
        ]
    else:
        contents = _contents(source, str(partition), bucket, execution)
        mine = [t for t in listed if not {t.sha256, *t.marks}.isdisjoint(contents.values())]
    return contents | ({TAKEN_DOWN: {t.sha256: t.reason for t in mine}} if mine else {})


def prepare(
    config: RawVideosConfig, partition: str | None, execution: ExecutionConfig, store: str
) -> None:
    """Fetch what a partition of addresses lacks."""
    _, source, bucket = located(config, partition)
    if source.reader == "addresses":
        fetched_sources.fetch(source, config.fetch, str(partition), bucket, execution, store)


def _contents(
    source: SourceConfig, partition: str, bucket: int, execution: ExecutionConfig
) -> dict[str, str]:
    """Path -> what names the content of each file of a bucket, and of the annotation files."""
    if source.reader == "addresses":
        return fetched_sources.contents(source, partition, bucket, execution)
    media = open_media(source.media)
    books, sheets = execution.cache / "digests", source.sheets
    mine = f"{digest_json([media.location, source.buckets, bucket])[:32]}.json"
    here = sheets.share(bucket, source.buckets)
    return media.digests(here, books / mine) | sheets.digests(books)


def run(config: PartitionConfig, _: Inputs, out: Workspace) -> dict[str, Any]:
    """Probe and digest every file of the partition."""
    name, bucket = source_of(str(out.partition)), bucket_number(out.partition)
    taken = {line.sha256: line.reason for line in takedowns(out.execution.takedowns)}
    mine = functools.partial(belongs, bucket=bucket, of=config.source.buckets)
    if config.style is not None and config.theme is not None:
        videos = synthetic_videos(name, config.theme, config.count, config.broken, config.style)
        files = {video.path: video for video in videos if mine(video.path)}
        write_labels(out.payload / "media" / LABELS, [files[path] for path in sorted(files)])
        making = [files[path] for path in sorted(files)]
        results = _generated(config.theme, config.style, making, taken, out)
        told = Sheets("plain", str(out.payload / "media")).told(list(files), list(files), mine)
    elif config.source.reader == "addresses":
        told, limits = fetched_sources.told(config.source, bucket), config.limits or Limits()
        results = fetched_sources.described(told.listed, limits, STAGE.version, out)
    else:
        with listings_kept():
            listing = open_media(config.source.media).listing()
            here = config.source.sheets.share(bucket, config.source.buckets)
            told = config.source.sheets.told(here, listing.paths, mine)
        tasks = _files(config, told.listed, listing.marks, out)
        results = out.map(probed, tasks, noun=f"{name} files")
    labels = Labels(told.of_files(), told.twice)
    rows, reasons = sorted_out(results, name, labels, config.source.accept_damaged, taken)
    segments = write_segments(out.payload / "segments.parquet", rows, told)
    aside = [
        {"item": in_tables(path), "stage": STAGE.name, "reason": reason}
        for path, reason in sorted((reasons | told.refused | segments.refused).items())
    ]
    write_table(out.payload / "videos.parquet", rows, COLUMNS)
    write_table(out.payload / "quarantine.parquet", aside, QUARANTINE)
    return counts(rows) | told.metrics() | segments.metrics() | {
        "media": _media(config, out),
        "quarantined": len(aside),
    }  # fmt: skip


def _media(config: PartitionConfig, out: Workspace) -> str:
    """Where the media lie, as `read_media` is told."""
    if config.source.reader == "addresses":
        return f"{FETCHED}{out.results.store}"
    return "payload" if config.style else open_media(config.source.media).location


def _files(
    config: PartitionConfig, paths: Sequence[str], marks: Mapping[str, str], out: Workspace
) -> dict[str, File]:
    """Path -> what a task is told of the file: its content is the one that the recipe names."""
    seen = {path: name for path, name in out.observed.items() if path != TAKEN_DOWN}
    known = {path: name for path, name in seen.items() if not name.startswith("unreadable")}
    return {
        path: File(
            config.source.media, path, marks.get(path), known.get(path),
            config.limits or Limits(), STAGE.version, out.results,
            cut=source_of(str(out.partition)) == POOL,
        )
        for path in paths
    }  # fmt: skip


def read_media(artifact: Artifact, row: Mapping[str, Any]) -> bytes:
    """The bytes of one row of videos.parquet (or of any table with its path and sha256).

    Raises:
        MediaError: the file is gone, or its bytes are not those that were ingested.
    """
    media = artifact.record["media"]
    if media == "payload":
        location, data = f"{artifact.location}/media", artifact.read(f"media/{row['path']}")
    else:
        mark = row["sha256"] if media.startswith(FETCHED) else None
        location, data = media, open_files(media).read(row["path"], mark)
    if digest_bytes(data) != row["sha256"]:
        raise MediaError(
            f"{location}: {row['path']} is no longer the file that was ingested (sha256 "
            f"{row['sha256'][:12]}); put it back or materialize raw_videos again"
        )
    return data


def _generated(
    theme: Theme,
    style: StyleConfig,
    videos: Sequence[SyntheticVideo],
    taken: Collection[str],
    out: Workspace,
) -> dict[str, dict[str, Any]]:
    """Path -> description of each file, a task making so many that it lasts for a while."""
    size = _AT_ONCE if theme.moves == "camera" else 1
    chunks = {
        videos[first].path: (videos[first : first + size], style, frozenset(taken), out.work)
        for first in range(0, len(videos), size)
    }
    noun = f"{'' if size == 1 else 'chunks of '}{source_of(str(out.partition))} files"
    made = out.map(_generate, chunks, noun=noun)
    return {path: row for rows in made.values() for path, row in rows.items()}


def _generate(
    item: tuple[Sequence[SyntheticVideo], StyleConfig, frozenset[str], Work],
) -> dict[str, dict[str, Any]]:
    videos, style, taken, work = item
    rows = {}
    for video in videos:
        data = make(video, style)
        rows[video.path] = described(data)
        if rows[video.path]["sha256"] not in taken:
            work.put(f"payload/media/{video.path}", data)
    return rows


STAGE = Stage(
    "raw_videos", version=6, config=RawVideosConfig, run=run, narrow=partition_config,
    observe=observe, prepare=prepare, note=note,
)  # fmt: skip
