"""Sensitivity: what the mix would be with each retrieval weight a little smaller or larger.

Weights are divided by their sum, so that a change of one moves all of them. A scene's hash stays
what it is: of its draws, floor(e + u), e alone changes, and what enters and leaves is counted scene
by scene instead of being expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.retrieval import Counts, Floats, RetrievalConfig

SENSITIVITY = {
    "target": "string", "factor": "float64", "weight": "float64", "weight_moved": "float64",
    "clusters_in": "int64", "clusters_out": "int64", "scenes_in": "int64", "scenes_out": "int64",
    "draws": "int64", "draws_moved": "int64",
}  # fmt: skip
"""Of one changed weight: which target, times what, its share of all weights then; half the sum of
the clusters' absolute changes of weight; clusters and scenes that are drawn now and were not, or no
more; draws in all, and the sum of the scenes' absolute changes of draws."""


@dataclass(frozen=True)
class Variant:
    """A retrieval of which one weight is another."""

    target: str
    factor: float
    """Times what is asked."""
    config: RetrievalConfig


def variants(config: RetrievalConfig, change: float) -> list[Variant]:
    """Each weight that is not 0, smaller and larger by `change`; none where no target counts."""
    if config.rule != "retrieval":
        return []
    return [
        Variant(
            target,
            factor,
            replace(config, weights=config.weights | {target: config.weights[target] * factor}),
        )
        for target in sorted(config.weights)
        if config.weights[target]
        for factor in (1 - change, 1 + change)
    ]


def redrawn(expected: Floats, cluster: NDArray[np.int32], chance: Floats) -> NDArray[np.int32]:
    """[V, n]: draws of n scenes in each of V mixes.

    Args:
        expected: draws of one scene of each cluster, [V, K].
        cluster: of each scene, [n].
        chance: hash of each scene in [0, 1), [n].
    """
    return np.floor(expected[:, cluster] + chance).astype(np.int32)


def moved(draws: NDArray[np.int32]) -> list[dict[str, int]]:
    """What each of the mixes but the first draws otherwise than it, from draws [V, n]."""
    asked = draws[0]
    return [
        {
            "scenes_in": int(((other > 0) & (asked == 0)).sum()),
            "scenes_out": int(((other == 0) & (asked > 0)).sum()),
            "draws": int(other.sum()),
            "draws_moved": int(np.abs(other - asked).sum()),
        }
        for other in draws[1:]
    ]


def told(
    variant: Variant,
    scenes: Sequence[Mapping[str, int]],
    weights: tuple[Floats, Floats],
    draws: tuple[Counts, Counts],
) -> dict[str, Any]:
    """A row of SENSITIVITY.

    Args:
        variant: which weight is changed.
        scenes: `moved` of every part of the pool.
        weights: of the clusters, [K] each, as asked and as changed.
        draws: of the clusters, [K] each, the same way.
    """
    asked, changed = draws
    config = variant.config
    return {
        "target": variant.target,
        "factor": variant.factor,
        "weight": config.weights[variant.target] / sum(config.weights.values()),
        "weight_moved": float(np.abs(weights[1] - weights[0]).sum() / 2),
        "clusters_in": int(((changed > 0) & (asked == 0)).sum()),
        "clusters_out": int(((changed == 0) & (asked > 0)).sum()),
        **{
            name: sum(part[name] for part in scenes)
            for name in ("scenes_in", "scenes_out", "draws", "draws_moved")
        },
    }
