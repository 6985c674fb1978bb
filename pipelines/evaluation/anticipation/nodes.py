"""The assets of action anticipation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pipelines.evaluation.anticipation import films, report
from pipelines.evaluation.anticipation.protocol import AnticipationConfig
from pipelines.evaluation.nodes import DEMO_PROBE
from pipelines.node import Node, whole
from storage.artifacts import Artifact

KITCHEN_FILMS = """\
The films of EPIC-KITCHENS-100 and every action in them, from its own tables.

`kitchen_films.location` is a folder or bucket with the real data set; without one, kitchens are
made in its format, in which what is seen before an action tells it. Payload: `segments.parquet`
(actions whose film is whole), `missing.parquet` (the others: none is replaced), `classes.json`."""

ANTICIPATION_REPORT = """\
What will be done, a second before: mean-class recall at 5 of verbs, nouns and actions.

Encoder and predictor tokens, a probe with three queries, and three lines that stand together: the
released code's clips and filter, the leaderboard's nine numbers on the same clips, and the
leaderboard's on clips that end before the action begins. Beside them an encoder that was never
trained, clips that stand still, and the most frequent classes. Payload: `report.json`,
`submission.json` (the leaderboard's file, checked), `classes.json`."""

DEMO_ANTICIPATION = AnticipationConfig(
    frames=4, rate=4, size=32, ahead=0.5, train_ahead=(0.25, 0.75), flip=0.0, train_views=2,
    head=replace(DEMO_PROBE.head, epochs=20), lrs=(1e-3, 3e-3), weight_decays=(0.01,),
    held_out=0.2,
)  # fmt: skip


def anticipation_lines(found: Artifact) -> Iterator[tuple[str, str]]:
    """The three lines of actions, of every variant."""
    told = found.json("report.json")
    for variant, kinds in told["headline"].items():
        lines = kinds["action"]
        yield (
            "Benchmarks",
            f"EPIC-KITCHENS-100 anticipation ({told['data']}) {variant:<14} official "
            f"{lines['official']:.1f}, leaderboard {lines['leaderboard']:.1f}, before the start "
            f"{lines['before_start']:.1f} (action, mean-class recall at 5; {told['asked']} asked, "
            f"{told['dropped']} dropped by the official filter)",
        )


NODES = (
    Node(
        stage=films.STAGE,
        group="benchmarks",
        description=KITCHEN_FILMS,
        seconds=15.0,
        on_request=True,
    ),
    Node(
        stage=report.STAGE,
        group="benchmarks",
        description=ANTICIPATION_REPORT,
        reads=(whole("released_weights"), whole("kitchen_films")),
        scales={"demo": DEMO_ANTICIPATION},
        seconds=40.0,
        summary=anticipation_lines,
        on_request=True,
    ),
)
