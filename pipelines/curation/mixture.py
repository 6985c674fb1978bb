"""Mixture: one index over the clip shards of all trained sources, with the weight of each.

VideoMix22M (V-JEPA 2, section 2.3, table 1). Nothing is copied: a training step draws a source by
its weight, then a sample of that source by the sample's own weight, and reads the clip at its
offset in the source's shard (`pipelines/training/clips.py`). A sample's own weight is its number
of draws for curated YT1B scenes and 1 elsewhere; samples marked "validation" get 0: they are
listed, so that an evaluation finds them, and never trained on. Clips of a video that `duplicates`
found in another bucket or source, too, are not listed but for the copy that is kept.

Nothing is held but one partition's rows at a time: the partitions are gone through in order.

Payload:
    index.parquet       the rows of every clip_shards index plus `partition`, sorted by
                        (source, partition, shard, offset)
    index.arrow         the columns of it that reading takes, to be mapped by every rank: repeated
                        words are kept once
    mixture.json        {"weights": {source: w}, "samples": {source: {...}}}
    quarantine.parquet  empty: what could not be read was quarantined in its own shard stage
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.clip_shards import INDEX
from pipelines.curation.labels import HELD_OUT
from pipelines.curation.sources import mixture_weights
from pipelines.node import source_of
from pipelines.settings import Share, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.errors import InputError
from storage.tables import QUARANTINE, TableWriter, read_batches, write_index, write_table

Columns = dict[str, NDArray[Any]]

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


def ordered_index(part: Artifact, partition: str, left_out: Collection[str] = ()) -> Columns:
    """Columns of MIXTURE_INDEX of one partition, sorted by (shard, offset).

    Args:
        part: its clip_shards.
        partition: its name.
        left_out: ids of videos whose clips are not taken in.
    """
    table = part.columns("index.parquet")
    order = np.lexsort((table["offset"], table["shard"].astype(str)))
    if left_out:
        order = order[~np.isin(table["video_id"][order].astype(str), list(left_out))]
    rows = {name: column[order] for name, column in table.items()}
    rows["weight"] = np.where(rows["split"] == HELD_OUT, 0.0, rows["weight"])
    return {"partition": np.full(len(order), partition, object), **rows}


def source_table(
    rows: Iterable[Columns], weights: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Source -> {weight, samples, held_out, draws, hours} (draws: the sum of the samples' weights).

    `rows`: columns of some rows after others, of one source each.

    Raises:
        ValueError: a source has a weight and no sample to train on.
    """
    table = {
        source: {"weight": weight, "samples": 0, "held_out": 0, "draws": 0.0, "hours": 0.0}
        for source, weight in weights.items()
    }
    for columns in rows:
        if not len(columns["weight"]):
            continue
        source = str(columns["source"][0])
        entry = table.get(source)
        if entry is None:
            raise InputError(
                f"mixture: source {source!r} has clips but no weight; "
                f"sources of the mixture are {', '.join(weights)}"
            )
        trained = columns["weight"] > 0
        entry["samples"] += int(trained.sum())
        entry["held_out"] += int((~trained).sum())
        entry["draws"] += float(columns["weight"].sum())
        entry["hours"] += float(columns["seconds"][trained].sum()) / 3600
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
    parts = inputs.parts("clip_shards")
    copies: dict[str, set[str]] = {}
    for copy in inputs["duplicates"].table("duplicates.parquet", ["partition", "video_id"]):
        copies.setdefault(copy["partition"], set()).add(copy["video_id"])
    names = sorted(parts, key=lambda name: (source_of(name), name))
    path = out.payload / "index.parquet"
    with TableWriter(path, MIXTURE_INDEX) as index:

        def written() -> Iterator[Columns]:
            for name in names:
                columns = ordered_index(parts[name], name, copies.get(name, ()))
                index.write(columns)
                yield columns

        table = source_table(written(), config.weights)
    write_mapped(out.payload / "index.arrow", path)
    record = {"weights": config.weights, "samples": table}
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    (out.payload / "mixture.json").write_text(text)
    write_table(out.payload / "quarantine.parquet", [], QUARANTINE)
    listed = sum(
        len(part.columns("index.parquet", ["offset"])["offset"]) for part in parts.values()
    )
    return {
        "samples": sum(entry["samples"] for entry in table.values()),
        "held_out": sum(entry["held_out"] for entry in table.values()),
        "duplicates": listed - index.rows,
        "sources": table,
    }


def write_mapped(path: Path, index: Path) -> None:
    """Write what reading takes of the index in the form that is mapped."""
    words: dict[str, dict[str, None]] = {name: {} for name in REPEATED}
    for batch in read_batches(index, REPEATED):
        for name, values in batch.items():
            words[name] |= dict.fromkeys(sorted(set(values)))
    known = {name: sorted(values) for name, values in words.items()}
    columns = {name: MIXTURE_INDEX[name] for name in COLUMNS}
    write_index(path, read_batches(index, COLUMNS), columns, known)


COLUMNS = (
    "key", "source", "partition", "shard", "offset", "size", "kind", "fps", "frames", "width",
    "height", "weight", "digest",
)  # fmt: skip
"""What reading a sample takes of the index."""
REPEATED = ("source", "partition", "shard", "kind")
"""Those whose words repeat."""
MIXTURE_INDEX = {"partition": "string"} | INDEX

STAGE = Stage("videomix22m", version=5, config=MixtureConfig, run=run)
