"""Rotary positions.

- Corrected numerics are a rotation: norms are kept, and q·k depends on relative position alone.
- Official numerics are the published formula (written out here element by element), are not a
  rotation, and change norms by what was measured on the released code's formula.
- Each axis turns its own third of a head; the rest is untouched; position 0 turns nothing.
- The gradient of the fused operation is that of the plain formula.
"""

from __future__ import annotations

import math

import pytest
import torch

from models.rotary import (
    Numerics,
    Rotary,
    axis_width,
    grid_positions,
    grid_rotary,
    rotary_tables,
    rotate,
)

CPU = torch.device("cpu")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def at(time: int, row: int, column: int, head_width: int, numerics: Numerics) -> Rotary:
    place = [torch.tensor([value]) for value in (time, row, column)]
    return rotary_tables(*place, head_width, numerics)


def turn(x: torch.Tensor, tables: Rotary) -> torch.Tensor:
    """Queries x [B, N, H, hd] rotated."""
    queries, keys, values = rotate(torch.stack([x, 2 * x, 3 * x], dim=2), tables)
    assert torch.allclose(keys, 2 * queries, atol=1e-5)  # keys turn as queries do
    assert torch.equal(values, 3 * x.transpose(1, 2))  # values never do
    return queries.transpose(1, 2)


@pytest.mark.parametrize("head_width", [32, 64, 80, 88, 104])
def test_corrected_keeps_norms(head_width: int) -> None:
    x = noise(2, 48, 3, head_width)
    turned = turn(x, grid_rotary((3, 4, 4), head_width, "corrected", CPU))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-5)
    assert not torch.allclose(turned, x, atol=0.1)


def test_official_does_not_keep_norms() -> None:
    x = noise(2, 48, 3, 64)
    turned = turn(x, grid_rotary((3, 4, 4), 64, "official", CPU))
    assert (turned.norm(dim=-1) - x.norm(dim=-1)).abs().max() > 0.3


def test_corrected_sees_relative_positions_only() -> None:
    q, k = noise(1, 1, 1, 64, seed=1), noise(1, 1, 1, 64, seed=2)

    def product(first: tuple[int, int, int], second: tuple[int, int, int], kind: Numerics) -> float:
        return float((turn(q, at(*first, 64, kind)) * turn(k, at(*second, 64, kind))).sum())

    near, far = ((1, 2, 3), (4, 0, 5)), ((6, 9, 4), (9, 7, 6))
    assert product(*near, "corrected") == pytest.approx(product(*far, "corrected"), abs=1e-4)
    assert product(*near, "official") != pytest.approx(product(*far, "official"), abs=1e-2)


@pytest.mark.parametrize("head_width", [24, 32, 64, 88])
@pytest.mark.parametrize("numerics", ["official", "corrected"])
def test_formula(head_width: int, numerics: Numerics) -> None:
    place, x = (3, 7, 2), noise(1, 1, 1, head_width)
    turned = turn(x, at(*place, head_width, numerics)).flatten()
    a, vector = axis_width(head_width), x.flatten().tolist()
    expected = list(vector)
    for axis, position in enumerate(place):
        for element in range(a):
            start, half = axis * a, a // 2
            order = element % half if numerics == "official" else element // 2
            angle = position * 10000.0 ** (-order / half)
            odd = element % 2
            partner = vector[start + element - 1] if odd else -vector[start + element + 1]
            own = vector[start + element]
            expected[start + element] = own * math.cos(angle) + partner * math.sin(angle)
    assert torch.allclose(turned, torch.tensor(expected), atol=2e-6)
    assert turned[3 * a :].tolist() == vector[3 * a :]


@pytest.mark.parametrize("numerics", ["official", "corrected"])
def test_origin_turns_nothing(numerics: Numerics) -> None:
    x = noise(1, 1, 2, 64)
    assert torch.equal(turn(x, at(0, 0, 0, 64, numerics)), x)


@pytest.mark.parametrize(("axis", "turned"), [(0, (0, 20)), (1, (20, 40)), (2, (40, 60))])
def test_axes_are_apart(axis: int, turned: tuple[int, int]) -> None:
    place = [0, 0, 0]
    place[axis] = 5
    x = noise(1, 1, 1, 64)
    changed = (turn(x, at(*place, 64, "corrected")) != x).flatten().nonzero().flatten()
    assert changed.min() >= turned[0]
    assert changed.max() < turned[1]
    assert len(changed) == 20


def test_tables_of_each_clip() -> None:
    tables = grid_rotary((2, 3, 4), 24, "corrected", CPU)
    index = torch.tensor([[23, 0], [5, 6]])
    x = noise(2, 2, 3, 24)
    together = turn(x, tables.at(index))
    for clip in range(2):
        alone = turn(x[clip : clip + 1], Rotary(*(t[index[clip]] for t in tables)))
        assert torch.equal(together[clip : clip + 1], alone)


@pytest.mark.parametrize("numerics", ["official", "corrected"])
def test_gradient(numerics: Numerics) -> None:
    packed = noise(2, 6, 3, 2, 12).double().requires_grad_()
    tables = grid_rotary((3, 2, 1), 12, numerics, CPU)
    doubled = Rotary(*(table.double().repeat(2, 1, 1) for table in tables))
    assert torch.autograd.gradcheck(lambda value: rotate(value, doubled), (packed,))


def test_half_precision_keeps_exact_angles() -> None:
    packed = noise(1, 48, 3, 2, 32)
    tables = grid_rotary((12, 2, 2), 32, "corrected", CPU)
    exact = rotate(packed, tables)[0]
    coarse = rotate(packed.bfloat16(), tables)[0]
    assert coarse.dtype == torch.bfloat16
    # Two roundings to 8 bits; a bfloat16 angle would be off by up to 0.06 here.
    assert (coarse.float() - exact).abs().max() < 0.03


def test_raster_order_and_rows_of_tokens() -> None:
    time, row, column = grid_positions((2, 3, 4), CPU)
    token = 1 * 12 + 2 * 4 + 3
    assert (time[token], row[token], column[token]) == (1, 2, 3)
    tables = grid_rotary((2, 3, 4), 24, "corrected", CPU)
    index = torch.tensor([[23, 0], [5, 6]])
    picked = tables.at(index)
    assert torch.equal(picked.cos[1, 0], tables.cos[5])
    assert torch.equal(picked.sin[0, 0], tables.sin[23])
