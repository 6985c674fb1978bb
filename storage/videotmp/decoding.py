"""Moving pictures in and out: the one module that imports PyAV.

A frame's time is its presentation time in seconds after the first frame. Files are untrusted: they
are read without their names (so no playlist or reference can reach another file), with a list of
allowed containers and a limit on picture size. libav stays silent; what it would have printed as an
error becomes `Probe.fault`. Every codec runs on one thread: parallelism is across files, and no
byte depends on it.
"""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from typing import Any

import av
import av.logging
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import Interpolation as Scaling
from av.video.reformatter import VideoReformatter

from storage.pictures import Clip, Picture, Probe, Size, Source, VideoError, fitted, what_instead

Timed = tuple[av.VideoFrame, float]

# No playlists (hls, concat, dash), devices or text renderers. Sound is opened to say what it is.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,h264,hevc,ivf,ogg,asf,nut,"
    "mxf,gif,apng,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,gif_pipe,wav,mp3,flac,aac"
)
MAX_PIXELS = 1 << 26  # a flipped bit in a header can ask for gigabytes a frame; 8K passes
SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # they have an index; others guess
ROUNDING = 0.0006  # containers round to milliseconds: a frame may be stamped half of one late
COVER = 0x400  # the disposition of a cover picture attached to a sound file
# The exact arithmetic of swscale: the same pixels with every instruction set.
EXACT = Scaling.BICUBIC | Scaling.ACCURATE_RND | Scaling.BITEXACT | Scaling.FULL_CHR_H_INT
# Nothing may reach a terminal, whatever thread libav speaks from.
logging.getLogger("libav").addHandler(logging.NullHandler())
av.logging.set_skip_repeated(False)  # else a fault that the file before had too goes unheard


class _Nameless(io.BufferedReader):
    name = "<bytes>"  # libav guesses from names and follows them


class Decoder:
    """One open file: frames in presentation order, and a count of what was damaged.

    Raises VideoError when the file is no readable video or image; to be closed by its user.
    """

    def __init__(self, source: Source) -> None:
        file = source if isinstance(source, bytes) else _Nameless(io.FileIO(source))
        self._file = io.BytesIO(file) if isinstance(file, bytes) else file
        self._scaler, self._trusted = VideoReformatter(), True
        self._size: tuple[int, int] | None = None
        self._open()

    def _open(self) -> None:
        self.damaged, self.reason = 0, "no frame in it"
        self._origin: int | None = None
        self._file.seek(0)
        try:
            self.container = av.open(
                self._file,
                "r",
                metadata_errors="replace",
                options={"format_whitelist": CONTAINERS, "max_pixels": str(MAX_PIXELS)},
            )
        except (av.FFmpegError, ValueError) as error:
            self._file.seek(0)
            reason = what_instead(self._file.read(256)) or _why(error)
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

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Whatever the decoder can give; a packet it refuses is counted and skipped."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                yield from next(packets).decode()
            except StopIteration:
                return
            except (av.FFmpegError, ValueError) as error:
                self.damaged += 1
                self.reason = _why(error)

    def timed(self) -> Iterator[Timed]:
        """Frames from here on with times that strictly grow.

        Some files carry none, or (B-frames packed into AVI) shuffled ones: such a frame follows
        its predecessor at the nominal rate.
        """
        last: float | None = None
        for frame in self._decoded():
            self.damaged += bool(frame.is_corrupt)
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
        self._trusted = False
        self.container.close()
        self._open()
        return self.timed()

    def picture(self, frame: av.VideoFrame, size: Size) -> Picture:
        """`frame` as upright [H, W, 3] RGB; every picture of one file gets the first one's size."""
        turns = _turns(frame)
        if self._size is None:
            shape = _upright(frame)
            self._size = fitted(shape, size) if isinstance(size, int) else size or shape
        height, width = self._size[:: -1 if turns % 2 else 1]
        scaled = self._scaler.reformat(frame, width, height, "rgb24", None, None, EXACT, threads=1)
        return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), turns), dtype=np.uint8)


def probe(source: Source) -> Probe:
    """Decode every frame once and describe the file. Raises VideoError when there is none."""
    with _listening() as said:
        try:
            with closing(Decoder(source)) as video:
                return _measured(video, said)
        except VideoError as error:
            heard = f" ({_why(said[0][2])})" if said else ""
            raise VideoError(f"{error}{heard}") from None


