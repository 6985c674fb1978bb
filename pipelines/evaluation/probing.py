"""Training one attentive probe on frozen features, and asking it.

The published probe starts from weights of deviation 0.02, right for encoders a thousand wide. On
one that is 128 wide signals shrink at every layer and gradients with them: after 450 steps at a
rate of 1e-3 its loss had hardly moved, where `initial="fan_in"`, every matrix at 1 / sqrt(inputs),
fitted every training clip. The published probe sees tokens without positions, and leaves it to them
to carry their own; `positions` adds where each stands.

Shapes: B views, N tokens of a view, D encoder width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.attentive_probe import AnticipationProbe, AttentiveProbe
from pipelines.evaluation.features import Features
from pipelines.settings import Count, Momentum, Natural, settings
from storage.digests import digest_json
from storage.errors import curable
from storage.work import KeptFile, Work

Pooled = TypeVar("Pooled", AttentiveProbe, AnticipationProbe)


@settings
class HeadConfig:
    """The probe and how it learns; the defaults are the paper's (table 15)."""

    depth: Count = 4
    """Blocks: all but the last are self-attention, the last is cross-attention."""
    heads: Count = 16
    """Attention heads."""
    epochs: Count = 20
    """Passes over the training clips."""
    batch: Count = 256
    """Clips a step."""
    warmup: Momentum = 0.0
    """Share of the steps over which the learning rate rises; it then falls to 0 as a cosine."""
    initial: Literal["published", "fan_in"] = "published"
    """"published": deviation 0.02; "fan_in": 1 / sqrt(inputs), which narrow encoders need."""
    standardise: bool = False
    """Whether features get mean 0 and deviation 1, channel by channel over the training clips."""
    positions: bool = False
    """Whether sines and cosines of time, row and column are added to the tokens."""
    seed: Natural = 0
    """Of the probe's weights and the order of clips."""


@dataclass(frozen=True)
class ProbeTask:
    """One probe to train: on which clips of which files, and on which to ask it."""

    config: HeadConfig
    lr: float
    weight_decay: float
    classes: int
    grid: tuple[int, int, int]
    """Tokens of a view along time, height and width."""
    work: Work
    fit: tuple[KeptFile, ...]
    """Files of the work, as `features.encode_clips` names them."""
    fit_clips: tuple[int, ...]
    fit_labels: tuple[int, ...]
    fit_views: int
    asked: tuple[KeptFile, ...]
    asked_clips: tuple[int, ...]
    asked_labels: tuple[int, ...]
    """They judge what is predicted; the probe never sees them."""
    asked_views: int
    device: str


