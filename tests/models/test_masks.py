"""Multiblock masks.

- Block sizes of the official collator's first eight calls are the published ones, for both masks.
- Context and target never meet, lie on the grid in ascending order, and are a function of
  (seed, step): other seeds, other steps and other clips give other masks.
- Corrected: a clip's masks depend neither on the batch size nor on how a batch is split; what is
  dropped is random in time, where the official masks lose the last frames.
- The shares of seen and hidden tokens are the published ones at the published batch per GPU.
- A mask that leaves nothing to see is refused, not searched for without end.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.masks import (
    LONG_RANGE,
    SHORT_RANGE,
    MultiblockConfig,
    multiblock_masks,
    official_block_size,
)
from models.rotary import NUMERICS, Numerics

GRID = (8, 16, 16)

SHORT_SIZES = [(6, 7), (6, 6), (7, 6), (6, 6), (6, 7), (7, 5), (8, 5), (7, 6)]
LONG_SIZES = [(12, 15), (14, 13), (15, 12), (13, 14), (12, 15), (16, 11), (16, 11), (15, 12)]


@pytest.mark.parametrize(("mask", "sizes"), [(SHORT_RANGE, SHORT_SIZES), (LONG_RANGE, LONG_SIZES)])
def test_golden_block_sizes(mask: MultiblockConfig, sizes: list[tuple[int, int]]) -> None:
    found = [official_block_size(GRID, mask, step) for step in range(8)]
    assert found == [(8, *size) for size in sizes]


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("mask", [SHORT_RANGE, LONG_RANGE])
@pytest.mark.parametrize("grid", [GRID, (4, 8, 8), (3, 6, 10)])
def test_well_formed(
    numerics: Numerics, mask: MultiblockConfig, grid: tuple[int, int, int]
) -> None:
    tokens = grid[0] * grid[1] * grid[2]
    for step in range(4):
        context, target = multiblock_masks(grid, 3, mask, 0, step, numerics=numerics)
        assert context.dtype == target.dtype == torch.int64
        assert context.shape[0] == target.shape[0] == 3
        for seen, hidden in zip(context, target, strict=True):
            assert (seen.diff() > 0).all()
            assert (hidden.diff() > 0).all()
            assert not set(seen.tolist()) & set(hidden.tolist())
            assert min(seen.min(), hidden.min()) >= 0
            assert max(seen.max(), hidden.max()) < tokens


@pytest.mark.parametrize("numerics", NUMERICS)
def test_function_of_seed_and_step(numerics: Numerics) -> None:
    def draw(seed: int, step: int) -> list[list[int]]:
        return multiblock_masks(GRID, 2, SHORT_RANGE, seed, step, numerics=numerics)[0].tolist()

    torch.manual_seed(1)
    first = draw(5, 7)
    torch.manual_seed(2)
    assert draw(5, 7) == first
    assert draw(6, 7) != first
    assert draw(5, 8) != first
    assert first[0] != first[1]


def test_equal_questions_have_equal_masks() -> None:
    """1 and 1.0 are one scale, and a numpy 3 is a 3, in what seeds the draws too."""
    whole = MultiblockConfig(temporal_scale=(1, 1), max_temporal_keep=1)
    assert whole == SHORT_RANGE
    for numerics in NUMERICS:
        first = multiblock_masks(GRID, 2, SHORT_RANGE, 3, 2, numerics=numerics)
        other = multiblock_masks(GRID, 2, whole, np.int64(3), np.int64(2), numerics=numerics)
        assert all(torch.equal(one, two) for one, two in zip(first, other, strict=True))
    assert repr(MultiblockConfig(blocks=np.int64(8), max_keep=np.int64(20))) == repr(
        MultiblockConfig(blocks=8, max_keep=20)
    )
    with pytest.raises(TypeError, match="float"):
        multiblock_masks(GRID, 1, SHORT_RANGE, 3.7, 0)


def test_global_randomness_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    multiblock_masks(GRID, 2, SHORT_RANGE, 0, 0, numerics="official")
    multiblock_masks(GRID, 2, SHORT_RANGE, 0, 0)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("mask", [SHORT_RANGE, LONG_RANGE])
def test_corrected_does_not_depend_on_the_batch(mask: MultiblockConfig) -> None:
    whole = multiblock_masks(GRID, 6, mask, 0, 3)
    one = multiblock_masks(GRID, 1, mask, 0, 3)
    last = multiblock_masks(GRID, 2, mask, 0, 3, first=4)
    for place in (0, 1):
        assert torch.equal(whole[place][:1], one[place])
        assert torch.equal(whole[place][4:], last[place])
    official = [multiblock_masks(GRID, n, mask, 0, 3, numerics="official")[0] for n in (1, 6)]
    assert official[0].shape != official[1].shape


def share_by_frame(numerics: Numerics) -> torch.Tensor:
    """Share of a frame's tokens that are seen or hidden, not dropped, in each of 8 frames."""
    used = torch.zeros(8)
    for step in range(3):
        for index in multiblock_masks(GRID, 24, SHORT_RANGE, 0, step, numerics=numerics):
            used += torch.bincount(index.flatten() // 256, minlength=8)
    return used / (3 * 24 * 256)


def test_corrected_drops_at_random_and_official_the_last_frames() -> None:
    corrected, official = share_by_frame("corrected"), share_by_frame("official")
    assert corrected.max() - corrected.min() < 0.06
    assert official[:4].min() > 0.95
    assert official[-1] < 0.35


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize(
    ("mask", "seen", "hidden"), [(SHORT_RANGE, 0.249, 0.475), (LONG_RANGE, 0.062, 0.703)]
)
def test_published_shares(
    numerics: Numerics, mask: MultiblockConfig, seen: float, hidden: float
) -> None:
    drawn = [multiblock_masks(GRID, 24, mask, 0, step, numerics=numerics) for step in range(12)]
    context = sum(pair[0].shape[1] for pair in drawn) / len(drawn) / 2048
    target = sum(pair[1].shape[1] for pair in drawn) / len(drawn) / 2048
    assert context == pytest.approx(seen, abs=0.04)
    assert target == pytest.approx(hidden, abs=0.05)


def test_max_keep_and_temporal_keep() -> None:
    for numerics in NUMERICS:
        capped = MultiblockConfig(max_keep=50)
        assert multiblock_masks(GRID, 2, capped, 0, 0, numerics=numerics)[0].shape == (2, 50)
        early = MultiblockConfig(max_temporal_keep=0.5)
        context, target = multiblock_masks(GRID, 2, early, 0, 0, numerics=numerics)
        assert context.max() < 4 * 256
        assert target.max() >= 4 * 256


@pytest.mark.parametrize("numerics", NUMERICS)
def test_nothing_left_to_see(numerics: Numerics) -> None:
    with pytest.raises(ValueError, match=r"leave fewer than .* on a grid of \(4, 2, 2\)"):
        multiblock_masks(
            (4, 2, 2), 1, MultiblockConfig(spatial_scale=(1, 1)), 0, 0, numerics=numerics
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocks": 0}, "blocks is 0"),
        ({"spatial_scale": (0.5, 0.2)}, "spatial_scale"),
        ({"temporal_scale": (0.0, 1.0)}, "temporal_scale"),
        ({"max_temporal_keep": 1.5}, "max_temporal_keep is 1.5"),
        ({"max_keep": 0}, "max_keep is 0"),
    ],
)
def test_bad_config(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MultiblockConfig(**changes)


def test_bad_call() -> None:
    with pytest.raises(ValueError, match="batch 0"):
        multiblock_masks(GRID, 0, SHORT_RANGE, 0, 0)
    with pytest.raises(ValueError, match="allowed: corrected, official"):
        multiblock_masks(GRID, 1, SHORT_RANGE, 0, 0, numerics="other")  # type: ignore[arg-type]
