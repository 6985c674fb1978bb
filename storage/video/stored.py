"""Frames of clips as `encode` stores them: by number, and no more decoded than that takes."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing

import av
import av.container
import numpy as np

from storage.pictures import Box, Picture, VideoError
from storage.video.conversion import Cut
from storage.video.decoding import MAX_PIXELS, why

# Streams are described by their headers: decoding a keyframe to learn the format costs as much as
# the window's own.
_UNPROBED = {"analyzeduration": "1"}
_PARAMETERS = {"skip_frame": "all"}


def stored_frames(data: bytes, numbers: Sequence[int], box: Box | None = None) -> Picture:
    """[N, H, W, 3]: frames of a stored mp4 by their numbers, in any order; or a box of each.

    Decoding begins at the keyframe before the first of them and leaves out pictures that are
    neither wanted nor referred to. The array is planar in memory: [3, N, H, W] seen from the side.

    Raises:
        VideoError: there are fewer frames, the decoder reports any damage, or a frame is missing.
    """
    unique, places = np.unique(np.asarray(numbers, np.int64), return_inverse=True)
    with closing(_opened(data)) as container:
        try:
            planes = _planes(container, unique.tolist(), box)
        except VideoError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"it cannot be decoded: {why(error)}") from None
    whole = len(unique) == len(places) and bool((np.diff(places) > 0).all())
    return np.moveaxis(planes if whole else planes[:, places], 0, -1)


def _opened(data: bytes) -> av.container.InputContainer:
    try:
        return av.open(
            io.BytesIO(data), "r", format="mp4", container_options=_UNPROBED,
            stream_options=[_PARAMETERS],
        )  # fmt: skip
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"not a stored clip: {why(error)}") from None


def _planes(container: av.container.InputContainer, numbers: list[int], box: Box | None) -> Picture:
    """[3, N, H, W] of the frames of some rising numbers."""
    [stream] = container.streams.video
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS), "flags": "bitexact"}
    packets = list(container.demux(stream))
    stamps = sorted(packet.pts for packet in packets if packet.pts is not None)
    if numbers[-1] >= len(stamps):
        raise VideoError(f"it holds {len(stamps)} frames, and number {numbers[-1]} is wanted")
    wanted = [stamps[number] for number in numbers]
    frames = _decoded(stream, _needed(packets, wanted[0]), wanted)
    first = next(frames)
    box = box or (0, 0, first.height, first.width)
    if box[0] + box[2] > first.height or box[1] + box[3] > first.width:
        raise VideoError(f"its pictures of {first.height} x {first.width} do not hold {box}")
    cut, planes = Cut(first, box), np.empty((3, len(wanted), *box[2:]), np.uint8)
    for place, frame in enumerate(itertools.chain([first], frames)):
        for colour, plane in zip(cut.planes(frame), planes, strict=True):
            plane[place] = colour
    return planes


def _needed(packets: list[av.Packet], first: int) -> list[av.Packet]:
    """Packets from the last keyframe on that is not behind the stamp of the first frame."""
    keys = [
        place
        for place, packet in enumerate(packets)
        if packet.is_keyframe and packet.pts is not None and packet.pts <= first
    ]
    if not keys:
        raise VideoError("it has no keyframe before the first frame that is wanted")
    return packets[keys[-1] :]


def _decoded(
    stream: av.VideoStream, packets: list[av.Packet], stamps: list[int]
) -> Iterator[av.VideoFrame]:
    """The frames of some rising stamps, each once. Raises VideoError when one does not come."""
    left, due = set(stamps), iter(stamps)
    for packet in packets:
        # A picture that no other refers to may be left out, and none that comes is changed by it.
        shown = packet.pts is None or packet.pts in left
        stream.codec_context.skip_frame = "DEFAULT" if shown else "NONREF"
        for frame in packet.decode():
            if frame.is_corrupt:
                raise VideoError("the decoder reports a corrupt frame")
            if frame.pts in left:
                if frame.pts != next(due):
                    raise VideoError("a frame is missing")
                left.remove(frame.pts)
                yield frame
        if not left:
            return
    raise VideoError(f"{len(left)} frames are missing")
