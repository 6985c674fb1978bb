"""Mean-class recall at 5 as the released code and as the leaderboard count it, and focal loss.

Of equal scores the class with the smaller number stands before: neither of the two programs says.

Shapes: B segments, C classes; scores [B, C]; labels [B].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.floating[Any]]
Numbers = NDArray[np.int64]
ALPHA, GAMMA = 0.25, 2.0


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over segments and classes of the sigmoid focal loss (Lin et al. 2017)."""
    targets = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    chance = logits.sigmoid()
    right = chance * targets + (1 - chance) * (1 - targets)
    weight = ALPHA * targets + (1 - ALPHA) * (1 - targets)
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (weight * (1 - right) ** GAMMA * entropy).sum()


def top(scores: Floats, count: int) -> Numbers:
    """The classes [B, count] of the largest scores; of equal ones the smaller number first."""
    found: Numbers = np.argsort(-scores, axis=1, kind="stable")[:, :count].astype(np.int64)
    return found


def hits(scores: Floats, labels: Numbers, count: int = 5) -> NDArray[np.bool_]:
    """[B] whether the true class is among the `count` best; a class beyond C never is."""
    return (top(scores, count) == labels[:, None]).any(1)


def class_mean_recall(labels: Sequence[Any] | Numbers, right: NDArray[np.bool_]) -> float:
    """Recall of every class that occurs, averaged over those classes, from 0 to 1."""
    places: dict[Any, list[bool]] = {}
    for label, hit in zip(list(labels), right.tolist(), strict=True):
        key = tuple(label) if isinstance(label, list | tuple) else label
        places.setdefault(key, []).append(hit)
    return float(np.mean([np.mean(some) for some in places.values()]))


def leaderboard(
    rights: Mapping[str, NDArray[np.bool_]], verbs: Numbers, nouns: Numbers,
    unseen: NDArray[np.bool_], tail_verbs: Iterable[int], tail_nouns: Iterable[int],
) -> dict[str, float | None]:  # fmt: skip
    """`{overall,unseen,tail}_{verb,noun,action}_mt5r`, percent; None where a subset is empty.

    Args:
        rights: of verb, noun and action: [B] whether the truth was among the five best.
        verbs: [B] true verbs.
        nouns: [B] true nouns.
        unseen: [B] whether the participant is in no training film.
        tail_verbs: rare verbs; a segment is in the tail of actions by its verb or its noun.
        tail_nouns: rare nouns.
    """
    labels = {"verb": verbs, "noun": nouns, "action": verbs * 1000 + nouns}
    rare = {
        "verb": np.isin(verbs, list(tail_verbs)), "noun": np.isin(nouns, list(tail_nouns)),
    }  # fmt: skip
    rare["action"] = rare["verb"] | rare["noun"]
    found: dict[str, float | None] = {}
    for kind, truth in labels.items():
        subsets = {"overall": np.ones(len(truth), bool), "unseen": unseen, "tail": rare[kind]}
        for subset, rows in subsets.items():
            recall = class_mean_recall(truth[rows], rights[kind][rows]) if rows.any() else None
            found[f"{subset}_{kind}_mt5r"] = None if recall is None else 100 * recall
    return found
