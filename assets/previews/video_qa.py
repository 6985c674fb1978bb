"""Pictures of questions about videos: scores beside chance, replies right and wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from assets.previews import figures, scores
from assets.previews.curation import SHEET, SIDE, evenly
from pipelines.stage import Inputs
from storage.artifacts import Artifact
from storage.frames import middle_frame

PAPER: Mapping[str, float] = {
    "perceptiontest": 84.0, "mvp": 44.5, "tempcompass": 76.9, "temporalbench": 36.7,
    "tomato": 40.3, "tvbench": 60.6, "mvbench": 73.5,
}  # fmt: skip
"""V-JEPA 2 with an 8B language model (table 8), percent."""


def video_qa_report(report: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Scores of each answerer and mode; where films were made, replies with their frames."""
    told = report.json("report.json")
    rates = {
        f"{who.replace('_', ' ')}\n{mode}": (judged["score"] / 100,) * 3
        for mode, by in told["modes"].items()
        for who, judged in by.items()
    }
    paper = "paper, 8B language model (other films)", PAPER[told["benchmark"]] / 100
    level = list(told["chance"].values())[-1] / 100
    title = f"{told['benchmark']}: {told['data']}, {told['questions']} questions"
    drawn = {"scores": scores.benchmark_bars(rates, level, paper, title, "score")}
    return drawn | _replies(report)


def _replies(report: Artifact) -> dict[str, bytes]:
    """Middle frames with option and reply, where the films are part of the artifact."""
    lines = [json.loads(x) for x in report.read("questions.jsonl").splitlines()]
    questions = {line["key"]: line for line in lines}
    rows = [
        row for row in report.table("answers.parquet")
        if report.has(f"media/{questions[row['key']]['video']}")
    ]  # fmt: skip
    drawn = {}
    for name, right in (("right", True), ("wrong", False)):
        some = evenly([r for r in rows if (r["answer"] == r["strict"]) is right], SHEET // 2)
        frames, captions = [], []
        for row in some:
            asked = questions[row["key"]]
            film = report.read(f"media/{asked['video']}")
            frames.append(np.asarray(middle_frame(film, 0.0, 1.6, SIDE)))
            captions.append(f"{asked['options'][row['answer']][:22]} ← {row['reply'][:14]}")
        if frames:
            title = f"Replied {name}: answer ← reply"
            drawn[f"replied {name}"] = figures.contact_sheet(frames, captions, title)
    return drawn
