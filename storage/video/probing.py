"""What a file is, found by decoding all of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Protocol

import av.logging

from storage.pictures import Frame, Probe, Source, VideoError
from storage.video.decoding import Decoder, upright, why

# Nothing may reach a terminal, whatever thread libav speaks from.
logging.getLogger("libav").addHandler(logging.NullHandler())
av.logging.set_skip_repeated(False)  # else a fault that the file before had too goes unheard


class Viewer(Protocol):
    """Who looks at every frame of a file while it is probed, so that it is decoded once."""

    size: int | tuple[int, int]
    """What pictures it is to be shown: see `Decoder.thumbnail`."""

    def see(self, frame: Frame) -> None:
        """Look at one frame; they come in order."""
        ...


def probe(source: Source, viewer: Viewer | None = None) -> Probe:
    """Decode every frame once and describe the file. Raises VideoError when there is none."""
    with _listening() as said:
        try:
            with closing(Decoder(source)) as video:
                return _measured(video, said, viewer)
        except VideoError as error:
            heard = f" ({why(said[0][2])})" if said else ""
            raise type(error)(f"{error}{heard}") from None


def _measured(video: Decoder, said: list[tuple[int, str, str]], viewer: Viewer | None) -> Probe:
    frames, last, shape = 0, 0.0, (0, 0)
    for frames, (frame, time) in enumerate(video.timed(), 1):
        shape, last = shape if frames > 1 else upright(frame), time
        if viewer is not None:
            viewer.see(Frame(frames - 1, time, video.thumbnail(frame, viewer.size)))
    if not frames:
        raise VideoError(f"no frame can be decoded: {video.reason}")
    name, codec = video.container.format.name, video.stream.codec_context.name
    image = name.endswith("_pipe")
    fps = (frames - 1) / last if frames > 1 else video.rate
    if abs(fps - video.rate) <= 0.01 * video.rate:
        fps = video.rate  # without the container's rounding
    faults = [why(text) for _, who, text in said if who in (name, codec)]
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
