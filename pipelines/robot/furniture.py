"""What stands in a laboratory, each thing drawn by lot: objects to grasp, and decoration.

A `Lot` draws each value by its own name: what is added to one lab or thing changes no other.
Lengths in metres.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipelines.robot.labs import Colour, Part, Point, Thing
from storage.digests import unit_interval

T = TypeVar("T")


@dataclass(frozen=True)
class Lot:
    """Draws values that follow from its words and the value's name alone."""

    words: tuple[str, ...]

    def of(self, word: str) -> Lot:
        """The lot of something that belongs to this one."""
        return Lot((*self.words, word))

    def between(self, low: float, high: float, name: str) -> float:
        """A number, rounded to a tenth of a millimetre (or as fine in another unit)."""
        return round(low + (high - low) * unit_interval(*self.words, name), 4)

    def among(self, choices: Sequence[T], name: str) -> T:
        """One of the choices."""
        return choices[int(unit_interval(*self.words, name) * len(choices))]

    def some(self, choices: Sequence[T], count: int, name: str) -> tuple[T, ...]:
        """`count` different ones, in an order that is drawn, too."""
        order = sorted(range(len(choices)), key=lambda at: unit_interval(*self.words, name, at))
        return tuple(choices[at] for at in order[:count])

    def colour(self, name: str, light: tuple[float, float], vivid: tuple[float, float]) -> Colour:
        """Any hue; `light` bounds its largest component, `vivid` its saturation."""
        lot = self.of(name)
        hue = lot.between(0.0, 1.0, "hue")
        red, green, blue = colorsys.hsv_to_rgb(
            hue, lot.between(*vivid, "vivid"), lot.between(*light, "light")
        )
        return round(red, 4), round(green, 4), round(blue, 4)


def darker(colour: Colour, share: float) -> Colour:
    """The colour with each component reduced to a share."""
    red, green, blue = (round(part * share, 4) for part in colour)
    return red, green, blue


# ------------------------------------------------------------------ what can be grasped


def _cup(colour: Colour, trim: Colour, lot: Lot) -> Thing:
    """A closed cup: body, rim and a handle on the side away from the fingers."""
    radius, half = lot.between(0.029, 0.034, "radius"), lot.between(0.034, 0.046, "half")
    handle = Part("box", (0.006, 0.006, half * 0.55), (radius + 0.016, 0.0, 0.0), trim)
    bridges = tuple(
        Part("box", (0.012, 0.005, 0.005), (radius + 0.004, 0.0, side * half * 0.5), trim)
        for side in (-1, 1)
    )
    body = Part("cylinder", (radius, half), (0.0, 0.0, 0.0), colour)
    rim = Part("cylinder", (radius * 1.06, 0.006), (0.0, 0.0, half - 0.006), trim)
    return _movable("cup", (body, rim, handle, *bridges), half, 0.12)


def _box(colour: Colour, trim: Colour, lot: Lot) -> Thing:
    """A box with a lid of another colour, so that its orientation shows."""
    x, y = lot.between(0.020, 0.028, "x"), lot.between(0.022, 0.030, "y")
    z = lot.between(0.022, 0.034, "z")
    body = Part("box", (x, y, z * 0.7), (0.0, 0.0, -z * 0.3), colour)
    lid = Part("box", (x, y, z * 0.3), (0.0, 0.0, z * 0.7), trim)
    return _movable("box", (body, lid), z, 0.1)


def _bottle(colour: Colour, trim: Colour, lot: Lot) -> Thing:
    """A wide body, a neck and a cap."""
    radius, half = lot.between(0.026, 0.031, "radius"), lot.between(0.046, 0.056, "half")
    body = Part("cylinder", (radius, half * 0.7), (0.0, 0.0, -half * 0.3), colour)
    neck = Part("cylinder", (radius * 0.5, half * 0.2), (0.0, 0.0, half * 0.6), colour)
    cap = Part("cylinder", (radius * 0.6, half * 0.1), (0.0, 0.0, half * 0.9), trim)
    return _movable("bottle", (body, neck, cap), half, 0.11)


