"""The films of EPIC-KITCHENS-100 and every action in them, from its own tables.

Inputs: none. Payload, beside that of `raw_videos`:
    segments.parquet   one row for each action whose film is whole
    missing.parquet    actions without one, each with its reason
    classes.json       names of verbs and nouns, unseen participants, rare verbs and nouns
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, field, replace
from typing import Annotated, Any

from pipelines.curation import ingest
from pipelines.curation.annotations.sheets import Sheets
from pipelines.curation.ingest import RawVideosConfig
from pipelines.curation.labels import Labels
from pipelines.curation.probing import COLUMNS, counts, described, sorted_out
from pipelines.curation.source_config import GENERATED, SourceConfig
from pipelines.evaluation.anticipation.kitchens import (
    Kitchen,
    annotation_files,
    filmed,
    kitchens_of,
)
from pipelines.evaluation.anticipation.tables import Segment, read_tables
from pipelines.execution import ExecutionConfig
from pipelines.isolation import Limits
from pipelines.settings import NOT_EMPTY, Count, Natural, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.errors import InputError
from storage.places import write_file
from storage.tables import QUARANTINE, read_table, write_table
from storage.takedowns import takedowns
from storage.work import Work

NAME = "epic_kitchens_100"
SEGMENTS = {
    "name": "string", "participant": "string", "video": "string", "start": "float64",
    "stop": "float64", "start_frame": "int64", "stop_frame": "int64", "verb": "int32",
    "noun": "int32", "split": "string", "path": "string", "sha256": "string", "fps": "float64",
    "frames": "int64", "seconds": "float64",
}  # fmt: skip
MISSING = {"name": "string", "video": "string", "split": "string", "reason": "string"}


@settings
class KitchenFilmsConfig:
    """Where the films lie, or how many are made."""

    location: Annotated[str, NOT_EMPTY] = GENERATED
    """A folder, `s3://bucket/prefix`, or "generated"."""
    annotations_at: Annotated[str, NOT_EMPTY] | None = None
    """Where the tables lie; None: with the films."""
    train: Count = 40
    """Films that are made to learn from."""
    validation: Count = 15
    """Films that are made to ask about; each film has four actions."""
    seed: Natural = 0
    """Another seed makes other films."""
    limits: Limits = field(default_factory=Limits)
    """What the decoding of one file may take."""


def _source(config: KitchenFilmsConfig) -> SourceConfig:
    if config.location == GENERATED:
        return SourceConfig()
    return SourceConfig(
        location=config.location, annotations="epic-kitchens-100",
        annotations_at=config.annotations_at,
    )  # fmt: skip


def observe(
    config: KitchenFilmsConfig, _: str | None, execution: ExecutionConfig
) -> dict[str, Any]:
    """Digests of the films and tables, and which films were taken down."""
    return ingest.observe(RawVideosConfig(sources={NAME: _source(config)}), NAME, execution)


def run(config: KitchenFilmsConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Make the films or ingest those that are there; then join them with the tables."""
    location = config.location
    if location == GENERATED:
        location = str(out.payload / "media")
        metrics = _made(config, out)
    else:
        asked = ingest.PartitionConfig(source=_source(config), limits=config.limits)
        metrics = ingest.run(asked, inputs, _named(out))
    tables = read_tables(Sheets("epic-kitchens-100", location, config.annotations_at).documents())
    rows = read_table(out.payload / "videos.parquet")
    films = {row["path"].rpartition("/")[2].partition(".")[0]: row for row in rows}
    broken = {
        row["item"].rpartition("/")[2].partition(".")[0]: row["reason"]
        for row in read_table(out.payload / "quarantine.parquet")
    }
    present = [_row(s, films[s.video]) for s in tables.segments if s.video in films]
    absent = [
        {"name": s.name, "video": s.video, "split": s.split,
         "reason": broken.get(s.video, "there is no film of it")}
        for s in tables.segments if s.video not in films
    ]  # fmt: skip
    if not present:
        raise InputError(f"{location}: no film of {len(tables.segments)} actions is there")
    write_table(out.payload / "segments.parquet", present, SEGMENTS)
    write_table(out.payload / "missing.parquet", absent, MISSING)
    told = {
        "verbs": tables.verbs, "nouns": tables.nouns, "unseen": sorted(tables.unseen),
        "tail_verbs": sorted(tables.tail_verbs), "tail_nouns": sorted(tables.tail_nouns),
        "asked": [s.name for s in tables.side("validation")],
    }  # fmt: skip
    write_file(out.payload / "classes.json", json.dumps(told, indent=1).encode())
    return metrics | {
        "listed": dict(Counter(s.split for s in tables.segments)),
        "missing": dict(Counter(row["split"] for row in absent)),
    }


def _named(out: Workspace) -> Workspace:
    """The same workspace, for an ingest that wants to know its source."""
    return replace(out, partition=NAME)


def _row(segment: Segment, film: Mapping[str, Any]) -> dict[str, Any]:
    return asdict(segment) | {
        name: film[name] for name in ("path", "sha256", "fps", "frames", "seconds")
    }


def _made(config: KitchenFilmsConfig, out: Workspace) -> dict[str, Any]:
    kitchens = kitchens_of(config.train, config.validation, config.seed)
    for name, data in annotation_files(kitchens).items():
        write_file(out.payload / "media" / name, data)
    tasks = {kitchen.path: (kitchen, out.work) for kitchen in kitchens}
    made = out.map(_make, tasks, noun="kitchen films")
    taken = {line.sha256: line.reason for line in takedowns(out.execution.takedowns)}
    labels = Labels({kitchen.path: (None, kitchen.split) for kitchen in kitchens}, {})
    rows, reasons = sorted_out(made, NAME, labels, False, taken)
    aside = [{"item": p, "stage": "kitchen_films", "reason": r} for p, r in reasons.items()]
    write_table(out.payload / "videos.parquet", rows, COLUMNS)
    write_table(out.payload / "quarantine.parquet", aside, QUARANTINE)
    return counts(rows) | {"media": "payload", "quarantined": len(aside)}


def _make(item: tuple[Kitchen, Work]) -> dict[str, Any]:
    kitchen, work = item
    data = filmed(kitchen)
    work.put(f"payload/media/{kitchen.path}", data)
    return described(data)


STAGE = Stage("kitchen_films", version=1, config=KitchenFilmsConfig, run=run, observe=observe)
