"""Multiblock masks: which tokens the encoder sees, and which the predictor must guess.

Shapes: grid (t, h, w) of tokens, N = t * h * w; B clips; context [B, K] and target [B, M], int64,
ascending raster order. Every draw is a function of (seed, step), and, when corrected, of the clip's
number in the global batch: a batch split over other workers keeps its masks.

A batch needs one K and one M for all its clips. ``official`` cuts every clip to the smallest count
in the batch by keeping the first tokens, so that the last frames are lost and the task depends
on the batch size. ``corrected`` takes the counts from a fixed number of reference draws and drops
random tokens. The official collator counts its calls; here `step` is that count.
"""

from __future__ import annotations

import hashlib
import math
import operator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.rotary import NUMERICS, Numerics
from models.tokens import Grid, count

REFERENCE_DRAWS = 24
"""Draws that fix K and M when corrected: the paper's batch per GPU, so its ratios are kept."""
_PATIENCE = 1000


@dataclass(frozen=True, kw_only=True)
class MultiblockConfig:
    """Blocks that are hidden. Defaults: the short-range mask of the paper."""

    blocks: int = 8
    """Blocks whose union is the target."""
    spatial_scale: tuple[float, float] = (0.15, 0.15)
    """Share of the frame a block covers, from and to."""
    temporal_scale: tuple[float, float] = (1.0, 1.0)
    """Share of the clip's time a block covers, from and to."""
    aspect_ratio: tuple[float, float] = (0.75, 1.5)
    """Height over width of a block, from and to."""
    max_temporal_keep: float = 1.0
    """Share of the clip's time that context may come from; later tokens become targets."""
    max_keep: int | None = None
    """At most so many context tokens."""

    def __post_init__(self) -> None:
        # Seeds are digests of these values as they are written: 1, 1.0 and numpy's 1 must be one.
        object.__setattr__(self, "blocks", operator.index(self.blocks))
        if self.max_keep is not None:
            object.__setattr__(self, "max_keep", operator.index(self.max_keep))
        if self.blocks < 1:
            raise ValueError(f"MultiblockConfig.blocks is {self.blocks}; at least 1 is needed")
        for name in ("spatial_scale", "temporal_scale", "aspect_ratio"):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (float(low), float(high)))
            top = math.inf if name == "aspect_ratio" else 1.0
            if not 0.0 < low <= high <= top:
                raise ValueError(
                    f"MultiblockConfig.{name} is {(low, high)}; allowed: 0 < from <= to <= {top}"
                )
        object.__setattr__(self, "max_temporal_keep", float(self.max_temporal_keep))
        if not 0.0 < self.max_temporal_keep <= 1.0:
            raise ValueError(
                f"MultiblockConfig.max_temporal_keep is {self.max_temporal_keep}; allowed: 0 … 1"
            )
        if self.max_keep is not None and self.max_keep < 1:
            raise ValueError(f"MultiblockConfig.max_keep is {self.max_keep}; at least 1 is needed")


SHORT_RANGE = MultiblockConfig()
LONG_RANGE = MultiblockConfig(blocks=2, spatial_scale=(0.7, 0.7))


def multiblock_masks(
    grid: Grid,
    batch: int,
    blocks: MultiblockConfig,
    seed: int,
    step: int,
    *,
    numerics: Numerics = "corrected",
    first: int = 0,
) -> tuple[Tensor, Tensor]:
    """Context [B, K] and target [B, M] token indices of one batch.

    first: number, in the global batch, of this batch's first clip (corrected numerics only).
    Raises ValueError if the blocks leave no context on this grid.
    """
    if batch < 1 or min(grid) < 1 or step < 0 or first < 0:
        raise ValueError(
            f"needs a batch and a grid of at least 1 and a step and first clip of at least 0; "
            f"found batch {batch}, grid {grid}, step {step}, first {first}"
        )
    seed, step = operator.index(seed), operator.index(step)
    if numerics == "official":
        return _official(grid, batch, blocks, seed, step)
    if numerics != "corrected":
        raise ValueError(f"numerics is {numerics!r}; allowed: {', '.join(NUMERICS)}")
    size = block_size(grid, blocks, _generator("size", seed, step))
    kept, hidden = _counts(grid, blocks, size, seed, step)
    contexts, targets = [], []
    for clip in range(first, first + batch):
        source = _generator("clip", seed, step, blocks, clip)
        seen = _draw(grid, blocks, size, source, kept, hidden)
        contexts.append(_thin(seen.nonzero().flatten(), kept, source))
        targets.append(_thin(seen.logical_not().nonzero().flatten(), hidden, source))
    return torch.stack(contexts), torch.stack(targets)


