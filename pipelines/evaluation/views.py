"""Views: how a labelled clip is shown to an encoder.

For training a random window and crop each, for testing the middle window and evenly spaced crops. A
view is one or more segments (windows along the clip), each encoded alone, their tokens side by side
in time (V-JEPA 2, section 12).

Shapes: C clips, V views, S segments, T frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.evaluation.splits import LabelledClip
from pipelines.settings import Count, Natural, Positive, PositiveRange, ShareRange, settings
from pipelines.training.clips import ClipConfig, augment, frame_numbers
from pipelines.training.order import CROP, CROP_TRIES, START, Uniforms
from storage.digests import digest_json
from storage.errors import curable
from storage.video import stored_frames

Pictures = NDArray[np.uint8]


@settings
class ViewConfig:
    """How a clip is shown to the encoder."""

    frames: Count = 16
    """Frames of a segment."""
    fps: Positive = 4.0
    """Frames a second."""
    size: Count = 256
    """Side of the square the encoder sees, pixels."""
    segments: Count = 2
    """Windows along the clip; their tokens are probed together."""
    train_views: Count = 1
    """Random windows and crops of each training clip that are kept."""
    views: Count = 3
    """Crops of each test clip along its longer side; their predictions are averaged."""
    crop_scale: ShareRange = (0.08, 1.0)
    """Share of the picture's area that a training crop takes, from and to."""
    crop_aspect: PositiveRange = (0.75, 1.3333)
    """Width over height of a training crop, from and to. Clips are never mirrored."""
    seed: Natural = 0
    """Of windows and crops, and of the random encoders."""

    @property
    def clip(self) -> ClipConfig:
        """Window and random crop of a training view."""
        return ClipConfig(
            frames=self.frames,
            fps=self.fps,
            crop=self.size,
            scale=self.crop_scale,
            aspect=self.crop_aspect,
            flip=0.0,
        )


def views_of(clip: LabelledClip, config: ViewConfig) -> Tensor:
    """The views [V, S, 3, T, H, W] of a clip: random in train, evenly spaced for testing."""
    train = clip.split == "train"
    count = config.train_views if train else config.views
    draws = [_drawn(clip, view, config) for view in range(count)]
    windows = np.stack([
        frame_numbers(
            clip.frames, clip.fps, config.clip,
            (segment + (float(draw[START]) if train else 0.5)) / config.segments,
        )
        for draw in draws
        for segment in range(config.segments)
    ])  # fmt: skip
    numbers, places = np.unique(windows, return_inverse=True)
    pictures = _frames(clip, numbers)[places.reshape(count, config.segments, -1)]
    whole = replace(config.clip, scale=(1.0, 1.0), aspect=(1.0, 1.0))

    def cut(some: Pictures, view: int) -> Tensor:
        # One draw for all segments: they are cut alike.
        if train:
            return augment(some, draws[view], config.clip)
        return augment(_square(some, view, count), draws[view], whole)

    return torch.stack([
        torch.stack([cut(some, view) for some in segments])
        for view, segments in enumerate(pictures)
    ])  # fmt: skip


def shown(clips: Sequence[LabelledClip], config: ViewConfig) -> Tensor:
    """The views [C, V, S, 3, T, H, W] of some clips of one side of the split."""
    return torch.stack([views_of(clip, config) for clip in clips])


def stilled(views: Tensor) -> Tensor:
    """The same views [..., T, H, W] with every frame the middle one of its window."""
    middle = views.shape[-3] // 2
    return views[..., middle : middle + 1, :, :].expand_as(views)


def _drawn(clip: LabelledClip, view: int, config: ViewConfig) -> Uniforms:
    """The uniforms that window and crop of a view are made from."""
    word = int(digest_json([config.seed, clip.key, view])[:16], 16)
    return np.random.Generator(np.random.PCG64(word)).random(CROP + 4 * CROP_TRIES)


def _frames(clip: LabelledClip, numbers: NDArray[np.int64]) -> Pictures:
    """Some stored frames [len(numbers), H, W, 3] of a clip."""
    data = clip.shards.sample(clip.shard, clip.offset, clip.size, clip.digest)
    with curable(f"clip {clip.key} of {clip.shards.manifest.name}"):
        return stored_frames(data, numbers.tolist())


def _square(pictures: Pictures, view: int, views: int) -> Pictures:
    """The largest square [T, s, s, 3], at one of `views` even places along the longer side."""
    high, wide = pictures.shape[1:3]
    side, place = min(high, wide), 0.5 if views == 1 else view / (views - 1)
    top, left = round((high - side) * place), round((wide - side) * place)
    return pictures[:, top : top + side, left : left + side]
