"""Claims: frames are cut and shrunk as torch's antialiased linear filter does it, which is what the
planner applies to the robot's camera."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.robot.pictures import to_square


def frames(high: int, wide: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, high, wide, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("high", "wide", "left", "right"),
    [(64, 64, 0, 64), (45, 80, 10, 70), (48, 64, 0, 64), (180, 320, 38, 281)],
)
def test_frames_are_shrunk_as_torch_shrinks_the_cut(high, wide, left, right):
    given = frames(high, wide)
    cut = torch.from_numpy(given[:, :, left:right]).permute(0, 3, 1, 2).float()
    wanted = torch.nn.functional.interpolate(
        cut, (32, 32), mode="bilinear", antialias=True, align_corners=False
    )
    got = torch.from_numpy(to_square(given, 32)).permute(0, 3, 1, 2)
    assert (got - wanted).abs().max() <= 0.51


def test_a_tall_frame_is_cut_above_and_below():
    given = np.zeros((1, 200, 100, 3), np.uint8)
    given[:, 32:167] = 200
    assert (to_square(given, 50) == 200).all()


def test_frames_of_the_size_come_back_as_they_are():
    given = frames(32, 32)
    assert (to_square(given, 32) == given).all()
