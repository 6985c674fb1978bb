"""Diving-48: `Diving48_V2_train.json` and `Diving48_V2_test.json` beside `<vid_name>.mp4`.

Lists of {vid_name, label, start_frame, end_frame}. A label is a number; names come from
`Diving48_vocab.json` (48 lists of take-off, somersaults, twists and position) or from a label map
(`Back+15som+05Twis+FREE` a line). The published validation is the test list.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.curation.annotations.documents import Document, whole_number
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.labels import HELD_OUT

CLASSES = 48
FILES = ("Diving48_*train.json", "Diving48_*test.json", "Diving48_vocab.json", "*label_map.txt")
_COLUMNS = {"vid_name", "label", "start_frame", "end_frame"}


def class_names(documents: Sequence[Document]) -> list[str]:
    """The dives in the order of their numbers; empty where no file tells them."""
    for document in documents:
        if document.name.endswith("label_map.txt"):
            return [line for _, line in document.lines()]
        if document.name.endswith("vocab.json"):
            return ["+".join(map(str, parts)) for parts in document.json(list)]
    return []


def read(documents: Sequence[Document], notes: Notes) -> None:
    """Read both lists; MediaError for an entry with other fields, or a label out of range."""
    names = class_names(documents)
    for document in documents:
        if not document.name.endswith(("train.json", "test.json")):
            continue
        split = "train" if document.name.endswith("train.json") else HELD_OUT
        for number, entry in enumerate(document.json(list), 1):
            place = f"entry {number}"
            if not isinstance(entry, dict) or not {"vid_name", "label"} <= set(entry) <= _COLUMNS:
                told = sorted(entry) if isinstance(entry, dict) else entry
                raise document.wrong(f"has {told}; give {','.join(sorted(_COLUMNS))}", place)
            label = whole_number(entry["label"], len(names) or CLASSES, document, place, "label")
            note = Note(names[label] if names else str(label), split)
            notes.add(str(entry["vid_name"]), note, document.path)
