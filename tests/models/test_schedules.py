"""Schedules as functions of the step.

- Warm-up, constant and cool-down meet end to end and hit the paper's numbers at the paper's steps.
- A branch off any checkpoint has the rates of the stem before it and its own after it.
- The released configs' quirks are what they are noted to be: a cool-down that ends at 1.058e-4, and
  3,000 steps of warm-up that reach 2.06e-4.
(That the general schedules equal the official ones is proved in test_parity_official.py.)
"""

from __future__ import annotations

import pytest

from models.schedules import (
    PAPER_COOLDOWN,
    PAPER_MAIN,
    PAPER_WORLD_MODEL,
    RELEASED_COOLDOWN,
    Phase,
    by_phase,
    ema_momentum,
    linear,
    phase_at,
    warmup_cosine,
    warmup_stable_decay,
)


def test_paper_main_phase() -> None:
    assert sum(phase.steps for phase in PAPER_MAIN) == 240_000
    assert by_phase(0, PAPER_MAIN) == pytest.approx(1e-4 + 4.25e-4 / 12_000)
    assert by_phase(5_999, PAPER_MAIN) == pytest.approx((1e-4 + 5.25e-4) / 2)
    for step in (11_999, 12_000, 100_000, 239_999):
        assert by_phase(step, PAPER_MAIN) == pytest.approx(5.25e-4)


def test_phases_equal_the_official_formula() -> None:
    for step in range(0, 30_000, 997):
        official = warmup_cosine(
            step, start=1e-4, peak=5.25e-4, final=5.25e-4, warmup=12_000, steps=300_000
        )
        assert by_phase(step, PAPER_MAIN) == pytest.approx(official, rel=1e-12)
    for step in range(0, 94_500, 501):
        official = warmup_stable_decay(
            step, start=7.5e-5, peak=4.25e-4, final=0, warmup=4_500, decay=4_500, steps=94_500
        )
        assert by_phase(step, PAPER_WORLD_MODEL) == pytest.approx(official, rel=1e-9, abs=1e-15)


def test_released_quirks() -> None:
    stretched = linear(11_999, 5.25e-4, 1e-6, int(12_000 * 1.25))
    assert stretched == pytest.approx(1.058e-4, rel=1e-3)
    assert by_phase(11_999, RELEASED_COOLDOWN) == pytest.approx(stretched)
    assert by_phase(11_999, PAPER_COOLDOWN) == pytest.approx(1e-6)
    assert by_phase(2_999, PAPER_MAIN) == pytest.approx(2.06e-4, rel=1e-2)


def test_world_model_steps() -> None:
    assert sum(phase.steps for phase in PAPER_WORLD_MODEL) == 94_500
    assert by_phase(94_499, PAPER_WORLD_MODEL) == pytest.approx(0.0, abs=1e-12)
    assert by_phase(50_000, PAPER_WORLD_MODEL) == 4.25e-4


def test_branches() -> None:
    stem = (Phase(name="warm-up", steps=10, start=0.0, end=1.0),)
    long = (*stem, Phase(name="constant", steps=90, start=1.0, end=1.0))
    for branch in (20, 35, 70):
        cooled = (
            *stem,
            Phase(name="constant", steps=branch - 10, start=1.0, end=1.0),
            Phase(name="cool-down", steps=10, start=1.0, end=0.0),
        )
        for step in range(branch):
            assert by_phase(step, cooled) == by_phase(step, long)
        assert by_phase(branch, cooled) == pytest.approx(0.9)
        assert by_phase(branch + 9, cooled) == pytest.approx(0.0)
        assert by_phase(branch + 500, cooled) == pytest.approx(0.0)
        assert phase_at(branch + 3, cooled) == (cooled[2], 3)


def test_momentum() -> None:
    assert ema_momentum(0, start=0.99, end=1.0, steps=100) == 0.99
    assert ema_momentum(50, start=0.99, end=1.0, steps=100) == pytest.approx(0.995)
    assert ema_momentum(900, start=0.99, end=1.0, steps=100) == 1.0
    assert ema_momentum(77, start=0.99925, end=0.99925, steps=10) == 0.99925


def test_bad_phases() -> None:
    with pytest.raises(ValueError, match="phase 'warm-up' has 0 steps"):
        Phase(name="warm-up", steps=0, start=0.0, end=1.0)
    with pytest.raises(ValueError, match="step -1"):
        by_phase(-1, PAPER_MAIN)
    with pytest.raises(ValueError, match="at least one phase"):
        by_phase(0, ())
