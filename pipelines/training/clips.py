"""Clips: a sample of the mixture read from its shard, cut and normalised for a network.

Which sample stands at a place of training is `ClipSampler`'s business (order.py); this module turns
the place into pixels. A sample that cannot be read is replaced by the next attempt at the same
place, from the same source, and `ClipLoader.replacements` lists it: never in silence.

Numbers of a clip (V-JEPA 2, section 2.3 and table 12): 16 frames at 4 fps, a random window; a crop
of 0.3 to 1.0 of the area, aspect 0.75 to 1.35, mirrored half of the time, ImageNet mean and
deviation.

Shapes: T frames, H x W pixels, B clips. Pictures are RGB uint8 [T, H, W, 3]; clips are float32
[3, T, H, W].
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from models.preprocessing import ASPECT, IMAGENET_MEAN, IMAGENET_STD
from pipelines.curation.mixture import COLUMNS
from pipelines.settings import Count, Positive, PositiveRange, Share, ShareRange, settings
from pipelines.training.order import CROP, FLIP, START, ClipSampler, Draw, Uniforms
from storage.artifacts import Artifact
from storage.errors import InputError
from storage.pictures import Box, VideoError
from storage.tables import MappedIndex
from storage.video import decode_image, stored_frames

__all__ = [
    "COLUMNS",
    "ClipConfig",
    "ClipLoader",
    "ClipSampler",
    "Replacement",
    "augment",
    "frame_numbers",
]

Pictures = NDArray[np.uint8]
PLACE = ("partition", "shard", "offset", "size", "digest")
"""Columns of the index that say where a sample's bytes lie."""

# Draws that may fail in a row before the source is taken for broken.
ATTEMPTS = 16


@settings
class ClipConfig:
    """What a training clip is."""

    frames: Count = 16
    """Frames of a clip."""
    fps: Positive = 4.0
    """Frames a second of a clip."""
    crop: Count = 256
    """Side of the square the network sees, pixels."""
    scale: ShareRange = (0.3, 1.0)
    """Share of the picture's area that the crop takes, from and to."""
    aspect: PositiveRange = ASPECT
    """Width over height of the crop before it is made square, from and to."""
    flip: Share = 0.5
    """Probability that a clip is mirrored."""
    still: bool = False
    """Whether every frame is the middle one of its window: a control without motion."""


