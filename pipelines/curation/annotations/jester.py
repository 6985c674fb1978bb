"""Jester: CSV files without a header, parted by semicolons, beside `<id>.mp4` (or another film).

`jester-v1-train.csv` and `jester-v1-validation.csv` have `id;label` a line, the label as text;
`jester-v1-test.csv` an id alone. `jester-v1-labels.csv` (or a label map) has a name a line, in the
order of the publisher. The pictures of each gesture come as a folder of JPEGs: make films of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.curation.annotations.documents import Document
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.labels import HELD_OUT

CLASSES = 27
NAMES = ("jester-v1-labels.csv", "*label_map.txt")
FILES = ("jester-v1-train.csv", "jester-v1-validation.csv", "jester-v1-test.csv", *NAMES)


def class_names(documents: Sequence[Document]) -> list[str]:
    """The names in the publisher's order; empty where no file tells it.

    Raises:
        MediaError: a name is there twice, or there are more than the data set has.
    """
    for document in documents:
        if document.name.endswith(("-labels.csv", "label_map.txt")):
            names: list[str] = []
            for place, line in document.lines():
                if line in names or len(names) == CLASSES:
                    told = f"{line!r} is a name too many; give {CLASSES} names, each once"
                    raise document.wrong(told, place)
                names.append(line)
            return names
    return []


def read(documents: Sequence[Document], notes: Notes) -> None:
    """Read the lists; MediaError for a line of other fields, or a label that is in no list."""
    names = class_names(documents)
    for document in documents:
        if document.name.endswith(("-labels.csv", "label_map.txt")):
            continue
        test = document.name.endswith("-test.csv")
        split = "train" if document.name.endswith("-train.csv") else HELD_OUT
        for place, line in document.lines():
            item, *rest = (field.strip() for field in line.split(";"))
            if len(rest) != (0 if test else 1) or not item or not all(rest):
                wanted = "id" if test else "id;label"
                raise document.wrong(f"is {line!r}; give {wanted}", place)
            if rest and names and rest[0] not in names:
                raise document.wrong(f"label {rest[0]!r} is none of {len(names)} labels", place)
            notes.add(item, Note(rest[0] if rest else None, split), document.path)
