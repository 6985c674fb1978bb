"""Something-Something v2: JSON files beside `<id>.webm`.

`something-something-v2-labels.json` (template -> number), `-train.json`, `-validation.json` and
`-test.json` (lists of {id, label, template, placeholders}; tests have an id alone), by these names
or the short ones of the newer archive (`labels.json`, `train.json`, ...). A label is the template
without its brackets. Frame lists (`id first last number` a line, in a file named
`*something-something-v2-train-processed.txt`) say the same in numbers; names come from the labels
or from a label map, one name a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.curation.annotations.documents import Document, whole_number
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.labels import HELD_OUT

CLASSES = 174
FILES = (
    "something-something-v2-*.json", "labels.json", "train.json", "validation.json", "test.json",
    "*something-something-v2-*-processed.txt", "*label_map.txt",
)  # fmt: skip


def read(documents: Sequence[Document], notes: Notes) -> None:
    """Read the labels, then the lists; MediaError for what is no label or cannot be read."""
    names: dict[str, int] = {}
    for document in documents:
        if document.name.endswith("labels.json"):
            names = label_numbers(document)
        elif document.name.endswith("label_map.txt"):
            names = {line: number for number, (_, line) in enumerate(document.lines())}
    for document in documents:
        if document.name.endswith(("train.json", "validation.json", "test.json")):
            _entries(document, names, notes)
        elif document.name.endswith("-processed.txt"):
            _frames(document, {number: name for name, number in names.items()}, notes)


def label_numbers(document: Document) -> dict[str, int]:
    """Template -> number of its class, of labels.json."""
    return {
        template: whole_number(number, CLASSES, document, f"label {template!r}", "number")
        for template, number in document.json(dict).items()
    }


def _entries(document: Document, names: Mapping[str, int], notes: Notes) -> None:
    split = "train" if document.name.endswith("train.json") else HELD_OUT
    for number, entry in enumerate(document.json(list), 1):
        place = f"entry {number}"
        if not isinstance(entry, dict) or not str(entry.get("id", "")):
            raise document.wrong("has no id; give id and template", place)
        label = None
        if not document.name.endswith("test.json"):  # tests have no labels, and are held out
            label = str(entry.get("template", "")).replace("[", "").replace("]", "") or None
            if label is None:
                raise document.wrong(f"id {entry['id']} has no template; fetch it again", place)
            if names and label not in names:
                raise document.wrong(f"template {label!r} is none of {len(names)} labels", place)
        notes.add(str(entry["id"]), Note(label, split), document.path)


def _frames(document: Document, names: Mapping[int, str], notes: Notes) -> None:
    split = "train" if "-train-" in document.name else HELD_OUT
    for place, line in document.lines():
        item, *rest = line.split()
        if len(rest) != 3:
            raise document.wrong(f"has {1 + len(rest)} fields; give id first last label", place)
        number = whole_number(rest[2], len(names) or CLASSES, document, place, "label")
        notes.add(item, Note(names.get(number, str(number)), split), document.path)
