"""What a picture, a probed file and an encoded clip are; no codec in here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage.errors import UserError

# [H, W, 3] RGB, 0-255, upright; a stack of them is [N, H, W, 3].
Picture = npt.NDArray[np.uint8]
# A file's bytes, or where they lie on this machine.
Source = bytes | Path
# None: as stored. int: length of the shorter side, aspect kept. (height, width): exactly that.
Size = int | tuple[int, int] | None
# A part of a picture: top, left, height, width, pixels.
Box = tuple[int, int, int, int]


class VideoError(UserError, ValueError):
    """A file that cannot be used; the message is one line that says why, without the name."""


class TooLargeError(VideoError):
    """A file that cannot be decoded in the memory that there is."""


@dataclass(frozen=True)
class Probe:
    """What a complete decode of a file found."""

    kind: str  # "video" or "image"
    container: str
    codec: str
    width: int  # pixels, upright
    height: int
    fps: float  # 0.0 for an image
    frames: int
    seconds: float  # from the first frame to the end of the last; 0.0 for an image
    damaged: int  # frames lost or corrupt
    fault: str | None  # the first error that reading or decoding reported


@dataclass(frozen=True)
class Frame:
    """One decoded frame: its number and its time in seconds, both counted from the first."""

    index: int
    time: float
    rgb: Picture


@dataclass(frozen=True)
class Clip:
    """An encoded clip and what a reader must know about it."""

    data: bytes
    frames: int
    fps: float
    width: int
    height: int


def fitted(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) with the shorter side near `side`, aspect kept, both even and at least 2."""
    scale = side / min(shape)
    return max(2, 2 * round(shape[0] * scale / 2)), max(2, 2 * round(shape[1] * scale / 2))


def what_instead(head: bytes) -> str | None:
    """What a file that is no video plainly is, from its first bytes, for whoever looks for it."""
    if not head:
        return "the file is empty (0 bytes)"
    if head.lstrip()[:1] == b"<":
        return "it is a web page or XML"
    if head.isascii() and " ".join(head.decode().split()).isprintable():
        return "it is a text file"
    return None
