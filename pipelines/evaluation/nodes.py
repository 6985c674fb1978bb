"""The assets of the group `evaluation`: what the networks are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipelines.evaluation import planning, probe
from pipelines.evaluation.gates import PRETRAINED_BEATS_RANDOM
from pipelines.evaluation.labels import enough_labels
from pipelines.evaluation.manipulation import TaskConfig
from pipelines.evaluation.planning import PlanningConfig
from pipelines.evaluation.probing import HeadConfig
from pipelines.evaluation.protocol import ProbeConfig
from pipelines.evaluation.views import ViewConfig
from pipelines.node import Keys, Node, Profile, Read, source_of, whole
from pipelines.planner.cem import PlannerConfig
from pipelines.robot.episodes import GENERATED
from pipelines.robot.roles import labs_of
from pipelines.schemas import nearest
from pipelines.settings import SettingError
from storage.artifacts import Artifact

PROBE_REPORT = """\
What the frozen features know about motion: three readouts of the labelled clips of one source.

An attentive probe, a linear one and nearest neighbours are asked about clips they have not seen,
with several budgets of labels. Each reads the cooled encoder, encoders with random weights (the
difference is what pretraining gave) and clips that stand still (what a class gives away by its
looks). Whether pretraining gave something is a gate; `probe_report.must_beat_random` names the
sources on which nothing goes on without it. Payload: `report.json` with accuracies, 95 % intervals
and confusion matrices, `predictions.parquet`, `log.parquet`."""

PLANNING_REPORT = """\
Closed-loop trials in the simulator: the planner against no motion and random motion.

Each trial lays out a lab anew, renders a goal picture with the arm truly there, and counts the
hand's final distance, in labs that nothing was trained in and, apart, in one of the recordings.
"straight" knows where the goal is: it says what was possible. Grasping, reaching with a thing and
picking and placing it, cup and box, stand beside it lab by lab, with a scripted expert. Payload:
`report.json` (successes, trials, 95 % Wilson intervals, distances in cm), `trials.parquet`,
`films/`, and the energy around one motion whose effect is known."""


_SHOWN = {"linear": "linear", "attentive": "attentive", "knn": "k-NN"}


def probe_line(report: Artifact) -> Iterator[tuple[str, str]]:
    """Every readout with the largest budget of labels, what pretraining gained, and chance."""
    told = _report(report)
    said = []
    for readout, name in _SHOWN.items():
        last = told["readouts"][readout][-1]
        shares = ", ".join(
            f"{variant} {_share(found['accuracy'])}" for variant, found in last["variants"].items()
        )
        gain = {end: 100 * value for end, value in last["pretrained_minus_random"].items()}
        points = f"{gain['gain']:+.1f} points [{gain['low']:.1f}, {gain['high']:.1f}]"
        said.append(f"{name}, {last['labels']} labels: {shares}: {points}")
    chance = f"chance {told['chance']:.1%} on {told['test_clips']} clips"
    yield "Evaluation", f"probe_report/{told['source']}  {'; '.join([*said, chance])}"


def planning_lines(report: Artifact) -> Iterator[tuple[str, str]]:
    """How often each policy reached its goal, in unseen labs and in those of the recordings."""
    told = _report(report)
    within = f"within {100 * told['settings']['success']:g} cm"
    for labs, name in (("unseen", "pooled"), ("seen", "seen")):
        for policy, found in told["policies"].items():
            if name in found:
                yield "Evaluation", _reaching_line(f"{policy} in {labs} labs", found[name], within)
    for row, found in told["tasks"].items():
        yield "Evaluation", f"planning_report  {row.replace('_', ' '):<23} {_counts(found)}"


def _counts(found: Mapping[str, Any]) -> str:
    """`planner 1 of 3, passed 2; random 0 of 3, passed 0; ...`, pooled over the unseen labs."""
    told = {policy: by_lab["pooled"] for policy, by_lab in found.items()}
    return "; ".join(
        f"{policy} {pooled['reached']['successes']} of {pooled['reached']['trials']}, "
        f"passed {pooled['passed']['successes']}"
        for policy, pooled in told.items()
    )


def _reaching_line(who: str, found: Mapping[str, Any], within: str) -> str:
    return (
        f"planning_report  {who:<23} ended {within} {_rate(found['reached'])}, "
        f"passed {within} {found['passed']['successes']}, "
        f"ended {found['final_cm']['median']:.1f} cm away (median), "
        f"closed {found['closed']:.0%} of the distance"
    )


def _report(artifact: Artifact) -> Any:
    return artifact.json("report.json")


def _rate(told: Mapping[str, float]) -> str:
    """`12 of 20 = 60% [39%, 78%]`, the interval being 95 %."""
    return f"{told['successes']} of {told['trials']} = {_share(told)}"


def _share(told: Mapping[str, float]) -> str:
    return f"{told['rate']:.0%} [{told['low']:.0%}, {told['high']:.0%}]"


def _where_it_was_recorded(_: str | None, above: Keys, profile: Profile) -> Keys:
    """Every trial's world model; refuses a lab as seen that was not recorded."""
    seen, recorded = profile.planning_report.seen_labs, profile.droid_episodes
    known = recorded.labs if recorded.location == GENERATED else ()
    if unknown := [lab for lab in seen if lab not in known]:
        may = f"recorded are {', '.join(known)}" if known else "no lab of the simulator is recorded"
        may += "; give () for none"
        raise SettingError(
            f"planning_report.seen_labs names {unknown[0]!r}, which is not in "
            f"droid_episodes.labs: {may}"
        )
    return above


