"""Eight ways in which a whole picture moves: a camera films a texture, and nothing else is there.

A still does not tell the move. The view at mid-clip (place, angle, scale) is drawn with the look,
from another random stream than the motion; a zoom alone changes the scale, so every other move is
given a scale that a zoom might have had at an instant of the middle half of the clip.

The picture is a similarity transform of the texture, sampled bilinearly; beyond its edges the
texture is mirrored. Arrays see only operations that IEEE 754 rounds exactly.
Lengths are in short sides of the picture, from its centre, y down; angles in radians, clockwise;
times in seconds from mid-clip; scales are logarithms, of the picture over the texture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
Random = np.random.Generator

MOVES = ("left", "right", "up", "down", "zoom_in", "zoom_out", "roll_left", "roll_right")

TEXELS = 32
"""Texels of the texture in one short side of the picture, at scale 0."""
SIDE = 7 * TEXELS
"""Height and width of every texture, texels, whatever the move: in two seconds, none takes the
middle square of the picture beyond it."""
SPEEDS = (0.2, 0.5)
"""Slowest and fastest translation, short sides a second."""
SLANT = 0.2 * math.pi
"""How far a translation may point from its axis."""
# Of a translation's speed: a zoom moves the edges as fast as that, a roll all points on average.
ZOOM, ROLL = 2.0, 2.5
_PLACE, _SCALE = 0.5, 0.3  # how far the view at mid-clip is from the texture's centre and scale


@dataclass(frozen=True)
class View:
    """What the camera sees at mid-clip."""

    x: float  # of the picture's centre, in short sides from the texture's
    y: float
    angle: float
    scale: float


@dataclass(frozen=True)
class Move:
    """How the picture moves, a second."""

    dx: float = 0.0
    dy: float = 0.0
    scale: float = 0.0
    angle: float = 0.0
    shift: float = 0.0
    """Added to the scale once, see above."""


def view_of(look: Random) -> View:
    """The view at mid-clip, as likely under every move."""
    x, y, angle, scale = (float(value) for value in look.random(4))
    return View(
        _PLACE * (2 * x - 1), _PLACE * (2 * y - 1), 2 * math.pi * angle, _SCALE * (2 * scale - 1)
    )


def move_of(name: str, way: Random, seconds: float) -> Move:
    """The move of a name in a clip of so many seconds; the same numbers are drawn for every name.

    Raises:
        KeyError: no move has the name.
    """
    pace, slant, instant, side = (float(value) for value in way.random(4))
    speed = SPEEDS[0] + (SPEEDS[1] - SPEEDS[0]) * pace
    zoom, roll = ZOOM * speed, ROLL * speed
    turns = {"right": 0.0, "down": 0.5, "left": 1.0, "up": 1.5}
    if name == "zoom_in":
        return Move(scale=zoom)
    if name == "zoom_out":
        return Move(scale=-zoom)
    shift = zoom * seconds * (instant - 0.5) / 2 * (1.0 if side < 0.5 else -1.0)
    if name == "roll_left":
        return Move(angle=-roll, shift=shift)
    if name == "roll_right":
        return Move(angle=roll, shift=shift)
    heading = math.pi * turns[name] + SLANT * (2 * slant - 1)
    return Move(dx=speed * math.cos(heading), dy=speed * math.sin(heading), shift=shift)


def film(
    texture: Plane, view: View, move: Move, height: int, width: int, times: Iterable[float]
) -> Iterator[Plane]:
    """Frames [height, width] of a texture [S, S] at some times, values between its own."""
    short = min(height, width)
    y, x = (
        (np.arange(length, dtype=np.float32) + np.float32(0.5 - length / 2)) / np.float32(short)
        for length in (height, width)
    )
    middle = (len(texture) - 1) / 2
    for time in times:
        angle, scale = view.angle + move.angle * time, view.scale + move.shift + move.scale * time
        step = TEXELS / math.exp(scale)  # texels in a short side
        cosine, sine = np.float32(step * math.cos(angle)), np.float32(step * math.sin(angle))
        right, below = x - np.float32(move.dx * time), y - np.float32(move.dy * time)
        column = (cosine * right)[None, :] + (sine * below)[:, None]
        row = (cosine * below)[:, None] - (sine * right)[None, :]
        yield _sampled(
            texture,
            row + np.float32(middle + TEXELS * view.y),
            column + np.float32(middle + TEXELS * view.x),
        )


def _sampled(texture: Plane, row: Plane, column: Plane) -> Plane:
    """The texture [S, S] at fractional places, bilinear, mirrored beyond its edges."""
    last = len(texture) - 1
    row, column = _mirrored(row, last), _mirrored(column, last)
    above, left = (np.minimum(place.astype(np.int32), last - 1) for place in (row, column))
    down, across = row - above.astype(np.float32), column - left.astype(np.float32)
    flat, corner = texture.reshape(-1), above * np.int32(last + 1) + left
    one, two = flat.take(corner), flat.take(corner + 1)
    three, four = flat.take(corner + (last + 1)), flat.take(corner + (last + 2))
    upper, lower = one + (two - one) * across, three + (four - three) * across
    return upper + (lower - upper) * down


def _mirrored(place: Plane, last: int) -> Plane:
    """Places brought back into 0 to `last`, as often as the texture lies beside itself thrice."""
    end = np.float32(last)
    return np.clip(end - np.abs(end - np.abs(place)), np.float32(0), end)