def _tin(colour: Colour, trim: Colour, lot: Lot) -> Thing:
    """A low tin with a band around it."""
    radius, half = lot.between(0.030, 0.035, "radius"), lot.between(0.022, 0.030, "half")
    body = Part("cylinder", (radius, half), (0.0, 0.0, 0.0), colour)
    band = Part("cylinder", (radius * 1.03, half * 0.35), (0.0, 0.0, 0.0), trim)
    return _movable("tin", (body, band), half, 0.12)


def _tower(colour: Colour, trim: Colour, lot: Lot) -> Thing:
    """Three blocks on one another, the middle one of another colour."""
    x, half = lot.between(0.020, 0.026, "x"), lot.between(0.039, 0.051, "half")
    third = half / 3
    blocks = tuple(
        Part("box", (x, x, third), (0.0, 0.0, 2 * third * (level - 1)), (colour, trim)[level % 2])
        for level in range(3)
    )
    return _movable("tower", blocks, half, 0.1)


def _movable(name: str, parts: tuple[Part, ...], half: float, mass: float) -> Thing:
    """A thing in the middle of the table; every episode lays it out anew."""
    return Thing(name, parts, (0.5, 0.0, half), mass, 2 * half)


GRASPABLE: dict[str, Callable[[Colour, Colour, Lot], Thing]] = {
    "cup": _cup,
    "box": _box,
    "bottle": _bottle,
    "tin": _tin,
    "tower": _tower,
}


def graspable(kind: str, lot: Lot) -> Thing:
    """A thing of that kind, of two colours, small enough for the gripper's eight centimetres."""
    colour = lot.colour("colour", light=(0.35, 0.95), vivid=(0.25, 0.9))
    trim = lot.colour("trim", light=(0.2, 0.95), vivid=(0.0, 0.9))
    return GRASPABLE[kind](colour, trim, lot)


# ------------------------------------------------------------------ what stands around


def _monitor(colour: Colour, trim: Colour, lot: Lot) -> tuple[Part, ...]:
    wide, high = lot.between(0.14, 0.2, "wide"), lot.between(0.1, 0.15, "high")
    screen = Part("box", (wide, 0.015, high), (0.0, 0.0, 0.07 + high), darker(colour, 0.4))
    return screen, Part("box", (0.03, 0.02, 0.05), (0.0, 0.0, 0.05), trim)


def _bin(colour: Colour, trim: Colour, lot: Lot) -> tuple[Part, ...]:
    radius, half = lot.between(0.05, 0.09, "radius"), lot.between(0.06, 0.12, "half")
    body = Part("cylinder", (radius, half), (0.0, 0.0, half), colour)
    return body, Part("cylinder", (radius * 1.05, 0.012), (0.0, 0.0, 2 * half - 0.012), trim)


def _plant(colour: Colour, trim: Colour, lot: Lot) -> tuple[Part, ...]:
    crown = lot.between(0.07, 0.11, "crown")
    pot = Part("cylinder", (0.06, 0.06), (0.0, 0.0, 0.06), trim)
    large = Part("sphere", (crown,), (0.0, 0.0, 0.11 + crown), colour)
    aside = lot.between(-0.06, 0.06, "aside")
    small = Part("sphere", (crown * 0.7,), (aside, 0.04, 0.16 + 1.6 * crown), darker(colour, 0.8))
    return pot, large, small


def _crates(colour: Colour, trim: Colour, lot: Lot) -> tuple[Part, ...]:
    half = lot.between(0.06, 0.09, "half")
    aside = lot.between(-0.03, 0.03, "aside")
    low = Part("box", (half * 1.2, 0.07, half), (0.0, 0.0, half), colour)
    return low, Part("box", (half, 0.06, half * 0.8), (aside, 0.0, half * 2.8), trim)


