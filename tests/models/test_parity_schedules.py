"""What is drawn and scheduled is what the official sources draw and schedule.

- With `official` numerics, masks of the same seeds are the official collator's masks.
- Schedules give the official rates at every step.
"""

from __future__ import annotations

import pytest
import torch

from models.masks import (
    LONG_RANGE,
    SHORT_RANGE,
    MultiblockConfig,
    multiblock_masks,
    official_positions,
)
from models.schedules import cosine, linear, warmup_cosine, warmup_stable_decay
from tests.models import peers


@pytest.mark.parametrize("mask", [SHORT_RANGE, LONG_RANGE])
def test_masks(mask: MultiblockConfig) -> None:
    theirs = peers.official("masks.multiseq_multiblock3d")._MaskGenerator(
        crop_size=(256, 256),
        num_frames=16,
        spatial_patch_size=(16, 16),
        temporal_patch_size=2,
        spatial_pred_mask_scale=mask.spatial_scale,
        temporal_pred_mask_scale=mask.temporal_scale,
        aspect_ratio=mask.aspect_ratio,
        npred=mask.blocks,
        max_context_frames_ratio=mask.max_temporal_keep,
        max_keep=mask.max_keep,
    )
    for step in range(4):
        with torch.random.fork_rng():
            torch.manual_seed(official_positions(mask, 17, step))
            expected = theirs(5)
        drawn = multiblock_masks((8, 16, 16), 5, mask, 17, step, numerics="official")
        assert torch.equal(drawn[0], expected[0])
        assert torch.equal(drawn[1], expected[1])


class Recorder:
    """An optimizer as far as the official schedules look at one."""

    def __init__(self) -> None:
        self.param_groups: list[dict[str, float]] = [{}]


def test_schedules() -> None:
    schedulers = peers.official("utils.schedulers")
    steps = 40
    pairs = [
        (
            schedulers.WarmupCosineSchedule(
                Recorder(), warmup_steps=7, start_lr=1e-4, ref_lr=5e-4, T_max=steps, final_lr=1e-6
            ),
            lambda s: warmup_cosine(s, start=1e-4, peak=5e-4, final=1e-6, warmup=7, steps=steps),
        ),
        (
            schedulers.WSDSchedule(
                Recorder(), 7, 9, T_max=steps, start_lr=1e-4, ref_lr=5e-4, final_lr=1e-5
            ),
            lambda s: warmup_stable_decay(
                s, start=1e-4, peak=5e-4, final=1e-5, warmup=7, decay=9, steps=steps
            ),
        ),
        (
            schedulers.LinearDecaySchedule(Recorder(), ref_lr=5e-4, T_max=steps, final_lr=1e-6),
            lambda s: linear(s, 5e-4, 1e-6, steps),
        ),
        (
            schedulers.CosineWDSchedule(Recorder(), ref_wd=0.04, T_max=steps, final_wd=0.4),
            lambda s: cosine(s, start=0.04, final=0.4, steps=steps),
        ),
    ]
    for theirs, ours in pairs:
        for step in range(steps):
            assert ours(step) == pytest.approx(theirs.step(), rel=1e-12), (theirs, step)
