"""Draws one shot: a body that moves by one simple law in front of a textured background, or a
texture alone that a camera pans over, zooms into or rolls on (`camera`).

A still does not tell the law. How things look (theme, colours, shape, camera) is drawn from another
random stream than how they move; and at any instant the body is anywhere, of any size and turned
any way, equally under every law: motion starts at a place drawn evenly, and what leaves the picture
on one side comes in on the other. Arrays see only operations that IEEE 754 rounds exactly (no array
sine or power), so that every processor draws the same pixels.
Lengths are in short sides of the picture, angles in radians, times in seconds.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipelines.curation.backdrops import backdrop, coloured, contrasting, texture
from pipelines.curation.camera import MOVES, SIDE, film, move_of, view_of
from storage.digests import canonical_json

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Random = np.random.Generator

# The camera's room around the picture: how far it may drift, in short sides.
DRIFT = 0.12


@dataclass(frozen=True)
class Shot:
    """What to draw. `key` seeds everything that `theme` and `motion` leave open."""

    key: tuple[str | int, ...]
    theme: str
    motion: str
    """A law of MOTIONS, or one of the camera's MOVES: then there is no body."""
    seconds: float


@dataclass(frozen=True)
class Pose:
    """Where the body is: centre (from the upper left corner), radius, angle."""

    x: float
    y: float
    radius: float
    angle: float


def stream(*parts: str | int) -> Random:
    """A random stream that depends on its name alone."""
    seed = hashlib.sha256(canonical_json(parts).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed[:16], "big")))


# ------------------------------------------------------------------------------ how a body moves


@dataclass(frozen=True)
class Way:
    """The numbers that any motion may use, drawn before it is known which motion it is."""

    x: float  # where it happens, as a share of the width
    y: float
    pace: float  # 0 slow, 1 fast
    reach: float  # 0 small, 1 wide
    phase: float  # share of a period
    sign: float  # which way round
    near: float  # 0 far from the camera, 1 near
    radius: float  # when far
    angle: float
    room: float  # width of the picture in short sides
    ceiling: float  # its height

    def cycle(self, t: float, slow: float, fast: float) -> tuple[float, int]:
        """Share of the present period, and how many are over; periods last slow..fast seconds."""
        turns = t / (slow + (fast - slow) * self.pace) + self.phase
        return turns % 1.0, math.floor(turns)

    def at(
        self, dx: float = 0.0, dy: float = 0.0, turn: float = 0.0, near: float | None = None
    ) -> Pose:
        """A pose moved from where the motion happens; not yet brought back into the picture."""
        distance = 1.0 - 0.62 * (self.near if near is None else near)
        x, y = self.room * self.x + dx, self.ceiling * self.y + dy
        return Pose(x, y, self.radius / distance, self.angle + turn)


def _to_and_fro(share: float) -> float:
    """-1 to 1 and back at even speed while `share` goes from 0 to 1."""
    return 4.0 * abs(share - 0.5) - 1.0


def bouncing(way: Way, t: float) -> Pose:
    """Parabolas over a floor; drifts sideways."""
    share, _ = way.cycle(t, 1.1, 0.75)
    height = 0.4 + 0.15 * way.reach
    drift, _ = way.cycle(t, 6.0, 4.0)
    return way.at(0.25 * way.sign * _to_and_fro(drift), -4.0 * height * share * (1.0 - share))


def falling(way: Way, t: float) -> Pose:
    """Free fall through the picture, from rest, again and again."""
    share, _ = way.cycle(t, 1.7, 1.2)
    return way.at(0.0, way.ceiling * share * share)


def rolling(way: Way, t: float) -> Pose:
    """Along the ground without slipping: turns by the way over the radius."""
    share, _ = way.cycle(t, 4.0, 2.6)
    x = (0.3 + 0.15 * way.reach) * way.sign * _to_and_fro(share)
    return way.at(x, turn=x / way.at().radius)


def sliding(way: Way, t: float) -> Pose:
    """Pushed, slowed by friction to a stop, pushed back; never turns."""
    share, turns = way.cycle(t, 1.8, 1.3)
    travelled = 1.0 - (1.0 - share) * (1.0 - share)
    along = travelled if turns % 2 == 0 else 1.0 - travelled
    return way.at((0.6 + 0.3 * way.reach) * way.sign * along)


def swinging(way: Way, t: float) -> Pose:
    """A pendulum on an unseen string."""
    share, _ = way.cycle(t, 2.2, 1.5)
    theta = (0.6 + 0.3 * way.reach) * math.cos(2.0 * math.pi * share)
    length = 0.5
    return way.at(length * math.sin(theta), length * math.cos(theta), turn=-theta)


def orbiting(way: Way, t: float) -> Pose:
    """A circle at even speed."""
    share, _ = way.cycle(t, 2.4, 1.5)
    phi = 2.0 * math.pi * share * way.sign
    distance = 0.22 + 0.08 * way.reach
    return way.at(distance * math.cos(phi), distance * math.sin(phi))


def approaching(way: Way, t: float) -> Pose:
    """Comes towards the camera at even speed: its radius grows as one over its distance."""
    share, _ = way.cycle(t, 2.4, 1.7)
    return way.at(near=share)


def spinning(way: Way, t: float) -> Pose:
    """Turns in place."""
    share, _ = way.cycle(t, 2.6, 1.4)
    return way.at(turn=2.0 * math.pi * share * way.sign)


MOTIONS: dict[str, Callable[[Way, float], Pose]] = {
    law.__name__: law
    for law in (
        bouncing, falling, rolling, sliding, swinging, orbiting, approaching, spinning,
    )
}  # fmt: skip

