"""What replies to a benchmark's questions are worth, as lmms-eval counts and strictly.

Whoever has a model asks it what `questions.jsonl` holds, writes its replies as lines
{"key": ..., "reply": ...}, and names their file: this project has no language model of its own.
Beside the replies stand an oracle, which must get all, an even guess, and an answerer that reads
the text and sees nothing, which gets no minimal pair.

Inputs: none. Payload:
    report.json       scores by mode and answerer, chance, replies that could not be read
    questions.jsonl   every question: key, video, text, options
    answers.parquet   what each reply was taken for, strictly and as lmms-eval does
    media/            files of questions and films, where they are made
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any

from pipelines.curation.annotations.documents import Document
from pipelines.curation.source_config import GENERATED
from pipelines.evaluation.metrics import Rate
from pipelines.evaluation.video_qa.answering import ANSWERERS, replies_of
from pipelines.evaluation.video_qa.made import filmed, question_files, scenes_of
from pipelines.evaluation.video_qa.parsing import LMMS
from pipelines.evaluation.video_qa.questions import Question
from pipelines.evaluation.video_qa.schemas import questions_of
from pipelines.evaluation.video_qa.scoring import MODES, chance, judge, odd_units, scores
from pipelines.execution import ExecutionConfig
from pipelines.settings import EVEN, NOT_EMPTY, Natural, SettingError, at_least, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.errors import InputError
from storage.media import open_media
from storage.places import resolved, write_file
from storage.tables import write_table

REPLIES = "replies"
ANSWERS = {
    "key": "string", "group": "string", "reply": "string", "answer": "int32", "lmms": "int32",
    "strict": "int32",
}  # fmt: skip


@settings
class QuestionsConfig:
    """Where the questions of one benchmark lie, and the replies to them."""

    location: Annotated[str, NOT_EMPTY] = GENERATED
    """A folder or `s3://bucket/prefix` with the benchmark's own files, or "generated"."""
    replies: Annotated[str, NOT_EMPTY] | None = None
    """A file of lines {"key": ..., "reply": ...}, one for each question; None: no model was asked.
    """


