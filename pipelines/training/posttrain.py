"""Post-training: the action-conditioned world model on a frozen encoder. Stage `world_model`.

Windows of encoded frames (the asset `frame_features`), with the poses of the arm, train the world
model by teacher forcing and a two-step rollout, both L1 (V-JEPA 2, section 3.1). A tenth of the
episodes is held out for the rank test (`ranking`).

Shapes: B windows of F frames; HW tokens of width E per frame; states [B, F, 7]; actions [B, F-1, 7]
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.encoder import EncoderConfig
from models.objectives import world_model_loss
from models.schedules import Phase, by_phase
from models.world_model import WorldModel, WorldModelConfig
from pipelines.planner.weights import load_world_model, read_model
from pipelines.robot.pace import pace_of
from pipelines.settings import NOT_EMPTY, Count, Natural, NotNegative, Part, Positive, settings
from pipelines.stage import Inputs, Stage, Workspace
from pipelines.training.checkpoints import Checkpoint, publish
from pipelines.training.frame_features import FrameFeatures, StoredFeatures, stored_features
from pipelines.training.loop import one_thread_on, run_training
from pipelines.training.ranking import RankingConfig, rank_pairs, summary
from pipelines.training.reductions import Reduction
from pipelines.training.robot_windows import (
    Episode,
    WindowSampler,
    all_actions,
    never_drawn,
    read_episodes,
    split_held_out,
)
from pipelines.training.runs import Run
from pipelines.training.tasks import LoopSettings, check_shards, with_real_precision
from storage.errors import curable

_MEASURED = (
    "loss", "teacher_forcing", "rollout", "lr", "weight_decay", "gradient_norm",
    "held_out_rank", "held_out_loss", "held_out_shuffled_loss",
)  # fmt: skip
LOG_COLUMNS = {"step": "int64"} | dict.fromkeys(_MEASURED, "float64")


@settings
class PosttrainConfig:
    """What post-training is asked. Defaults: the paper's (section 3.1 and appendix 11.1)."""

    seed: Natural = 239
    """Of weights, windows and the held-out split."""
    width: Count = 1024
    depth: Count = 24
    heads: Count = 16
    residual: bool = False
    """Predict the change since the current frame; small models need it."""
    token_merge: Count = 1
    """Side of the square of patch tokens merged into one."""
    frames: Count = 16
    """Frames of a window."""
    strides: Annotated[tuple[Count, ...], NOT_EMPTY] = (1,)
    """Recorded frames from one frame of a window to the next, drawn evenly. Longer strides show
    larger motions, with the action that leads all the way."""
    batch: Count = 256
    """Windows per step, over all workers."""
    gradient_shards: Count = 32
    """Parts of the batch whose gradients are computed apart; 8 windows each by default."""
    reduction: Reduction = "tree"
    """How gradients become one: "tree" (any number of workers, equal bytes) or "ddp" (torch's)."""
    rollout_steps: Count = 2
    """Frames predicted from predictions; the paper's T = 2."""
    rollout_from: Natural = 0
    """Step from which the rollout joins; 0, always, is the paper. A small model that rolls out
    before it knows what an action does stays with predicting that nothing changes."""
    change_weight: NotNegative = 0.0
    """How much more a token counts that changes: 0 all alike (the paper), 1 in proportion."""
    normalise: bool = False
    """Whether actions and states enter with mean 0 and deviation 1; the paper takes them as is."""
    warmup_steps: Count = 4_500
    constant_steps: Count = 85_500
    decay_steps: Count = 4_500
    lr_start: NotNegative = 7.5e-5
    lr: Positive = 4.25e-4
    lr_end: NotNegative = 0.0
    weight_decay: NotNegative = 0.04
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Arithmetic on a GPU: bfloat16 or float32; a CPU computes in float32."""
    checkpoint_every: Count = 3_000
    """Steps between checkpoints."""
    diagnose_every: Count = 1_000
    """Steps between small rank tests for the log."""
    held_out: Part = 0.1
    """Share of episodes kept out of training, by a hash of their key."""
    ranking: RankingConfig = field(default_factory=RankingConfig)
    """The rank test at the end."""

    def __post_init__(self) -> None:
        check_shards("batch", self.batch, self.gradient_shards)
        if self.rollout_steps >= self.frames:
            raise ValueError(
                f"rollout_steps = {self.rollout_steps}: windows of {self.frames} frames allow "
                f"1 to {self.frames - 1}"
            )

    @property
    def steps(self) -> int:
        """Steps of the whole post-training."""
        return self.warmup_steps + self.constant_steps + self.decay_steps

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The learning rate over the steps."""
        return (
            Phase(name="warm-up", steps=self.warmup_steps, start=self.lr_start, end=self.lr),
            Phase(name="constant", steps=self.constant_steps, start=self.lr, end=self.lr),
            Phase(name="decay", steps=self.decay_steps, start=self.lr, end=self.lr_end),
        )

    def world_model(self, encoder: EncoderConfig, size: int) -> WorldModelConfig:
        """The architecture that fits an encoder's features of frames of `size` pixels."""
        side = size // encoder.patch
        with curable("world_model"):
            return WorldModelConfig(
                encoder_width=encoder.width,
                width=self.width,
                depth=self.depth,
                heads=self.heads,
                mlp_hidden=4 * self.width,
                grid=(side, side),
                residual=self.residual,
                token_merge=self.token_merge,
                extrinsics_width=0,
                numerics=encoder.numerics,
            )