def frame_numbers(frames: int, fps: float, config: ClipConfig, start: float) -> NDArray[np.int64]:
    """[T] which stored frames make the clip, at `fps` stored frames a second.

    Frames lie fps / config.fps apart (rounded down) and the window begins at any frame from which
    it fits, chosen by `start` in [0, 1). A sample that is too short is taken from its first frame
    at the same rate, and its last frame is held: motion keeps its speed, as in the released code.
    """
    steps = np.floor(np.arange(config.frames) * (fps / config.fps) + 1e-9).astype(np.int64)
    room = max(0, frames - 1 - int(steps[-1]))
    numbers = np.minimum(int(start * (room + 1)) + steps, frames - 1)
    return np.full_like(numbers, numbers[len(numbers) // 2]) if config.still else numbers


def crop_box(height: int, width: int, numbers: Uniforms, config: ClipConfig) -> Box:
    """(top, left, height, width) of a random crop of the given share of area and aspect.

    `numbers` are [4 * CROP_TRIES] uniforms: a try takes area, aspect (log-uniform), top and left.
    The first try that fits is taken, else the largest centred crop whose aspect is allowed.
    """
    low, high = config.scale
    flat, wide = (math.log(ratio) for ratio in config.aspect)
    for share, ratio, down, right in numbers.reshape(-1, 4).tolist():
        area = height * width * (low + share * (high - low))
        aspect = math.exp(flat + ratio * (wide - flat))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
    aspect = min(max(width / height, config.aspect[0]), config.aspect[1])
    h, w = min(height, round(width / aspect)), min(width, round(height * aspect))
    return (height - h) // 2, (width - w) // 2, h, w


def augment(pictures: Pictures, numbers: Uniforms, config: ClipConfig) -> Tensor:
    """Crop, resize, flip and normalise: pictures [T, H, W, 3] -> clip [3, T, crop, crop].

    A single picture (a still) is repeated to config.frames after the work is done on it once.
    """
    height, width = pictures.shape[1:3]
    return squared(cut(pictures, crop_box(height, width, numbers[CROP:], config)), numbers, config)


def cut(pictures: Pictures, box: Box) -> Pictures:
    """[T, h, w, 3]: a box of pictures [T, H, W, 3]."""
    top, left, height, width = box
    return pictures[:, top : top + height, left : left + width]


def squared(crop: Pictures, numbers: Uniforms, config: ClipConfig) -> Tensor:
    """Resize, flip and normalise what was cut: [T, h, w, 3] -> clip [3, T, crop, crop].

    A single picture (a still) is repeated to config.frames after the work is done on it once.
    """
    # One plane a colour and frame, then float: the fastest of the layouts tried. Bilinear without
    # antialiasing on float frames, as in the released code.
    planes = torch.from_numpy(crop).permute(3, 0, 1, 2).contiguous().float()
    size = (config.crop, config.crop)
    clip = interpolate(planes, size=size, mode="bilinear", align_corners=False)
    if numbers[FLIP] < config.flip:
        clip = clip.flip(-1)
    clip = clip.sub_(_MEAN_255).div_(_STD_255)
    return clip.expand(-1, config.frames, -1, -1) if len(crop) == 1 else clip


_MEAN_255 = torch.tensor(IMAGENET_MEAN).view(3, 1, 1, 1) * 255
_STD_255 = torch.tensor(IMAGENET_STD).view(3, 1, 1, 1) * 255


@dataclass(frozen=True)
class Replacement:
    """One sample that could not be read where its turn came."""

    step: int
    slot: int
    attempt: int
    source: str
    key: str
    where: str
    """Partition and shard that hold the bytes."""
    reason: str


class ClipLoader:
    """Clips by their place in training. Safe to call from several threads."""

    def __init__(
        self,
        index: Mapping[str, NDArray[Any]] | MappedIndex,
        shards: Mapping[str, Artifact],
        sampler: ClipSampler,
        config: ClipConfig,
        *,
        cache_bytes: int = 0,
    ) -> None:
        """Read samples of `index` (COLUMNS) from `shards` (partition -> clip_shards), each alone.

        With cache_bytes, whole samples stay decoded in memory up to that size, the least recently
        used leaving first. That changes how fast a clip comes, never which or what it is.
        """
        self._index, self._shards = index, dict(shards)
        self.sampler, self.config = sampler, config
        self._limit, self._held = cache_bytes, 0
        self._cache: OrderedDict[int, Pictures] = OrderedDict()
        self._lock = threading.Lock()
        self._replaced: list[Replacement] = []

    @classmethod
    def open(
        cls,
        mixture: Artifact,
        shards: Mapping[str, Artifact],
        config: ClipConfig,
        *,
        weights: Mapping[str, float],
        seed: int,
        cache_bytes: int = 0,
    ) -> Self:
        """A loader over a `videomix22m` artifact and the `clip_shards` (by partition) it lists."""
        index = MappedIndex(mixture.file("index.arrow"))
        sampler = ClipSampler(index, weights, seed)
        return cls(index, shards, sampler, config, cache_bytes=cache_bytes)

    @property
    def replacements(self) -> list[Replacement]:
        """What could not be read so far, in the order of training."""
        with self._lock:
            return sorted(self._replaced, key=lambda r: (r.step, r.slot, r.attempt))

    def batch(self, step: int, slots: Sequence[int]) -> Tensor:
        """[B, 3, T, H, W]: the clips at some slots of a step."""
        return torch.stack([self.clip(step, slot) for slot in slots])

    def clip(self, step: int, slot: int) -> Tensor:
        """[3, T, H, W]: the clip at (step, slot), or its first readable replacement.

        Raises:
            InputError: ATTEMPTS draws from the source failed in a row.
        """
        draw, crop = self._readable(step, slot)
        return squared(crop, draw.numbers, self.config)

    def taken(self, step: int, slot: int) -> Draw:
        """The draw that `clip` gives at (step, slot): the order's own, or its replacement."""
        return self._readable(step, slot)[0]

    def _readable(self, step: int, slot: int) -> tuple[Draw, Pictures]:
        for attempt in range(ATTEMPTS):
            draw = self.sampler.draw(step, slot, attempt)
            try:
                crop = self.pictures(draw, self.box(draw))
            except ValueError as error:  # cut short, changed, or VideoError: not decodable
                self._note(draw, step, slot, attempt, error)
                continue
            return draw, crop
        source = self.sampler.source(step, slot)
        raise InputError(
            f"step {step}, slot {slot}: {ATTEMPTS} clips of source {source} in a row could not be "
            f"read, the last because: {self._replaced[-1].reason}; run `vjepa2 verify`, or give "
            f"the source no weight (videomix22m.weights.{source}=0)"
        )

    def box(self, draw: Draw) -> Box:
        """Where a draw is cropped, known from the index before anything is decoded."""
        height, width = (int(self._index[side][draw.row]) for side in ("height", "width"))
        return crop_box(height, width, draw.numbers[CROP:], self.config)

    def pictures(self, draw: Draw, box: Box) -> Pictures:
        """[T, h, w, 3]: a box of the frames of the draw's window; [1, h, w, 3] of a still.

        Raises:
            ValueError: the shard is cut short, the sample's bytes are no longer those that were
                written, or its decoder reports damage (VideoError).
            ArtifactError: the shard itself is not there; no replacement makes up for that.
        """
        row = draw.row
        if self._index["kind"][row] == "image":
            return cut(self._whole(row), box)
        frames, fps = int(self._index["frames"][row]), float(self._index["fps"][row])
        numbers = frame_numbers(frames, fps, self.config, float(draw.numbers[START]))
        whole = frames * int(self._index["width"][row]) * int(self._index["height"][row]) * 3
        # A sample that would push all others out is read window by window instead.
        if whole * 4 > self._limit:
            return stored_frames(self._read(row), numbers.tolist(), box)
        return cut(self._whole(row), box)[numbers]

    def _read(self, row: int) -> bytes:
        # Of a mapped index, what is not looked at takes no memory.
        value = {name: self._index[name][row] for name in PLACE}
        place = (int(value[name]) for name in ("offset", "size", "digest"))
        return self._shards[value["partition"]].sample(f"shards/{value['shard']}", *place)

    def _whole(self, row: int) -> Pictures:
        """All frames of one sample, through the cache."""
        with self._lock:
            if row in self._cache:
                self._cache.move_to_end(row)
                return self._cache[row]
        data = self._read(row)
        if self._index["kind"][row] == "image":
            pictures = decode_image(data, strict=True)[None]
        else:
            pictures = stored_frames(data, range(int(self._index["frames"][row])))
        size = tuple(int(self._index[side][row]) for side in ("height", "width"))
        if pictures.shape[1:3] != size:
            raise VideoError(f"its pictures are {pictures.shape[1:3]}, its index says {size}")
        self._keep(row, pictures)
        return pictures

    def _keep(self, row: int, pictures: Pictures) -> None:
        with self._lock:
            if row in self._cache or pictures.nbytes > self._limit:
                return
            self._cache[row] = pictures
            self._held += pictures.nbytes
            while self._held > self._limit:
                self._held -= self._cache.popitem(last=False)[1].nbytes

    def _note(self, draw: Draw, step: int, slot: int, attempt: int, error: Exception) -> None:
        value = {name: str(self._index[name][draw.row]) for name in ("source", "key", "partition")}
        where = f"{value.pop('partition')}/{self._index['shard'][draw.row]}"
        noted = Replacement(step, slot, attempt, where=where, reason=str(error), **value)
        with self._lock:
            self._replaced.append(noted)
