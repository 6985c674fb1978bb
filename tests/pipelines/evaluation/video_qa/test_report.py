"""Claims: questions that were made are in each benchmark's own schema; an oracle gets all of them,
text alone no minimal pair; a model's replies are scored when they are given, all or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assets.previews import PREVIEWS
from pipelines.evaluation.video_qa.made import SAID, question_files, scenes_of
from pipelines.evaluation.video_qa.nodes import score_lines
from pipelines.evaluation.video_qa.parsing import LMMS
from pipelines.evaluation.video_qa.report import (
    QuestionsConfig,
    VideoQaConfig,
    observe,
    of_benchmark,
    read_replies,
    run,
)
from pipelines.execution import ExecutionConfig
from pipelines.settings import SettingError
from pipelines.stage import Inputs
from storage.errors import InputError
from storage.media import MediaError
from storage.tables import read_table
from tests.pipelines.builders import artifact, workspace


def reported(name: str, place: QuestionsConfig, root: Path, films: int = 8) -> dict[str, Any]:
    config = of_benchmark(VideoQaConfig(places={name: place}, films=films), name)
    out = workspace(root, name)
    run(config, Inputs({}), out)
    told: dict[str, Any] = json.loads((out.payload / "report.json").read_text())
    return told


@pytest.mark.parametrize("name", sorted(LMMS))
def test_an_oracle_gets_all_that_was_made(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    folder.mkdir()
    for file, data in question_files(name, scenes_of(120, 0)):
        (folder / file).write_bytes(data)
    told = reported(name, QuestionsConfig(location=str(folder)), tmp_path / "out")
    for by in told["modes"].values():
        assert by["oracle"]["score"] == 100.0 and by["oracle"]["unread"] == 0.0
        assert abs(by["guess"]["accuracy"] - told["chance"]["accuracy"]) < 15
        if name == "mvp":
            assert by["text_alone"]["pair"] == 0.0, "it says the same of both films"
    assert told["odd_units"] == [] and told["questions"] >= 120


def test_replies_are_scored_when_they_are_given(tmp_path: Path) -> None:
    reported("mvp", QuestionsConfig(), tmp_path / "made", films=4)
    payload = tmp_path / "made" / "payload"
    assert len(list((payload / "media").rglob("*.mp4"))) == 4
    asked = [json.loads(line) for line in (payload / "questions.jsonl").read_text().splitlines()]
    assert {tuple(sorted(q["options"])) for q in asked} <= {
        tuple(sorted((a, b))) for a in SAID.values() for b in SAID.values()
    }
    file = tmp_path / "replies.jsonl"
    said = [{"key": q["key"], "reply": "Answer: A. It is A"} for q in asked]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in said))
    place = QuestionsConfig(location=str(payload / "media"), replies=str(file))
    told = reported("mvp", place, tmp_path / "scored")
    assert told["modes"]["lmms"]["replies"]["accuracy"] == 50.0
    assert told["modes"]["strict"]["replies"]["unread"] == 100.0, "it is no letter alone"
    rows = read_table(tmp_path / "scored" / "payload" / "answers.parquet")
    assert {row["reply"] for row in rows} == {"Answer: A. It is A"}
    file.write_text(json.dumps(said[0]) + "\n")
    with pytest.raises(InputError, match=r"mvp: question .* has no reply, and 2 more"):
        reported("mvp", place, tmp_path / "few")


def test_what_is_wrong_with_replies_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    for text, line in (
        ('{"key": "a", "reply": "A"}\n{"key"', "replies.jsonl line 2: is no JSON"),
        ('{"key": "a"}', r"replies.jsonl line 1: give \{"),
        ('{"key": "a", "reply": "A"}\n{"key": "a", "reply": "B"}', "line 2: key 'a' is there tw"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(MediaError, match=line):
            read_replies(file)
    gone = VideoQaConfig(places={"mvp": QuestionsConfig(replies=str(tmp_path / "gone"))})
    with pytest.raises(InputError, match=r"places.mvp.replies .*gone: no such file"):
        observe(gone, "mvp", ExecutionConfig(cache=tmp_path))
    with pytest.raises(SettingError, match="places names 'mvb'; there are"):
        VideoQaConfig(places={"mvb": QuestionsConfig()})


def test_other_replies_are_another_question(tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    file.write_text("{}")
    config = VideoQaConfig(places={"mvp": QuestionsConfig(replies=str(file))})
    execution = ExecutionConfig(cache=tmp_path / "cache")
    before = observe(config, "mvp", execution)
    file.write_text("{} ")
    assert observe(config, "mvp", execution) != before


def test_the_page_shows_scores_and_replies(tmp_path: Path) -> None:
    reported("tomato", QuestionsConfig(), tmp_path, films=4)
    sealed = artifact(tmp_path / "payload", "video_qa_report/tomato")
    drawn = PREVIEWS["video_qa_report"](sealed, Inputs({}))
    assert "scores" in drawn and len(drawn) >= 2
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())
    [(_, line)] = score_lines(sealed)
    assert line.startswith("tomato (format-faithful synthetic) lmms: guess ")
