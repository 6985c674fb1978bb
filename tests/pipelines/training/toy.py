"""A task small enough to train in milliseconds, for tests of the loop (not a test itself).

It lives in a module of its own because workers import it by name.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.training.tasks import LoopSettings

FEATURES = 6


class ToyTask:
    """Regress a fixed random map; a moving average follows the network."""

    trained = ("network",)
    start_from: Path | None = None

    def __init__(self, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.network = nn.Sequential(nn.Linear(FEATURES, 9), nn.GELU(), nn.Linear(9, 2))
            self.average = nn.Sequential(nn.Linear(FEATURES, 9), nn.GELU(), nn.Linear(9, 2))
        self.network.to(device)
        self.networks: Mapping[str, nn.Module] = {"network": self.network, "average": self.average}

    def schedule(self, step: int) -> dict[str, float]:
        return {"lr": 0.01 / (step + 1), "weight_decay": 0.1}

    def batch(self, step: int, shard: int) -> Tensor:
        source = torch.Generator().manual_seed(1000 * step + shard)
        return torch.randn(5, FEATURES, generator=source)

    def loss(self, batch: Tensor, step: int, shard: int) -> tuple[Tensor, dict[str, Tensor]]:
        wanted = torch.stack([batch.sum(1), batch.prod(1)], dim=1)
        loss = (self.network(batch) - wanted).abs().mean()
        return loss, {"twice": 2 * loss.detach()}

    def after_step(self, _: int) -> None:
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 0.1)

    def diagnose(self) -> dict[str, float]:
        return {"size": float(sum(p.detach().norm() for p in self.network.parameters()))}

    def architecture(self) -> dict[str, Any]:
        return {"kind": "toy"}


class DivergingTask(ToyTask):
    """Its loss is infinite from step 3 on."""

    def loss(self, batch: Tensor, step: int, shard: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss, scalars = super().loss(batch, step, shard)
        return (loss * float("inf") if step == 3 else loss), scalars


class BrokenDataTask(ToyTask):
    """Its second shard cannot be read at step 2."""

    def batch(self, step: int, shard: int) -> Tensor:
        if (step, shard) == (2, 1):
            raise ValueError("clip 17 of howto100m is gone")
        return super().batch(step, shard)


class DyingTask(ToyTask):
    """The process that reads its second shard at step 5 dies once, without a word."""

    def __init__(self, mark: Path, device: torch.device) -> None:
        super().__init__(device)
        self.mark = mark

    def batch(self, step: int, shard: int) -> Tensor:
        if (step, shard) == (5, 1) and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(step, shard)


class DyingThenBrokenTask(DyingTask):
    """Once it has died and was started again, it cannot read its second shard at step 6."""

    def batch(self, step: int, shard: int) -> Tensor:
        batch = super().batch(step, shard)
        if (step, shard) == (6, 1):
            raise ValueError("clip 17 of howto100m is gone")
        return batch


class SlowTask(ToyTask):
    """Takes its time, so that it can be killed on the way."""

    def batch(self, step: int, shard: int) -> Tensor:
        time.sleep(0.05)
        return super().batch(step, shard)


def settings(steps: int, shards: int = 4, every: int = 2) -> LoopSettings:
    """A loop of the toy task."""
    return LoopSettings(
        noun="toy",
        steps=steps,
        samples_per_step=5 * shards,
        gradient_shards=shards,
        checkpoint_every=every,
        diagnose_every=2,
    )
