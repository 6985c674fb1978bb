"""Mixtures of masks.

- The defaults are the paper's two masks, drawn as they are alone and weighed alike.
- The temporal mask hides half of the time steps whole, wherever they begin.
- Equal masks are drawn once and weigh together; absent and weightless ones are not drawn.
- "one" draws one mask a step, by weight, from (seed, step) alone.
- A mixture without a mask, and masks that hide nothing or all of a grid, are refused by name.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from models.mask_mixture import TEMPORAL, MaskMixture, check_masks, mixture_masks
from models.masks import LONG_RANGE, SHORT_RANGE, MultiblockConfig, multiblock_masks

GRID = (4, 4, 4)
ONLY_TIME = MaskMixture(short_range=None, long_range=None, temporal=TEMPORAL)


def test_the_defaults_are_the_papers_two() -> None:
    found = mixture_masks((8, 16, 16), 2, MaskMixture(), 5, 3)
    for mask, blocks in zip(found, (SHORT_RANGE, LONG_RANGE), strict=True):
        context, target = multiblock_masks((8, 16, 16), 2, blocks, 5, 3)
        assert torch.equal(mask.context, context) and torch.equal(mask.target, target)
        assert mask.weight == 1.0


def test_the_temporal_mask_hides_whole_time_steps() -> None:
    [mask] = mixture_masks(GRID, 64, ONLY_TIME, 0, 0)
    begun = set()
    for context, target in zip(mask.context, mask.target, strict=True):
        hidden = target.reshape(2, 16)
        first = int(hidden[0, 0]) // 16
        assert torch.equal(target, torch.arange(first * 16, first * 16 + 32))
        assert len(context) == 32
        begun.add(first)
    assert begun == {0, 1, 2}


def test_equal_masks_are_drawn_once_and_weigh_together() -> None:
    mixture = MaskMixture(long_range=SHORT_RANGE, temporal=TEMPORAL, weights=(1.0, 2.0, 0.5))
    found = mixture_masks((4, 8, 8), 1, mixture, 0, 0)
    assert [mask.weight for mask in found] == [3.0, 0.5]
    weightless = MaskMixture(temporal=TEMPORAL, weights=(1.0, 0.0, 0.0))
    assert list(weightless.present) == [SHORT_RANGE]


def test_one_of_them_is_drawn_by_weight() -> None:
    mixture = MaskMixture(long_range=None, temporal=TEMPORAL, use="one", weights=(1, 9, 3))
    drawn = [next(iter(mixture.of_step(7, step).values()))[0] for step in range(400)]
    assert drawn == [next(iter(mixture.of_step(7, step).values()))[0] for step in range(400)]
    assert 60 < Counter(drawn)["short_range"] < 140 and set(drawn) == {"short_range", "temporal"}
    assert drawn[:40] != [next(iter(mixture.of_step(8, step).values()))[0] for step in range(40)]
    [mask] = mixture_masks(GRID, 1, mixture, 7, 0)
    assert mask.weight == 1.0


@pytest.mark.parametrize(
    ("grid", "mixture", "told"),
    [
        ((1, 4, 4), ONLY_TIME, r"^temporal: 1 blocks of \(1, 4, 4\)"),
        (
            (4, 4, 4),
            MaskMixture(short_range=MultiblockConfig(spatial_scale=(0.001, 0.001))),
            r"^short_range: .* 1 target",
        ),
        (
            (4, 4, 4),
            MaskMixture(long_range=MultiblockConfig(blocks=1, spatial_scale=(1.0, 1.0)), use="one"),
            "^long_range: .* 1 context",
        ),
    ],
)
def test_masks_that_hide_nothing_or_all_are_named(
    grid: tuple[int, int, int], mixture: MaskMixture, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        check_masks(grid, mixture)


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="are all absent or weigh nothing"):
        MaskMixture(short_range=None, long_range=None)
    with pytest.raises(ValueError, match=r"weights is \(-1\.0, 1\.0, 1\.0\)"):
        MaskMixture(weights=(-1, 1, 1))
