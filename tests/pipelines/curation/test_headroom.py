"""The world made for motion can be learned: the demo's own network, trained with labels, tells its
eight moves apart, where one that was never trained hardly does.

What it must not be learned from (a still, the look) is proved in test_camera.py and
test_internet.py, and so is that the true motion tells the class.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.encoder import Encoder
from models.schedules import warmup_cosine
from models.seeds import seeded_encoder
from pipelines.curation.camera import MOVES
from pipelines.curation.shots import Shot, draw, stream
from pipelines.evaluation.readouts import accuracies
from pipelines.nodes import PROFILES
from pipelines.training.clips import augment
from pipelines.training.distributed import Workers
from pipelines.training.loop import Trainer, one_thread_on
from pipelines.training.tasks import LoopSettings

RECIPE = PROFILES["demo"].encoder
CLASSES, STEPS, BATCH, TEST = len(MOVES), 1200, 32, 800
CPU = torch.device("cpu")


def clip(number: int) -> Tensor:
    """[3, T, H, W]: four frames, a quarter of a second apart, of a film of the motion world."""
    shot = Shot(("headroom", number), "noise", MOVES[number % CLASSES], 1.0)
    frames = np.stack(list(draw(shot, 48, 48, RECIPE.clip.fps)))
    return augment(frames, stream("headroom", number).random(64), RECIPE.clip)


class Labelled:
    """The demo's encoder with a linear head on its pooled features, trained with labels."""

    trained = ("encoder", "head")
    start_from: Path | None = None

    def __init__(self, clips: Tensor) -> None:
        self.clips = clips
        self.encoder = seeded_encoder(RECIPE.encoder, 0, RECIPE.initialisation)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            head = nn.Linear(RECIPE.clip.frames * RECIPE.encoder.width, CLASSES)
        self.head = head
        self.networks: dict[str, nn.Module] = {"encoder": self.encoder, "head": self.head}

    def schedule(self, step: int) -> dict[str, float]:
        rate = warmup_cosine(
            step, start=0.0, peak=1.5e-3, final=3e-5, warmup=STEPS // 10, steps=STEPS
        )
        return {"lr": rate, "weight_decay": 0.04}

    def batch(self, step: int, _shard: int) -> Tensor:
        return torch.from_numpy(
            np.random.default_rng([step, 1]).integers(0, len(self.clips), BATCH)
        )

    def loss(self, batch: Tensor, _step: int, _shard: int) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.head(pooled(self.encoder, self.clips[batch]).flatten(1))
        return nn.functional.cross_entropy(logits, batch % CLASSES), {}

    def after_step(self, _: int) -> None: ...

    def diagnose(self) -> dict[str, float]:
        return {}

    def architecture(self) -> dict[str, Any]:
        return {}


def pooled(encoder: Encoder, clips: Tensor) -> Tensor:
    """[B, T, D]: the spatial mean of every time step."""
    return encoder(clips).unflatten(1, (RECIPE.encoder.grid[0], -1)).mean(2)


def everywhere(encoder: Encoder, clips: Tensor) -> Tensor:
    """[C, T, D] of many clips, some at a time."""
    return torch.cat([pooled(encoder, part) for part in clips.split(200)])


@functools.cache
def films(count: int) -> Tensor:
    return torch.stack([clip(number) for number in range(count)])


def test_clips_of_the_motion_world_are_what_the_demo_trains_on() -> None:
    few = films(16)
    assert few.shape == (16, 3, 4, 32, 32)
    assert torch.equal(few[3], clip(3)) and not torch.equal(few[3], few[11])
    task = Labelled(few)
    loss, _ = task.loss(torch.arange(16), 0, 0)
    assert 1.5 < loss.item() < 4.0  # about the logarithm of the classes before it is trained


@pytest.mark.heavy(small="test_clips_of_the_motion_world_are_what_the_demo_trains_on")
def test_the_demos_network_learns_the_moves_from_labels() -> None:
    clips = films(8000 + TEST)
    asked, known = clips[:TEST], clips[TEST:]
    with one_thread_on(CPU):
        task = Labelled(known)
        settings = LoopSettings(
            noun="labelled", steps=STEPS, samples_per_step=BATCH, gradient_shards=1,
            checkpoint_every=STEPS, diagnose_every=STEPS, max_gradient_norm=5.0,
        )  # fmt: skip
        trainer = Trainer(task, settings, Workers(), CPU)
        for step in range(STEPS):
            trainer.step(step)
        with torch.inference_mode():
            answers = task.head(everywhere(task.encoder, asked).flatten(1)).argmax(1).numpy()
            random = seeded_encoder(RECIPE.encoder, 1, RECIPE.initialisation)
            features = everywhere(random, clips[: TEST + 1000]).numpy()
    labels = np.arange(len(features)) % CLASSES
    supervised = float((answers == labels[:TEST]).mean())
    budget = {1000: range(TEST, TEST + 1000)}
    untrained = accuracies(features, labels, budget, range(TEST))["linear"][1000].value
    assert supervised >= 0.8, supervised
    assert untrained < supervised - 0.3, untrained
