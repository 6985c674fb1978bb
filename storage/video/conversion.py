"""Pixels of decoded frames as RGB, by arithmetic that every instruction set does alike."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.reformatter import Interpolation as Scaling

from storage.pictures import Box, Picture

# The exact arithmetic of swscale: the same pixels with every instruction set.
EXACT = Scaling.BICUBIC | Scaling.ACCURATE_RND | Scaling.BITEXACT | Scaling.FULL_CHR_H_INT
# The same for making small: each pixel is the mean of those that it stands for.
AREA = Scaling.AREA | Scaling.ACCURATE_RND | Scaling.BITEXACT | Scaling.FULL_CHR_H_INT
# The same where nothing is scaled.
SAME = Scaling.POINT | Scaling.ACCURATE_RND | Scaling.BITEXACT | Scaling.FULL_CHR_H_INT
# Pixels around a box that its own colours depend on: bicubic upsampling looks three chroma samples
# ahead and back, and swscale's tables for a part of only five samples differ.
REACH = 16


class Converter:
    """Frames to RGB; keeps swscale's tables from one frame to the next of the same size."""

    def __init__(self) -> None:
        self._scaler, self._colours = VideoReformatter(), VideoReformatter()

    def planes(
        self, frame: av.VideoFrame, height: int, width: int, scaling: Scaling = EXACT
    ) -> list[Picture]:
        """Red, green and blue [height, width] of a frame scaled to that size.

        Planar, because swscale writes planes in a third of the time of interleaved colours; the
        values are the same.
        """
        planar = self._scaler.reformat(frame, width, height, "gbrp", None, None, scaling, threads=1)
        green, blue, red = (_rows(plane) for plane in planar.planes)
        return [red, green, blue]

    def as_stored(self, frame: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
        """A frame scaled to that size in the colours that `encode` stores, without a way through
        RGB: 4:2:0, the coefficients of BT.601, limited range.
        """
        scaling = EXACT
        if frame.format.name.startswith("yuv"):
            # Made small first: other coefficients are dear, and change no sample's place.
            frame = self._scaler.reformat(
                frame, width, height, "yuv420p", None, None, EXACT, threads=1
            )
            scaling = SAME
        return self._colours.reformat(
            frame, width, height, "yuv420p", None, Colorspace.ITU601, scaling,
            dst_color_range=ColorRange.MPEG, threads=1,
        )  # fmt: skip


class Cut:
    """A box (top, left, height, width) of the frames of one clip, converted by no more than that
    part of them: the very pixels that whole frames have there.

    The part begins and ends on the grid of the chroma samples, REACH pixels around the box. Only
    4:2:0 with even sides is cut so; elsewhere the grid of a part is not that of the frame.
    """

    def __init__(self, first: av.VideoFrame, box: Box) -> None:
        self._converter = Converter()
        self._part: av.VideoFrame | None = None
        top, left, height, width = box
        rows, columns = _on_grid(top, height, first.height), _on_grid(left, width, first.width)
        parted = (rows.stop - rows.start, columns.stop - columns.start)
        even = not (first.height % 2 or first.width % 2)
        if even and first.format.name == "yuv420p" and parted != (first.height, first.width):
            # Made from a frame, so that it says the same of its colours and where chroma lies.
            self._part = first.reformat(*parted[::-1], interpolation=Scaling.POINT, threads=1)
            halved = tuple(slice(s.start // 2, s.stop // 2) for s in (rows, columns))
            self._places = (rows, columns), halved, halved
            top, left = top - rows.start, left - columns.start
        self._box = slice(top, top + height), slice(left, left + width)

    def planes(self, frame: av.VideoFrame) -> list[Picture]:
        """Red, green and blue [height, width] of the box, until the next call."""
        if self._part is not None:
            for whole, part, place in zip(
                frame.planes, self._part.planes, self._places, strict=True
            ):
                _rows(part)[:] = _rows(whole)[place]
            frame = self._part
        colours = self._converter.planes(frame, frame.height, frame.width)
        return [colour[self._box] for colour in colours]


def _on_grid(first: int, length: int, size: int) -> slice:
    return slice(max(0, first - REACH) & ~1, min(size, (first + length + REACH + 1) & ~1))


def _rows(plane: av.video.plane.VideoPlane) -> Picture:
    """[height, width] of a plane of bytes, without the padding of its rows."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[
        : plane.height, : plane.width
    ]
