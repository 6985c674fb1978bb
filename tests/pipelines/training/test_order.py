"""Claims: the order is a function of (seed, step, slot), the same in any process, from any start;
sources come in the proportion of the mixture and samples in that of their own weights; what is held
out never comes; a replacement comes from the same source.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from pipelines.training.order import ClipSampler, uniforms
from tests.conftest import ROOT

WEIGHTS = {"ssv2": 0.056, "kinetics": 0.188, "howto100m": 0.318, "yt1b": 0.188, "imagenet": 0.250}


def index() -> dict[str, np.ndarray]:
    """Ten samples of every source; those of yt1b weigh 1, 2, ... 9 and, held out, 0."""
    sources = np.array([source for source in WEIGHTS for _ in range(10)], dtype=object)
    weights = np.ones(50)
    weights[sources == "yt1b"] = [*range(1, 10), 0]
    return {"source": sources, "weight": weights}


SAMPLER = ClipSampler(index(), WEIGHTS, seed=11)


def rows(steps: range, slots: range, seed: int = 11) -> list[int]:
    sampler = ClipSampler(index(), WEIGHTS, seed)
    return [sampler.draw(step, slot).row for step in steps for slot in slots]


def test_any_part_of_the_order_is_found_without_the_rest() -> None:
    whole = rows(range(20), range(12))
    assert rows(range(7, 20), range(12)) == whole[7 * 12 :]
    # Two workers with six slots each, joined, are one worker with twelve.
    halves = [
        rows(range(step, step + 1), range(half, half + 6)) for step in range(20) for half in (0, 6)
    ]
    assert [row for half in halves for row in half] == whole


def test_the_order_changes_with_seed_step_and_slot() -> None:
    whole = rows(range(4), range(16))
    assert rows(range(4), range(16), seed=12) != whole
    assert len({tuple(whole[i : i + 16]) for i in range(0, 64, 16)}) == 4
    numbers = {tuple(uniforms(0, step, slot)) for step in range(9) for slot in range(9)}
    assert len(numbers) == 81
    assert all(0 <= number < 1 for row in numbers for number in row)


def test_the_order_is_the_same_in_another_process_and_for_good() -> None:
    code = "from tests.pipelines.training.test_order import rows\nprint(rows(range(3), range(5)))"
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(rows(range(3), range(5)))
    # The numbers behind the order are part of every answer: a change in them is a new version.
    digest = hashlib.sha256(uniforms(1, 2, 3, 4).astype("<f8").tobytes()).hexdigest()
    assert digest[:16] == "e98ce9500e4b24b4"


def test_sources_come_in_proportion() -> None:
    drawn = [SAMPLER.source(step, slot) for step in range(200) for slot in range(60)]
    for source, weight in WEIGHTS.items():
        # Four standard errors of a share among 12 000.
        slack = 4 * (weight * (1 - weight) / len(drawn)) ** 0.5
        assert drawn.count(source) / len(drawn) == pytest.approx(weight, abs=slack)


def test_samples_come_in_proportion_to_their_own_weight() -> None:
    draws = [SAMPLER.draw(step, slot).row for step in range(200) for slot in range(60)]
    first = 30  # of yt1b
    counts = np.bincount(draws, minlength=50)[first : first + 10]
    assert counts[9] == 0
    share = counts[:9] / counts.sum()
    expected = np.arange(1, 10) / 45
    assert np.abs(share - expected).max() < 4 * np.sqrt(0.25 / counts.sum())
    assert share[8] > share[0]


def test_a_replacement_comes_from_the_same_source() -> None:
    source = index()["source"]
    for slot in range(50):
        tries = [SAMPLER.draw(0, slot, attempt) for attempt in range(8)]
        assert {source[draw.row] for draw in tries} == {SAMPLER.source(0, slot)}
        assert len({draw.row for draw in tries}) > 1


def test_one_source_alone_is_a_mixture() -> None:
    only = ClipSampler(index(), {"imagenet": 1.0, "ssv2": 0.0}, seed=0)
    assert {index()["source"][only.draw(s, 0).row] for s in range(100)} == {"imagenet"}


def test_refusals() -> None:
    with pytest.raises(ValueError, match="source coin has a weight but no sample"):
        ClipSampler(index(), {"coin": 0.5, "ssv2": 0.5}, seed=0)
    with pytest.raises(ValueError, match="want 0 or more, and one above 0"):
        ClipSampler(index(), {"ssv2": 0.0}, seed=0)
    with pytest.raises(ValueError, match="seed = -1"):
        ClipSampler(index(), WEIGHTS, seed=-1)
