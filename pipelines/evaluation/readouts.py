"""Linear and nearest-neighbour readouts of pooled features. The only module that imports
scikit-learn: where it is used, since that takes seconds and the command line reads this module.

Features are standardised channel by channel over the labelled clips. The ridge classifier is solved
in closed form; its penalty, as the number of the neighbours, which vote by cosine similarity, is
right most often when each labelled clip is left out in turn. (By its squared error instead, ridge
would give up on features that know little, and a random encoder would seem to know nothing.)
Neither sees a test clip before it is asked.

Shapes: C clips, T time steps, D encoder width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics import Rate
from storage.work import KeptFile, Work

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-2, 11))
NEIGHBOURS = (1, 3, 5, 10, 20, 40)


@dataclass(frozen=True)
class Answer:
    """What a readout says."""

    predicted: Numbers
    """Class number of each clip that was asked about."""
    chosen: Mapping[str, float]
    """The hyperparameters that were chosen inside the labelled clips."""
    train_accuracy: float
    """On the labelled clips themselves; of neighbours, each of them left out in turn."""


def linear(known: Floats, labels: Numbers, asked: Floats) -> Answer:
    """A ridge classifier: known [C, F] with labels [C], asked [Q, F]."""
    from sklearn.linear_model import RidgeClassifierCV

    ridge = RidgeClassifierCV(alphas=PENALTIES, scoring="accuracy").fit(known, labels)
    right = float((ridge.predict(known) == labels).mean())
    return Answer(ridge.predict(asked), {"penalty": float(ridge.alpha_)}, right)


def neighbours(known: Floats, labels: Numbers, asked: Floats) -> Answer:
    """A vote of the nearest: known [C, F] with labels [C], asked [Q, F]."""
    from sklearn.neighbors import KNeighborsClassifier

    numbers = [k for k in NEIGHBOURS if k < len(known)] or [1]
    votes = {
        k: KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(known, labels)
        for k in numbers
    }
    # Asked about nothing, scikit-learn leaves out each known point in turn.
    left_out = {k: float((vote.predict(None) == labels).mean()) for k, vote in votes.items()}
    best = max(numbers, key=lambda k: left_out[k])
    return Answer(votes[best].predict(asked), {"neighbours": best}, left_out[best])


READOUTS = {"linear": linear, "knn": neighbours}


def standardised(features: NDArray[Any], known: Sequence[int]) -> Floats:
    """[C, T, D] -> [C, T * D], every channel with mean 0 and deviation 1 over the known clips."""
    flat = features.reshape(len(features), -1).astype(np.float64)
    mean, spread = flat[known].mean(0), flat[known].std(0)
    result: Floats = (flat - mean) / np.where(spread > 1e-8, spread, 1.0)
    return result


def read_out(
    features: NDArray[Any], labels: Numbers, known: Sequence[int], asked: Sequence[int]
) -> dict[str, Answer]:
    """Every readout's answer: readout -> answer.

    Args:
        features: [C, T, D] of clips of both sides.
        labels: [C] their class numbers.
        known: rows of the labelled clips.
        asked: rows of the test clips.
    """
    flat = standardised(features, known)
    return {
        name: readout(flat[known], labels[known], flat[asked]) for name, readout in READOUTS.items()
    }


def accuracies(
    features: NDArray[Any], labels: Numbers, budgets: Mapping[int, Sequence[int]],
    asked: Sequence[int],
) -> dict[str, dict[int, Rate]]:  # fmt: skip
    """Readout -> labels -> accuracy, as `read_out` with the rows of several budgets.

    For studies that compare many networks; see `features.pooled_features`.
    """
    rates: dict[str, dict[int, Rate]] = {name: {} for name in READOUTS}
    for count, known in budgets.items():
        for name, answer in read_out(features, labels, known, asked).items():
            right = int((answer.predicted == labels[asked]).sum())
            rates[name][count] = Rate(right, len(asked))
    return rates


@dataclass(frozen=True)
class ReadoutTask:
    """The pooled features of one variant, read out with every budget."""

    work: Work
    train: tuple[KeptFile, ...]
    """Files [C, T, D] of the training clips, the labelled ones of a budget first."""
    test: tuple[KeptFile, ...]
    train_labels: tuple[int, ...]
    budgets: tuple[int, ...]


def answer_all(task: ReadoutTask) -> list[dict[str, Any]]:
    """readout, labels, predicted, chosen and train_accuracy of every readout and budget."""
    sides = [
        np.concatenate([np.load(task.work.file(part)) for part in parts])
        for parts in (task.train, task.test)
    ]
    features, trained = np.concatenate(sides), len(sides[0])
    asked = range(trained, len(features))
    labels = np.array([*task.train_labels, *(-1 for _ in asked)])
    return [
        {
            "readout": name,
            "labels": count,
            "predicted": answer.predicted.tolist(),
            "chosen": dict(answer.chosen),
            "train_accuracy": answer.train_accuracy,
        }
        for count in task.budgets
        for name, answer in read_out(features, labels, range(count), asked).items()
    ]
