"""Kinetics 400, 600 and 700: CSV files beside `<youtube id>_<start>_<end>.mp4`.

Columns label, youtube_id, time_start, time_end and split, in files named `*train*.csv`,
`*val*.csv`, `*test*.csv`. The label may be empty or its column missing, as in tests. Frame lists
(`name first last number` a line, in `*_processed.txt`) say the same in numbers; names come from a
label map, one name a line.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.curation.annotations.documents import Document, seconds, whole_number
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.labels import HELD_OUT

FILES = ("*train*.csv", "*val*.csv", "*test*.csv", "*_processed.txt", "*label_map*.txt")
MOST_CLASSES = 710
_SPLITS = {
    "train": "train", "val": HELD_OUT, "validate": HELD_OUT, "validation": HELD_OUT,
    "test": HELD_OUT, "holdout": HELD_OUT, "": None,
}  # fmt: skip


def read(documents: Sequence[Document], notes: Notes) -> None:
    """Read the lists; MediaError for a column, time, split or label that is wrong."""
    names: list[str] = []
    for document in documents:
        if "label_map" in document.name:
            names = [line for _, line in document.lines()]
    for document in documents:
        if document.name.endswith(".csv"):
            _clips(document, names, notes)
        elif document.name.endswith("_processed.txt"):
            _frames(document, names, notes)


def _clips(document: Document, names: Sequence[str], notes: Notes) -> None:
    by_name = "train" if "train" in document.name else HELD_OUT
    for place, row in document.rows("youtube_id", "time_start", "time_end"):
        start, end = (
            int(seconds(row[name], document, place, name)) for name in ("time_start", "time_end")
        )
        if not row["youtube_id"] or end <= start:
            told = f"{row['youtube_id']!r} from {start} to {end} s is no clip"
            raise document.wrong(f"{told}; give youtube_id, time_start, time_end", place)
        if (split := row.get("split", "").lower()) not in _SPLITS:
            raise document.wrong(f"split {split!r} is not one of {sorted(_SPLITS)[1:]}", place)
        label = row.get("label") or None
        if label and names and label not in names:
            raise document.wrong(f"label {label!r} is none of {len(names)} in the map", place)
        note = Note(label, _SPLITS[split] or by_name)
        notes.add(f"{row['youtube_id']}_{start:06d}_{end:06d}", note, document.path)


def _frames(document: Document, names: Sequence[str], notes: Notes) -> None:
    split = "train" if "train" in document.name else HELD_OUT
    for place, line in document.lines():
        item, *rest = line.rsplit(maxsplit=3)
        if len(rest) != 3:
            raise document.wrong(f"has {1 + len(rest)} fields; give name first last label", place)
        number = whole_number(rest[2], len(names) or MOST_CLASSES, document, place, "label")
        notes.add(item, Note(names[number] if names else str(number), split), document.path)
