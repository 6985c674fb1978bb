"""Two laboratories as data: table, walls, light, camera and objects. Lengths in metres.

Axes are the robot's base frame: x ahead of it, y to its left, z up; the table top is z = 0. The
camera is the left exterior one, given by where it stands around the point it looks at.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.errors import InputError

Colour = tuple[float, float, float]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Surface:
    """What a large flat thing looks like: two colours in a pattern that repeats every `period`."""

    colour: Colour
    second: Colour
    pattern: str
    """"checks", "planks", "bricks" or "waves"."""
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


def _cup(colour: Colour, trim: Colour, radius: float, height: float) -> Thing:
    """A closed cup: body, darker rim and a handle on the side away from the fingers."""
    half = height / 2
    handle = Part("box", (0.006, 0.006, half * 0.55), (radius + 0.016, 0.0, 0.0), trim)
    bridges = tuple(
        Part("box", (0.012, 0.005, 0.005), (radius + 0.004, 0.0, side * half * 0.5), trim)
        for side in (-1, 1)
    )
    body = Part("cylinder", (radius, half), (0.0, 0.0, 0.0), colour)
    rim = Part("cylinder", (radius * 1.06, 0.006), (0.0, 0.0, half - 0.006), trim)
    return Thing("cup", (body, rim, handle, *bridges), (0.5, 0.12, half), 0.12, height)


def _box(colour: Colour, lid: Colour, half: Point) -> Thing:
    """A box with a lid of another colour, so that its orientation shows."""
    x, y, z = half
    body = Part("box", (x, y, z * 0.7), (0.0, 0.0, -z * 0.3), colour)
    top = Part("box", (x, y, z * 0.3), (0.0, 0.0, z * 0.7), lid)
    return Thing("box", (body, top), (0.5, -0.12, z), 0.1, 2 * z)


LAB_A = Lab(
    name="lab-a",
    building="North hall",
    camera_serial="20103212",
    robot_serial="franka-0a17",
    camera=Camera(azimuth=52.0, elevation=30.0, distance=1.12, fov=42.0, target=(0.40, 0.0, 0.18)),
    table=Surface((0.66, 0.48, 0.31), (0.55, 0.38, 0.23), "planks", 0.14),
    floor=Surface((0.42, 0.42, 0.44), (0.33, 0.33, 0.36), "checks", 0.5),
    walls=Surface((0.80, 0.77, 0.68), (0.72, 0.69, 0.60), "bricks", 0.32),
    light=(0.9, 0.7, 1.7),
    light_colour=(1.0, 0.95, 0.86),
    ambient=0.38,
    things=(
        _cup((0.80, 0.16, 0.14), (0.55, 0.08, 0.08), radius=0.031, height=0.09),
        _box((0.16, 0.34, 0.72), (0.90, 0.80, 0.20), (0.025, 0.025, 0.025)),
        Thing(
            "monitor",
            (
                Part("box", (0.24, 0.015, 0.15), (0.0, 0.0, 0.22), (0.10, 0.11, 0.13)),
                Part("box", (0.03, 0.02, 0.05), (0.0, 0.0, 0.05), (0.30, 0.30, 0.32)),
            ),
            (0.50, -0.52, 0.0),
        ),
        Thing(
            "bin",
            (Part("cylinder", (0.09, 0.10), (0.0, 0.0, 0.10), (0.20, 0.55, 0.36)),),
            (-0.20, -0.45, 0.0),
        ),
    ),
)

LAB_B = Lab(
    name="lab-b",
    building="East annex",
    camera_serial="33418806",
    robot_serial="franka-0b42",
    camera=Camera(azimuth=72.0, elevation=24.0, distance=1.18, fov=42.0, target=(0.40, 0.0, 0.20)),
    table=Surface((0.30, 0.36, 0.38), (0.24, 0.29, 0.31), "checks", 0.12),
    floor=Surface((0.52, 0.40, 0.30), (0.46, 0.34, 0.25), "planks", 0.2),
    walls=Surface((0.48, 0.60, 0.66), (0.40, 0.52, 0.60), "waves", 0.55),
    light=(0.1, 0.9, 1.5),
    light_colour=(0.90, 0.97, 1.0),
    ambient=0.44,
    things=(
        _cup((0.92, 0.90, 0.82), (0.20, 0.55, 0.60), radius=0.034, height=0.07),
        _box((0.45, 0.18, 0.55), (0.95, 0.92, 0.88), (0.022, 0.03, 0.032)),
        Thing(
            "plant",
            (
                Part("cylinder", (0.06, 0.06), (0.0, 0.0, 0.06), (0.62, 0.30, 0.22)),
                Part("sphere", (0.11,), (0.0, 0.0, 0.22), (0.18, 0.44, 0.16)),
                Part("sphere", (0.08,), (0.05, 0.06, 0.31), (0.24, 0.52, 0.20)),
            ),
            (0.78, -0.45, 0.0),
        ),
        Thing(
            "shelf",
            (
                Part("box", (0.30, 0.10, 0.01), (0.0, 0.0, 0.34), (0.85, 0.82, 0.76)),
                Part("box", (0.05, 0.06, 0.08), (-0.16, 0.0, 0.43), (0.66, 0.20, 0.28)),
                Part("box", (0.08, 0.05, 0.05), (0.10, 0.0, 0.40), (0.28, 0.30, 0.58)),
            ),
            (0.15, -0.80, 0.0),
        ),
    ),
)

LABS = {lab.name: lab for lab in (LAB_A, LAB_B)}


def find_lab(name: str) -> Lab:
    """The lab of that name. Raises ValueError that lists the known ones."""
    if name not in LABS:
        raise InputError(f"lab {name!r} is not known: choose one of {', '.join(sorted(LABS))}")
    return LABS[name]
