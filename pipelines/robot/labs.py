"""A laboratory as data: table, walls, light, camera and objects. Lengths in metres.

Axes are the robot's base frame: x ahead of it, y to its left, z up; the table top is z = 0. The
camera is the left exterior one, given by where it stands around the point it looks at. Which labs
there are, and for what, says `roles`; what each one looks like, `blueprint`.
"""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[float, float, float]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Surface:
    """What a large flat thing looks like: two colours in a pattern that repeats every `period`."""

    colour: Colour
    second: Colour
    pattern: str
    """One of `rendering.PATTERNS`."""
    period: float


@dataclass(frozen=True)
class Part:
    """One primitive shape of a thing; `size` and `shape` as in MJCF, `at` relative to the thing."""

    shape: str
    size: tuple[float, ...]
    at: Point
    colour: Colour


@dataclass(frozen=True)
class Thing:
    """An object: movable ones (positive `mass`, kg) are laid out anew in every episode."""

    name: str
    parts: tuple[Part, ...]
    at: Point
    mass: float = 0.0
    height: float = 0.0
    """Height of a movable thing that stands on the table; its parts are centred on its middle."""


@dataclass(frozen=True)
class Camera:
    """Where the camera stands: angles in degrees, azimuth from x towards y, `fov` vertical."""

    azimuth: float
    elevation: float
    distance: float
    fov: float
    target: Point


@dataclass(frozen=True)
class Lab:
    """Everything that tells one laboratory from another."""

    name: str
    building: str
    camera_serial: str
    robot_serial: str
    camera: Camera
    table: Surface
    floor: Surface
    walls: Surface
    light: Point
    light_colour: Colour
    ambient: float
    things: tuple[Thing, ...]
