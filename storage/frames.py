"""Which frame is meant: by time, by the middle of a scene, on an even grid.

Exact by construction. The frame at a time is the one on screen then; a seek is used only where it
lands on a whole keyframe before the time, and otherwise the file is decoded from its first frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

import numpy as np

from storage.pictures import Frame, Picture, Size, Source, VideoError
from storage.video import ROUNDING, Decoder, VideoFrame

Pixels = TypeVar("Pixels")

# Seconds from here to a keyframe that are worth a seek: opening the file anew has its price.
SEEK_GAP = 1.0


def iterate(source: Source, size: Size = None) -> Iterator[Frame]:
    """Every frame from the first to the last. Raises VideoError if the file cannot be opened."""
    with closing(Decoder(source)) as video:
        for index, (frame, time) in enumerate(video.timed()):
            yield Frame(index, time, video.picture(frame, size))


def every_nth(
    source: Source, step: Callable[[float], int], size: Size = None
) -> tuple[list[Picture], int, float]:
    """Every n-th frame from the first one on, in one pass: frames, how many there were, fps.

    `step` is given the frames a second that the container claims, and says what n is. Raises
    VideoError if the file cannot be opened.
    """
    kept, count = [], 0
    with closing(Decoder(source)) as video:
        every = step(video.rate)
        for count, (frame, _) in enumerate(video.timed(), 1):
            if (count - 1) % every == 0:
                kept.append(video.picture(frame, size))
        return kept, count, video.rate


def thumbnails(source: Source, size: int | tuple[int, int]) -> Iterator[Frame]:
    """Every frame from the first to the last, small: see `Decoder.thumbnail`. Raises as above."""
    with closing(Decoder(source)) as video:
        for index, (frame, time) in enumerate(video.timed()):
            yield Frame(index, time, video.thumbnail(frame, size))


def frames_at(source: Source, times: Sequence[float], size: Size = None) -> Picture:
    """[N, H, W, 3]: the frame on screen at each time (seconds after the first frame), any order.

    A time before the first or after the last frame gives that frame. The array is planar in memory:
    [N, 3, H, W] seen from the side.
    """
    if not len(times):
        raise ValueError("frames_at: no times given")
    order = np.argsort(np.asarray(times, dtype=np.float64), kind="stable")
    with closing(Decoder(source)) as video:
        frames = _ascending(video, [float(times[i]) for i in order], size)
        found: Picture | None = None
        converted = _converted(frames, lambda frame: video.planes(frame, size))
        for place, colours in zip(order, converted, strict=True):
            if found is None:
                found = np.empty((len(times), 3, *colours[0].shape), np.uint8)
            for plane, colour in zip(found[place], colours, strict=True):
                plane[:] = colour
    assert found is not None, "each time has a frame, or VideoError was raised"
    return np.moveaxis(found, 1, -1)


def numbered_frames(source: Source, numbers: Sequence[int], size: Size = None) -> Picture:
    """[N, H, W, 3]: frames by their numbers from 0, in any order; decoded from the first one on.

    Raises:
        VideoError: the file cannot be opened, or has fewer frames.
    """
    wanted, found = set(numbers), dict[int, Picture]()
    with closing(Decoder(source)) as video:
        for number, (frame, _) in enumerate(video.timed()):
            if number in wanted:
                found[number] = np.stack(video.planes(frame, size))
                if len(found) == len(wanted):
                    break
    if lacking := sorted(wanted - set(found)):
        raise VideoError(f"frame {lacking[0]} is wanted, and it ends before")
    return np.moveaxis(np.stack([found[number] for number in numbers]), 1, -1)


def middle_frame(source: Source, start: float, end: float, size: Size = None) -> Picture:
    """[H, W, 3]: the frame on screen halfway between `start` and `end` seconds."""
    # Contiguous, because networks sum in another order over another layout.
    return np.ascontiguousarray(frames_at(source, [(start + end) / 2], size)[0])


def grid_frames(start: float, end: float, fps: float) -> int:
    """How many frames `resample` gives."""
    return max(1, round((end - start) * fps))


def resample(
    source: Source, start: float, end: float, fps: float, size: Size = None
) -> Iterator[Picture]:
    """[H, W, 3] frames of [start, end) seconds on the even grid start, start + 1/fps, ..."""
    count = grid_frames(start, end, fps)
    with closing(Decoder(source)) as video:
        frames = _ascending(video, [start + step / fps for step in range(count)], size)
        yield from _converted(frames, lambda frame: video.picture(frame, size))


def resample_to_store(
    source: Source, start: float, end: float, fps: float, size: Size = None
) -> Iterator[Picture | VideoFrame]:
    """The frames of `resample` for `encode`: they never become RGB where they need not."""
    count = grid_frames(start, end, fps)
    with closing(Decoder(source)) as video:
        frames = _ascending(video, [start + step / fps for step in range(count)], size)
        yield from _converted(frames, lambda frame: video.as_stored(frame, size))


def _converted(
    frames: Iterator[VideoFrame], convert: Callable[[VideoFrame], Pixels]
) -> Iterator[Pixels]:
    """Each frame's pixels; one that stays on screen is converted once."""
    last: tuple[VideoFrame, Pixels] | None = None
    for frame in frames:
        if last is None or frame is not last[0]:
            last = frame, convert(frame)
        yield last[1]


def _ascending(video: Decoder, times: Sequence[float], size: Size) -> Iterator[VideoFrame]:
    """The frame on screen at each of the ascending `times`; the last frame stays on screen."""
    video.expect(times)
    stream = video.timed()
    shown = following = next(stream, None)
    if shown is None:
        raise VideoError(f"no frame can be decoded: {video.reason}")
    video.settle(shown[0], size)
    for time in times:
        if (
            following is not None
            and video.seekable
            and video.keyframe_before(time) - following[1] > SEEK_GAP
        ):
            stream = video.jump(time)
            following = next(stream, None)
        while True:
            while following is not None and following[1] <= time + ROUNDING:
                shown, following = following, next(stream, None)
            if video.agrees(time, shown[1]):
                break
            stream = video.plainly()
            following = next(stream, None)
        yield shown[0]
