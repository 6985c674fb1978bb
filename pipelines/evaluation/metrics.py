"""Counts, intervals and confusion: what every evaluation reports.

The only module that imports scikit-learn: where it is used, since that takes seconds and the
command line reads this module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from storage.digests import unit_interval


@dataclass(frozen=True)
class Rate:
    """Successes out of trials with a 95 % Wilson interval."""

    successes: int
    trials: int

    @property
    def value(self) -> float:
        """The share of successes, in [0, 1]."""
        return self.successes / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the share."""
        return wilson(self.successes, self.trials)

    def as_json(self) -> dict[str, float | int]:
        """successes, trials, rate, low, high."""
        low, high = self.interval
        return {
            "successes": self.successes,
            "trials": self.trials,
            "rate": self.value,
            "low": low,
            "high": high,
        }


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson 1927); exact at 0 and at `trials` successes.

    Raises:
        ValueError: no trials, or successes outside 0..trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials: no share exists")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, slack = successes / trials, z * z / trials
    centre = (share + slack / 2) / (1 + slack)
    half = z / (1 + slack) * math.sqrt(share * (1 - share) / trials + slack / (4 * trials))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high


def sign_test(better: int, worse: int) -> float:
    """Two-sided exact p-value that one of two methods wins more of the cases where they differ.

    On the same clips `better` counts those that only the first gets right, `worse` those that only
    the second does (McNemar's exact test).
    """
    cases = better + worse
    fewer = sum(math.comb(cases, k) for k in range(min(better, worse) + 1))
    return min(1.0, fewer / 2.0 ** (cases - 1))


def confusion(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Counts [classes, classes]: row = true class, column = predicted class."""
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(truth, predicted, labels=np.arange(classes))
    return np.asarray(counts, dtype=np.int64)


def mean_class_recall(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Recall of every class that occurs in `truth`, averaged over those classes."""
    from sklearn.metrics import recall_score

    present = np.unique(truth)
    recall = recall_score(truth, predicted, labels=present, average="macro", zero_division=0)
    return float(recall)


def held_out(labels: Mapping[str, str], share: float, seed: int) -> set[str]:
    """A stratified part of the items: `share` of each class, at least one, never all of it.

    Which items of a class it takes depends on (seed, key) alone. A class of one item stays whole
    in the rest.
    """
    by_class: dict[str, list[str]] = {}
    for key, label in labels.items():
        by_class.setdefault(label, []).append(key)
    taken: set[str] = set()
    for keys in by_class.values():
        keys.sort(key=lambda key: (unit_interval(seed, key), key))
        count = min(len(keys) - 1, max(1, round(share * len(keys))))
        taken.update(keys[:count])
    return taken


def distances(values: Sequence[float]) -> dict[str, float]:
    """Mean, median, smallest and largest of some distances."""
    array = np.asarray(values, dtype=np.float64)
    return {
        "mean": float(array.mean()),
        "median": float(np.median(array)),
        "smallest": float(array.min()),
        "largest": float(array.max()),
    }
