"""What a benchmark's own files list: every item with its class number and side, and its film.

Numbers of classes are the publisher's where a file tells them, else places in the alphabet. An item
without a film is listed as missing, and no other takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.curation.annotations import coin, diving48, jester, something_something
from pipelines.curation.annotations.documents import Document
from pipelines.curation.annotations.notes import Note
from pipelines.curation.annotations.sheets import Sheets
from pipelines.evaluation.benchmarks.registry import Benchmark
from storage.media import MediaError


@dataclass(frozen=True)
class Item:
    """One listed item."""

    key: str
    label: str
    number: int
    """Of its class."""
    split: str
    path: str | None
    """Of its film or picture; None: there is none."""


@dataclass(frozen=True)
class Listed:
    """All that is listed."""

    classes: tuple[str, ...]
    items: tuple[Item, ...]
    unlabelled: int
    """Items of a test set whose labels are not published; nobody can be asked about them."""

    @property
    def missing(self) -> tuple[Item, ...]:
        """Items that there is no file of."""
        return tuple(item for item in self.items if item.path is None)


def class_order(documents: Sequence[Document]) -> list[str]:
    """Names of the classes in the publisher's order, of whichever file tells it; else none."""
    for document in documents:
        if document.name.endswith("labels.json"):
            numbers = something_something.label_numbers(document)
            return sorted(numbers, key=numbers.__getitem__)
        if document.name == "taxonomy.xlsx":
            targets = coin.read_taxonomy(document).targets
            return sorted(targets, key=targets.__getitem__)
        if document.name.startswith("jester-v1"):
            return jester.class_names(documents)
        if document.name.startswith("Diving48"):
            return diving48.class_names(documents)
    for document in documents:
        if "label_map" in document.name:
            return [line for _, line in document.lines()]
    return []


def listed(benchmark: Benchmark, sheets: Sheets, paths: Sequence[str]) -> Listed:
    """All that the annotation files of a benchmark list, with the films at some paths.

    Raises:
        MediaError: an annotation file is missing or wrong, two films have one name, or there are
            more classes than the benchmark has.
    """
    files = _films(sheets, paths)
    notes = {item: kept[""] for item, kept in sheets.read().known.items() if "" in kept}
    if sheets.format.told_by_path:
        for item, path in files.items():
            if item not in notes and (note := sheets.format.told_by_path(path)):
                notes[item] = note
    told = {item: note for item, note in notes.items() if note.label and note.split}
    order = class_order(sheets.documents())
    classes = _classes(benchmark, order, told.values(), sheets)
    number = {name: place for place, name in enumerate(classes)}
    items = tuple(
        Item(item, str(note.label), number[str(note.label)], str(note.split), files.get(item))
        for item, note in sorted(told.items())
    )
    return Listed(tuple(classes), items, len(notes) - len(told))


def _films(sheets: Sheets, paths: Sequence[str]) -> Mapping[str, str]:
    """Item -> path of its film."""
    found: dict[str, str] = {}
    for path in paths:
        if sheets.format.is_document(path):
            continue
        item = sheets.format.item(path)
        if item in found:
            raise MediaError(
                f"{sheets.location}: {found[item]} and {path} are both of {item}; keep one"
            )
        found[item] = path
    return found


def _classes(
    benchmark: Benchmark, order: list[str], notes: Iterable[Note], sheets: Sheets
) -> list[str]:
    used = {str(note.label) for note in notes}
    classes = order or sorted(used)
    where = sheets.apart or sheets.location
    if unknown := sorted(used - set(classes)):
        raise MediaError(
            f"{where}: label {unknown[0]!r} is none of {len(classes)} of {benchmark.title}"
        )
    if len(classes) > benchmark.classes:
        raise MediaError(
            f"{where}: {len(classes)} classes, and {benchmark.title} has {benchmark.classes}; "
            "give its own annotation files"
        )
    return classes
