"""Camera frames at training size: cut to a fair width, shrunk to a square.

The same cut and the same filter that the planner applies to what the robot's camera sees, so that
training and deployment agree.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from models.preprocessing import centred_cut

Frames = NDArray[np.uint8]


def to_square(frames: Frames, size: int) -> Frames:
    """Frames [T, H, W, 3] uint8 as [T, size, size, 3]: centre cut, then a linear filter.

    Frames that have the size already come back unchanged. Shrinking averages over the area that a
    pixel stands for (a triangle twice as wide); enlarging interpolates.
    """
    top, left, high, wide = centred_cut(*frames.shape[1:3])
    cut = frames[:, top : top + high, left : left + wide]
    if (high, wide) == (size, size):
        return cut
    rows, columns = _filter(high, size), _filter(wide, size)
    # One frame at a time: a long HD episode in float64 would fill the memory.
    return np.stack([_shrink(frame, rows, columns) for frame in cut])


def _shrink(frame: Frames, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Frames:
    narrow = np.einsum("ow,hwc->hoc", columns, frame.astype(np.float64), optimize=True)
    small = np.einsum("oh,hwc->owc", rows, narrow, optimize=True)
    return np.asarray(np.rint(np.clip(small, 0.0, 255.0)), dtype=np.uint8)


@functools.lru_cache(maxsize=16)
def _filter(length: int, size: int) -> NDArray[np.float64]:
    """Weights [size, length] of the linear filter, rows summing to one."""
    scale = length / size
    width = max(scale, 1.0)
    centres = (np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(length)[None, :] + 0.5 - centres[:, None]) / width
    weights = np.maximum(0.0, 1.0 - distance)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
