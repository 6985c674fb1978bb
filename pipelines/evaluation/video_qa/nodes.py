"""The asset of questions about videos."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.evaluation.video_qa import report
from pipelines.node import Node, Profile
from storage.artifacts import Artifact

VIDEO_QA_REPORT = """\
What replies to one benchmark's questions about videos are worth, as lmms-eval counts and strictly.

`video_qa_report.places.<benchmark>.location` has the benchmark's own files of questions, `replies`
a model's replies to what `questions.jsonl` holds. Beside them stand an oracle, an even guess and an
answerer that reads the text and sees nothing. Payload: `report.json`, `questions.jsonl`,
`answers.parquet`; where nothing is at hand, questions and films that were made, in `media/`."""


def score_lines(found: Artifact) -> Iterator[tuple[str, str]]:
    """The score of every answerer in both modes, and chance."""
    told = found.json("report.json")
    said = "; ".join(
        f"{mode}: "
        + ", ".join(f"{who} {judged['score']:.1f}" for who, judged in sorted(by.items()))
        for mode, by in told["modes"].items()
    )
    guessed = ", ".join(f"{metric} {value:.1f}" for metric, value in told["chance"].items())
    yield (
        "Benchmarks",
        f"{told['benchmark']} ({told['data']}) {said}; chance {guessed}, {told['questions']} asked",
    )


def _places(profile: Profile) -> tuple[str, ...]:
    return tuple(profile.video_qa_report.places)


NODES = (
    Node(
        stage=report.STAGE,
        group="benchmarks",
        description=VIDEO_QA_REPORT,
        partitions=_places,
        seconds=3.0,
        summary=score_lines,
        on_request=True,
    ),
)
