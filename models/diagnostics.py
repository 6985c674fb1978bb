"""Is the representation alive? Numbers to log beside a loss that falls while features die."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_rank(features: Tensor) -> float:
    """How many directions the features use: exp of the entropy of the singular values.

    features: [..., D], centred here; the answer lies between 1 and min(rows, D). Roy and Vetterli
    2007. Raises ValueError if a value is not finite.
    """
    flat = _rows(features)
    values = torch.linalg.svdvals(flat - flat.mean(dim=0))
    total = values.sum()
    if total <= 0:
        return 1.0
    share = values / total
    return float(torch.special.entr(share).sum().exp())


def feature_std(features: Tensor) -> float:
    """Mean over channels of the deviation over rows; features: [..., D]. 0 is collapse."""
    return float(_rows(features).std(dim=0, correction=0).mean())


def _rows(features: Tensor) -> Tensor:
    """[..., D] -> [rows, D] in float32, finite and at least two rows."""
    flat = features.detach().reshape(-1, features.shape[-1]).float()
    if flat.shape[0] < 2:
        raise ValueError(f"needs at least two feature vectors; found shape {list(features.shape)}")
    if not bool(torch.isfinite(flat).all()):
        raise ValueError("features hold a value that is not finite")
    return flat
