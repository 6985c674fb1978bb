"""Pretraining of the encoder, and its cool-down: stages `encoder` and `cooled_encoder`.

The main phase warms up and then keeps one learning rate for as long as one likes, at 16 frames of
256 pixels. A cool-down branches off any of its checkpoints, optimizer moments included, and takes
the rate down at more frames and a higher resolution (V-JEPA 2, section 2.4). Several cool-downs may
branch off one trunk; each names its step in model.json (`first_step`).
"""

from __future__ import annotations

import functools
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import torch

from models.encoder import PUBLISHED, EncoderConfig
from models.mask_mixture import check_masks
from models.predictor import PredictorConfig
from models.schedules import Phase, by_phase, cosine
from models.seeds import Initialisation
from pipelines.schemas import nearest
from pipelines.settings import Count, Natural, NotNegative, Positive, settings
from pipelines.stage import Inputs, Stage, Workspace
from pipelines.training.checkpoints import pick_checkpoint, publish
from pipelines.training.clips import ClipConfig, ClipLoader
from pipelines.training.jepa import (
    CLIP_CACHE,
    LOG_COLUMNS,
    JepaConfig,
    JepaTask,
    Networks,
    loop_settings,
)
from pipelines.training.loop import run_training
from pipelines.training.runs import Run
from pipelines.training.tasks import Build, with_real_precision
from storage.artifacts import Artifact
from storage.errors import InputError, curable
from storage.tables import read_table


@settings
class PretrainConfig(JepaConfig):
    """The main phase. Defaults: the paper's ViT-g run, 12,000 + 228,000 steps."""

    encoder: EncoderConfig = field(
        default_factory=lambda: _main_phase(PUBLISHED["vit_giant_xformers"])
    )
    """Architecture of the encoder; frames and size must be those of `clip`."""
    predictor_width: Count = 384
    predictor_depth: Count = 12
    predictor_heads: Count = 12
    initialisation: Initialisation = "published"
    """"published": weights of deviation 0.02; "fan_in": 1 / sqrt(inputs), which networks a hundred
    wide need."""
    warmup_steps: Count = 12_000
    """Steps over which the rate rises from lr_start to lr."""
    constant_steps: Natural = 228_000
    """Steps at lr."""
    decay_steps: Natural = 0
    """Steps over which it falls to lr_end, as half a cosine; the paper leaves that to the
    cool-down."""
    lr_start: NotNegative = 1e-4
    lr: Positive = 5.25e-4
    lr_end: NotNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.encoder.frames, self.encoder.size) != (self.clip.frames, self.clip.crop):
            raise ValueError(
                f"encoder.frames, encoder.size = {self.encoder.frames}, {self.encoder.size} but "
                f"clip.frames, clip.crop = {self.clip.frames}, {self.clip.crop}: must be equal"
            )
        check_hidden(self, self.networks)

    @property
    def networks(self) -> Networks:
        """Encoder and predictor."""
        with curable("encoder.predictor"):
            predictor = PredictorConfig(
                encoder_width=self.encoder.width,
                width=self.predictor_width,
                depth=self.predictor_depth,
                heads=self.predictor_heads,
                mlp_hidden=4 * self.predictor_width,
                mask_tokens=1,
                context_head=self.context_weight > 0,
                numerics=self.encoder.numerics,
            )
        return Networks(self.encoder, predictor, self.initialisation)

    @property
    def steps(self) -> int:
        """Steps of the main phase."""
        return self.warmup_steps + self.constant_steps + self.decay_steps

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        late = step - self.warmup_steps - self.constant_steps
        if late < 0:
            return by_phase(step, self.phases)
        return cosine(late, start=self.lr, final=self.lr_end, steps=self.decay_steps)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The learning rate over the steps before it falls."""
        warm = Phase(name="warm-up", steps=self.warmup_steps, start=self.lr_start, end=self.lr)
        if not self.constant_steps:
            return (warm,)
        flat = Phase(name="constant", steps=self.constant_steps, start=self.lr, end=self.lr)
        return (warm, flat)


@settings
class CooldownConfig(JepaConfig):
    """The cool-down. Defaults: the paper's, 12,000 steps at 64 frames of 384 pixels."""

    clip: ClipConfig = field(default_factory=lambda: ClipConfig(frames=64, crop=384))
    """Frames, rate, size and crop of a clip."""
    gradient_shards: Count = 512
    """Parts of the batch whose gradients are computed apart; 6 clips each by default."""
    from_step: Natural | None = None
    """The main phase's checkpoint to branch off, by its steps; None: the last one."""
    steps: Count = 12_000
    lr: Positive = 5.25e-4
    """Rate at the start: where the main phase stands."""
    lr_end: NotNegative = 1e-6

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The learning rate over the steps."""
        return (Phase(name="cool-down", steps=self.steps, start=self.lr, end=self.lr_end),)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return by_phase(step, self.phases)


def check_hidden(config: JepaConfig, networks: Networks) -> None:
    """Refuse masks, or targets, that leave nothing to see or to guess on clips of these networks.

    Raises ValueError that begins with the name of a setting.
    """
    grid = networks.encoder.grid
    if config.centre == "time" and grid[0] < 2:
        raise ValueError(
            f"centre = 'time', but clip.frames = {config.clip.frames} makes one time step: nothing "
            "would be left to guess"
        )
    try:
        check_masks(grid, config.masks, networks.encoder.numerics)
    except ValueError as error:
        raise ValueError(f"masks.{error}") from None


def _main_phase(encoder: EncoderConfig) -> EncoderConfig:
    return replace(encoder, frames=16, size=256)


def build_main(
    config: PretrainConfig,
    inputs: Inputs,
    device: torch.device,
    *,
    first_step: int = 0,
    start_from: Path | None = None,
) -> JepaTask:
    """The main phase on a device; on from another's checkpoint, with the steps behind it."""
    return JepaTask(
        config.networks, config, open_clips(config, inputs), config.rate, config.steps, device,
        first_step=first_step, start_from=start_from,
    )  # fmt: skip


