"""Signs of collapse, on features whose rank and spread are known."""

from __future__ import annotations

import pytest
import torch

from models.diagnostics import effective_rank, feature_std


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_effective_rank_of_orthogonal_directions() -> None:
    # k directions of equal strength, each row one of them or its opposite: rank k exactly.
    for k in (1, 3, 8):
        rows = torch.cat([torch.eye(16)[:k], -torch.eye(16)[:k]])
        assert effective_rank(rows) == pytest.approx(k, rel=1e-4)


def test_effective_rank_weighs_by_strength() -> None:
    # Singular values 3:1, shares 3/4 and 1/4: exp(entropy) = 4 / 3^(3/4).
    rows = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    assert effective_rank(rows) == pytest.approx(4 / 3**0.75, rel=1e-5)


def test_collapse_shows() -> None:
    healthy = noise(4, 100, 32)
    assert effective_rank(healthy) > 28
    assert effective_rank(torch.ones(50, 8)) == 1.0
    line = noise(200, 1) * torch.ones(1, 32)
    assert effective_rank(line) < 1.1
    assert feature_std(line) > 0.8  # spread alone would not show it
    assert feature_std(torch.ones(50, 8) * 7) == 0.0
    assert feature_std(healthy) == pytest.approx(1.0, abs=0.05)


def test_mean_is_not_a_direction() -> None:
    assert effective_rank(noise(200, 8) + 100.0) > 7


def test_refuses_what_it_cannot_judge() -> None:
    with pytest.raises(ValueError, match="not finite"):
        effective_rank(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"at least two feature vectors; found shape \[1, 4\]"):
        feature_std(torch.zeros(1, 4))
