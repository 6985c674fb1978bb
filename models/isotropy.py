"""SIGReg: how far features are from an isotropic Gaussian (LeJEPA, arXiv 2511.08544).

Features are projected on random unit directions; on each, the empirical characteristic function is
compared with that of a standard normal, exp(-t^2 / 2) (the test of Epps and Pulley). Collapse of
any kind, to a point or to few directions, is far from it.

Shapes: features [N, D]; directions [D, K] of length 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

KNOTS, REACH = 17, 5.0
"""Places t at which the functions are compared, evenly from 0 to REACH."""


def random_directions(width: int, count: int, seed: int, device: torch.device) -> Tensor:
    """`count` unit vectors [width, count] drawn evenly over the sphere, from the seed alone."""
    source = torch.Generator().manual_seed(seed)
    drawn = torch.randn(width, count, generator=source)
    return torch.nn.functional.normalize(drawn, dim=0).to(device)


def isotropy_loss(features: Tensor, directions: Tensor) -> Tensor:
    """N times the weighted distance of characteristic functions, averaged over directions.

    features: [N, D], directions: [D, K]; the weight is exp(-t^2 / 2) and the integral a trapezoid,
    as published, here from 0 on, for both sides are equal: half of the published value. For N
    samples of a standard normal it is about 0.53, however many there are.
    Raises ValueError on shapes that do not fit.
    """
    if features.dim() != 2 or directions.dim() != 2 or features.shape[1] != directions.shape[0]:
        raise ValueError(
            f"features [N, D] and directions [D, K] do not fit: {list(features.shape)} and "
            f"{list(directions.shape)}"
        )
    t = torch.linspace(0.0, REACH, KNOTS, device=features.device)
    normal = torch.exp(-0.5 * t.square())
    angles = (features.float() @ directions)[..., None] * t
    real, imaginary = angles.cos().mean(0), angles.sin().mean(0)
    distance = ((real - normal).square() + imaginary.square()) * normal
    return len(features) * torch.trapezoid(distance, t, dim=-1).mean()
