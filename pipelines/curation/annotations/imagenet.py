"""ImageNet-1K: a folder for each class, `train/n01440764/n01440764_10026.JPEG`.

The class is the WordNet id of the folder, or the one that the file's name begins with; the split is
the folder `train` or `val` above it. A flat `val` folder needs `LOC_val_solution.csv` (ImageId,
PredictionString) beside the folders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipelines.curation.annotations.documents import Document
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.labels import HELD_OUT

FILES = ("LOC_val_solution.csv",)
_CLASS = re.compile(r"n\d{8}", re.ASCII)


def read(documents: Sequence[Document], notes: Notes) -> None:
    """Read the classes of the validation pictures; MediaError for what is no WordNet id."""
    for document in documents:
        for place, row in document.rows("ImageId", "PredictionString"):
            label = row["PredictionString"].split(" ")[0]
            if not _CLASS.fullmatch(label):
                raise document.wrong(f"class {label!r} is no WordNet id, as n01440764 is", place)
            notes.add(row["ImageId"], Note(label, HELD_OUT), document.path)


def told_by_path(path: str) -> Note | None:
    """What a picture's folders and name say; None when they name no class."""
    *folders, name = path.split("/")
    split = next((p for p in reversed(folders) if p in ("train", "val", "validation")), None)
    split = HELD_OUT if split and split != "train" else split
    if folders and _CLASS.fullmatch(folders[-1]):
        return Note(folders[-1], split)
    if found := re.match(r"(n\d{8})_", name, re.ASCII):
        return Note(found[1], split)
    return None
