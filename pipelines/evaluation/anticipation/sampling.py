"""Which frames are seen before an action, in two modes.

`official` repeats the released code: frame columns of the tables are taken for numbers in the film,
the step is the film's rate over 8, rounded down, and the clip ends `ahead` seconds before a point
of the segment that is its STOP at the point of validation. `fixed` is what the paper and the
leaderboard say: frames by clock time at the film's real rate, 8 a second, ending `ahead` seconds
before the START.

Frames before the film's first one are the first one, repeated.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.anticipation.tables import Segment

Mode = Literal["official", "fixed"]
FRAMES, FPS = 32, 8
Indices = NDArray[np.int64]


def official_frames(
    start_frame: int, stop_frame: int, fps: float, ahead: float, point: float = 0.0,
    frames: int = FRAMES, rate: int = FPS,
) -> Indices:  # fmt: skip
    """[frames] numbers as the released code takes them.

    Args:
        start_frame: of the tables; stop_frame likewise.
        stop_frame: see above.
        fps: of the film.
        ahead: seconds from the clip's end to the anchor.
        point: weight of the start: 0 anchors at the stop, whatever the paper says.
        frames: of the clip.
        rate: frames a second that are meant.
    """
    step = int(fps / rate)
    span = frames * step
    anchor = int(start_frame * point + stop_frame * (1 - point) - int(ahead * fps))
    numbers = np.arange(anchor - span, anchor, step)
    return np.maximum(numbers, 0).astype(np.int64)


def fixed_frames(
    start: float, fps: float, ahead: float, frames: int = FRAMES, rate: float = FPS
) -> Indices:
    """[frames] numbers by clock time: `rate` a second, the last one before `start - ahead`."""
    times = start - ahead - np.arange(frames, 0, -1) / rate
    return np.maximum(np.round(times * fps), 0).astype(np.int64)


def frames_of(
    segment: Segment, fps: float, length: int, mode: Mode, ahead: float, point: float = 0.0,
    frames: int = FRAMES, rate: int = FPS,
) -> Indices:  # fmt: skip
    """[frames] numbers of a segment's clip.

    In `fixed` mode `point` moves the anchor from the start (0) towards the stop (1).

    Raises:
        ValueError: the clip lies beyond the film, which the released code skips in silence.
    """
    if mode == "official":
        numbers = official_frames(
            segment.start_frame, segment.stop_frame, fps, ahead, point, frames, rate
        )
    else:
        anchor = segment.start + point * (segment.stop - segment.start)
        numbers = fixed_frames(anchor, fps, ahead, frames, rate)
    if numbers[-1] >= length:
        raise ValueError(
            f"its clip ends at frame {numbers[-1]}, and the film has {length} ({mode} mode)"
        )
    return numbers


def steps_ahead(ahead: float, rate: int = FPS, tubelet: int = 2) -> int:
    """How many time steps of tokens the prediction lies beyond the first one after the clip."""
    return int(ahead * rate / tubelet)
