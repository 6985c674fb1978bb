"""The benchmarks' own files of questions, each as it is published.

A row with a field too few or too many, an answer that is none of the options, or a letter beyond
them is one line with file and place.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipelines.curation.annotations.documents import Document, whole_number
from pipelines.evaluation.video_qa.questions import LETTERS, Form, Question

Row = Mapping[str, Any]
Rows = Iterator[tuple[str, Row]]


def perception_test(document: Document) -> Iterator[Question]:
    """{video: {metadata, mc_question: [{id, question, options, answer_id, area, ...}]}}."""
    for video, entry in document.json(dict).items():
        rows = entry.get("mc_question") if isinstance(entry, dict) else None
        if not isinstance(rows, list):
            raise document.wrong("has no mc_question; fetch it again", f"video {video}")
        for number, row in enumerate(rows, 1):
            place = f"video {video} question {number}"
            fields = {"id", "question", "options", "answer_id", "area"}
            _check(document, place, row, fields, {"reasoning", "tag"})
            options = _options(document, place, row, "options")
            answer = whole_number(row["answer_id"], len(options), document, place, "answer_id")
            yield Question(
                f"{video}/{row['id']}", video, str(row["area"]), video, row["question"], options,
                answer,
            )  # fmt: skip


def minimal_pairs(document: Document) -> Iterator[Question]:
    """Rows {video_id, video_path, question, candidates, answer, source}; a file is a subtask."""
    for place, row in _rows(document):
        _check(document, place, row, {"video_id", "video_path", "question", "candidates", "answer"},
               {"source"})  # fmt: skip
        options = _options(document, place, row, "candidates")
        name = str(row["video_id"])
        yield Question(
            name, str(row["video_path"]), document.name.partition(".")[0],
            name.rpartition("_")[0], row["question"], options,
            _place(document, place, str(row["answer"]), options),
        )  # fmt: skip


def temp_compass(document: Document) -> Iterator[Question]:
    """{video: {dimension: [{question, answer}]}}; the file's name says what is to be replied."""
    form: Form = "choice"
    if "yes_no" in document.name:
        form = "yes_no"
    elif "matching" in document.name:
        form = "matching"
    for video, dimensions in document.json(dict).items():
        if not isinstance(dimensions, dict):
            raise document.wrong("has no dimensions; fetch it again", f"video {video}")
        for dimension, rows in dimensions.items():
            for number, row in enumerate(rows):
                place = f"video {video} {dimension} {number + 1}"
                _check(document, place, row, {"question", "answer"}, set())
                yield _compass(document, place, video, f"{dimension}", number, row, form)


def _compass(
    document: Document, place: str, video: str, dimension: str, number: int, row: Row, form: Form
) -> Question:
    key, text, answer = f"{form}/{video}/{dimension}/{number}", row["question"], row["answer"]
    if form == "yes_no":
        options: tuple[str, ...] = ("yes", "no")
        at = _place(document, place, answer, options)
        return Question(key, video, dimension, video, text, options, at, form)
    lines = [line.strip() for line in text.split("\n")[1:] if line.strip()]
    parting = ": " if form == "matching" else ". "
    pairs = [line.partition(parting) for line in lines]
    labels, options = (tuple(pair[n] for pair in pairs) for n in (0, 2))
    at = _place(document, place, answer, tuple(lines))
    return Question(key, video, dimension, video, text, options, at, form, labels)


def temporal_bench(document: Document) -> Iterator[Question]:
    """Rows {idx, video_name, question, GT, dataset, category}; options are lines `A. ...`."""
    for place, row in _rows(document):
        fields = {"idx", "video_name", "question", "GT", "dataset"}
        _check(document, place, row, fields, {"category"})
        found = re.findall(r"^\s*\(?([A-Z])[.)]\s*(.+?)\s*$", row["question"], re.MULTILINE)
        options = tuple(text for _, text in found) or ("A", "B")
        letter = str(row["GT"]).strip().upper()
        if len(letter) != 1 or letter not in LETTERS[: len(options)]:
            told = f"GT is {row['GT']!r}, and the options are {LETTERS[: len(options)]}"
            raise document.wrong(f"{told}; give the letter of one", place)
        yield Question(
            str(row["idx"]), str(row["video_name"]), str(row.get("category") or row["dataset"]),
            str(row["video_name"]), row["question"], options, LETTERS.index(letter),
        )  # fmt: skip


