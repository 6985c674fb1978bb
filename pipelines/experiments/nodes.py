"""The assets of the group `experiments`: studies, made only when they are named."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipelines.curation.nodes import CLIPS
from pipelines.evaluation.nodes import DEMO_PLANNING
from pipelines.experiments import controls, learning_curve, robot_study
from pipelines.experiments.arms import Arm
from pipelines.experiments.study import StudyConfig, study
from pipelines.node import SCALES, Node, Profile, every, same, those_of, whole
from pipelines.robot.roles import labs_of
from pipelines.training.gates import LOSS_FINITE
from pipelines.training.nodes import (
    DEMO_COOLED_ENCODER,
    DEMO_ENCODER,
    DEMO_FRAME_FEATURES,
    DEMO_WORLD_MODEL,
)
from storage.artifacts import Artifact

MASK_STUDY = """\
What each mask is worth: the demo's recipe with other masks, three seeds, equal CPU seconds.

The paper's masks hide tubes through all of a clip's time; the temporal one hides whole time steps.
Each alone, all together and one a step, beside an encoder that was never trained. Read out by a
linear classifier and by neighbours at 240 and 1,000 labels, in both worlds. Payload: `report.json`
with means and Student's intervals over seeds, `rates.parquet`."""

FEATURE_STUDY = """\
What keeps features alive: one choice of the demo's recipe changed at a time, at equal CPU seconds.

Initialisation, centred targets, ramps, clipping, SIGReg, larger bodies, more pixels, a curriculum,
still clips, three seeds each, beside an encoder that was never trained. Read out as in
`mask_study`. Payload: `report.json`, `rates.parquet`."""

LEARNING_CURVE = """\
When an encoder learned what: its checkpoints, read out one after another in both worlds.

Step 0 is the encoder before its first step. Payload: `curve.parquet`, a row a step, source, readout
and number of labels."""

CONTROL_ENCODER = """\
Encoders for the robot's loop: pretrained, random, pretrained on stills, raw patches; three seeds.

Each by one recipe, a partition an arm and seed (`stills-1`). Payload: as for `encoder`,
`checkpoints/`, `model.json`, `log.parquet`; of an untrained arm its weights alone."""

CONTROL_COOLED_ENCODER = """\
The control encoders after their cool-down; untrained ones are handed on as they are.

What `control_world_model` and `control_planning` see with, a partition an arm and seed. Payload:
as for `cooled_encoder`, `checkpoints/`, `model.json` and, if it was trained, `log.parquet`."""

CONTROL_FRAME_FEATURES = """\
Features of every robot frame by each control encoder: what its world model is trained on.

A partition an arm and seed, with all labs in it. Payload: as for `frame_features`, a folder a lab,
and `features.json`."""

CONTROL_WORLD_MODEL = """\
The demo's world model on each control encoder: the same recipe, the same episodes.

A partition an arm and seed; the seed is also that of the world model's weights and windows.
Payload: as for `world_model`, `checkpoints/`, `model.json`, `log.parquet`, `ranking.json`."""

CONTROL_PLANNING = """\
Trials in labs that nothing was trained in, with each control encoder and its world model.

The same labs, layouts and goals for every arm and seed. Payload: as for `planning_report`,
`report.json` and `trials.parquet`."""

ROBOT_STUDY = """\
Which encoder a planner reaches with, in labs that neither recordings nor pretraining have seen.

Pretrained, random, pretrained on stills and raw patches under the same world-model recipe, three
training seeds each, the same 60 trials in ten labs for all. Payload: `report.json`: shares of goals
reached, distances left and errors of the best motion, by seed, with Student's interval over seeds
and the gain over the random encoder."""

_NO_TIME = "masks.temporal=null"
_SHORT = ("masks.short_range.blocks=8",)
_LONG = ("masks.long_range.blocks=2", "masks.long_range.spatial_scale=(0.7, 0.7)")
# Steps are meant to take the same CPU seconds on one thread: these took 117 to 136, two at once on
# two cores. Those of FEATURE_ARMS are estimated. `cpu_seconds` of an artifact says what they took.
MASK_ARMS = {
    "temporal": Arm(steps=700),
    "short range": Arm(changes=(_NO_TIME, *_SHORT), steps=700),
    "short and long range": Arm(changes=(_NO_TIME, *_SHORT, *_LONG), steps=460),
    "all three": Arm(changes=(*_SHORT, *_LONG), steps=330),
    "one of three a step": Arm(changes=(*_SHORT, *_LONG, "masks.use=one"), steps=700),
    "untrained": Arm(steps=0),
}
FEATURE_ARMS = {
    "recipe": Arm(steps=700),
    "targets as they are": Arm(changes=("centre=none",), steps=700),
    "targets less the clip's mean": Arm(changes=("centre=clip",), steps=700),
    "published initialisation": Arm(changes=("initialisation=published",), steps=700),
    "EMA without a ramp": Arm(changes=("ema=0.998", "ema_end=null"), steps=700),
    "teacher that stands still": Arm(changes=("ema=1.0", "ema_end=null"), steps=700),
    "no clipping": Arm(changes=("max_gradient_norm=null",), steps=700),
    "SIGReg": Arm(changes=("isotropy_weight=0.02",), steps=600),
    "wider body": Arm(
        changes=("encoder.width=192", "encoder.heads=6", "encoder.mlp_hidden=768"), steps=420
    ),
    "deeper body": Arm(changes=("encoder.depth=8",), steps=400),
    "64 pixels": Arm(changes=("clip.crop=64", "encoder.size=64", "batch=16"), steps=330),
    "curriculum: grey noise first": Arm(first=("sources=('ssv2',)",), steps=700),
    "stills": Arm(changes=("clip.still=true", "centre=none"), steps=700),
    "untrained": Arm(steps=0),
}
STUDIES = {
    "mask_study": (MASK_ARMS, MASK_STUDY, 800.0),
    "feature_study": (FEATURE_ARMS, FEATURE_STUDY, 1700.0),
}
CONTROL_PLANS = replace(
    DEMO_PLANNING, labs=labs_of("evaluation", 10), trials=6, seen_labs=(), films=1,
    tasks=replace(DEMO_PLANNING.tasks, names=()),
)  # fmt: skip


