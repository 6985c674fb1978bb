"""The losses, as small functions of tensors that a test can check by hand.

Shapes: B batch, M masked tokens, K context tokens, D width, T frames, HW tokens per frame.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def normalise(features: Tensor) -> Tensor:
    """Layer norm over the last axis, no weights, epsilon 1e-5: what targets are."""
    return F.layer_norm(features, (features.shape[-1],))


Centre = Literal["none", "clip", "time"]
"""What targets lose before their layer norm: nothing, their mean over the clip, or over time."""


def centred(features: Tensor, frames: int, centre: Centre) -> Tensor:
    """Features [B, T*HW, D] less what stays the same in a clip.

    "clip": less their mean over all tokens, so that no colour of the whole clip is left to guess;
    "time": less their mean over the `frames` time steps at each place, so that nothing that stands
    still is left. A clip of one time step has no mean to lose but itself: ValueError.
    """
    if centre == "none":
        return features
    if centre == "clip":
        return features - features.mean(dim=1, keepdim=True)
    if frames < 2:
        raise ValueError(f"centre is 'time' on clips of {frames} time step: nothing would be left")
    steps = features.unflatten(1, (frames, -1))
    return (steps - steps.mean(dim=1, keepdim=True)).flatten(1, 2)


def jepa_loss(predicted: Tensor, target: Tensor, exponent: float = 1.0) -> Tensor:
    """Mean over batch, tokens and channels of |predicted - target|^p / p.

    predicted, target: [B, M, D], the target layer-normed and without gradient. p = 1 is the
    paper's L1.
    """
    _alike(predicted, target)
    difference = (predicted - target).abs()
    if exponent != 1.0:
        difference = difference**exponent
    return difference.mean() / exponent


def context_loss(predicted: Tensor, target: Tensor, distance: Tensor | None = None) -> Tensor:
    """L1 at context tokens, each weighted by 1 / sqrt(its distance to the nearest masked token).

    predicted, target: [B, K, D]; distance: [B, K], at least 1; none weights all alike. After
    V-JEPA 2.1 (arXiv 2603.14482).
    """
    _alike(predicted, target)
    per_token = (predicted - target).abs().mean(dim=-1)
    if distance is None:
        return per_token.mean()
    return (per_token * distance.clamp(min=1.0).rsqrt()).mean()


def teacher_forcing_loss(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """L1 between predictions from true frames and the frames that followed.

    predicted, target: [B, (T-1)*HW, D], both layer-normed; weight: [B, (T-1)*HW] of mean 1, to
    count some tokens more.
    """
    _alike(predicted, target)
    if weight is None:
        return (predicted - target).abs().mean()
    return ((predicted - target).abs().mean(dim=-1) * weight).mean()


def rollout_loss(predicted: Tensor, features: Tensor, tokens_per_frame: int) -> Tensor:
    """L1 between frames 1 … R, predicted from frame 0 and from predictions, and the true ones.

    predicted: [B, R*HW, D] layer-normed; features: [B, T*HW, D] of frames 0 … T-1, T > R.
    """
    first, last = tokens_per_frame, tokens_per_frame + predicted.shape[1]
    target = features[:, first:last]
    _alike(predicted, target)
    return (predicted - target).abs().mean()


def change_weights(before: Tensor, after: Tensor, strength: float) -> Tensor:
    """Weights [B, N] of mean 1 that grow with how much a token changes between two frames.

    before, after: [B, N, D]. Strength 0 weights all tokens alike; 1 gives a token in proportion
    to its change.
    """
    change = (after - before).abs().mean(dim=-1)
    relative = change / change.mean().clamp(min=1e-12)
    return torch.lerp(torch.ones_like(relative), relative, strength)


def _alike(predicted: Tensor, target: Tensor) -> None:
    """Refuse shapes that would broadcast."""
    if predicted.shape != target.shape:
        raise ValueError(
            f"predictions and targets must have one shape; found {list(predicted.shape)} and "
            f"{list(target.shape)}"
        )
