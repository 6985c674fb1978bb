"""Many attentive heads in one pass over the features: every batch is read, and where need be
encoded, once, and all heads learn from it.

Learning rates follow the released schedule, which moves before each step: the first of T updates
has progress 1 / T and the last one a rate of 0. After every epoch all heads are asked about the
films that were held out of train, by which head and epoch are chosen, and about the films of
validation, which choose nothing.

Shapes: H heads, E epochs, Q films that are asked about, V views, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.attentive_probe import AttentiveProbe
from pipelines.evaluation.benchmarks.protocol import HeadsConfig
from pipelines.evaluation.probing import HeadConfig, grid_positions, seeded_probe
from storage.digests import digest_json

Tokens = Callable[[Sequence[int], int], Tensor]
"""(films, epoch) -> tokens: [B, N, D], a random view each, in train; [B * V, N, D] when asked."""


@dataclass(frozen=True)
class Side:
    """Some films whose tokens can be had."""

    films: tuple[int, ...]
    labels: tuple[int, ...]
    tokens: Tokens
    views: int = 1


@dataclass(frozen=True)
class Learned:
    """What all heads said after every epoch."""

    losses: NDArray[np.float64]
    """[E, H]: mean over the batches of an epoch."""
    answers: dict[str, dict[str, NDArray[np.int64]]]
    """Side -> rule of aggregation -> classes [E, H, Q]."""


def official_rate(step: int, steps: int, lr: float, warmup: int = 0, start: float = 0.0) -> float:
    """The learning rate of an update, counted from 1: a linear rise from `start`, then a cosine to
    0 at the last one.
    """
    if step < warmup:
        return start + step / warmup * (lr - start)
    return 0.5 * lr * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def aggregated(logits: Tensor, views: int) -> dict[str, Tensor]:
    """Rule -> classes [B] of logits [B * V, C]: `official` averages softmax over views, as the
    released code does, `fixed` logits, as the paper says.
    """
    grouped = logits.float().unflatten(0, (-1, views))
    return {
        "official": grouped.softmax(-1).mean(1).argmax(-1),
        "fixed": grouped.mean(1).argmax(-1),
    }


def learn(
    config: HeadsConfig, classes: int, grid: tuple[int, int, int], fit: Side,
    asked: dict[str, Side], device: str, segments: int = 1,
) -> Learned:  # fmt: skip
    """Train all heads of the grid side by side and ask them after every epoch.

    `grid` is that of all segments of a film, one after another in time.
    """
    head = config.head
    prepare, width = _preparation(head, grid, segments, fit)
    probes = [seeded_probe(head, width, classes, device) for _ in config.grid]
    optimizers = [
        torch.optim.AdamW(probe.parameters(), lr=lr, weight_decay=decay, betas=(0.9, 0.999))
        for probe, (lr, decay) in zip(probes, config.grid, strict=True)
    ]
    batches = -(-len(fit.films) // head.batch)
    steps, warmup = head.epochs * batches, round(head.warmup * head.epochs * batches)
    labels = torch.tensor(fit.labels, device=device)
    losses: list[NDArray[np.float64]] = []
    said: dict[str, list[dict[str, NDArray[np.int64]]]] = {name: [] for name in asked}
    for epoch in range(head.epochs):
        total = np.zeros(len(probes))
        for number, batch in enumerate(epoch_order(len(fit.films), epoch, head)):
            tokens = prepare(fit.tokens([fit.films[i] for i in batch], epoch)).to(device)
            step = epoch * batches + number + 1
            for place, (probe, optimizer) in enumerate(zip(probes, optimizers, strict=True)):
                optimizer.param_groups[0]["lr"] = official_rate(
                    step, steps, config.grid[place][0], warmup
                )
                loss = F.cross_entropy(probe(tokens), labels[batch])
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
                total[place] += float(loss.detach()) / batches
        losses.append(total)
        for name, side in asked.items():
            said[name].append(ask(probes, side, prepare, head.batch, device))
    answers = {
        name: {rule: np.stack([epoch[rule] for epoch in some]) for rule in ("official", "fixed")}
        for name, some in said.items()
    }
    return Learned(np.array(losses), answers)


def ask(
    probes: Sequence[AttentiveProbe], side: Side, prepare: Callable[[Tensor], Tensor], batch: int,
    device: str,
) -> dict[str, NDArray[np.int64]]:  # fmt: skip
    """Rule -> the classes [H, Q] that the heads name."""
    found: dict[str, list[NDArray[np.int64]]] = {"official": [], "fixed": []}
    some = max(1, batch // side.views)
    with torch.inference_mode():
        for start in range(0, len(side.films), some):
            tokens = prepare(side.tokens(side.films[start : start + some], 0)).to(device)
            told = [aggregated(probe(tokens), side.views) for probe in probes]
            for rule, parts in found.items():
                parts.append(np.stack([answer[rule].cpu().numpy() for answer in told]))
    return {rule: np.concatenate(parts, axis=1) for rule, parts in found.items()}


def epoch_order(films: int, epoch: int, head: HeadConfig) -> list[list[int]]:
    """Batches of places in what is trained on, in an order that the head's seed and epoch make."""
    word = int(digest_json([head.seed, epoch])[:15], 16)
    order = torch.randperm(films, generator=torch.Generator().manual_seed(word)).tolist()
    return [order[n : n + head.batch] for n in range(0, films, head.batch)]


def _preparation(
    head: HeadConfig, grid: tuple[int, int, int], segments: int, fit: Side
) -> tuple[Callable[[Tensor], Tensor], int]:
    """What is done to tokens before a head sees them, and their width."""
    first = fit.tokens(fit.films[:1], 0)
    shift, scale = torch.zeros(()), torch.ones(())
    if head.standardise:
        some = [fit.tokens(fit.films[n : n + 64], 0) for n in range(0, len(fit.films), 64)]
        rows = torch.cat([part.mean(1) for part in some]).double()
        squares = torch.cat([part.square().mean(1) for part in some]).double()
        mean = rows.mean(0)
        shift, scale = (
            mean.float(),
            (squares.mean(0) - mean.square()).clamp_min(1e-12).sqrt().float(),
        )
    places = torch.zeros(())
    if head.positions:
        layers = first.shape[1] // math.prod(grid)
        # Of each segment the tokens of all layers follow each other.
        whole = grid_positions(grid, first.shape[2]).unflatten(0, (segments, -1))
        places = whole.repeat(1, layers, 1).flatten(0, 1)

    def prepare(tokens: Tensor) -> Tensor:
        prepared: Tensor = (tokens - shift) / scale + places
        return prepared

    return prepare, first.shape[2]