@settings
class VideoQaConfig:
    """Which questions are asked."""

    places: dict[str, QuestionsConfig] = field(
        default_factory=lambda: {name: QuestionsConfig() for name in LMMS}
    )
    """Benchmark -> where its questions lie; a partition each."""
    films: Annotated[int, at_least(2), EVEN] = 40
    """Films that are made for one that is generated, in minimal pairs."""
    seed: Natural = 0
    """Of the films, and of guesses."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.places) - set(LMMS)):
            raise ValueError(f"places names {unknown[0]!r}; there are {', '.join(LMMS)}")


def of_benchmark(config: VideoQaConfig, partition: str | None) -> VideoQaConfig:
    """What one partition depends on."""
    name = str(partition)
    if name not in config.places:
        raise SettingError(f"video_qa_report.places has no {name!r}; it has {list(config.places)}")
    return replace(config, places={name: config.places[name]})


def observe(
    config: VideoQaConfig, partition: str | None, execution: ExecutionConfig
) -> dict[str, Any]:
    """Digests of the files of questions and of replies."""
    place, seen = config.places[str(partition)], {}
    books = execution.cache / "digests"
    if place.location != GENERATED:
        media = open_media(place.location)
        paths = [path for path in media.listing().paths if path.endswith((".json", ".jsonl"))]
        seen = dict(media.digests(paths, books / f"video_qa-{partition}.json"))
    if place.replies:
        file = resolved(place.replies)
        book = books / f"video_qa_replies-{partition}.json"
        if not file.is_file():
            raise InputError(f"video_qa_report.places.{partition}.replies {file}: no such file")
        found = open_media(str(file.parent)).digests([file.name], book)
        seen |= {f"/{REPLIES}": found[file.name]}
    return seen


def run(config: VideoQaConfig, _: Inputs, out: Workspace) -> dict[str, Any]:
    """Read the questions, let the answerers answer, and judge them and the replies."""
    [(name, place)] = config.places.items()
    location = place.location
    if location == GENERATED:
        location = str(out.payload / "media")
        _make(name, config, out.payload / "media")
    media = open_media(location)
    paths = [path for path in media.listing().paths if path.endswith((".json", ".jsonl"))]
    questions = questions_of(name, [Document(media.location, p, media.read(p)) for p in paths])
    if not questions:
        raise InputError(f"{location}: there is no question of {name} in {', '.join(paths)}")
    replies = {who: replies_of(who, questions, config.seed) for who in ANSWERERS}
    if place.replies:
        replies[REPLIES] = read_replies(resolved(place.replies))
    report: dict[str, Any] = {
        "benchmark": name, "questions": len(questions),
        "data": "format-faithful synthetic" if place.location == GENERATED
        else "the user's files, not compared with the published ones",
        "chance": chance(name, questions), "odd_units": odd_units(name, questions),
        "modes": {
            mode: {who: _judged(name, questions, said, mode) for who, said in replies.items()}
            for mode in MODES
        },
    }  # fmt: skip
    shown = replies.get(REPLIES, replies["text_alone"])
    _write(out.payload, name, questions, shown, report)
    return {
        "questions": len(questions), "chance": report["chance"]["accuracy"],
        **{mode: {who: told["score"] for who, told in report["modes"][mode].items()}
           for mode in MODES},
    }  # fmt: skip


def _make(name: str, config: VideoQaConfig, folder: Path) -> None:
    scenes = scenes_of(config.films, config.seed)
    for file, data in question_files(name, scenes):
        write_file(folder / file, data)
    for scene in scenes:
        write_file(folder / scene.path, filmed(scene))


def _judged(
    name: str, questions: Sequence[Question], replies: Mapping[str, str], mode: Any
) -> dict[str, Any]:
    judged = judge(name, questions, replies, mode)
    right = Rate(sum(j.right for j in judged), len(judged))
    return {**scores(name, judged, mode), "interval": [100 * end for end in right.interval]}


def read_replies(file: Path) -> dict[str, str]:
    """Key -> reply of a file of lines.

    Raises:
        MediaError: a line is no JSON, lacks a field, or has a key that was there.
    """
    document = Document(str(file.parent), file.name, file.read_bytes())
    found: dict[str, str] = {}
    for place, line in document.lines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise document.wrong(
                f'is no JSON ({error.msg}); give {{"key", "reply"}}', place
            ) from None
        if not isinstance(row, dict) or not isinstance(row.get("reply"), str) or "key" not in row:
            raise document.wrong('give {"key": ..., "reply": "..."}', place)
        if str(row["key"]) in found:
            raise document.wrong(f"key {row['key']!r} is there twice; keep one", place)
        found[str(row["key"])] = row["reply"]
    return found


def _write(
    folder: Path, name: str, questions: Sequence[Question], replies: Mapping[str, str],
    report: Mapping[str, Any],
) -> None:  # fmt: skip
    lines = [
        {"key": q.key, "video": q.video, "question": q.text, "options": q.options, "form": q.form}
        for q in questions
    ]
    write_file(
        folder / "questions.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    )
    write_file(folder / "report.json", json.dumps(report, indent=1, sort_keys=True).encode())
    named = {mode: judge(name, questions, replies, mode) for mode in MODES}
    rows = [
        {
            "key": lenient.question.key, "group": lenient.question.group, "reply": lenient.reply,
            "answer": lenient.question.answer, "lmms": -1 if lenient.named is None else
            lenient.named, "strict": -1 if exact.named is None else exact.named,
        }
        for lenient, exact in zip(named["lmms"], named["strict"], strict=True)
    ]  # fmt: skip
    write_table(folder / "answers.parquet", rows, ANSWERS)


STAGE = Stage(
    "video_qa_report", version=1, config=VideoQaConfig, run=run, narrow=of_benchmark,
    observe=observe,
)  # fmt: skip
