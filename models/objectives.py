"""One training step's forward pass: from a batch to the losses, for both trainings.

The terms are in models/losses.py; here is what is fed to them. Shapes: video [B, 3, T, H, W]; masks
a sequence of (context [B, K], target [B, M]); features [B, T*HW, E] layer-normed frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.isotropy import isotropy_loss
from models.losses import (
    Centre,
    centred,
    change_weights,
    context_loss,
    jepa_loss,
    normalise,
    rollout_loss,
    teacher_forcing_loss,
)
from models.tokens import Grid, pick

Masks = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class PretrainingLoss:
    """Losses of one batch, and features to judge collapse by."""

    total: Tensor
    """What is minimised: masked + context_weight * context + isotropy_weight * isotropy."""
    masked: Tensor
    """Mean over masks of the L1 on masked tokens."""
    context: Tensor | None
    """Mean over masks of the L1 on context tokens; None where its weight is 0."""
    isotropy: Tensor | None
    """Mean over masks of SIGReg on the encoder's features; None without directions."""
    features: Tensor
    """[B, N, D] layer-normed targets."""


def pretraining_loss(
    encoder: Callable[..., Any],
    target_encoder: Callable[..., Any],
    predictor: Callable[..., Any],
    video: Tensor,
    masks: Masks,
    grid: Grid,
    *,
    weights: Sequence[float] | None = None,
    exponent: float = 1.0,
    context_weight: float = 0.0,
    centre: Centre = "none",
    isotropy_weight: float = 0.0,
    directions: Tensor | None = None,
) -> PretrainingLoss:
    """V-JEPA 2's loss: predict the target encoder's features of what the encoder did not see.

    The target encoder sees the whole clip once for all masks, without gradient; masks count alike
    whatever their size, or by `weights`. A context weight needs a predictor with a context head;
    an isotropy weight needs `directions` [D, K] (see models/isotropy.py). `centre` says what
    targets lose before their layer norm (see `models.losses.centred`).
    """
    if bool(isotropy_weight) != (directions is not None):
        raise ValueError("isotropy_weight and directions go together: give both, or neither")
    with torch.no_grad():
        features = normalise(centred(target_encoder(video), grid[0], centre))
    masked, contextual, spread = [], [], []
    for context, target in masks:
        seen = encoder(video, context)
        if context_weight:
            predicted, restored = predictor(
                seen, context, target, grid, mask_index=0, return_context=True
            )
            contextual.append(
                context_loss(restored, pick(features, context), distances(context, target, grid))
            )
        else:
            predicted = predictor(seen, context, target, grid, mask_index=0)
        masked.append(jepa_loss(predicted, pick(features, target), exponent))
        if directions is not None:
            spread.append(isotropy_loss(seen.flatten(0, 1), directions))
    loss = total = _mean(masked, weights)
    aside = isotropy = None
    if contextual:
        aside = _mean(contextual, weights)
        total = total + context_weight * aside
    if spread:
        isotropy = _mean(spread, weights)
        total = total + isotropy_weight * isotropy
    return PretrainingLoss(total, loss.detach(), _detached(aside), _detached(isotropy), features)


def _detached(term: Tensor | None) -> Tensor | None:
    return None if term is None else term.detach()


def _mean(terms: Sequence[Tensor], weights: Sequence[float] | None) -> Tensor:
    """The mean of the masks' terms, by weight if there are any."""
    if weights is None:
        return torch.stack(list(terms)).mean()
    shares = torch.tensor(weights, device=terms[0].device) / sum(weights)
    return (torch.stack(list(terms)) * shares).sum()


def distances(context: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Distance on the grid from each context token [B, K] to its nearest target [B, M]: [B, K]."""
    plane = grid[1] * grid[2]

    def place(index: Tensor) -> Tensor:
        cell = index % plane
        return torch.stack([index // plane, cell // grid[2], cell % grid[2]], dim=-1).float()

    return torch.cdist(place(context), place(target)).amin(dim=-1)


@dataclass(frozen=True)
class WorldModelLoss:
    """Losses of one batch of the world model."""

    total: Tensor
    """What is minimised: teacher_forcing + rollout_weight * rollout."""
    teacher_forcing: Tensor
    rollout: Tensor


def world_model_loss(
    world_model: Callable[..., Any],
    features: Tensor,
    actions: Tensor,
    states: Tensor,
    grid: tuple[int, int],
    *,
    rollout_steps: int = 2,
    rollout_weight: float = 1.0,
    change_weight: float = 0.0,
) -> WorldModelLoss:
    """V-JEPA 2-AC's loss: one step from true frames, and a rollout from the first.

    features: [B, T*HW, E], actions: [B, T-1, 7] or longer, states: [B, T, 7]. The rollout starts
    where teacher forcing did: its first prediction and its keys and values are those, exactly.
    A rollout_weight other than the paper's 1 scales the rollout's share of the total.
    """
    span = grid[0] * grid[1]
    steps = features.shape[1] // span - 1
    if not 1 <= rollout_steps <= steps:
        raise ValueError(f"rollout_steps is {rollout_steps}; {steps + 1} frames allow 1 … {steps}")
    predicted, past = world_model(
        features[:, :-span], actions[:, :steps], states[:, :steps], grid, return_past=True
    )
    predicted = normalise(predicted)
    weight = None
    if change_weight:
        weight = change_weights(features[:, :-span], features[:, span:], change_weight)
    forced = teacher_forcing_loss(predicted, features[:, span:], weight)
    frames, past = [predicted[:, :span]], past.first(1)
    for step in range(1, rollout_steps):
        following, past = world_model(
            frames[-1],
            actions[:, step : step + 1],
            states[:, step : step + 1],
            grid,
            past=past,
            return_past=True,
        )
        frames.append(normalise(following))
    rolled = rollout_loss(torch.cat(frames, dim=1), features, span)
    total = forced + rollout_weight * rolled
    return WorldModelLoss(total, forced.detach(), rolled.detach())