def study_lines(report: Artifact) -> Iterator[tuple[str, str]]:
    """The linear readout of every arm with the most labels, and its gain over the reference."""
    told = report.json("report.json")
    for arm in told["order"]:
        worlds = (
            f"{source} {_share(found['linear'][max(found['linear'], key=int)])}"
            for source, found in told["arms"][arm].items()
        )
        yield "Experiments", f"{report.manifest.asset:<14} {arm:<28} {'; '.join(worlds)}"


def robot_lines(report: Artifact) -> Iterator[tuple[str, str]]:
    """How often the planner ended at its goal with each encoder, and how far off it was."""
    told = report.json("report.json")
    for arm in told["order"]:
        found = told["arms"][arm]
        reached, error = found["reached"], found["motion_error_cm"]
        counted = f"{reached['together']['successes']} of {reached['together']['trials']}"
        away = f"{error['mean']:.1f} cm ({error['gain']['mean']:+.1f})"
        told_of = f"reached {counted} = {_share(reached)}; best motion off by {away}"
        yield "Experiments", f"robot_study    {arm:<12} {told_of}"


def _share(told: Mapping[str, Any]) -> str:
    """`54.8% (+21.4 [18.0, 24.8])`: the mean over seeds, its gain over the reference in points."""
    gain = told["gain"]
    between = "" if gain["low"] is None else f" [{100 * gain['low']:.1f}, {100 * gain['high']:.1f}]"
    return f"{told['mean']:.1%} ({100 * gain['mean']:+.1f}{between})"


def _sources(study: str, _: str | None, profile: Profile) -> set[str]:
    return {*profile.videomix22m.weights, *getattr(profile, study).readout.sources}


def _arms(profile: Profile) -> tuple[str, ...]:
    """One partition an arm and seed."""
    partitions: tuple[str, ...] = profile.control_encoder.partitions
    return partitions


def _studies() -> Iterator[Node]:
    for name, (arms, text, seconds) in STUDIES.items():
        config = StudyConfig(base=DEMO_ENCODER, arms=arms, reference="untrained")
        read = functools.partial(_sources, name)
        yield Node(
            stage=study(name), group="experiments", description=text,
            reads=(whole("videomix22m"), those_of("clip_shards", read)),
            scales=dict.fromkeys(SCALES, config), seconds=seconds, summary=study_lines,
            on_request=True,
        )  # fmt: skip


def _curve_sources(_: str | None, profile: Profile) -> tuple[str, ...]:
    sources: tuple[str, ...] = profile.learning_curve.readout.sources
    return sources


CURVE = Node(
    stage=learning_curve.STAGE, group="experiments", description=LEARNING_CURVE,
    reads=(whole("encoder"), those_of("clip_shards", _curve_sources)),
    seconds=30.0, on_request=True,
)  # fmt: skip


def _robot() -> Iterator[Node]:
    clips = (whole("videomix22m"), CLIPS)
    encoder = controls.ControlEncoderConfig(main=DEMO_ENCODER)

    def node(stage: Any, text: str, config: Any, *reads: Any, **more: Any) -> Node:
        return Node(
            stage=stage, group="experiments", description=text, reads=reads,
            scales=dict.fromkeys(SCALES, config), on_request=True, **more,
        )  # fmt: skip

    arms = {"partitions": _arms}
    yield node(controls.ENCODER, CONTROL_ENCODER, encoder, *clips, **arms, seconds=95.0)
    yield node(
        controls.COOLED_ENCODER, CONTROL_COOLED_ENCODER, DEMO_COOLED_ENCODER,
        same("control_encoder"), *clips, **arms, seconds=16.0,
    )  # fmt: skip
    yield node(
        controls.FEATURES, CONTROL_FRAME_FEATURES, DEMO_FRAME_FEATURES,
        same("control_cooled_encoder"), every("episode_shards"), **arms, seconds=8.0,
    )  # fmt: skip
    yield node(
        controls.WORLD_MODEL, CONTROL_WORLD_MODEL, DEMO_WORLD_MODEL,
        same("control_cooled_encoder"), every("episode_shards"), same("control_frame_features"),
        partitions=_arms, gates=(LOSS_FINITE,), seconds=112.0,
    )  # fmt: skip
    yield node(
        controls.PLANNING, CONTROL_PLANNING, CONTROL_PLANS,
        same("control_cooled_encoder"), same("control_world_model"), **arms, seconds=40.0,
    )  # fmt: skip
    yield node(
        robot_study.STAGE, ROBOT_STUDY, robot_study.RobotStudyConfig(), every("control_planning"),
        summary=robot_lines,
    )  # fmt: skip


# The numbers of studies are the demo's at every scale.
NODES = (*_studies(), CURVE, *_robot())
