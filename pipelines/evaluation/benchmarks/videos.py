"""The files of a benchmark: each listed item with its class number and side, and what is missing.

Inputs: none. Payload, beside that of `raw_videos` (videos.parquet, quarantine.parquet, media/):
    items.parquet    one row for each listed item whose file is whole
    missing.parquet  listed items without one: no file, or a broken one, with its reason
    classes.json     names of the classes in the order of their numbers
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Annotated, Any

from pipelines.curation import ingest
from pipelines.curation.annotations.sheets import Sheets
from pipelines.curation.ingest import RawVideosConfig
from pipelines.curation.labels import Labels
from pipelines.curation.probing import COLUMNS, counts, described, sorted_out
from pipelines.curation.source_config import GENERATED, SourceConfig
from pipelines.evaluation.benchmarks.films import Film, annotation_files, filmed, films_of
from pipelines.evaluation.benchmarks.listing import Item, listed
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.execution import ExecutionConfig
from pipelines.isolation import Limits
from pipelines.settings import NOT_EMPTY, Count, Natural, SettingError, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.errors import InputError
from storage.media import open_media
from storage.places import write_file
from storage.tables import QUARANTINE, read_table, write_table
from storage.takedowns import takedowns
from storage.work import Work

ITEMS = {
    "key": "string", "path": "string", "label": "string", "number": "int32", "split": "string",
    "video_id": "string", "sha256": "string", "kind": "string", "frames": "int64",
    "fps": "float64", "seconds": "float64", "width": "int32", "height": "int32",
}  # fmt: skip
MISSING = {"key": "string", "label": "string", "split": "string", "reason": "string"}


@settings
class PlaceConfig:
    """Where the files of one benchmark lie."""

    location: Annotated[str, NOT_EMPTY] = GENERATED
    """A folder, `s3://bucket/prefix`, or "generated"."""
    annotations_at: Annotated[str, NOT_EMPTY] | None = None
    """Where its annotation files lie; None: with the films."""


@settings
class GeneratedConfig:
    """What is filmed where no data is at hand."""

    train: Count = 320
    """Films to learn from, of each benchmark."""
    validation: Count = 160
    """Films to ask about."""
    seed: Natural = 0
    """Another seed gives other films."""


@settings
class BenchmarkVideosConfig:
    """Where the benchmarks lie."""

    places: dict[str, PlaceConfig] = field(
        default_factory=lambda: {name: PlaceConfig() for name in BENCHMARKS}
    )
    """Benchmark -> where it lies; a partition each."""
    generated: GeneratedConfig = field(default_factory=GeneratedConfig)
    """What is filmed for those whose location is "generated"."""
    limits: Limits = field(default_factory=Limits)
    """What the decoding of one file may take; what takes more counts as missing."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.places) - set(BENCHMARKS)):
            raise ValueError(f"places names {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")


def of_benchmark(config: BenchmarkVideosConfig, partition: str | None) -> BenchmarkVideosConfig:
    """What one partition depends on."""
    name = str(partition)
    place = config.places[name]
    kept = config.generated if place.location == GENERATED else GeneratedConfig()
    return BenchmarkVideosConfig(places={name: place}, generated=kept, limits=config.limits)


def _source(name: str, place: PlaceConfig, location: str) -> SourceConfig:
    if location == GENERATED:
        if place.annotations_at:
            raise SettingError(
                f"benchmark_videos.places.{name}.annotations_at is of files that there are: set "
                "location to their folder, too"
            )
        return SourceConfig()
    return SourceConfig(
        location=location, annotations=BENCHMARKS[name].format, annotations_at=place.annotations_at
    )


def observe(
    config: BenchmarkVideosConfig, partition: str | None, execution: ExecutionConfig
) -> dict[str, Any]:
    """Digests of the files of a benchmark, and which of them were taken down."""
    name = str(partition)
    place = config.places[name]
    raw = RawVideosConfig(sources={name: _source(name, place, place.location)})
    return ingest.observe(raw, name, execution)


def run(config: BenchmarkVideosConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Film what is to be generated, or ingest what is there; then join with the lists."""
    [(name, place)] = config.places.items()
    benchmark, location = BENCHMARKS[name], place.location
    if location == GENERATED:
        location = str(out.payload / "media")
        paths, metrics = _filmed(name, config.generated, out)
    else:
        source = _source(name, place, location)
        asked = ingest.PartitionConfig(source=source, limits=config.limits)
        metrics = ingest.run(asked, inputs, out)
        paths = open_media(location).listing().paths
    found = listed(benchmark, Sheets(benchmark.format, location, place.annotations_at), paths)
    rows = {row["path"]: row for row in read_table(out.payload / "videos.parquet")}
    broken = {row["item"]: row["reason"] for row in read_table(out.payload / "quarantine.parquet")}
    present = [_row(item, rows[item.path]) for item in found.items if item.path in rows]
    absent = list(_absent(found.items, rows, broken))
    if not present:
        raise InputError(f"{location}: none of {len(found.items)} listed files of {name} is there")
    write_table(out.payload / "items.parquet", present, ITEMS)
    write_table(out.payload / "missing.parquet", absent, MISSING)
    write_file(out.payload / "classes.json", json.dumps(found.classes, indent=1).encode())
    return metrics | {
        "classes": len(found.classes),
        "unlabelled": found.unlabelled,
        "listed": dict(Counter(item.split for item in found.items)),
        "missing": dict(Counter(row["split"] for row in absent)),
    }


def _filmed(name: str, config: GeneratedConfig, out: Workspace) -> tuple[list[str], dict[str, Any]]:
    """Paths and metrics of generated films, which tasks make and describe."""
    films = films_of(name, config.train, config.validation, config.seed)
    for file, data in annotation_files(name, films).items():
        write_file(out.payload / "media" / file, data)
    chunks = {films[n].key: (films[n : n + 16], out.work) for n in range(0, len(films), 16)}
    made = out.map(_make, chunks, noun=f"chunks of films of {name}")
    described_by = {path: row for some in made.values() for path, row in some.items()}
    taken = {line.sha256: line.reason for line in takedowns(out.execution.takedowns)}
    labels = Labels({film.path: (film.label, film.split) for film in films}, {})
    rows, reasons = sorted_out(described_by, name, labels, False, taken)
    aside = [{"item": p, "stage": "benchmark_videos", "reason": r} for p, r in reasons.items()]
    write_table(out.payload / "videos.parquet", rows, COLUMNS)
    write_table(out.payload / "quarantine.parquet", aside, QUARANTINE)
    told = counts(rows) | {"media": "payload", "quarantined": len(aside)}
    return [film.path for film in films], told


def _make(item: tuple[list[Film], Work]) -> dict[str, dict[str, Any]]:
    films, work = item
    rows = {}
    for film in films:
        data = filmed(film)
        rows[film.path] = described(data)
        work.put(f"payload/media/{film.path}", data)
    return rows


def _row(item: Item, video: Mapping[str, Any]) -> dict[str, Any]:
    told = {"key": item.key, "label": item.label, "number": item.number, "split": item.split}
    return {name: video[name] for name in ITEMS if name not in told} | told


def _absent(
    items: tuple[Item, ...], rows: Mapping[str, Any], broken: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for item in items:
        if item.path not in rows:
            reason = broken.get(str(item.path), "there is no file of it")
            yield {"key": item.key, "label": item.label, "split": item.split, "reason": reason}


STAGE = Stage(
    "benchmark_videos", version=1, config=BenchmarkVideosConfig, run=run, narrow=of_benchmark,
    observe=observe,
)  # fmt: skip
