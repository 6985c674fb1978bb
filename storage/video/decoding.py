"""Frames out of a file or its bytes, in the order of presentation."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TypeAlias

import av
import numpy as np
from av.video.reformatter import Interpolation

from storage.pictures import (
    HEAD,
    Picture,
    Size,
    Source,
    TooLargeError,
    VideoError,
    fitted,
    what_instead,
)
from storage.video.conversion import AREA, EXACT, Converter
from storage.video.lookahead import CODECS, Lookahead

VideoFrame: TypeAlias = av.VideoFrame  # to be passed on; what it is, only this folder knows
Timed = tuple[VideoFrame, float]

# No playlists (hls, concat, dash), devices or text renderers. Sound is opened to say what it is.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,h264,hevc,ivf,ogg,asf,nut,"
    "mxf,gif,apng,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,gif_pipe,wav,mp3,flac,aac"
)
MAX_PIXELS = 1 << 26  # a flipped bit in a header can ask for gigabytes a frame; 8K passes
SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # they have an index; others guess
ROUNDING = 0.0006  # containers round to milliseconds: a frame may be stamped half of one late
COVER = 0x400  # the disposition of a cover picture attached to a sound file

_TOO_LARGE = "needs more memory than it may have"


class _Nameless(io.BufferedReader):
    name = "<bytes>"  # libav guesses from names and follows them


class Decoder:
    """One open file: frames in presentation order, and a count of what was damaged.

    Raises VideoError when the file is no readable video or image, and in a `strict` one as soon as
    the decoder reports damage; to be closed by its user.
    """

    def __init__(self, source: Source, *, strict: bool = False) -> None:
        self.strict = strict
        file = source if isinstance(source, bytes) else _Nameless(io.FileIO(source))
        self._file = io.BytesIO(file) if isinstance(file, bytes) else file
        self._converter, self._trusted = Converter(), True
        self._size: tuple[int, int] | None = None
        self._wanted: Sequence[float] = ()
        self._open()

    def _open(self) -> None:
        self.damaged, self.reason = 0, "no frame in it"
        self._origin: int | None = None
        self._lookahead: Lookahead | None = None
        self._file.seek(0)
        try:
            self.container = av.open(
                self._file,
                "r",
                metadata_errors="replace",
                options={"format_whitelist": CONTAINERS, "max_pixels": str(MAX_PIXELS)},
            )
        except MemoryError:
            self._file.close()
            raise TooLargeError(_TOO_LARGE) from None
        except (av.FFmpegError, ValueError) as error:
            self._file.seek(0)
            reason = what_instead(self._file.read(HEAD)) or why(error)
            self._file.close()
            raise VideoError(f"not a video or image: {reason}") from None
        if not (shown := [s for s in self.container.streams.video if not s.disposition & COVER]):
            kinds = sorted({stream.type for stream in self.container.streams})
            self.close()
            raise VideoError(f"no video stream (only {', '.join(kinds) or 'nothing'})")
        self.stream = shown[0]
        if self.stream.codec_context is None:
            self.close()
            raise VideoError("no decoder for its video codec")
        self.stream.codec_context.thread_count = 1
        self.stream.codec_context.options = {"max_pixels": str(MAX_PIXELS), "flags": "bitexact"}
        self.rate = float(self.stream.average_rate or self.stream.guessed_rate or 25)

    def close(self) -> None:
        """Let go of the file."""
        self.container.close()
        self._file.close()

    @property
    def seekable(self) -> bool:
        """Whether a seek may be tried: the container has an index, and no seek went wrong yet."""
        return self._trusted and self.container.format.name in SEEKABLE

    def expect(self, times: Sequence[float]) -> None:
        """Only frames on screen at these ascending times will be looked at; others may be missing.

        Said before the first frame is taken. `agrees` tells whether it went well.
        """
        self._wanted = times if self.seekable and self.stream.codec_context.name in CODECS else ()

    def agrees(self, time: float, shown: float) -> bool:
        """Whether the frame of time `shown` is on screen at `time`, as the packets have it."""
        said = self._lookahead and self._lookahead.on_screen(time)
        return not self._lookahead or said == shown

    def plainly(self) -> Iterator[Timed]:
        """All frames from the start, whatever anybody looks at."""
        self._wanted, self._trusted = (), False
        self.container.close()
        self._open()
        return self.timed()

    def _seconds(self, stamp: int, in_sight: list[int]) -> float:
        """Seconds after the first frame; until that is decoded, after the first stamp in sight."""
        first = in_sight[0] if self._origin is None else self._origin
        return float((stamp - first) * (self.stream.time_base or 1))

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Whatever the decoder can give; a packet it refuses is counted and skipped."""
        packets = self.container.demux(self.stream)
        if self._wanted:
            self._lookahead = Lookahead(packets, self._wanted, self._seconds, ROUNDING)
        while True:
            try:
                if self._lookahead is None:
                    yield from next(packets).decode()
                    continue
                packet, spare = next(self._lookahead)
                self.stream.codec_context.skip_frame = "NONREF" if spare else "DEFAULT"
                yield from packet.decode()
            except StopIteration:
                return
            except MemoryError:
                raise TooLargeError(_TOO_LARGE) from None
            except (av.FFmpegError, ValueError) as error:
                self.reason = why(error)
                self._count_damage(f"a packet cannot be decoded: {self.reason}")

    def _count_damage(self, what: str) -> None:
        self.damaged += 1
        if self.strict:
            raise VideoError(what)

    def timed(self) -> Iterator[Timed]:
        """Frames from here on with times that strictly grow.

        Some files carry none, or (B-frames packed into AVI) shuffled ones: such a frame follows
        its predecessor at the nominal rate.
        """
        last: float | None = None
        for frame in self._decoded():
            if frame.is_corrupt:
                self._count_damage("the decoder reports a corrupt frame")
            if self._origin is None:
                self._origin = frame.pts or 0
            time = last or 0.0
            if frame.pts is not None and frame.time_base is not None:
                time = float((frame.pts - self._origin) * frame.time_base)
            if last is not None and time <= last + ROUNDING:
                time = last + 1.0 / self.rate
            last = time
            yield frame, time

    def jump(self, time: float) -> Iterator[Timed]:
        """Frames up to and past `time`: from the keyframe before it, or else from the start.

        The file is opened anew: a flushed decoder keeps traces of what it saw before.
        """
        origin = self._origin
        self.container.close()
        self._open()
        base = self.stream.time_base
        if self.seekable and origin is not None and base is not None:
            try:
                self.container.seek(origin + int(time / base), stream=self.stream)
            except av.FFmpegError:
                self._trusted = False
            self._origin = origin
            frames = self.timed()
            for frame, landed in itertools.islice(frames, int(self._trusted)):
                whole = frame.pts is not None and frame.key_frame and not frame.is_corrupt
                if whole and landed <= time:
                    return itertools.chain([(frame, landed)], frames)
        return self.plainly()

    def keyframe_before(self, time: float) -> float:
        """About when the last keyframe is that a seek to `time` could land on, seconds.

        By the index where that is whole (mp4); elsewhere it is taken to be five seconds back.
        """
        base, entries = self.stream.time_base, self.stream.index_entries
        if not self.container.format.name.startswith("mov") or not base or not len(entries):
            return time - 5.0
        place = entries.search_timestamp((self._origin or 0) + int(time / base))
        return float((entries[place].timestamp - (self._origin or 0)) * base) if place >= 0 else 0.0

    def picture(self, frame: av.VideoFrame, size: Size) -> Picture:
        """`frame` as upright [H, W, 3] RGB; every picture of one file gets the first one's size."""
        colours = self.planes(frame, size)
        rgb = np.empty((*colours[0].shape, 3), np.uint8)
        for place, colour in enumerate(colours):  # a quarter of the time of a copy in one go
            rgb[..., place] = colour
        return rgb

    def planes(
        self, frame: av.VideoFrame, size: Size, scaling: Interpolation = EXACT
    ) -> list[Picture]:
        """`frame` upright: red, green and blue [H, W], which takes less time."""
        turns = _turns(frame)
        height, width = self.settle(frame, size)[:: -1 if turns % 2 else 1]
        colours = self._converter.planes(frame, height, width, scaling)
        return [np.rot90(colour, turns) for colour in colours] if turns else colours

    def thumbnail(self, frame: av.VideoFrame, size: int | tuple[int, int]) -> Picture:
        """`frame` as upright [H, W, 3] RGB (planar in memory) that is cheap to make: of a (height,
        width), or with a shorter side of at most so many pixels.
        """
        small = isinstance(size, int) and min(upright(frame)) <= size
        return np.moveaxis(np.stack(self.planes(frame, None if small else size, AREA)), 0, -1)

    def as_stored(self, frame: av.VideoFrame, size: Size) -> av.VideoFrame | Picture:
        """`frame` as `encode` takes it most cheaply: upright, as `picture` has it."""
        height, width = self.settle(frame, size)
        if _turns(frame) or height % 2 or width % 2:
            return self.picture(frame, size)
        return self._converter.as_stored(frame, height, width)

    def settle(self, frame: av.VideoFrame, size: Size) -> tuple[int, int]:
        """(height, width) of this file's pictures, by its first frame and a size."""
        if self._size is None:
            shape = upright(frame)
            self._size = fitted(shape, size) if isinstance(size, int) else size or shape
        return self._size


def decode_image(source: Source, size: Size = None, *, strict: bool = False) -> Picture:
    """[H, W, 3] RGB of a jpg, png, webp, bmp or tiff (or of a video's first frame).

    Raises VideoError when nothing can be decoded; `strict`: when anything is damaged.
    """
    with closing(Decoder(source, strict=strict)) as image:
        for frame, _ in image.timed():
            return image.picture(frame, size)
        raise VideoError(f"no frame can be decoded: {image.reason}")


def _turns(frame: av.VideoFrame) -> int:
    """Quarter turns counter-clockwise that bring the picture upright (a phone held sideways)."""
    return round(frame.rotation / 90) % 4 if abs(frame.rotation) <= 360 else 0


def upright(frame: av.VideoFrame) -> tuple[int, int]:
    """(height, width) of the picture once it is turned upright."""
    return (frame.height, frame.width)[:: -1 if _turns(frame) % 2 else 1]


def why(error: Exception | str) -> str:
    """The reason on one line, without errno and file name."""
    line = str(getattr(error, "strerror", None) or error).split()
    return "".join(c for c in " ".join(line) if c.isprintable())[:200]
