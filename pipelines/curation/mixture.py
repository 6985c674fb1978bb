"""Mixture: one index over the clip shards of all trained sources, with the weight of each.

VideoMix22M (V-JEPA 2, section 2.3, table 1). Nothing is copied: a training step draws a source by
its weight, then a sample of that source by the sample's own weight, and reads the clip at its
offset in the source's shard (`pipelines/training/clips.py`). A sample's own weight is its number
of draws for curated YT1B scenes and 1 elsewhere; samples marked "validation" get 0: they are
listed, so that an evaluation finds them, and never trained on. Clips of a video that `duplicates`
found in another bucket or source, too, are not listed but for the copy that is kept.

Payload:
    index.parquet       the rows of every clip_shards index plus `partition`, sorted by
                        (source, partition, shard, offset)
    mixture.json        {"weights": {source: w}, "samples": {source: {...}}}
    quarantine.parquet  empty: what could not be read was quarantined in its own shard stage
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any

from pipelines.curation.clip_shards import INDEX
from pipelines.curation.labels import HELD_OUT
from pipelines.curation.sources import mixture_weights
from pipelines.settings import Share, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.errors import InputError
from storage.tables import QUARANTINE, write_table

_TOLERANCE = 1e-6


@settings
class MixtureConfig:
    """What share of the training clips each source gives."""

    weights: dict[str, Share] = field(default_factory=mixture_weights)
    """Probability that a training clip comes from each source (table 1); 0 leaves one out. They
    must sum to 1."""

    def __post_init__(self) -> None:
        total = sum(self.weights.values())
        if abs(total - 1) > _TOLERANCE:
            listed = " + ".join(f"{name} {weight}" for name, weight in self.weights.items())
            raise ValueError(f"weights: {listed} = {total:.6g}; they must sum to 1")


def merged_index(
    parts: Mapping[str, Sequence[Mapping[str, Any]]],
    left_out: Collection[tuple[str, str]] = (),
) -> list[dict[str, Any]]:
    """The indices of all partitions as one, sorted by (source, partition, shard, offset).

    Args:
        parts: partition -> rows of its index.parquet.
        left_out: (partition, video id) of videos whose clips are not taken in.
    """
    rows = [
        {**row, "partition": name, "weight": 0.0 if row["split"] == HELD_OUT else row["weight"]}
        for name, index in parts.items()
        for row in index
        if (name, row["video_id"]) not in left_out
    ]
    return sorted(rows, key=lambda row: tuple(row[column] for column in ORDER))


def source_table(
    rows: Sequence[Mapping[str, Any]], weights: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Source -> {weight, samples, held_out, draws, hours} (draws: the sum of the samples' weights).

    Raises:
        ValueError: a source has a weight and no sample to train on.
    """
    table = {
        source: {"weight": weight, "samples": 0, "held_out": 0, "draws": 0.0, "hours": 0.0}
        for source, weight in weights.items()
    }
    for row in rows:
        entry = table.get(row["source"])
        if entry is None:
            raise InputError(
                f"mixture: source {row['source']!r} has clips but no weight; "
                f"sources of the mixture are {', '.join(weights)}"
            )
        if row["weight"] > 0:
            entry["samples"] += 1
            entry["draws"] += row["weight"]
            entry["hours"] += row["seconds"] / 3600
        else:
            entry["held_out"] += 1
    for source, entry in table.items():
        if entry["weight"] > 0 and not entry["samples"]:
            held = f" ({entry['held_out']} are for validation)" if entry["held_out"] else ""
            raise InputError(
                f"mixture: source {source} has weight {entry['weight']} but no clip to train "
                f"on{held}; add files to it, or set videomix22m.weights.{source}=0 and raise the "
                "others"
            )
    return table


def run(config: MixtureConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Merge the indices of all clip shards and check that every weighted source has clips."""
    parts = {
        name: part.table("index.parquet") for name, part in inputs.parts("clip_shards").items()
    }
    copies = inputs["duplicates"].table("duplicates.parquet", ["partition", "video_id"])
    rows = merged_index(parts, {(copy["partition"], copy["video_id"]) for copy in copies})
    weights = config.weights
    table = source_table(rows, weights)
    write_table(out.payload / "index.parquet", rows, MIXTURE_INDEX)
    record = {"weights": weights, "samples": table}
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    (out.payload / "mixture.json").write_text(text)
    write_table(out.payload / "quarantine.parquet", [], QUARANTINE)
    return {
        "samples": sum(entry["samples"] for entry in table.values()),
        "held_out": sum(entry["held_out"] for entry in table.values()),
        "duplicates": sum(map(len, parts.values())) - len(rows),
        "sources": table,
    }


ORDER = ("source", "partition", "shard", "offset")
MIXTURE_INDEX = {"partition": "string"} | INDEX

STAGE = Stage("videomix22m", version=4, config=MixtureConfig, run=run)
