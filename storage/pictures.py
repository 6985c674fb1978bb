"""What a picture, a probed file and an encoded clip are; no codec in here."""

from __future__ import annotations

import codecs
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


HEAD = 512
"""Bytes at the beginning of a file that tell what it is."""


def what_instead(head: bytes) -> str | None:
    """What a file that is no video plainly is, from its first HEAD bytes, for whoever looks for
    it.
    """
    if not head:
        return "the file is empty (0 bytes)"
    for mark, at, kind in _ARCHIVES:
        if head[at : at + len(mark)] == mark:
            return f"it is a {kind} archive; unpack it"
    try:  # a character that the end of the head cuts in two is no error
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return None
    if text.lstrip()[:1] == "<":
        return "it is a web page or XML"
    return "it is a text file" if " ".join(text.split()).isprintable() else None


_ARCHIVES = (
    (b"ustar", 257, "tar"), (b"PK\x03\x04", 0, "zip"), (b"\x1f\x8b", 0, "gzip"),
    (b"7z\xbc\xaf\x27\x1c", 0, "7z"), (b"Rar!", 0, "rar"),
)  # fmt: skip
