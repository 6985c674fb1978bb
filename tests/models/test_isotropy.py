"""SIGReg.

- Samples of a standard normal give about the value that theory gives, however many there are.
- Collapsed, stretched and shifted features give far more; the loss leads away from collapse.
- Directions have length 1 and depend on the seed alone; shapes that do not fit are refused.
"""

from __future__ import annotations

import pytest
import torch

from models.isotropy import isotropy_loss, random_directions

CPU = torch.device("cpu")
DIRECTIONS = random_directions(16, 64, 0, CPU)


def normal(count: int) -> torch.Tensor:
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(1))


def expected() -> float:
    """E of N |phi_N - phi|^2 is 1 - phi(t)^2, here weighted and integrated."""
    t = torch.linspace(0, 5, 17)
    gauss = torch.exp(-0.5 * t.square())
    return float(torch.trapezoid((1 - gauss.square()) * gauss, t))


@pytest.mark.parametrize("count", [200, 5000])
def test_a_normal_gives_what_theory_gives(count: int) -> None:
    assert isotropy_loss(normal(count), DIRECTIONS).item() == pytest.approx(expected(), rel=0.35)


def test_what_is_not_isotropic_costs_more() -> None:
    features = normal(1000)
    fine = isotropy_loss(features, DIRECTIONS)
    low = features @ torch.diag(torch.tensor([1.0] * 4 + [0.0] * 12))
    for bad in (features * 0.01, features * 3, features + 1, low):
        assert isotropy_loss(bad, DIRECTIONS) > 5 * fine


def test_it_leads_away_from_collapse() -> None:
    features = (normal(256) * 0.1).requires_grad_()
    [slope] = torch.autograd.grad(isotropy_loss(features, DIRECTIONS), features)
    assert isotropy_loss(features - 0.1 * slope, DIRECTIONS) < isotropy_loss(features, DIRECTIONS)
    assert ((features - 0.1 * slope).std() > features.std()).item()


def test_directions() -> None:
    torch.testing.assert_close(DIRECTIONS.norm(dim=0), torch.ones(64))
    assert torch.equal(DIRECTIONS, random_directions(16, 64, 0, CPU))
    assert not torch.equal(DIRECTIONS, random_directions(16, 64, 1, CPU))
    with pytest.raises(ValueError, match=r"\[3, 8\] and \[16, 64\]"):
        isotropy_loss(torch.zeros(3, 8), DIRECTIONS)
