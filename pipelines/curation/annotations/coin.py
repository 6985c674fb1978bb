"""COIN: `COIN.json` and `taxonomy.xlsx` beside `<youtube id>.mp4`.

A video's label is the task it shows, one of the 180 targets of the taxonomy. The steps in it are
not used: the target set of the curation, as the evaluation, takes whole videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.curation.annotations.documents import Document, whole_number
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.labels import HELD_OUT

FILES = ("COIN.json", "taxonomy.xlsx")
_SPLITS = {"training": "train", "testing": HELD_OUT}


@dataclass(frozen=True)
class Taxonomy:
    """What the tasks are."""

    domains: dict[str, str]
    """Task -> the domain that it belongs to."""
    targets: dict[str, int]
    """Task -> its number, which is not its place in the alphabet."""
    actions: dict[int, tuple[str, str]]
    """Number of a step -> the task it belongs to, and what is done."""


def read_taxonomy(document: Document) -> Taxonomy:
    """Both sheets of taxonomy.xlsx; MediaError for a number that is none or is there twice."""
    domains = {
        row["Targets"]: row["Domains"]
        for _, row in document.sheet("domain_target_mapping", "Domains", "Targets")
    }
    targets: dict[str, int] = {}
    actions: dict[int, tuple[str, str]] = {}
    columns = ("Target Id", "Target Label", "Action Id", "Action Label")
    for place, row in document.sheet("target_action_mapping", *columns):
        target = whole_number(row["Target Id"], len(domains), document, place, "Target Id")
        action = whole_number(row["Action Id"], None, document, place, "Action Id")
        if targets.setdefault(row["Target Label"], target) != target:
            raise document.wrong(f"{row['Target Label']!r} has two numbers; keep one", place)
        if action in actions:
            raise document.wrong(f"Action Id {action} is there twice; keep one", place)
        actions[action] = (row["Target Label"], row["Action Label"])
    return Taxonomy(domains, targets, actions)


def read(documents: Sequence[Document], notes: Notes) -> None:
    """Read the videos; MediaError for a class that the taxonomy has not, or another number."""
    taxonomy = [read_taxonomy(d) for d in documents if d.name == "taxonomy.xlsx"]
    for document in documents:
        if document.name != "COIN.json":
            continue
        videos = document.json(dict).get("database")
        if not isinstance(videos, dict):
            raise document.wrong("has no object 'database'; fetch it again")
        for item, entry in videos.items():
            targets = taxonomy[0].targets if taxonomy else {}
            notes.add(item, _note(document, item, entry, targets), document.path)


def _note(document: Document, item: str, entry: Any, targets: dict[str, int]) -> Note:
    place = f"video {item}"
    if not isinstance(entry, dict) or not entry.get("class"):
        raise document.wrong("has no class; give class and subset", place)
    label, subset = str(entry["class"]), entry.get("subset")
    if subset not in _SPLITS:
        raise document.wrong(f"subset {subset!r} is not one of {sorted(_SPLITS)}", place)
    number = targets.get(label, -1)
    if targets and number < 0:
        raise document.wrong(f"class {label!r} is none of {len(targets)} targets", place)
    if targets and entry.get("recipe_type", number) != number:
        told = f"recipe_type {entry['recipe_type']!r} is not that of {label}, {number}"
        raise document.wrong(f"{told}; fetch it again", place)
    return Note(label, _SPLITS[subset])
