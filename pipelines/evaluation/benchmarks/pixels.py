"""From frames to what the encoder sees: crops of validation, augmentation of training.

Validation: the short side becomes the resolution and `views` squares are taken along the long side;
with one view the short side becomes resolution * 256 / 224 and the middle is taken. Training:
RandAugment, then normalised, cropped, and partly erased, in this order, as the released code does.
Nothing is mirrored but where a benchmark says so (ImageNet alone does).

Shapes: pictures [T, H, W, 3] uint8; clips [3, T, R, R] float32, normalised.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from pipelines.evaluation.benchmarks.augmentation import rand_augment

Pictures = NDArray[np.uint8]
CROP_AREA, CROP_ASPECT, CROP_TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
ERASED, ERASED_AREA, ERASED_ASPECT = 0.25, (0.02, 1 / 3), (0.3, 1 / 0.3)


def resized_to(height: int, width: int, short: int) -> tuple[int, int]:
    """(height, width) with that shorter side; the longer one is rounded down."""
    if height <= width:
        return short, int(width * short / height)
    return int(height * short / width), short


def starts_of(height: int, width: int, size: int, views: int) -> list[int]:
    """Where each of several squares begins along the longer side of pictures so large."""
    room = max(height, width) - size
    return [view * (room // (views - 1)) for view in range(views)]


def validation_views(pictures: Pictures, size: int, views: int) -> Tensor:
    """Views [V, 3, T, size, size] of a clip."""
    height, width = pictures.shape[1:3]
    short = size if views > 1 else int(size * 256 / 224)
    shape = resized_to(height, width, short)
    planes = _planes(pictures)
    if shape != (height, width):
        planes = F.interpolate(planes, shape, mode="bilinear", align_corners=False)
        planes = planes.round().clamp(0, 255)  # the released code resizes whole numbers
    planes = _normalised(planes)
    if views == 1:
        top, left = (round((side - size) / 2) for side in shape)
        return planes[..., top : top + size, left : left + size][None]
    down = shape[0] > shape[1]
    cut = [
        planes[..., s : s + size, :size] if down else planes[..., :size, s : s + size]
        for s in starts_of(*shape, size, views)
    ]
    return torch.stack(cut)


def training_view(
    pictures: Pictures, size: int, random: np.random.Generator, flip: float = 0.0
) -> Tensor:
    """One random view [3, T, size, size]; all frames are treated alike but for what erases them."""
    planes = _normalised(_planes(rand_augment(pictures, random)))
    top, left, height, width = crop_box(planes.shape[2], planes.shape[3], random)
    planes = planes[..., top : top + height, left : left + width]
    clip = F.interpolate(planes, (size, size), mode="bilinear", align_corners=False)
    if random.random() < flip:
        clip = clip.flip(-1)
    return erased(clip, random)


def crop_box(height: int, width: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random share of a picture, of a random aspect."""
    for _ in range(CROP_TRIES):
        area = height * width * random.uniform(*CROP_AREA)
        aspect = _aspect(random, CROP_ASPECT)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(random.integers(height - h + 1))
            return top, int(random.integers(width - w + 1)), h, w
    aspect = min(max(width / height, CROP_ASPECT[0]), CROP_ASPECT[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    return (height - h) // 2, (width - w) // 2, h, w


def erased(clip: Tensor, random: np.random.Generator) -> Tensor:
    """A quarter of clips lose one box to noise, which is another one in every frame."""
    if random.random() >= ERASED:
        return clip
    height, width = clip.shape[2:]
    for _ in range(CROP_TRIES):
        area = height * width * random.uniform(*ERASED_AREA)
        aspect = _aspect(random, ERASED_ASPECT)
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            top, left = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
            noise = random.standard_normal((*clip.shape[:2], h, w), dtype=np.float32)
            clip = clip.clone()
            clip[..., top : top + h, left : left + w] = torch.from_numpy(noise)
            return clip
    return clip


def _aspect(random: np.random.Generator, limits: tuple[float, float]) -> float:
    return math.exp(random.uniform(math.log(limits[0]), math.log(limits[1])))


def _planes(pictures: Pictures) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(3, 0, 1, 2).float()


def _normalised(planes: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) * 255 for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (planes - mean) / std
