"""The anticipation heads of one variant in one mode, as one task: tokens in, scores out.

A head has a query for each of verb, noun and action; its loss is the sum of their focal losses over
segments and classes, not divided by their number, as in the released code. All heads learn from one
pass over the tokens. Classes are those of the training actions.

Shapes: H heads, E epochs, Q actions that are asked about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.attentive_probe import AnticipationProbe
from pipelines.evaluation.anticipation.metrics import class_mean_recall, focal_loss, hits
from pipelines.evaluation.anticipation.protocol import AnticipationConfig
from pipelines.evaluation.benchmarks.heads import epoch_order, official_rate
from pipelines.evaluation.features import Features
from pipelines.evaluation.probing import grid_positions, seeded
from storage.work import KeptFile, Work

KINDS = ("verb", "noun", "action")
Labels = Mapping[str, NDArray[np.int64]]
"""Kind -> class number of each action; -1 where training has no such class."""


@dataclass(frozen=True)
class HeadsTask:
    """All heads on the tokens of one variant in one mode."""

    config: AnticipationConfig
    work: Work
    files: Mapping[str, tuple[KeptFile, ...]]
    """Side -> files of tokens, in the order of rows."""
    labels: Mapping[str, Mapping[str, tuple[int, ...]]]
    """Side -> kind -> class numbers, as in Labels."""
    held_out: tuple[bool, ...]
    """Of each training action, whether it chooses."""
    classes: Mapping[str, int]
    grid: tuple[int, int, int]
    """Time steps, height and width of the encoder's tokens."""
    device: str


def learn(task: HeadsTask) -> dict[str, Any]:
    """Train all heads and ask them after every epoch.

    Returns:
        scores: kind -> [Q, C] of the head and epoch that were chosen on held-out actions; chosen;
        held_out_recall; optimistic: kind -> the best recall of any head and epoch on validation,
        each kind by itself; loss of the last epoch.
    """
    config, head = task.config, task.config.head
    kept = {
        side: Features([task.work.file(part) for part in parts])
        for side, parts in task.files.items()
    }
    labels = {
        side: {kind: np.array(numbers) for kind, numbers in some.items()}
        for side, some in task.labels.items()
    }
    apart = np.array(task.held_out)
    fit, held = np.flatnonzero(~apart), np.flatnonzero(apart)
    prepare, width = _preparation(task, kept["train"], fit)
    probes = [
        seeded(head, lambda: AnticipationProbe(width, task.classes, head.heads, head.depth),
               task.device)
        for _ in config.grid
    ]  # fmt: skip
    optimizers = [
        torch.optim.AdamW(probe.parameters(), lr=lr, weight_decay=decay, betas=(0.9, 0.999))
        for probe, (lr, decay) in zip(probes, config.grid, strict=True)
    ]
    batches = -(-len(fit) // head.batch)
    best: dict[str, Any] = {"held_out_recall": -1.0}
    optimistic = dict.fromkeys(KINDS, 0.0)
    for epoch in range(head.epochs):
        losses = _epoch(task, epoch, batches, fit, labels["train"], kept["train"], prepare, probes,
                        optimizers)  # fmt: skip
        for place, probe in enumerate(probes):
            on_held = ask(probe, held * config.train_views, kept["train"], prepare, task.device)
            recall = _recall(on_held["action"], labels["train"]["action"][held])
            rows = np.arange(len(kept["validation"]))
            told = ask(probe, rows, kept["validation"], prepare, task.device)
            for kind in KINDS:
                found = _recall(told[kind], labels["validation"][kind])
                optimistic[kind] = max(optimistic[kind], found)
            if recall > best["held_out_recall"]:
                lr, decay = config.grid[place]
                best = {
                    "held_out_recall": recall, "loss": losses[place],
                    "chosen": {"epoch": epoch + 1, "lr": lr, "weight_decay": decay},
                    "scores": {kind: told[kind].tolist() for kind in KINDS},
                }  # fmt: skip
    return best | {"optimistic": optimistic}


def _recall(scores: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """The released metric: of actions whose classes training knows."""
    known = labels >= 0
    if not known.any():
        return 0.0
    return class_mean_recall(labels[known], hits(scores[known], labels[known]))


def _epoch(
    task: HeadsTask, epoch: int, batches: int, fit: NDArray[np.int64], labels: Labels,
    features: Features, prepare: Any, probes: Sequence[AnticipationProbe],
    optimizers: Sequence[torch.optim.Optimizer],
) -> list[float]:  # fmt: skip
    head, views = task.config.head, task.config.train_views
    warmup, steps = round(head.warmup * head.epochs * batches), head.epochs * batches
    total = [0.0] * len(probes)
    for number, batch in enumerate(epoch_order(len(fit), epoch, head)):
        rows = fit[batch]
        tokens = prepare(features[(rows * views + (rows + epoch) % views).tolist()])
        tokens = tokens.to(task.device)
        truth = {kind: torch.tensor(labels[kind][rows], device=task.device) for kind in KINDS}
        step = epoch * batches + number + 1
        for place, (probe, optimizer) in enumerate(zip(probes, optimizers, strict=True)):
            rate = official_rate(step, steps, task.config.grid[place][0], warmup)
            optimizer.param_groups[0]["lr"] = rate
            told = probe(tokens)
            loss = torch.stack([focal_loss(told[kind], truth[kind]) for kind in KINDS]).sum()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            total[place] += float(loss.detach()) / len(fit)
    return total


def ask(
    probe: AnticipationProbe, rows: NDArray[np.int64], features: Features, prepare: Any, device: str
) -> dict[str, NDArray[np.float64]]:
    """Kind -> scores [len(rows), C], between 0 and 1."""
    found: dict[str, list[NDArray[np.float64]]] = {kind: [] for kind in KINDS}
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            tokens = prepare(features[rows[start : start + 64].tolist()]).to(device)
            for kind, logits in probe(tokens).items():
                found[kind].append(logits.double().sigmoid().cpu().numpy())
    return {kind: np.concatenate(parts) for kind, parts in found.items()}


def _preparation(task: HeadsTask, features: Features, fit: NDArray[np.int64]) -> tuple[Any, int]:
    """What is done to tokens before a head sees them, and their width."""
    head, views = task.config.head, task.config.train_views
    first = features[[0]]
    shift, scale, places = torch.zeros(()), torch.ones(()), torch.zeros(())
    if head.standardise:
        rows = (fit * views).tolist()
        some = torch.cat(
            [features[rows[n : n + 64]].flatten(0, 1) for n in range(0, len(rows), 64)]
        )
        shift, scale = some.mean(0), some.std(0).clamp_min(1e-6)
    if head.positions:
        time, height, width = task.grid
        whole = grid_positions((time + 1, height, width), first.shape[2])
        places = whole[: first.shape[1]]
        assert first.shape[1] == math.prod(task.grid) + height * width

    def prepare(tokens: Tensor) -> Tensor:
        prepared: Tensor = (tokens - shift) / scale + places
        return prepared

    return prepare, first.shape[2]
