"""Duplicates: equal files in several buckets or sources, and which of the copies is trained on.

Files are equal when their bytes are, so that their video ids are. Of equal files one is kept by
`turn`, which asks nothing of the order in which they are found: one that is held out comes first,
then one with a label, then the first by source and path. The others are left out of the mixture,
but for those that are held out themselves: each of these answers for its own source, and a file
that is held out anywhere is trained on nowhere.

Ids are dealt to files of the scratch folder by a hash, and each of these is looked through alone:
what is held grows with the copies, not with the videos. Paths and labels are read of the buckets
that have a copy alone.

Payload:
    duplicates.parquet  one row a copy that is left out, and the one that is kept for it
    quarantine.parquet  the same for people: `yt1b-03/a.mp4`, `same bytes as kinetics/b.mp4`
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.labels import HELD_OUT
from pipelines.node import source_of
from pipelines.settings import settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.tables import QUARANTINE, write_table

DUPLICATES = {
    "video_id": "string", "partition": "string", "path": "string", "kept_partition": "string",
    "kept_path": "string",
}  # fmt: skip
_HEAD, _FILES = "S16", 64
# Multiplied by an odd number, the top bits of an id's beginning depend on all of it.
_ODD = np.uint64(0x9E3779B97F4A7C15)


@settings
class DuplicatesConfig:
    """What happens to equal files."""

    drop: bool = True
    """Whether one copy alone of equal files is trained on; false trains on all of them."""


@dataclass(frozen=True)
class Copy:
    """One of several equal files."""

    video_id: str
    partition: str
    path: str
    label: str | None
    split: str | None

    @property
    def name(self) -> str:
        """Where it lies, for people: partition and path."""
        return f"{self.partition}/{self.path}"


def turn(source: str, path: str, label: str | None, split: str | None) -> tuple[Any, ...]:
    """Sorts equal files: the first one is kept."""
    return split != HELD_OUT, label is None, source, path


def left_out(copies: Sequence[Copy]) -> Iterator[tuple[Copy, Copy]]:
    """(copy that is left out, copy that is kept) of some equal files."""

    def place(copy: Copy) -> tuple[Any, ...]:
        return turn(source_of(copy.partition), copy.path, copy.label, copy.split)

    first, *others = sorted(copies, key=place)
    return ((copy, first) for copy in others if copy.split != HELD_OUT)


def equal_files(parts: Mapping[str, Artifact], scratch: Path) -> dict[str, list[Copy]]:
    """Video id -> all copies of it, of those that are in more than one partition.

    Args:
        parts: partition -> its raw_videos.
        scratch: a folder for what does not fit in memory.
    """
    several = _repeated(parts, scratch)
    copies: dict[str, list[Copy]] = {}
    for partition, part in parts.items():
        here = part.columns("videos.parquet", ["video_id"])["video_id"]
        if not len(rows := np.flatnonzero(np.isin(here.astype(_HEAD), several))):
            continue
        names = ("video_id", "path", "label", "split")
        table = part.columns("videos.parquet", names)
        for row in rows:
            copy = Copy(partition=partition, **{name: table[name][row] for name in names})
            copies.setdefault(copy.video_id, []).append(copy)
    return {video: found for video, found in copies.items() if len(found) > 1}


def _repeated(parts: Mapping[str, Artifact], scratch: Path) -> NDArray[np.bytes_]:
    """How the ids begin that are there more than once, with a few that only begin alike."""
    places = [scratch / f"ids-{number:02d}" for number in range(_FILES)]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(place.open("wb")) for place in places]
        for part in parts.values():
            for batch in part.batches("videos.parquet", ["video_id"]):
                heads = batch["video_id"].astype(_HEAD)
                dealt = heads.view("<u8")[::2] * _ODD >> np.uint64(58)
                for number in np.unique(dealt):
                    heads[dealt == number].tofile(files[number])
    found = [np.empty(0, _HEAD)]
    for place in places:
        heads, counts = np.unique(np.fromfile(place, _HEAD), return_counts=True)
        found.append(heads[counts > 1])
        place.unlink()
    return np.concatenate(found)


def run(config: DuplicatesConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Find equal files over all partitions, and choose one of each."""
    parts = inputs.parts("raw_videos")
    copies = equal_files(parts, out.scratch)
    pairs = [pair for files in copies.values() for pair in left_out(files)] if config.drop else []
    pairs.sort(key=lambda pair: (pair[0].partition, pair[0].path))
    rows = [
        {
            "video_id": copy.video_id, "partition": copy.partition, "path": copy.path,
            "kept_partition": kept.partition, "kept_path": kept.path,
        }
        for copy, kept in pairs
    ]  # fmt: skip
    aside = [
        {"item": copy.name, "stage": STAGE.name, "reason": f"same bytes as {kept.name}"}
        for copy, kept in pairs
    ]
    write_table(out.payload / "duplicates.parquet", rows, DUPLICATES)
    write_table(out.payload / "quarantine.parquet", aside, QUARANTINE)
    return {
        "partitions": len(parts),
        "files_in_several": len(copies),
        "copies": sum(map(len, copies.values())),
        "left_out": len(rows),
    }


STAGE = Stage("duplicates", version=1, config=DuplicatesConfig, run=run)