def _measured(video: Decoder, said: list[tuple[int, str, str]]) -> Probe:
    frames, last, shape = 0, 0.0, (0, 0)
    for frames, (frame, time) in enumerate(video.timed(), 1):
        shape, last = shape if frames > 1 else _upright(frame), time
    if not frames:
        raise VideoError(f"no frame can be decoded: {video.reason}")
    name, codec = video.container.format.name, video.stream.codec_context.name
    image = name.endswith("_pipe")
    fps = (frames - 1) / last if frames > 1 else video.rate
    if abs(fps - video.rate) <= 0.01 * video.rate:
        fps = video.rate  # without the container's rounding
    faults = [_why(text) for _, who, text in said if who in (name, codec)]
    return Probe(
        kind="image" if image else "video",
        container=name.split(",")[0].removesuffix("_pipe"),
        codec=codec,
        width=shape[1],
        height=shape[0],
        fps=0.0 if image else fps,
        frames=frames,
        seconds=0.0 if image else last + 1.0 / fps,
        damaged=video.damaged,
        fault=faults[0] if faults else video.reason if video.damaged else None,
    )


@contextmanager
def _listening() -> Iterator[list[tuple[int, str, str]]]:
    """Collects what libav reports as errors on this thread: (level, who, text)."""
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=True) as said:
            yield said
    finally:
        av.logging.set_level(None)


def _turns(frame: av.VideoFrame) -> int:
    """Quarter turns counter-clockwise that bring the picture upright (a phone held sideways)."""
    return round(frame.rotation / 90) % 4 if abs(frame.rotation) <= 360 else 0


def _upright(frame: av.VideoFrame) -> tuple[int, int]:
    return (frame.height, frame.width)[:: -1 if _turns(frame) % 2 else 1]


def _why(error: Exception | str) -> str:
    """The reason on one line, without errno and file name."""
    line = str(getattr(error, "strerror", None) or error).split()
    return "".join(c for c in " ".join(line) if c.isprintable())[:200]


# What makes each codec quick, and its bytes the same on every run and processor: without
# cpu-independent, x264's lookahead can give small frames other bytes from run to run.
_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast", "crf": "20", "x264-params": "cpu-independent=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0"},
    "mpeg4": {"qmin": "3", "qmax": "5", "b": "4M"},
}


def encode(
    frames: Iterable[Picture],
    fps: float,
    *,
    container: str = "mp4",
    codec: str = "libx264",
    keyframes: float = 1.0,
    options: dict[str, str] | None = None,
) -> Clip:
    """Encode [H, W, 3] uint8 frames of one size; the same frames always give the same bytes.

    container: mp4, mov, matroska, webm or avi. keyframes: at most so many seconds apart. options:
    for the codec, over the defaults (`{"crf": "12"}`). An odd last row or column is cut off.
    """
    buffer, count, width, height = io.BytesIO(), 0, 0, 0
    rate, scaler = Fraction(fps).limit_denominator(1001), VideoReformatter()
    with av.open(buffer, "w", format=container, options={"fflags": "+bitexact"}) as out:
        stream: Any = None
        for count, frame in enumerate(frames, 1):
            if stream is None:
                height, width = frame.shape[0] & ~1, frame.shape[1] & ~1
                stream = out.add_stream(
                    codec, rate=rate, options=_ENCODERS[codec] | (options or {})
                )
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.thread_count = 1
                stream.codec_context.gop_size = max(1, round(keyframes * float(rate)))
                stream.codec_context.flags |= Flags.bitexact
            even = np.ascontiguousarray(frame[:height, :width])
            picture = av.VideoFrame.from_ndarray(even, format="rgb24")
            picture = scaler.reformat(picture, format="yuv420p", interpolation=EXACT, threads=1)
            picture.pts, picture.time_base = count - 1, 1 / rate
            out.mux(stream.encode(picture))
        if not count:
            raise ValueError("encode: no frames")
        out.mux(stream.encode(None))
    return Clip(buffer.getvalue(), count, float(rate), width, height)


def decode_image(source: Source, size: Size = None) -> Picture:
    """[H, W, 3] RGB of a jpg, png, webp, bmp or tiff (or of a video's first frame)."""
    with closing(Decoder(source)) as image:
        for frame, _ in image.timed():
            return image.picture(frame, size)
        raise VideoError(f"no frame can be decoded: {image.reason}")


def encode_image(rgb: Picture, extension: str, quality: int = 3) -> bytes:
    """`rgb` [H, W, 3] uint8 as a "jpg" (quality 2, the best, to 31) or a "png"."""
    name, pixels = ("mjpeg", "yuvj420p") if extension == "jpg" else ("png", "rgb24")
    context: Any = av.CodecContext.create(name, "w")
    context.height, context.width, context.pix_fmt = *rgb.shape[:2], pixels
    context.time_base, context.thread_count = Fraction(1, 1), 1
    context.flags |= Flags.bitexact
    if extension == "jpg":
        context.qmin = context.qmax = quality
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    picture = picture.reformat(format=pixels, interpolation=EXACT, threads=1)
    return b"".join(bytes(part) for part in [*context.encode(picture), *context.encode(None)])
