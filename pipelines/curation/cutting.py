"""Cutting: how much changes from frame to frame, and at which frames shots begin for that.

The only module that imports scenedetect. Looking takes decoding, and is done once for a file, while
it is probed if may be; what it gave is a number a frame, from which the cuts follow at once for any
threshold. Frames that are looked at are scaled by area, which is cheap, and in exact arithmetic.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.metadata import version
from typing import Any, Literal, Protocol

import numpy as np
from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from storage.pictures import Frame

DetectorName = Literal["content", "adaptive", "transnet"]
THRESHOLDS: dict[DetectorName, float] = {"content": 27.0, "adaptive": 3.0, "transnet": 0.5}
"""What counts as a cut unless the settings say otherwise: each detector's own default."""
VERSION = 1
"""Of what looking gives; raised when it gives something else for the same frames."""
SIDE = 144
"""Shorter side of the frames that are looked at, at most, pixels."""
# Frame numbers are all that goes in and comes out: the detectors never see a clock.
_RATE = Fraction(25)


@dataclass
class Changes:
    """What looking at a video gave."""

    times: list[float] = field(default_factory=list)
    """Of every frame, seconds after the first."""
    scores: list[float] = field(default_factory=list)
    """How much each differs from the one before (content, 0 to 255), or how likely it is the last
    of its shot (transnet, 0 to 1); rounded to float32."""

    def packed(self) -> dict[str, str]:
        """The same as text."""
        return {"times": _text(self.times, "<f8"), "scores": _text(self.scores, "<f4")}

    @classmethod
    def unpacked(cls, text: Mapping[str, str]) -> Changes:
        """The inverse of `packed`."""
        return cls(_numbers(text["times"], "<f8"), _numbers(text["scores"], "<f4"))


def _text(values: Sequence[float], kind: str) -> str:
    return base64.b64encode(zlib.compress(np.asarray(values, kind).tobytes(), 6)).decode()


def _numbers(text: str, kind: str) -> list[float]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind).tolist()


class Look(Protocol):
    """Somebody who looks at the frames of one video in order (a `storage.video.Viewer`)."""

    size: int | tuple[int, int]

    def see(self, frame: Frame) -> None:
        """Look at one frame."""
        ...

    def told(self) -> Changes:
        """What was seen, after the last frame."""
        ...


class ContentLook:
    """Sees hue, saturation and brightness change as PySceneDetect measures it."""

    def __init__(self, side: int = SIDE) -> None:
        self.size: int | tuple[int, int] = side
        self._changes, self._detector = Changes(), ContentDetector()

    def see(self, frame: Frame) -> None:
        """Compare one frame with the one before."""
        blue_first = np.empty(frame.rgb.shape, np.uint8)
        for place in range(3):  # colours are planar in memory
            blue_first[..., place] = frame.rgb[..., 2 - place]
        code = FrameTimecode(frame.index, _RATE)
        score = self._detector._calculate_frame_score(code, blue_first)
        self._changes.times.append(frame.time)
        self._changes.scores.append(float(np.float32(score)))

    def told(self) -> Changes:
        """What was seen."""
        return self._changes


def look(detector: DetectorName, side: int = SIDE) -> Look:
    """Who looks for a detector."""
    if detector != "transnet":
        return ContentLook(side)
    from pipelines.curation.transnet import TransNetLook  # torch takes seconds to import

    return TransNetLook()


def looking(content: str, detector: DetectorName, side: int) -> dict[str, Any]:
    """What the changes in a file depend on: the question under which they are remembered."""
    asked = {"item": "changes", "version": VERSION, "content": content}
    if detector != "transnet":
        return {**asked, "by": "content", "side": side}
    from pipelines.provenance import cpu_capability  # asks torch, as the network will

    return {**asked, "by": "transnet", "torch": version("torch"), "cpu": cpu_capability()}


def seen(frames: Iterable[Frame], looking: Look) -> Changes:
    """What somebody sees in some frames."""
    for frame in frames:
        looking.see(frame)
    return looking.told()


def cuts(
    scores: Sequence[float], detector: DetectorName, threshold: float | None, flash_frames: int
) -> list[int]:
    """Numbers of the frames that begin a new shot, ascending."""
    least = THRESHOLDS[detector] if threshold is None else threshold
    if detector == "transnet":
        above = [score > least for score in scores]
        return [n for n in range(1, len(above)) if above[n - 1] and not above[n]]
    kind = ContentDetector if detector == "content" else AdaptiveDetector
    rule: Any = kind(least, flash_frames)
    rule._calculate_frame_score = lambda _, score: score  # it is shown scores in place of frames
    found: list[Any] = []
    code = FrameTimecode(0, _RATE)
    for number, score in enumerate(scores):
        code = FrameTimecode(number, _RATE)
        found += rule.process_frame(code, score)
    found += rule.post_process(code)
    return sorted({cut.frame_num for cut in found} - {0})
