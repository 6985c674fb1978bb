"""Frames into clips and stills: the same pictures always give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import VideoReformatter

from storage.pictures import Clip, Picture
from storage.video.conversion import EXACT

ENCODER = f"PyAV {av.__version__}"
"""What encodes: another version may give other bytes for the same pictures."""

# What makes each codec quick, and its bytes the same on every run and processor: without
# cpu-independent, x264's lookahead can give small frames other bytes from run to run.
_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast", "crf": "20", "x264-params": "cpu-independent=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0"},
    "mpeg4": {"qmin": "3", "qmax": "5", "b": "4M"},
}


def encode(
    frames: Iterable[Picture | av.VideoFrame],
    fps: float,
    *,
    container: str = "mp4",
    codec: str = "libx264",
    keyframes: float = 1.0,
    options: dict[str, str] | None = None,
) -> Clip:
    """Encode [H, W, 3] uint8 frames of one size; the same frames always give the same bytes.

    Frames may also come as they are stored, even in their sides (`Decoder.as_stored`).

    container: mp4, mov, matroska, webm or avi. keyframes: at most so many seconds apart. options:
    for the codec, over the defaults (`{"crf": "12"}`). An odd last row or column is cut off.
    """
    buffer, count, width, height = io.BytesIO(), 0, 0, 0
    rate, scaler = Fraction(fps).limit_denominator(1001), VideoReformatter()
    with av.open(buffer, "w", format=container, options={"fflags": "+bitexact"}) as out:
        stream: Any = None
        for count, frame in enumerate(frames, 1):
            if stream is None:
                height, width = (side & ~1 for side in _shape(frame))
                stream = out.add_stream(
                    codec, rate=rate, options=_ENCODERS[codec] | (options or {})
                )
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.thread_count = 1
                stream.codec_context.gop_size = max(1, round(keyframes * float(rate)))
                stream.codec_context.flags |= Flags.bitexact
            picture: Any = frame
            if not isinstance(frame, av.VideoFrame):
                even = np.ascontiguousarray(frame[:height, :width])
                picture = av.VideoFrame.from_ndarray(even, format="rgb24")
                picture = scaler.reformat(picture, format="yuv420p", interpolation=EXACT, threads=1)
            picture.pts, picture.time_base = count - 1, 1 / rate
            out.mux(stream.encode(picture))
        if not count:
            raise ValueError("encode: no frames")
        out.mux(stream.encode(None))
    return Clip(buffer.getvalue(), count, float(rate), width, height)


def _shape(frame: Picture | av.VideoFrame) -> tuple[int, int]:
    if isinstance(frame, av.VideoFrame):
        return frame.height, frame.width
    return frame.shape[0], frame.shape[1]


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
