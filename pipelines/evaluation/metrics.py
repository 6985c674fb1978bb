"""Counts, intervals and confusion: what every evaluation reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from storage.digests import unit_interval
from storage.errors import InputError


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


def paired_gain(
    first: NDArray[np.bool_], others: NDArray[np.bool_], seed: int, resamples: int = 10_000
) -> dict[str, float]:
    """How much more often one method is right than others on the same cases, as a share of them.

    The 95 % interval is a paired bootstrap over the cases: they are drawn anew, with both methods'
    answers on each. Equal arguments give an equal interval.

    Args:
        first: [cases], whether the one is right.
        others: [methods, cases]; against their mean.
        seed: of the resamples.
        resamples: how often the cases are drawn anew.

    Returns:
        gain, low, high, each from -1 to 1.
    """
    methods, cases = others.shape
    # In whole numbers a case's gain takes few values: drawing cases is drawing how many have each.
    gains, counts = np.unique(methods * first.astype(int) - others.sum(0), return_counts=True)
    random = np.random.Generator(np.random.PCG64(seed))
    drawn = random.multinomial(cases, counts / cases, size=resamples) @ gains
    low, high = np.quantile(drawn, (0.025, 0.975), method="nearest")
    total = methods * cases
    return {
        "gain": float(counts @ gains) / total,
        "low": float(low) / total,
        "high": float(high) / total,
    }


def confusion(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Counts [classes, classes]: row = true class, column = predicted class."""
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def mean_class_recall(counts: NDArray[np.int64]) -> float:
    """Recall of every class that occurs, averaged over those classes; of a confusion."""
    present = counts.sum(1) > 0
    return float((np.diag(counts)[present] / counts.sum(1)[present]).mean())


def held_out(labels: Mapping[str, str], share: float, seed: int) -> set[str]:
    """A stratified part of the items: `share` of each class, at least one, never all of it.

    Which items of a class it takes depends on (seed, key) alone. A class of one item stays whole
    in the rest.

    Raises:
        InputError: no class has two items, so that nothing would be left to choose by.
    """
    by_class: dict[str, list[str]] = {}
    for key, label in labels.items():
        by_class.setdefault(label, []).append(key)
    taken: set[str] = set()
    for keys in by_class.values():
        keys.sort(key=lambda key: (unit_interval(seed, key), key))
        count = min(len(keys) - 1, max(1, round(share * len(keys))))
        taken.update(keys[:count])
    if not taken:
        raise InputError(
            f"nothing to choose a head by: of {len(by_class)} classes to train on none has two "
            "items, one of which could be held out; give more films"
        )
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


def seed_interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean over trainings from several seeds, and Student's 95 % interval of another one's mean.

    One seed has a mean and no interval (None).
    """
    from scipy.stats import t

    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return {"mean": mean, "low": mean - half, "high": mean + half}