def train_probe(task: ProbeTask) -> dict[str, Any]:
    """Train one probe and ask it.

    Returns:
        predicted: class of each asked clip; fitted: of each training clip; losses: mean per epoch.
    """
    features = Features([task.work.file(part) for part in task.fit])
    shift, scale = _moments(features, task) if task.config.standardise else (0.0, 1.0)
    places = grid_positions(task.grid, features[[0]].shape[-1]) if task.config.positions else 0.0

    def shown(source: Features, rows: Sequence[int]) -> Tensor:
        tokens: Tensor = (source[rows] - shift) / scale + places
        return tokens.to(task.device)

    width = features[[0]].shape[-1]
    probe = seeded_probe(task.config, width, task.classes, task.device)
    optimizer = torch.optim.AdamW(
        probe.parameters(), lr=task.lr, weight_decay=task.weight_decay, betas=(0.9, 0.999)
    )
    labels = torch.tensor(task.fit_labels)
    batches = -(-len(labels) // task.config.batch)
    losses = []
    for epoch in range(task.config.epochs):
        total = 0.0
        rows, order = epoch_order(task, epoch)
        for number, batch in enumerate(torch.split(order, task.config.batch)):
            rate = schedule(epoch * batches + number, task.config.epochs * batches, task.config)
            optimizer.param_groups[0]["lr"] = task.lr * rate
            logits = probe(shown(features, [rows[i] for i in batch.tolist()]))
            loss = F.cross_entropy(logits, labels[batch].to(task.device))
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        losses.append(total / len(labels))
    asked = Features([task.work.file(part) for part in task.asked])
    return {
        "predicted": ask(probe, asked, shown, task.asked_clips, task.asked_views),
        "fitted": ask(probe, features, shown, task.fit_clips, task.fit_views),
        "losses": losses,
    }


def epoch_order(task: ProbeTask, epoch: int) -> tuple[list[int], Tensor]:
    """Which view of each training clip an epoch shows, and the order of the clips."""
    word = int(digest_json([task.config.seed, epoch])[:15], 16)
    random = torch.Generator().manual_seed(word)
    order = torch.randperm(len(task.fit_clips), generator=random)
    chosen = torch.randint(task.fit_views, (len(task.fit_clips),), generator=random).tolist()
    rows = [c * task.fit_views + v for c, v in zip(task.fit_clips, chosen, strict=True)]
    return rows, order


def ask(
    probe: AttentiveProbe, features: Features, shown: Any, clips: Sequence[int], views: int
) -> list[int]:
    """The class of each clip: the largest softmax, averaged over its views."""
    probe.eval()
    answers: list[int] = []
    with torch.inference_mode():
        for start in range(0, len(clips), 32):
            some = clips[start : start + 32]
            rows = [clip * views + view for clip in some for view in range(views)]
            chances = probe(shown(features, rows)).softmax(-1).unflatten(0, (len(some), views))
            answers += chances.mean(1).argmax(-1).tolist()
    return answers


def schedule(step: int, steps: int, config: HeadConfig) -> float:
    """Share of the learning rate at a step: a linear rise, then a cosine to 0."""
    rise = config.warmup * steps
    if step < rise:
        return (step + 1) / rise if rise >= 1 else 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def seeded_probe(config: HeadConfig, width: int, classes: int, device: str) -> AttentiveProbe:
    """A probe whose weights depend on the seed alone."""
    return seeded(
        config, lambda: AttentiveProbe(width, config.heads, config.depth, classes), device
    )


def seeded(config: HeadConfig, build: Callable[[], Pooled], device: str) -> Pooled:
    """What `build` makes, with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        with curable("probe_report.head"):
            probe = build()
        if config.initial == "fan_in":
            for matrix in (p for p in probe.parameters() if p.dim() == 2):
                torch.nn.init.normal_(matrix, std=matrix.shape[1] ** -0.5)
            torch.nn.init.normal_(probe.pooler.query_tokens)
    return probe.to(torch.device(device))


def grid_positions(grid: tuple[int, int, int], width: int) -> Tensor:
    """[t * h * w, width] sines and cosines of time, row and column, a third of the width each."""
    each = width // 6
    waves = 10_000.0 ** (-torch.arange(each) / max(1, each))
    parts = []
    for axis in torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij"):
        angle = axis.reshape(-1, 1) * waves
        parts += [angle.sin(), angle.cos()]
    return F.pad(torch.cat(parts, 1), (0, width - 6 * each))


def _moments(features: Features, task: ProbeTask) -> tuple[Tensor, Tensor]:
    """Mean and deviation [D] of the training views' features, channel by channel."""
    count, total, squares = 0, torch.zeros(1), torch.zeros(1)
    for clip in task.fit_clips:
        rows = range(clip * task.fit_views, (clip + 1) * task.fit_views)
        tokens = features[rows].double().flatten(0, 1)
        count += len(tokens)
        total = total + tokens.sum(0)
        squares = squares + tokens.square().sum(0)
    mean = total / count
    spread = (squares / count - mean.square()).clamp_min(1e-12).sqrt()
    return mean.float(), spread.float()


def share_right(predicted: Sequence[int], truth: Sequence[int]) -> float:
    """Share of equal entries."""
    return float(np.mean(np.array(predicted) == np.array(truth)))
