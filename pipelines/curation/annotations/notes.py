"""Notes: what annotation files say of an item, which is a whole file or a segment of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Note:
    """What is said of one file, or of one segment of it."""

    label: str | None = None
    split: str | None = None
    """"train", "validation", or None when nothing is said."""
    segment: str = ""
    """Its name, of a segment; of a whole file: empty."""
    span: tuple[float, float] | None = None
    """Start and end of the segment, seconds."""
    verb: int | None = None
    noun: int | None = None
    """Its classes, of an action of EPIC-KITCHENS-100."""


@dataclass
class Notes:
    """What the annotation files of a source say, item by item."""

    keep: Callable[[str], bool] | None = None
    """Whether an item is wanted; None keeps all. A bucket of a large source keeps its own."""
    known: dict[str, dict[str, Note]] = field(default_factory=dict)
    """Item -> segment (or "") -> what is said."""
    twice: dict[str, str] = field(default_factory=dict)
    """Item -> why nothing that is said of it can be believed; it is not in `known`."""
    refused: dict[str, str] = field(default_factory=dict)
    """Segment -> why it cannot be used; it is not in `known`."""

    def add(self, item: str, note: Note, document: str) -> None:
        """Write down a note; two that contradict each other are both not believed."""
        if (
            item in self.twice
            or note.segment in self.refused
            or (self.keep and not self.keep(item))
        ):
            return
        notes = self.known.setdefault(item, {})
        before = notes.setdefault(note.segment, note)
        if before == note:
            return
        either = " and as ".join(_told(told) for told in (before, note))
        reason = f"{document} names it twice, as {either}; keep one of the two lines"
        if note.segment:
            self.refused[note.segment] = reason
            del notes[note.segment]
        else:
            self.twice[item] = reason
            del self.known[item]


def _told(note: Note) -> str:
    span = "" if note.span is None else f" from {note.span[0]:g} to {note.span[1]:g} s"
    return f"{note.label!r} ({note.split}){span}"
