"""Which head counts, and what its accuracy is, as the released code counts and as others do.

Shapes: E epochs, H heads, Q films.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoder import PUBLISHED

Answers = NDArray[np.int64]
_SIZES = {"vit_large": "vit_large", "vit_huge": "vit_huge", "vit_giant_xformers": "vit_giant"}
"""Published architecture -> its column in the paper's tables."""


def accuracy_by_batches(right: NDArray[np.bool_], batch: int, *, drop_last: bool = False) -> float:
    """The released code's accuracy: the mean over batches of their accuracies, large or small.

    With `drop_last` a last batch that is not full is left out, as it is for films (of fewer films
    than a batch all count).
    """
    parts = [right[n : n + batch] for n in range(0, len(right), batch)]
    if drop_last and len(parts) > 1 and len(parts[-1]) < batch:
        parts = parts[:-1]
    return float(np.mean([part.mean() for part in parts]))


def chosen(held_out: Answers, labels: Answers) -> tuple[int, int]:
    """(epoch, head) that is right most often on held-out films [E, H, Q]; of equals the first."""
    right = (held_out == labels).mean(-1)
    epoch, head = np.unravel_index(int(right.argmax()), right.shape)
    return int(epoch), int(head)


def optimistic(asked: Answers, labels: Answers, batch: int, *, drop_last: bool) -> dict[str, float]:
    """What the released code logs: the best head on validation [E, H, Q] itself, of the last epoch
    and of the best one.
    """
    best = [
        max(accuracy_by_batches(head == labels, batch, drop_last=drop_last) for head in epoch)
        for epoch in asked
    ]
    return {"last_epoch": best[-1], "best_epoch": max(best)}


def published_size(encoder: Mapping[str, Any]) -> str | None:
    """The column of the paper's tables that an encoder's architecture belongs to, if any."""
    parts = ("width", "depth", "heads", "mlp_hidden")
    for name, column in _SIZES.items():
        if all(getattr(PUBLISHED[name], part) == encoder[part] for part in parts):
            return "vit_giant_384" if column == "vit_giant" and encoder["size"] >= 384 else column
    return None


def per_class_recall(counts: NDArray[np.int64]) -> list[float | None]:
    """Share of each class's films that were named right, of a confusion; None where none is asked
    about.
    """
    return [
        float(row[place] / row.sum()) if row.sum() else None for place, row in enumerate(counts)
    ]