def block_size(grid: Grid, blocks: MultiblockConfig, source: torch.Generator) -> Grid:
    """Tokens (t, h, w) of one block: scale in time, scale in space, aspect ratio are drawn."""
    duration, height, width = grid
    draws = [torch.rand(1, generator=source).item() for _ in range(3)]
    ranges = (blocks.temporal_scale, blocks.spatial_scale, blocks.aspect_ratio)
    in_time, in_space, aspect = (
        low + draw * (high - low) for draw, (low, high) in zip(draws, ranges, strict=True)
    )
    area = int(height * width * in_space)
    h = min(height, round(math.sqrt(area * aspect)))
    w = min(width, round(math.sqrt(area / aspect)))
    return max(1, int(duration * in_time)), h, w


def official_block_size(grid: Grid, blocks: MultiblockConfig, step: int) -> Grid:
    """The block size of the official collator's call number `step` (from 0)."""
    source = torch.Generator()
    source.manual_seed(step)
    return block_size(grid, blocks, source)


def official_positions(blocks: MultiblockConfig, seed: int, step: int) -> int:
    """The number that seeds block positions where the official code uses global randomness."""
    return _seed("positions", seed, step, blocks)


def _official(
    grid: Grid, batch: int, blocks: MultiblockConfig, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """As the official collator: smallest count in the batch, first tokens kept."""
    size = official_block_size(grid, blocks, step)
    source = torch.Generator()
    source.manual_seed(official_positions(blocks, seed, step))
    drawn = [_draw(grid, blocks, size, source, 1, 0) for _ in range(batch)]
    contexts = [seen.nonzero().flatten() for seen in drawn]
    targets = [seen.logical_not().nonzero().flatten() for seen in drawn]
    kept = min(map(len, contexts))
    if blocks.max_keep is not None:
        kept = min(kept, blocks.max_keep)
    hidden = min(map(len, targets))
    return (
        torch.stack([context[:kept] for context in contexts]),
        torch.stack([target[:hidden] for target in targets]),
    )


def _counts(
    grid: Grid, blocks: MultiblockConfig, size: Grid, seed: int, step: int
) -> tuple[int, int]:
    """K and M of a step: the smallest counts among the reference draws."""
    source = _generator("counts", seed, step, blocks)
    sums = [int(_draw(grid, blocks, size, source, 1, 1).sum()) for _ in range(REFERENCE_DRAWS)]
    kept, hidden = min(sums), count(grid) - max(sums)
    return (kept if blocks.max_keep is None else min(kept, blocks.max_keep)), hidden


def _draw(
    grid: Grid,
    blocks: MultiblockConfig,
    size: Grid,
    source: torch.Generator,
    least_seen: int,
    least_hidden: int,
) -> Tensor:
    """Which tokens are seen: bool [N], redrawn until enough are seen and enough are hidden."""
    for _ in range(_PATIENCE):
        seen = torch.ones(grid, dtype=torch.bool)
        for _ in range(blocks.blocks):
            # The order top, left, start is the official one: draws stay comparable.
            top, left, start = (
                int(torch.randint(0, grid[axis] - size[axis] + 1, (1,), generator=source))
                for axis in (1, 2, 0)
            )
            seen[start : start + size[0], top : top + size[1], left : left + size[2]] = False
        seen[max(1, int(grid[0] * blocks.max_temporal_keep)) :] = False
        total = int(seen.sum())
        if total >= least_seen and seen.numel() - total >= least_hidden:
            return seen.flatten()
    raise ValueError(
        f"{blocks.blocks} blocks of {size} tokens leave fewer than {least_seen} context or "
        f"{least_hidden} target tokens on a grid of {grid}, {_PATIENCE} times in a row: "
        f"use fewer or smaller blocks, or a larger clip"
    )


def _thin(index: Tensor, keep: int, source: torch.Generator) -> Tensor:
    """Keep so many entries at random, in ascending order."""
    chosen = torch.randperm(len(index), generator=source)[:keep]
    return index[chosen.sort().values]


def _generator(*parts: object) -> torch.Generator:
    source = torch.Generator()
    source.manual_seed(_seed(*parts))
    return source


def uniform(*parts: object) -> float:
    """A number in [0, 1) that depends on what it is asked for alone."""
    return torch.rand(1, generator=_generator(*parts)).item()


def _seed(*parts: object) -> int:
    """A seed of 63 bits from anything with a stable repr."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
