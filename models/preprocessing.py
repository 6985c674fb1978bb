"""Frames as the networks take them: what training, evaluation and the planner have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of the red, green and blue channel in [0, 1], over the pictures of ImageNet."""
IMAGENET_STD = (0.229, 0.224, 0.225)
ASPECT = (0.75, 1.35)
"""Width over height of what is cut out of a training frame, from and to."""
WIDEST = ASPECT[1]
"""Long side over short side, at most, of what is cut out of a robot's camera frame."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a camera frame becomes the encoder's input; the contract between training and robot."""

    size: int = 256
    """Pixels along each side of what the encoder sees."""
    widest: float = WIDEST
    """A frame wider than this times its height (or the reverse) is cut to it, centred; the rest
    is scaled to the square. 1.35 is what the released robot models were trained with."""
    antialias: bool = True
    """Average areas when shrinking a frame. The released robot models were trained without."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Of the red, green and blue channel in [0, 1]; subtracted."""
    std: tuple[float, float, float] = IMAGENET_STD
    """What the difference is divided by."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.widest < 1 or min(self.std) <= 0:
            raise ValueError(
                f"size {self.size}, widest {self.widest}, std {self.std}: size and widest must be "
                "at least 1, std above 0"
            )
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))


def prepare(frames: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Camera frames as the encoder takes them.

    Args:
        frames: [B, H, W, 3] uint8, RGB.
        preprocessing: the contract.

    Returns:
        [B, 3, size, size] float32.

    Raises:
        ValueError: frames of another shape or type.
    """
    if frames.dtype != torch.uint8 or frames.dim() != 4 or frames.shape[-1] != 3:
        raise ValueError(
            f"frames are {frames.dtype} of shape {list(frames.shape)}: "
            "they must be uint8 [B, H, W, 3], red first"
        )
    _, high, wide, _ = frames.shape
    top, left, high, wide = centred_cut(high, wide, preprocessing.widest)
    cut = frames[:, top : top + high, left : left + wide]
    pictures = cut.permute(0, 3, 1, 2).float() / 255
    if pictures.shape[2:] != (preprocessing.size, preprocessing.size):
        square = (preprocessing.size, preprocessing.size)
        pictures = F.interpolate(
            pictures,
            square,
            mode="bilinear",
            antialias=preprocessing.antialias,
            align_corners=False,
        )
    mean = torch.tensor(preprocessing.mean, device=frames.device)[:, None, None]
    std = torch.tensor(preprocessing.std, device=frames.device)[:, None, None]
    return (pictures - mean) / std


def centred_cut(high: int, wide: int, widest: float = WIDEST) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest centred cut no side of which exceeds `widest` times
    the frame's other side: pixels, of a frame `high` x `wide`.
    """
    cut_high, cut_wide = min(high, math.floor(widest * wide)), min(wide, math.floor(widest * high))
    return (high - cut_high) // 2, (wide - cut_wide) // 2, cut_high, cut_wide