def build_cooldown(config: CooldownConfig, inputs: Inputs, device: torch.device) -> JepaTask:
    """A cool-down on a device, with architecture and weights of the checkpoint it branches off."""
    networks, picked, step = branch(config, inputs)
    return JepaTask(
        networks,
        config,
        open_clips(config, inputs),
        config.rate,
        config.steps,
        device,
        first_step=step,
        start_from=inputs["encoder"].folder(f"{picked}/") / picked,
    )


def branch(config: CooldownConfig, inputs: Inputs) -> tuple[Networks, str, int]:
    """The networks of a cool-down, the checkpoint that it branches off, and the steps behind it.

    Raises:
        InputError: there is no such checkpoint, or no network takes such clips.
    """
    trunk = inputs["encoder"]
    picked = pick_checkpoint(trunk, config.from_step)
    model = trunk.json(f"{picked}/model.json")
    with curable("cooled_encoder.clip"):
        networks = Networks.read(model["architecture"]).at(config.clip)
    return networks, picked, model["step"]


def open_clips(config: JepaConfig, inputs: Inputs) -> ClipLoader:
    """The mixture's clips, in the order that the seed makes."""
    return ClipLoader.open(
        inputs["videomix22m"],
        inputs.parts("clip_shards"),
        config.clip,
        weights=source_weights(config, inputs["videomix22m"]),
        seed=config.seed,
        cache_bytes=CLIP_CACHE,
    )


def source_weights(config: JepaConfig, mixture: Artifact) -> dict[str, float]:
    """Weights of the sources that clips are drawn from.

    Raises:
        InputError: `sources` names one that the mixture does not draw from.
    """
    weights: dict[str, float] = mixture.json("mixture.json")["weights"]
    if config.sources is None:
        return weights
    drawn = [source for source, weight in weights.items() if weight > 0]
    for source in config.sources:
        if source not in drawn:
            raise InputError(
                f"sources: the mixture draws nothing from {source!r}{nearest(source, drawn)}"
            )
    return {source: weights[source] for source in config.sources}


def run_main(config: PretrainConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Train the main phase; the payload holds its checkpoints and its log."""
    source_weights(config, inputs["videomix22m"])  # what cannot be is said before workers start
    build = functools.partial(build_main, config, inputs)
    return _train("encoder", config, build, config.steps, out)


def run_cooldown(config: CooldownConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Train a cool-down; the payload holds its checkpoints and its log."""
    source_weights(config, inputs["videomix22m"])  # what cannot be is said before workers start
    networks, _, _ = branch(config, inputs)
    with curable("cooled_encoder"):
        check_hidden(config, networks)
    build = functools.partial(build_cooldown, config, inputs)
    return _train("cooled_encoder", config, build, config.steps, out)


def _train(
    noun: str, config: JepaConfig, build: Build, steps: int, out: Workspace
) -> dict[str, Any]:
    speed = run_training(build, loop_settings(noun, config, steps), out)
    publish(Run(out.work).checkpoints(), out, LOG_COLUMNS)
    log = read_table(out.payload / "log.parquet")
    ranks = [row for row in log if row["effective_rank"] is not None]
    metrics = {
        "steps": steps,
        "clips": steps * config.batch,
        "replaced_clips": sum(row["replaced_clips"] for row in log),
        "first_loss": log[0]["loss"],
        "last_loss": log[-1]["loss"],
        "first_effective_rank": ranks[0]["effective_rank"],
        "last_effective_rank": ranks[-1]["effective_rank"],
        "last_feature_std": ranks[-1]["feature_std"],
    }
    return metrics | speed


ENCODER = Stage(
    "encoder", version=3, config=PretrainConfig, run=run_main, resolve=with_real_precision,
    on_device=True,
)  # fmt: skip
COOLED_ENCODER = Stage(
    "cooled_encoder", version=3, config=CooldownConfig, run=run_cooldown,
    resolve=with_real_precision, on_device=True,
)  # fmt: skip
