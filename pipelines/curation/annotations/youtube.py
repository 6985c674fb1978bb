"""Lists of YouTube ids beside `<id>.mp4`: HowTo100M and YT-Temporal-1B."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipelines.curation.annotations.documents import Document
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.labels import HELD_OUT

HOWTO100M = ("HowTo100M_v*.csv",)
YT_TEMPORAL = ("yttemporal1b_ids_*.csv", "*ids*.txt")
_TRAIN, _HELD_OUT = Note(split="train"), Note(split=HELD_OUT)


def read_howto100m(documents: Sequence[Document], notes: Notes) -> None:
    """HowTo100M_v1.csv: video_id, category_1, category_2, rank, task_id; MediaError without them.

    A video that was found for several tasks has several rows. Searches label nothing, so that its
    notes have no label.
    """
    for document in documents:
        for place, row in document.rows("video_id", "category_1", "category_2", "rank", "task_id"):
            notes.add(_id(row["video_id"], document, place), _TRAIN, document.path)


def read_yt_temporal(documents: Sequence[Document], notes: Notes) -> None:
    """A column video_id (`yttemporal1b_ids_train.csv`, `..._val.csv`), or an id a line (`.txt`).

    An id that is in both is held out. Raises MediaError for a line that is no id.
    """
    for document in sorted(documents, key=lambda d: "val" not in d.name):
        note = _HELD_OUT if "val" in document.name else _TRAIN
        found = (
            document.lines()
            if document.name.endswith(".txt")
            else ((place, row["video_id"]) for place, row in document.rows("video_id"))
        )
        for place, text in found:
            item = _id(text, document, place)
            if item not in notes.known:
                notes.add(item, note, document.path)


def _id(text: str, document: Document, place: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text.strip()):
        raise document.wrong(f"{text!r} is no YouTube id; give letters, digits, - and _", place)
    return text.strip()