# ------------------------------------------------------------------------------ how a body looks

SHAPES = ("disc", "square", "triangle", "cross")


def _distance(shape: str, x: Plane, y: Plane) -> Plane:
    """About how far outside the unit shape (x, y) is, negative within."""
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.85)
    if shape == "triangle":
        side = np.float32(0.8660254) * np.abs(x) - np.float32(0.5) * y
        return np.maximum(side, y) - np.float32(0.6)
    if shape == "cross":
        low, high = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
        return np.maximum(low - np.float32(0.38), high - np.float32(1.0))
    return np.sqrt(x * x + y * y) - np.float32(1.0)


def stamp(picture: Pixels, pose: Pose, shape: str, colours: Plane) -> None:
    """Draw a two-coloured body into `picture` [H, W, 3], edges smooth. colours: [2, 3] 0-255."""
    height, width, _ = picture.shape
    short = min(height, width)
    x, y, radius = pose.x * short, pose.y * short, max(pose.radius * short, 1.0)
    reach = 1.3 * radius + 2.0
    left, right = max(0, math.floor(x - reach)), min(width, math.ceil(x + reach))
    top, bottom = max(0, math.floor(y - reach)), min(height, math.ceil(y + reach))
    if left >= right or top >= bottom:
        return
    dx = ((np.arange(left, right, dtype=np.float32) + 0.5 - x) / radius).astype(np.float32)
    dy = ((np.arange(top, bottom, dtype=np.float32) + 0.5 - y) / radius).astype(np.float32)
    cosine, sine = np.float32(math.cos(pose.angle)), np.float32(math.sin(pose.angle))
    u = cosine * dx[None, :] + sine * dy[:, None]
    v = cosine * dy[:, None] - sine * dx[None, :]
    cover = np.clip(np.float32(0.5) - _distance(shape, u, v) * np.float32(radius), 0.0, 1.0)
    half = np.clip(np.float32(0.5) + u * np.float32(radius), 0.0, 1.0)[..., None]
    colour = colours[0] * half + colours[1] * (np.float32(1.0) - half)
    patch = picture[top:bottom, left:right]
    mixed = patch + (colour - patch) * cover[..., None].astype(np.float32)
    picture[top:bottom, left:right] = (mixed + np.float32(0.5)).astype(np.uint8)


# --------------------------------------------------------------------------------------- a shot


def draw(shot: Shot, height: int, width: int, fps: float) -> Iterator[Pixels]:
    """Frames [height, width, 3] of the shot, `fps` a second; at least one."""
    if shot.motion in MOVES:
        yield from _filmed(shot, height, width, fps)
        return
    look, short = stream(*shot.key, "look"), min(height, width)
    room = round(DRIFT * short) + 1
    canvas, palette = backdrop(shot.theme, look, height + 2 * room, width + 2 * room)
    shape = SHAPES[look.integers(len(SHAPES))]
    colours = contrasting(look, palette)
    drift = look.uniform(-1.0, 1.0, 2)  # of the camera, from one end to the other
    way = _way(stream(*shot.key, "way"), width / short, height / short)
    law, count = MOTIONS[shot.motion], max(1, round(shot.seconds * fps))
    for step in range(count):
        along = step / count - 0.5
        top = room + round(float(drift[0]) * along * 2 * (room - 1))
        left = room + round(float(drift[1]) * along * 2 * (room - 1))
        picture = canvas[top : top + height, left : left + width].copy()
        for pose in _around(law(way, step / fps), way):
            stamp(picture, pose, shape, colours)
        yield picture


def _filmed(shot: Shot, height: int, width: int, fps: float) -> Iterator[Pixels]:
    """What the camera sees of a texture."""
    look, count = stream(*shot.key, "look"), max(1, round(shot.seconds * fps))
    surface, palette = texture(shot.theme, look, SIDE, SIDE)
    view, move = view_of(look), move_of(shot.motion, stream(*shot.key, "way"), count / fps)
    times = [(step + 0.5 - count / 2) / fps for step in range(count)]
    for picture in film(surface, view, move, height, width, times):
        yield coloured(picture, palette)


def _around(pose: Pose, way: Way) -> Iterator[Pose]:
    """The pose as often as it must be drawn for what leaves on one side to come in on the other."""
    for column, row in itertools.product((-1, 0, 1), repeat=2):
        x, y = pose.x % way.room + column * way.room, pose.y % way.ceiling + row * way.ceiling
        yield replace(pose, x=x, y=y)


def draw_still(shot: Shot, height: int, width: int, shape: str) -> Pixels:
    """A photograph [height, width, 3] of a large body of a given shape."""
    look, short = stream(*shot.key, "look"), min(height, width)
    picture, palette = backdrop(shot.theme, look, height, width)
    way = _way(stream(*shot.key, "way"), width / short, height / short)
    x, y = way.room * (0.35 + 0.3 * way.x), way.ceiling * (0.4 + 0.2 * way.y)
    stamp(picture, Pose(x, y, 2.4 * way.radius, way.angle), shape, contrasting(look, palette))
    return picture


def _way(random: Random, room: float, ceiling: float) -> Way:
    x, y, pace, reach, phase, side, near, size, angle = (float(value) for value in random.random(9))
    return Way(
        x, y, pace, reach, phase, 1.0 if side < 0.5 else -1.0, near, 0.08 + 0.04 * size,
        2.0 * math.pi * angle, room, ceiling,
    )  # fmt: skip
