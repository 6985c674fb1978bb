"""Claims: intervals match published values, a gain is paired, confusion counts
rows as truth, and the held-out part is stratified and depends on (seed, key) alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.evaluation.metrics import (
    Rate,
    confusion,
    held_out,
    mean_class_recall,
    paired_gain,
    wilson,
)
from storage.errors import InputError


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(30, 40, 0.598, 0.858), (15, 40, 0.242, 0.530), (0, 20, 0.0, 0.161), (10, 10, 0.722, 1.0)],
)
def test_wilson_against_known_intervals(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=6e-4)


def test_rate_reports_counts_and_interval_together():
    rate = Rate(3, 4).as_json()
    assert (rate["successes"], rate["trials"], rate["rate"]) == (3, 4, 0.75)
    assert rate["low"] < 0.75 < rate["high"]
    with pytest.raises(ValueError, match="0 successes in 0 trials"):
        wilson(0, 0)


def test_a_gain_is_paired_over_the_cases_and_its_interval_that_of_their_mean():
    random = np.random.default_rng(0)
    others = random.random((3, 400)) < 0.3
    first = others[0] | (random.random(400) < 0.4)
    gain = paired_gain(first, others, seed=0)
    by_case = first - others.mean(0)
    half = 1.96 * by_case.std() / 20
    assert gain["gain"] == pytest.approx(by_case.mean())
    assert gain["low"] == pytest.approx(by_case.mean() - half, abs=0.006)
    assert gain["high"] == pytest.approx(by_case.mean() + half, abs=0.006)
    assert paired_gain(first, others, seed=0) == gain
    # On other cases than the first's, the same shares say less.
    unpaired = paired_gain(first, others[:, ::-1], seed=0)
    assert unpaired["high"] - unpaired["low"] > gain["high"] - gain["low"]


def test_equals_have_no_gain_and_opposites_the_whole():
    same = np.array([True, False] * 8)
    assert paired_gain(same, same[None], seed=1) == {"gain": 0.0, "low": 0.0, "high": 0.0}
    assert paired_gain(~same, same[None] * False, seed=1)["gain"] == 0.5
    ones = np.ones(9, bool)
    assert paired_gain(ones, ~ones[None], seed=1) == {"gain": 1.0, "low": 1.0, "high": 1.0}


def test_confusion_rows_are_truth():
    truth, guess = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    assert confusion(truth, guess, 4).tolist() == [
        [1, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
    ]
    assert math.isclose(mean_class_recall(confusion(truth, guess, 4)), (0.5 + 1 + 0) / 3)


def test_where_nothing_can_be_held_out_it_is_said():
    with pytest.raises(InputError, match="of 2 classes to train on none has two items"):
        held_out({"a": "up", "b": "down"}, 0.2, seed=1)


def test_held_out_is_stratified_and_stable():
    labels = {f"{name}{i}": name for name, count in (("a", 10), ("b", 5)) for i in range(count)}
    labels["lonely"] = "c"
    taken = held_out(labels, 0.2, seed=1)
    assert sum(k.startswith("a") for k in taken) == 2 and sum(k.startswith("b") for k in taken) == 1
    assert "lonely" not in taken
    assert taken == held_out(dict(reversed(labels.items())), 0.2, seed=1)
    assert taken != held_out(labels, 0.2, seed=2)