class Windows(NamedTuple):
    """The inputs of one gradient shard."""

    features: Tensor
    """[B, F*HW, E] layer-normed"""
    actions: Tensor
    states: Tensor


class PosttrainTask:
    """The world model, on windows of encoded frames."""

    trained = ("world_model",)
    start_from: Path | None = None

    def __init__(
        self,
        config: PosttrainConfig,
        encoder: EncoderConfig,
        episodes: Sequence[Episode],
        stored: StoredFeatures,
        device: torch.device,
    ) -> None:
        self.config, self.features, self.device = config, stored.open(), device
        self.preprocessing, self.pace = stored.preprocessing, pace_of(e.row for e in episodes)
        self.encoder = encoder
        self.described = config.world_model(encoder, stored.preprocessing.size)
        training, self.held_out = split_held_out(episodes, config.held_out, config.seed)
        self.windows = WindowSampler(training, config.frames, config.strides, config.seed)
        self.world_model = _seeded(self.described, config.seed)
        if config.normalise:
            states = np.concatenate([episode.states for episode in training])
            self.world_model.normalise_with(
                torch.from_numpy(all_actions(training, config.strides)), torch.from_numpy(states)
            )
        self.world_model.to(device)
        self.networks: dict[str, nn.Module] = {"world_model": self.world_model}

    def schedule(self, step: int) -> dict[str, float]:
        """Learning rate and weight decay of a step."""
        rate = by_phase(step, self.config.phases)
        return {"lr": rate, "weight_decay": self.config.weight_decay}

    def batch(self, step: int, shard: int) -> Windows:
        """Windows of one shard."""
        each = self.config.batch // self.config.gradient_shards
        slots = range(shard * each, (shard + 1) * each)
        windows = [self.windows.window(step, slot) for slot in slots]
        features = self.features[np.stack([window.rows for window in windows])]
        actions = torch.from_numpy(np.stack([window.actions for window in windows])).float()
        states = torch.from_numpy(np.stack([window.states for window in windows])).float()
        return Windows(features.flatten(1, 2), actions, states)

    def loss(self, batch: Windows, step: int, _shard: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Teacher forcing and rollout on a shard."""
        features, actions, states = (t.to(self.device, non_blocking=True) for t in batch)
        # Before it joins, the rollout is one step: the first prediction, measured at no cost.
        rolls = step >= self.config.rollout_from
        out = world_model_loss(
            self.world_model,
            features,
            actions,
            states,
            self.described.grid,
            rollout_steps=self.config.rollout_steps if rolls else 1,
            rollout_weight=float(rolls),
            change_weight=self.config.change_weight,
        )
        return out.total, {"teacher_forcing": out.teacher_forcing, "rollout": out.rollout}

    def after_step(self, _: int) -> None:
        """Nothing follows the optimizer here."""

    def diagnose(self) -> dict[str, float]:
        """A small rank test, the same at every time."""
        small = RankingConfig(pairs=24, max_translation=self.config.ranking.max_translation)
        pairs = rank_pairs(
            self.world_model, self.features, self.held_out, self.config.strides, small, self.device
        )
        return {
            "held_out_rank": float(np.mean([pair.rank for pair in pairs])),
            "held_out_loss": float(np.mean([pair.loss for pair in pairs])),
            "held_out_shuffled_loss": float(np.mean([pair.shuffled_loss for pair in pairs])),
        }

    def architecture(self) -> dict[str, Any]:
        """What a reader needs besides the encoder's weights."""
        return {
            "world_model": asdict(self.described),
            "encoder": asdict(self.encoder),
            "preprocessing": asdict(self.preprocessing),
            "pace": asdict(self.pace),
        }


def _seeded(described: WorldModelConfig, seed: int) -> WorldModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WorldModel(described)


def build(config: PosttrainConfig, inputs: Inputs, device: torch.device) -> PosttrainTask:
    """The task on a device."""
    encoder = EncoderConfig(**read_model(inputs["cooled_encoder"])[0]["encoder"])
    episodes = read_episodes(inputs.parts("episode_shards"))
    return PosttrainTask(config, encoder, episodes, stored_features(inputs), device)


def run(config: PosttrainConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Train the world model; the payload holds checkpoints, log and the rank test."""
    episodes = read_episodes(inputs.parts("episode_shards"))
    training, held_out = split_held_out(episodes, config.held_out, config.seed)
    features, pace = stored_features(inputs), pace_of(episode.row for episode in episodes)
    settings = LoopSettings.of("world_model", config, config.steps)
    speed = run_training(functools.partial(build, config, inputs), settings, out)
    final = publish(Run(out.work).checkpoints(), out, LOG_COLUMNS)
    ranking = _rank(config, final, features.open(), held_out, out.execution.device)
    (out.payload / "ranking.json").write_text(json.dumps(ranking, indent=2, sort_keys=True) + "\n")
    return {
        "episodes": len(training),
        "held_out_episodes": len(held_out),
        "episodes_never_drawn": never_drawn(training, config.frames, config.strides),
        "clock": pace.clock,
        "rate_hz": pace.rate_hz,
        "windows": config.steps * config.batch,
        "rank": ranking["rank"]["mean"],
        "chance_rank": ranking["chance_rank"],
        "best_candidate_error_cm": ranking["best_candidate_error_cm"]["mean"],
        "shuffled_over_true": ranking["shuffled_over_true"]["mean"],
        "copy_ratio": ranking["copy_ratio"]["mean"],
        **speed,
    }


def _rank(
    config: PosttrainConfig, final: Checkpoint, features: FrameFeatures,
    held_out: Sequence[Episode], where: str,
) -> dict[str, Any]:  # fmt: skip
    device, path = torch.device(where), final.file("world_model.safetensors")
    with one_thread_on(device):
        world_model = load_world_model(final.model["architecture"], path, where)
        pairs = rank_pairs(world_model, features, held_out, config.strides, config.ranking, device)
    return summary(pairs, config.ranking) | {"by_pair": [asdict(pair) for pair in pairs]}


STAGE = Stage(
    "world_model", version=3, config=PosttrainConfig, run=run, resolve=with_real_precision,
    on_device=True,
)  # fmt: skip
