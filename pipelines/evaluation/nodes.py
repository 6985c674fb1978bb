"""The assets of the group `evaluation`: what the networks are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipelines.evaluation import planning, probe
from pipelines.evaluation.features import ViewConfig
from pipelines.evaluation.planning import PlanningConfig
from pipelines.evaluation.probe import ProbeConfig
from pipelines.evaluation.probing import HeadConfig
from pipelines.node import Keys, Node, Profile, Read, source_of, whole
from pipelines.planner.cem import PlannerConfig
from pipelines.schemas import nearest
from pipelines.settings import SettingError
from storage.artifacts import Artifact

PROBE_REPORT = """\
What the frozen features know about motion: an attentive probe on labelled motion classes.

The same probe is trained on the cooled encoder, on one with random weights (the difference is
what pretraining gave) and on clips that stand still (what a class gives away by its looks).
Payload: `report.json` with accuracies, counts, 95 % intervals and confusion matrices,
`predictions.parquet`, `log.parquet`."""

PLANNING_REPORT = """\
Closed-loop reaching in the simulator: the planner against no motion and random motion.

Each trial lays out a lab anew, renders a goal picture with the arm truly there, and counts the
hand's final distance. "straight" knows where the goal is: it says what was possible. Payload:
`report.json` (successes, trials, 95 % Wilson intervals, distances in cm), `trials.parquet`,
`films/`, and the energy around one motion whose effect is known."""


def probe_line(report: Artifact) -> Iterator[tuple[str, str]]:
    """The accuracy of each variant beside chance."""
    told = _report(report)
    variants = {**told["encoders"], **told["controls"]}
    shares = ", ".join(f"{name} {_rate(found['accuracy'])}" for name, found in variants.items())
    yield "Evaluation", f"probe_report     accuracy: {shares}; chance {told['chance']:.3g}"


def planning_lines(report: Artifact) -> Iterator[tuple[str, str]]:
    """How often each policy reached its goal."""
    for policy, labs in _report(report)["policies"].items():
        pooled = labs["pooled"]
        yield (
            "Evaluation",
            f"planning_report  {policy:<9} reached {_rate(pooled['reached'])}, "
            f"ended {pooled['final_cm']['median']:.1f} cm away (median), "
            f"closed {pooled['closed']:.0%} of the distance",
        )


def _report(artifact: Artifact) -> Any:
    return artifact.json("report.json")


def _rate(told: Mapping[str, float]) -> str:
    """`12 of 20 = 60% [39%, 78%]`, the interval being 95 %."""
    share = f"{told['rate']:.0%} [{told['low']:.0%}, {told['high']:.0%}]"
    return f"{told['successes']} of {told['trials']} = {share}"


def _clips_of_its_source(_: str | None, above: Keys, profile: Profile) -> Keys:
    source = profile.probe_report.source
    found = tuple(key for key in above if source_of(str(key)) == source)
    if not found:
        known = dict.fromkeys(source_of(str(key)) for key in above)
        raise SettingError(
            f"probe_report.source = {source!r}: no clips of it are stored{nearest(source, known)}"
        )
    return found


# A probe of one block: a few hundred clips do not train the paper's four.
DEMO_PROBE = ProbeConfig(
    views=ViewConfig(frames=8, size=64, segments=1, train_views=2, views=1, crop_scale=(0.6, 1.0)),
    head=HeadConfig(
        depth=1,
        heads=4,
        epochs=30,
        batch=16,
        warmup=0.1,
        initial="fan_in",
        standardise=True,
        positions=True,
    ),
    lrs=(1e-3, 3e-3),
    weight_decays=(0.1,),
)
DEMO_PLANNING = PlanningConfig(
    search=PlannerConfig(
        samples=64,
        iterations=4,
        gripper=False,
        solution="best",
        momentum_mean=0.0,
        momentum_std=0.0,
        workspace=(0.30, -0.30, 0.02, 0.68, 0.30, 0.48),
        stop_margin=0.0,
    ),
    trials=15,
    frame_size=128,
    landscape_points=15,
)

NODES = (
    Node(
        stage=probe.STAGE,
        group="evaluation",
        description=PROBE_REPORT,
        reads=(
            whole("cooled_encoder"),
            Read("clip_shards", _clips_of_its_source),
        ),
        scales={"demo": DEMO_PROBE},
        seconds=46.0,
        summary=probe_line,
    ),
    Node(
        stage=planning.STAGE,
        group="evaluation",
        description=PLANNING_REPORT,
        reads=(whole("cooled_encoder"), whole("world_model")),
        scales={"demo": DEMO_PLANNING, "laptop": replace(DEMO_PLANNING, trials=50)},
        seconds=28.0,
        summary=planning_lines,
    ),
)
