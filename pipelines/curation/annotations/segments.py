"""Segments of a video that annotations name, as the rows of segments.parquet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.curation.annotations.notes import Note
from pipelines.curation.annotations.sheets import Told
from storage.digests import digest_bytes
from storage.tables import write_table

SEGMENTS = {
    "scene_id": "string", "segment": "string", "video_id": "string", "path": "string",
    "start": "float64", "end": "float64", "start_frame": "int64", "end_frame": "int64",
    "label": "string", "split": "string", "verb": "int32", "noun": "int32",
}  # fmt: skip


def segments_of(
    video: Mapping[str, Any], notes: Iterable[Note]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of SEGMENTS in the order of time, and segment -> why it is no part of the video.

    An end after that of the video is the video's; a segment that begins there is none. Two segments
    may have the same span, so that a scene's id has the segment's name in it.

    Args:
        video: its row of videos.parquet.
        notes: what is said of its segments.
    """
    rows: list[dict[str, Any]] = []
    reasons: dict[str, str] = {}
    for note in notes:
        if note.span is None:
            continue
        start, end = note.span[0], min(note.span[1], video["seconds"])
        first = math.floor(start * video["fps"])
        past = min(max(math.ceil(end * video["fps"]), first + 1), video["frames"])
        if end <= start or past <= first:
            reasons[note.segment] = (
                f"begins at {start:g} s of {video['path']}, which ends at {video['seconds']:g} s"
            )
            continue
        name = f"{video['video_id']}:{first}:{past}:{note.segment}"
        rows.append({
            "scene_id": digest_bytes(name.encode())[:32], "segment": note.segment,
            "video_id": video["video_id"], "path": video["path"], "start": start, "end": end,
            "start_frame": first, "end_frame": past, "label": note.label, "split": note.split,
            "verb": note.verb, "noun": note.noun,
        })  # fmt: skip
    return sorted(rows, key=lambda row: (row["start"], row["end"], row["segment"])), reasons


@dataclass(frozen=True)
class Segments:
    """The segments of the videos of a partition."""

    count: int | None = None
    """None where the clips of a source are its files."""
    refused: dict[str, str] = field(default_factory=dict)
    """Segment -> why it cannot be used."""

    def metrics(self) -> dict[str, int]:
        """How many there are; nothing where clips are files."""
        return {} if self.count is None else {"segments": self.count}


def write_segments(path: Path, videos: Sequence[Mapping[str, Any]], told: Told) -> Segments:
    """Write the segments of some videos, in their order; no file where clips are files."""
    if not told.segmented:
        return Segments()
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for video in videos:
        found, reasons = segments_of(video, told.known.get(video["path"], {}).values())
        rows += found
        refused |= reasons
    write_table(path, rows, SEGMENTS)
    return Segments(len(rows), refused)
