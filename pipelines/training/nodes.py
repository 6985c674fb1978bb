"""The assets of the group `training`: networks, from random weights to a world model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from models.encoder import EncoderConfig
from models.mask_mixture import TEMPORAL, MaskMixture
from models.preprocessing import Preprocessing
from pipelines.curation.nodes import CLIPS
from pipelines.node import Node, every, same, whole
from pipelines.robot.nodes import labs
from pipelines.training import frame_features, posttrain, pretrain
from pipelines.training.clips import ClipConfig
from pipelines.training.frame_features import FrameFeaturesConfig
from pipelines.training.gates import (
    FEATURES_NOT_COLLAPSED,
    LOSS_FINITE,
    NEEDS_TRUE_ACTIONS,
    RANKS_TRUE_ACTION,
)
from pipelines.training.posttrain import PosttrainConfig
from pipelines.training.pretrain import CooldownConfig, PretrainConfig
from storage.artifacts import Artifact

ENCODER = """\
The V-JEPA 2 encoder after its main phase: masked parts of a clip predicted in feature space.

Tubelets, 3-D rotary attention, an EMA target encoder, layer-normed targets, L1 on what is
masked. PAPER hides eight small and two large blocks; DEMO and LAPTOP hide whole time steps and
take from targets what stands still (`masks`, `centre`). Set `lr`, `decay_steps` or `batch` in the
launchpad; a killed run goes on from its last checkpoint to the same bytes, on any number of
workers. Payload: `checkpoints/step-NNNNNN/` (encoder, target_encoder, predictor, optimizer as
safetensors), `model.json`, `log.parquet`. Watch the effective rank: loss and spread look
healthy while features collapse."""

COOLED_ENCODER = """\
The encoder after its cool-down: more frames, higher resolution, a falling learning rate.

Branches off any checkpoint of the main phase, optimizer included: `cooled_encoder.from_step` names
it, none is the last. Its target encoder is what the world model and the probes read. Payload:
as for `encoder`, `checkpoints/step-NNNNNN/`, `model.json` and `log.parquet`."""

FRAME_FEATURES = """\
Features of every robot frame of one lab, by the frozen encoder: computed once, whatever trains.

A changed learning rate encodes nothing again. `dtype` says how they are kept: float32, float16, or
float8 with a scale for each token. Payload: `<lab>/` with one array for sixteen episodes, and
`features.json`; its numbers tell the bytes an hour of recordings takes."""

WORLD_MODEL = """\
The action-conditioned world model: next frame's features from frames, states and actions.

