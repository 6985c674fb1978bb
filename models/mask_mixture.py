"""Which masks a step trains on: the paper's two, one that hides time, or a mixture of them.

Tubes through all of a clip's time, as the paper hides them, leave something of every moment to see;
hiding whole time steps asks where things go. Shapes as in models/masks.py: context [B, K] and
target [B, M].
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from models.masks import (
    LONG_RANGE,
    SHORT_RANGE,
    MultiblockConfig,
    multiblock_masks,
    uniform,
)
from models.rotary import Numerics
from models.tokens import Grid

TEMPORAL = MultiblockConfig(
    blocks=1, spatial_scale=(1.0, 1.0), temporal_scale=(0.5, 0.5), aspect_ratio=(1.0, 1.0)
)
"""Hides half of the time steps, one after another, over the whole picture."""
NAMES = ("short_range", "long_range", "temporal")


class Mask(NamedTuple):
    """One mask of a batch, and how much its loss counts."""

    context: Tensor
    target: Tensor
    weight: float


@dataclass(frozen=True, kw_only=True)
class MaskMixture:
    """The masks of a training; one that is None is absent. Defaults: the paper's two."""

    short_range: MultiblockConfig | None = SHORT_RANGE
    """Many small blocks through all of the time."""
    long_range: MultiblockConfig | None = LONG_RANGE
    """Few large blocks through all of the time."""
    temporal: MultiblockConfig | None = None
    """Whole time steps: see TEMPORAL."""
    use: Literal["all", "one"] = "all"
    """"all": every mask in every step; "one": one of them in each step, drawn by its weight."""
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """How much short_range, long_range and temporal count; of absent ones it says nothing."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(float(weight) for weight in self.weights))
        if any(not 0.0 <= weight < math.inf for weight in self.weights):
            raise ValueError(f"weights is {self.weights}; each must be a number of at least 0")
        if not self.present:
            raise ValueError(
                "short_range, long_range and temporal are all absent or weigh nothing: give one, "
                "or nothing is ever hidden"
            )

    @property
    def present(self) -> dict[MultiblockConfig, tuple[str, float]]:
        """Mask -> its name and weight; equal ones stand once, with their weights together."""
        found: dict[MultiblockConfig, tuple[str, float]] = {}
        for name, weight in zip(NAMES, self.weights, strict=True):
            blocks = getattr(self, name)
            if blocks is not None and weight > 0:
                first, before = found.get(blocks, (name, 0.0))
                found[blocks] = (first, before + weight)
        return found

    def of_step(self, seed: int, step: int) -> dict[MultiblockConfig, tuple[str, float]]:
        """Those of `present` that one step trains on: a function of (seed, step)."""
        present = self.present
        if self.use == "all":
            return present
        drawn = uniform("mixture", seed, step) * sum(weight for _, weight in present.values())
        reached = itertools.accumulate(weight for _, weight in present.values())
        places = [place for place, total in enumerate(reached) if drawn < total]
        blocks = list(present)[places[0] if places else -1]
        return {blocks: (present[blocks][0], 1.0)}


def mixture_masks(
    grid: Grid,
    batch: int,
    mixture: MaskMixture,
    seed: int,
    step: int,
    *,
    numerics: Numerics = "corrected",
    first: int = 0,
) -> list[Mask]:
    """The masks of a step; see `models.masks.multiblock_masks`, whose arguments these are.

    Raises ValueError that begins with a mask's name if it hides nothing or all of such a grid.
    """
    return [
        _named(name, weight, grid, batch, blocks, seed, step, numerics, first)
        for blocks, (name, weight) in mixture.of_step(seed, step).items()
    ]


def check_masks(grid: Grid, mixture: MaskMixture, numerics: Numerics = "corrected") -> None:
    """Refuse masks that leave nothing to see or nothing to guess on a grid, whichever are drawn.

    Raises ValueError that begins with the mask's name.
    """
    for blocks, (name, weight) in mixture.present.items():
        _named(name, weight, grid, 1, blocks, 0, 0, numerics, 0)


def _named(
    name: str, weight: float, grid: Grid, batch: int, blocks: MultiblockConfig, seed: int,
    step: int, numerics: Numerics, first: int,
) -> Mask:  # fmt: skip
    try:
        context, target = multiblock_masks(
            grid, batch, blocks, seed, step, numerics=numerics, first=first
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return Mask(context, target, weight)
