"""Claims: intervals match published values, the exact test matches a hand count, confusion counts
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
    sign_test,
    wilson,
)


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


def test_sign_test_by_hand():
    assert sign_test(0, 0) == 1.0
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(1, 3) == pytest.approx(2 * 5 / 16)
    assert sign_test(2, 2) == 1.0


def test_confusion_rows_are_truth():
    truth, guess = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    assert confusion(truth, guess, 4).tolist() == [
        [1, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
    ]
    assert math.isclose(mean_class_recall(truth, guess), (0.5 + 1 + 0) / 3)


def test_held_out_is_stratified_and_stable():
    labels = {f"{name}{i}": name for name, count in (("a", 10), ("b", 5)) for i in range(count)}
    labels["lonely"] = "c"
    taken = held_out(labels, 0.2, seed=1)
    assert sum(k.startswith("a") for k in taken) == 2 and sum(k.startswith("b") for k in taken) == 1
    assert "lonely" not in taken
    assert taken == held_out(dict(reversed(labels.items())), 0.2, seed=1)
    assert taken != held_out(labels, 0.2, seed=2)