def tomato(document: Document) -> Iterator[Question]:
    """{id: {question, options, answer, key, motion_type, variation, demonstration_type, ...}}."""
    for item, row in document.json(dict).items():
        place = f"question {item}"
        _check(document, place, row, {"question", "options", "answer", "demonstration_type", "key"},
               {"motion_type", "variation", "video_source_url", "note"})  # fmt: skip
        options = _options(document, place, row, "options")
        answer = whole_number(row["answer"], len(options), document, place, "answer")
        kind, video = str(row["demonstration_type"]), str(row["key"])
        group = document.name.partition(".")[0]
        yield Question(
            f"{group}/{item}",
            f"videos/{kind}/{video}.mp4",
            group,
            video,
            row["question"],
            options,
            answer,
        )


def by_subtask(document: Document) -> Iterator[Question]:
    """TVBench and MVBench: rows {video, question, candidates, answer, start, end}; the file is the
    subtask.
    """
    subtask = document.name.partition(".")[0]
    for number, (place, row) in enumerate(_rows(document)):
        _check(document, place, row, {"video", "question", "candidates", "answer"},
               {"start", "end", "fps", "accurate_start", "accurate_end", "qtype"})  # fmt: skip
        options = _options(document, place, row, "candidates")
        yield Question(
            f"{subtask}/{number}", str(row["video"]), subtask, str(row["video"]), row["question"],
            options, _place(document, place, str(row["answer"]), options),
        )  # fmt: skip


SCHEMAS: Mapping[str, Callable[[Document], Iterator[Question]]] = {
    "perceptiontest": perception_test, "mvp": minimal_pairs, "tempcompass": temp_compass,
    "temporalbench": temporal_bench, "tomato": tomato, "tvbench": by_subtask,
    "mvbench": by_subtask,
}  # fmt: skip
"""Benchmark -> the reader of one of its files."""


def questions_of(benchmark: str, documents: list[Document]) -> list[Question]:
    """All questions of a benchmark's files.

    Raises:
        MediaError: one line with file, place and what was expected; two questions of one name.
    """
    found: dict[str, Question] = {}
    for document in documents:
        for question in SCHEMAS[benchmark](document):
            if question.key in found:
                raise document.wrong("is there twice; keep one", f"question {question.key}")
            found[question.key] = question
    return list(found.values())


def _rows(document: Document) -> Rows:
    """Rows of a JSON list, or of JSON lines."""
    if document.text().lstrip().startswith("["):
        for number, row in enumerate(document.json(list), 1):
            yield f"row {number}", row
        return
    for place, line in document.lines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise document.wrong(f"is no JSON ({error.msg}); fetch it again", place) from None
        yield place, row


def _check(document: Document, place: str, row: Any, needed: set[str], may: set[str]) -> None:
    if not isinstance(row, dict):
        raise document.wrong(f"is a {type(row).__name__}, and no row; fetch it again", place)
    if lacking := sorted(needed - set(row)):
        raise document.wrong(f"has no {lacking[0]!r}; give {', '.join(sorted(needed))}", place)
    if not isinstance(row["question"], str):
        raise document.wrong(f"question is {row['question']!r}; give its text", place)
    if unknown := sorted(set(row) - needed - may):
        told = f"has {unknown[0]!r}, which is none of {', '.join(sorted(needed | may))}"
        raise document.wrong(told, place)


def _options(document: Document, place: str, row: Row, name: str) -> tuple[str, ...]:
    """A list of options, or the text of one, as MVP has it."""
    found = row[name]
    if isinstance(found, str):
        with contextlib.suppress(ValueError, SyntaxError):  # what is no list is told below
            found = ast.literal_eval(found)
    if not isinstance(found, list) or len(found) < 2:
        raise document.wrong(f"{name} is {str(found)[:60]!r}; give a list of two or more", place)
    return tuple(map(str, found))


def _place(document: Document, place: str, answer: str, options: tuple[str, ...]) -> int:
    if answer not in options:
        raise document.wrong(
            f"answer {answer!r} is none of the options: {'; '.join(options)}", place
        )
    return options.index(answer)