def _clips_of_its_source(partition: str | None, above: Keys, _: Profile) -> Keys:
    source = str(partition)
    found = tuple(key for key in above if source_of(str(key)) == source)
    if not found:
        known = dict.fromkeys(source_of(str(key)) for key in above)
        raise SettingError(
            f"probe_report.sources names {source!r}, no clips of which are stored"
            f"{nearest(source, known)}"
        )
    return found


# A probe of one block: a few hundred clips do not train the paper's four.
DEMO_PROBE = ProbeConfig(
    must_beat_random=("ssv2",),
    labels=(240, 1000),
    test=1000,
    views=ViewConfig(
        frames=4,
        size=32,
        segments=1,
        views=1,
        crop_scale=(1.0, 1.0),
        crop_aspect=(1.0, 1.0),
    ),
    head=HeadConfig(
        depth=1,
        heads=4,
        epochs=10,
        batch=16,
        warmup=0.1,
        initial="fan_in",
        standardise=True,
        positions=True,
    ),
    lrs=(1e-3, 3e-3),
    weight_decays=(0.1,),
)
DEMO_SEARCH = PlannerConfig(
    samples=64,
    iterations=4,
    gripper=False,
    solution="best",
    momentum_mean=0.0,
    momentum_std=0.0,
    workspace=(0.30, -0.28, 0.02, 0.62, 0.28, 0.42),
    stop_margin=0.0,
)
DEMO_PLANNING = PlanningConfig(
    search=DEMO_SEARCH,
    tasks=TaskConfig(trials=1, search=replace(DEMO_SEARCH, gripper=True, stop_margin=None)),
    labs=labs_of("evaluation", 3),
    seen_labs=labs_of("recording", 1),
    trials=10,
    frame_size=128,
    landscape_points=15,
)

NODES = (
    Node(
        stage=probe.STAGE,
        group="evaluation",
        description=PROBE_REPORT,
        partitions=lambda profile: profile.probe_report.sources,
        reads=(whole("cooled_encoder"), Read("clip_shards", _clips_of_its_source)),
        gates=(PRETRAINED_BEATS_RANDOM,),
        scales={"demo": DEMO_PROBE},
        check=enough_labels,
        seconds=29.0,
        summary=probe_line,
    ),
    Node(
        stage=planning.STAGE,
        group="evaluation",
        description=PLANNING_REPORT,
        reads=(whole("cooled_encoder"), Read("world_model", _where_it_was_recorded)),
        scales={
            "demo": DEMO_PLANNING,
            "laptop": replace(
                DEMO_PLANNING,
                labs=labs_of("evaluation", 10),
                tasks=replace(DEMO_PLANNING.tasks, trials=2),
            ),
        },
        seconds=55.0,
        summary=planning_lines,
    ),
)
