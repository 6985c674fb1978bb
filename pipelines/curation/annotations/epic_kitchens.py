"""EPIC-KITCHENS-100: CSV files beside `P01/videos/P01_01.MP4`; each action segment is a clip.

`EPIC_100_train.csv`, `EPIC_100_validation.csv` and `EPIC_100_test_timestamps.csv` (without classes)
have a row for each segment; `EPIC_100_verb_classes.csv` and `EPIC_100_noun_classes*.csv` name the
classes. A label is the class of the verb and that of the noun, `take plate`. The frame list
`*EPIC_100_train_new.txt` (`P01/rgb_frames/P01_01 first last verb noun` a line) stands in for the
train file where that is missing; it needs `EPIC_100_video_info.csv` for the rate of frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipelines.curation.annotations.documents import Document, seconds, whole_number
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.labels import HELD_OUT

TRAIN, VIDEOS = "EPIC_100_train.csv", "EPIC_100_video_info.csv"
VERBS, NOUNS = "EPIC_100_verb_classes", "EPIC_100_noun_classes"
FILES = ("EPIC_100_*.csv", "*EPIC_100_train_new.txt", "ek100_actions.csv")
SPLITS = {
    TRAIN: "train", "EPIC_100_validation.csv": HELD_OUT, "EPIC_100_test_timestamps.csv": HELD_OUT,
}  # fmt: skip


def read(documents: Sequence[Document], notes: Notes) -> None:
    """Read the segments; MediaError for a class, a time or a column that is wrong or missing."""
    verbs, nouns = (class_names(documents, name) for name in (VERBS, NOUNS))
    for document in documents:
        if document.name in SPLITS:
            read_segments(document, SPLITS[document.name], verbs, nouns, notes)
    if not any(document.name == TRAIN for document in documents):
        rates = frame_rates(documents)
        for document in documents:
            if document.name.endswith("EPIC_100_train_new.txt"):
                read_frames(document, rates, verbs, nouns, notes)


def class_names(documents: Sequence[Document], name: str) -> list[str]:
    """Key of each class, in the order of their numbers; MediaError for a number that is missing."""
    for document in documents:
        if document.name.startswith(name):
            names: list[str] = []
            for place, row in document.rows("id", "key"):
                number = whole_number(row["id"], None, document, place, "id")
                if number != len(names):
                    raise document.wrong(f"id is {number}, want {len(names)}", place)
                names.append(row["key"])
            return names
    where = documents[0].location if documents else "annotations"
    raise Document(where, f"{name}.csv", b"").wrong("is missing; fetch it from the data set")


def frame_rates(documents: Sequence[Document]) -> dict[str, float]:
    """Video -> numbered frames a second, by EPIC_100_video_info.csv; empty where there is none.

    The published frames were taken at 50 a second from films of 50, and at 60 from all others
    (29.97, 47.95, 59.94 and 90): stop_frame / stop_timestamp of 36,115 segments says so.
    """
    return {
        row["video_id"]: 50.0 if seconds(row["fps"], document, place, "fps") == 50.0 else 60.0
        for document in documents
        if document.name == VIDEOS
        for place, row in document.rows("video_id", "duration", "fps", "resolution")
    }


def read_segments(
    document: Document, split: str, verbs: Sequence[str], nouns: Sequence[str], notes: Notes
) -> None:
    """One row a segment; a test has no classes."""
    classes = () if document.name.endswith("timestamps.csv") else ("verb_class", "noun_class")
    times = ("start_timestamp", "stop_timestamp")
    for place, row in document.rows("narration_id", "video_id", *times, *classes):
        if not row["narration_id"] or not row["video_id"]:
            raise document.wrong("has no narration_id or video_id; give both", place)
        start, end = (seconds(row[name], document, place, name) for name in times)
        verb, noun = None, None
        if classes:
            verb = whole_number(row["verb_class"], len(verbs), document, place, "verb_class")
            noun = whole_number(row["noun_class"], len(nouns), document, place, "noun_class")
        note = _note(row["narration_id"], (start, end), split, (verb, noun), (verbs, nouns))
        _add(row["video_id"], note, document, place, notes)


def frame_lines(
    document: Document, rates: Mapping[str, float], sizes: tuple[int, int]
) -> Iterator[tuple[str, str, str, int, int, int, int]]:
    """(place, name, video, first frame, last frame, verb, noun) of each line of a frame list."""
    for place, line in document.lines():
        fields = line.split()
        if len(fields) != 5:
            told = f"has {len(fields)} fields; give folder first last verb noun"
            raise document.wrong(told, place)
        video = fields[0].rpartition("/")[2]
        if video not in rates:
            raise document.wrong(f"{VIDEOS} has no rate of {video}; fetch it, too", place)
        first, last, verb, noun = (
            whole_number(text, of, document, place, name)
            for text, of, name in zip(
                fields[1:], (None, None, *sizes),
                ("first frame", "last frame", "verb", "noun"), strict=True,
            )
        )  # fmt: skip
        yield place, f"{video}_{place.replace(' ', '_')}", video, first, last, verb, noun


def read_frames(
    document: Document, rates: Mapping[str, float], verbs: Sequence[str], nouns: Sequence[str],
    notes: Notes,
) -> None:  # fmt: skip
    """One line a segment, in frames counted from 0; its name is that of the video and its line."""
    for place, name, video, first, last, verb, noun in frame_lines(
        document, rates, (len(verbs), len(nouns))
    ):
        span = (round(first / rates[video], 6), round(last / rates[video], 6))
        _add(
            video, _note(name, span, "train", (verb, noun), (verbs, nouns)), document, place, notes
        )


def _note(
    name: str, span: tuple[float, float], split: str, numbers: tuple[int | None, int | None],
    names: tuple[Sequence[str], Sequence[str]],
) -> Note:  # fmt: skip
    verb, noun = numbers
    label = None if verb is None or noun is None else f"{names[0][verb]} {names[1][noun]}"
    return Note(label, split, name, span, verb, noun)


def _add(video: str, note: Note, document: Document, place: str, notes: Notes) -> None:
    assert note.span is not None
    if note.span[1] <= note.span[0]:
        told = f"{note.segment} ends at {note.span[1]:g} s, not after its start, {note.span[0]:g} s"
        raise document.wrong(f"{told}; give it a length", place)
    notes.add(video, note, document.path)