def _lamp(colour: Colour, trim: Colour, lot: Lot) -> tuple[Part, ...]:
    half = lot.between(0.12, 0.18, "half")
    foot = Part("cylinder", (0.06, 0.012), (0.0, 0.0, 0.012), trim)
    pole = Part("cylinder", (0.012, half), (0.0, 0.0, half), trim)
    shade = Part("sphere", (lot.between(0.05, 0.08, "shade"),), (0.0, 0.0, 2 * half), colour)
    return foot, pole, shade


_ON_TABLE = {
    "monitor": _monitor,
    "bin": _bin,
    "plant": _plant,
    "crates": _crates,
    "lamp": _lamp,
}
# Behind the workspace as the camera sees it, out of reach of the hand: low and high x, and y.
_PLACES = (
    ((-0.24, -0.12), (-0.56, -0.48)),
    ((0.22, 0.34), (-0.57, -0.53)),
    ((0.68, 0.80), (-0.57, -0.50)),
)


def _poster(lot: Lot, colour: Colour, trim: Colour, x: float) -> Thing:
    """A frame on the back wall with a picture in it."""
    wide, high = lot.between(0.1, 0.28, "wide"), lot.between(0.1, 0.22, "high")
    frame = Part("box", (wide, 0.01, high), (0.0, 0.0, 0.0), colour)
    picture = Part("box", (wide * 0.8, 0.012, high * 0.75), (0.0, 0.0, 0.0), trim)
    return Thing("poster", (frame, picture), (x, -1.06, lot.between(0.15, 0.6, "z")))


def _shelf(lot: Lot, colour: Colour, trim: Colour, x: float) -> Thing:
    """A board on the back wall with two things on it."""
    board = Part("box", (0.28, 0.1, 0.012), (0.0, 0.0, 0.0), darker(colour, 0.7))
    left = Part("box", (0.05, 0.06, lot.between(0.05, 0.1, "left")), (-0.15, 0.0, 0.09), trim)
    right = Part("sphere", (lot.between(0.04, 0.07, "right"),), (0.13, 0.0, 0.07), colour)
    return Thing("shelf", (board, left, right), (x, -0.97, lot.between(0.2, 0.55, "z")))


def _cupboard(lot: Lot, colour: Colour, trim: Colour, x: float) -> Thing:
    """A high one at the back wall, two doors of another colour."""
    high = lot.between(0.45, 0.8, "high")
    doors = tuple(
        Part("box", (0.11, 0.01, high * 0.9), (side * 0.12, 0.14, 0.0), trim) for side in (-1, 1)
    )
    body = Part("box", (0.25, 0.13, high), (0.0, 0.0, 0.0), colour)
    return Thing("cupboard", (body, *doors), (x, -0.94, high - 0.75))


_AT_WALL = {"poster": _poster, "shelf": _shelf, "cupboard": _cupboard}
_WALL_PLACES = ((-0.75, -0.45), (-0.1, 0.2), (0.55, 0.85))


def decoration(lot: Lot) -> tuple[Thing, ...]:
    """One to three things behind the workspace and on the wall, each in a place of its own."""

    def colours(name: str) -> tuple[Colour, Colour]:
        own = lot.of(name)
        return (
            own.colour("colour", light=(0.25, 0.9), vivid=(0.1, 0.85)),
            own.colour("trim", light=(0.2, 0.9), vivid=(0.0, 0.8)),
        )

    things = []
    chosen = lot.some(tuple(_ON_TABLE), lot.among((1, 2, 2, 3), "on table"), "kinds")
    for kind, place in zip(chosen, lot.some(_PLACES, 3, "places"), strict=False):
        own, (across, along) = lot.of(kind), place
        at: Point = (own.between(*across, "x"), own.between(*along, "y"), 0.0)
        things.append(Thing(kind, _ON_TABLE[kind](*colours(kind), own), at))
    hung = lot.some(tuple(_AT_WALL), lot.among((1, 2, 2, 3), "at wall"), "wall kinds")
    for kind, across in zip(hung, lot.some(_WALL_PLACES, 3, "wall places"), strict=False):
        own = lot.of(kind)
        things.append(_AT_WALL[kind](own, *colours(kind), own.between(*across, "x")))
    return tuple(things)