Block-causal attention over the frozen encoder's features, end-effector states and 7-D actions;
teacher forcing plus a two-step rollout, L1. Payload: `checkpoints/`, `model.json`,
`log.parquet`, `ranking.json`: where the action that was truly taken ranks among candidates on
held-out episodes, and the loss when actions are shuffled. Both gate what follows."""

_DIAGNOSES = (
    ("effective_rank", "effective rank"),
    ("feature_std", "spread"),
    ("held_out_rank", "held-out rank of the true action"),
)


def loss_line(trained: Artifact) -> Iterator[tuple[str, str]]:
    """Loss and diagnoses, from the first step to the last."""
    log = trained.table("log.parquet")
    told = [f"loss {log[0]['loss']:.4f} → {log[-1]['loss']:.4f} in {log[-1]['step']} steps"]
    for column, name in _DIAGNOSES:
        taken = [row[column] for row in log if row.get(column) is not None]
        if taken:
            told.append(f"{name} {taken[0]:.2f} → {taken[-1]:.2f}")
    yield "Training", f"{trained.manifest.asset:<16} {', '.join(told)}"


def ranking_line(model: Artifact) -> Iterator[tuple[str, str]]:
    """The loss, and what the rank test says of actions."""
    yield from loss_line(model)
    told = model.json("ranking.json")
    yield (
        "Evaluation",
        f"world_model      mean rank of the true action {_mean(told['rank'])} of "
        f"{told['candidates']} candidates (chance {told['chance_rank']:g}); loss with shuffled "
        f"actions {_mean(told['shuffled_over_true'])} times that with true ones",
    )


def _mean(told: Mapping[str, float]) -> str:
    return f"{told['mean']:.2f} [{told['low']:.2f}, {told['high']:.2f}]"


# What a small encoder learns motion by, found by experiment (see the README): whole
# time steps are hidden, targets lose what stands still, weights start at a size that fits a width
# of 128, and a tubelet of one frame leaves motion to be learned. A ViT of 0.8 million parameters
# on clips of 4 frames of 32 pixels, a second long.
DEMO_ENCODER = PretrainConfig(
    clip=ClipConfig(frames=4, crop=32, scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0),
    encoder=EncoderConfig(
        width=128, depth=4, heads=4, mlp_hidden=512, patch=8, tubelet=1, frames=4, size=32
    ),
    predictor_width=64,
    predictor_depth=2,
    predictor_heads=2,
    initialisation="fan_in",
    masks=MaskMixture(short_range=None, long_range=None, temporal=TEMPORAL),
    centre="time",
    batch=32,
    gradient_shards=2,
    warmup_steps=110,
    constant_steps=0,
    decay_steps=990,
    lr_start=0.0,
    lr=1.5e-3,
    lr_end=1.5e-4,
    ema=0.99,
    ema_end=0.998,
    max_gradient_norm=5.0,
    checkpoint_every=275,
    diagnose_every=55,
)
# Higher resolution, as in the paper, on the way to the robot's frames; a sixteenth of the steps.
# The target follows within a quarter of them: at the main phase's momentum it would hardly move.
DEMO_COOLED_ENCODER = CooldownConfig(
    clip=replace(DEMO_ENCODER.clip, crop=64),
    masks=DEMO_ENCODER.masks,
    centre="time",
    batch=16,
    gradient_shards=2,
    steps=80,
    lr=DEMO_ENCODER.lr_end,
    lr_end=2e-6,
    ema=0.95,
    max_gradient_norm=5.0,
    checkpoint_every=40,
    diagnose_every=20,
)
DEMO_FRAME_FEATURES = FrameFeaturesConfig(preprocessing=Preprocessing(size=64), dtype="float32")
# A small world model leaves the plateau of copying by these options (see PosttrainConfig).
DEMO_WORLD_MODEL = PosttrainConfig(
    width=128,
    depth=3,
    heads=4,
    residual=True,
    token_merge=2,
    frames=3,
    strides=(1, 2, 3, 4),
    batch=24,
    gradient_shards=2,
    rollout_from=1200,
    change_weight=0.7,
    normalise=True,
    warmup_steps=50,
    constant_steps=900,
    decay_steps=650,
    lr_start=6e-5,
    lr=3e-3,
    lr_end=6e-5,
    checkpoint_every=400,
    diagnose_every=400,
)
# LAPTOP, an hour or two by estimate: DEMO's models, three times the clips, four times the steps.
LAPTOP_ENCODER = replace(
    DEMO_ENCODER, warmup_steps=500, decay_steps=4_700, ema_end=0.999, checkpoint_every=650,
    diagnose_every=130,
)  # fmt: skip
LAPTOP_COOLED_ENCODER = replace(DEMO_COOLED_ENCODER, steps=320, ema=0.99, checkpoint_every=80)
LAPTOP_WORLD_MODEL = replace(
    DEMO_WORLD_MODEL, warmup_steps=200, constant_steps=4_000, decay_steps=2_200,
    rollout_from=4_800, checkpoint_every=1_600, diagnose_every=1_600,
)  # fmt: skip


def nodes() -> tuple[Node, ...]:
    """The nodes of this group, upstream first."""
    return (
        Node(
            stage=pretrain.ENCODER, group="training", description=ENCODER,
            reads=(whole("videomix22m"), CLIPS), gates=(LOSS_FINITE, FEATURES_NOT_COLLAPSED),
            scales={"demo": DEMO_ENCODER, "laptop": LAPTOP_ENCODER},
            seconds=150.0, summary=loss_line, costs="by_step",
        ),
        Node(
            stage=pretrain.COOLED_ENCODER, group="training", description=COOLED_ENCODER,
            reads=(whole("encoder"), whole("videomix22m"), CLIPS),
            gates=(LOSS_FINITE, FEATURES_NOT_COLLAPSED),
            scales={"demo": DEMO_COOLED_ENCODER, "laptop": LAPTOP_COOLED_ENCODER},
            seconds=32.0, summary=loss_line, costs="by_step",
        ),
        Node(
            stage=frame_features.STAGE, group="training", description=FRAME_FEATURES,
            partitions=labs, reads=(whole("cooled_encoder"), same("episode_shards")),
            scales={"demo": DEMO_FRAME_FEATURES}, seconds=0.7,
        ),
        Node(
            stage=posttrain.STAGE, group="training", description=WORLD_MODEL,
            reads=(whole("cooled_encoder"), every("episode_shards"), every("frame_features")),
            gates=(LOSS_FINITE, RANKS_TRUE_ACTION, NEEDS_TRUE_ACTIONS),
            scales={"demo": DEMO_WORLD_MODEL, "laptop": LAPTOP_WORLD_MODEL},
            seconds=112.0, summary=ranking_line,
        ),
    )  # fmt: skip
