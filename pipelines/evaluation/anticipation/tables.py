"""The tables of EPIC-KITCHENS-100 as anticipation needs them: segments, classes, unseen and tail.

`EPIC_100_train.csv` (or the frame list that stands in for it) and `EPIC_100_validation.csv` have a
row for each action; times are read from the clock columns, and frame columns, which number pictures
that were published at 50 or 60 a second whatever the film's own rate, are kept apart: the released
code takes them for numbers in the film.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.curation.annotations.documents import Document, seconds, whole_number
from pipelines.curation.annotations.epic_kitchens import (
    NOUNS,
    VERBS,
    class_names,
    frame_lines,
    frame_rates,
)
from pipelines.curation.labels import HELD_OUT

TRAIN, VALIDATION = "EPIC_100_train.csv", "EPIC_100_validation.csv"
FRAME_LIST = "EPIC_100_train_new.txt"
UNSEEN, TAIL_VERBS, TAIL_NOUNS = (
    "EPIC_100_unseen_participant_ids_validation.csv", "EPIC_100_tail_verbs.csv",
    "EPIC_100_tail_nouns.csv",
)  # fmt: skip
COLUMNS = (
    "narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp",
    "stop_timestamp", "start_frame", "stop_frame", "narration", "verb", "verb_class", "noun",
    "noun_class", "all_nouns", "all_noun_classes",
)  # fmt: skip
Pair = tuple[int, int]
"""Verb and noun: an action."""


@dataclass(frozen=True)
class Segment:
    """One action in a film."""

    name: str
    participant: str
    video: str
    start: float
    """Seconds."""
    stop: float
    start_frame: int
    """Number of the published picture."""
    stop_frame: int
    verb: int
    noun: int
    split: str

    @property
    def action(self) -> Pair:
        """Its verb and noun."""
        return self.verb, self.noun


@dataclass(frozen=True)
class Tables:
    """All that the annotation files say."""

    segments: tuple[Segment, ...]
    """In the order of the files, train first."""
    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    unseen: frozenset[str]
    """Participants that are in no training film."""
    tail_verbs: frozenset[int]
    tail_nouns: frozenset[int]

    def side(self, split: str) -> tuple[Segment, ...]:
        """The segments of train or validation."""
        return tuple(segment for segment in self.segments if segment.split == split)


def read_tables(documents: Sequence[Document]) -> Tables:
    """All tables of a folder.

    Raises:
        MediaError: a file, column, class or time is missing or wrong; one line with file and place.
    """
    verbs, nouns = (class_names(documents, name) for name in (VERBS, NOUNS))
    named = {document.name: document for document in documents}
    sizes = len(verbs), len(nouns)
    segments: list[Segment] = []
    if TRAIN in named:
        segments += _rows(named[TRAIN], "train", sizes)
    else:
        for document in documents:
            if document.name.endswith(FRAME_LIST):
                segments += _frame_list(document, frame_rates(documents), sizes)
    if VALIDATION not in named or not segments:
        lacking = VALIDATION if segments else TRAIN
        where = documents[0].location if documents else "annotations"
        raise Document(where, lacking, b"").wrong("is missing; fetch it from the data set")
    segments += _rows(named[VALIDATION], HELD_OUT, sizes)
    return Tables(
        tuple(segments), tuple(verbs), tuple(nouns),
        frozenset(_column(named.get(UNSEEN), "participant_id")),
        frozenset(map(int, _numbers(named.get(TAIL_VERBS), "verb", len(verbs)))),
        frozenset(map(int, _numbers(named.get(TAIL_NOUNS), "noun", len(nouns)))),
    )  # fmt: skip


def _rows(document: Document, split: str, sizes: tuple[int, int]) -> Iterator[Segment]:
    for place, row in document.rows(*COLUMNS[:8], "verb_class", "noun_class"):
        if unknown := sorted(set(row) - set(COLUMNS)):
            raise document.wrong(f"column {unknown[0]!r} is none of {len(COLUMNS)}", place)
        start, stop = (seconds(row[n], document, place, n) for n in COLUMNS[4:6])
        if stop <= start:
            told = f"{row['narration_id']} ends at {stop:g} s, not after its start, {start:g} s"
            raise document.wrong(f"{told}; give it a length", place)
        first, last = (whole_number(row[n], None, document, place, n) for n in COLUMNS[6:8])
        verb, noun = (
            whole_number(row[f"{kind}_class"], of, document, place, f"{kind}_class")
            for kind, of in zip(("verb", "noun"), sizes, strict=True)
        )
        yield Segment(
            row["narration_id"], row["participant_id"], row["video_id"], start, stop, first, last,
            verb, noun, split,
        )  # fmt: skip


def _frame_list(
    document: Document, rates: dict[str, float], sizes: tuple[int, int]
) -> Iterator[Segment]:
    for _, name, video, first, last, verb, noun in frame_lines(document, rates, sizes):
        yield Segment(
            name, video.partition("_")[0], video, first / rates[video], last / rates[video],
            first, last, verb, noun, "train",
        )  # fmt: skip


def _column(document: Document | None, name: str) -> Iterator[str]:
    if document is not None:
        yield from (row[name] for _, row in document.rows(name))


def _numbers(document: Document | None, name: str, of: int) -> Iterator[int]:
    if document is not None:
        for place, row in document.rows(name):
            yield whole_number(row[name], of, document, place, name)
