"""The drawing of a laboratory: everything about it follows from its name. Lengths in metres.

A lab is valid by construction: things to grasp fit the gripper and the table, decoration stands out
of reach, and the camera's angle of view is opened until the workspace is in the picture.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Annotated

import numpy as np

from pipelines.robot.furniture import GRASPABLE, Lot, darker, decoration, graspable
from pipelines.robot.labs import Camera, Lab, Surface
from pipelines.robot.rendering import PATTERNS, place_camera
from pipelines.robot.roles import number_of
from pipelines.robot.scene import WORKSPACE
from pipelines.settings import between

Azimuth = Annotated[float, between(0.0, 180.0)]
"""Where a camera stands, degrees from the x axis (ahead of the arm) towards y (its left); behind
the arm there is the wall."""
_BUILDINGS = ("North hall", "East annex", "South tower", "West wing", "Old library", "Boat house")
_IN_PICTURE = 0.88
"""How far from the middle of the picture, of 1, the workspace's corners may lie."""


@functools.lru_cache(maxsize=256)
def find_lab(name: str, azimuth: float | None = None) -> Lab:
    """The lab of that name, drawn; with its camera at another azimuth, degrees, if one is given.

    Raises ValueError that says which labs there are.
    """
    number_of(name)
    if azimuth is not None:
        lab = find_lab(name)
        return replace(lab, camera=_opened(replace(lab.camera, azimuth=azimuth)))
    lot = Lot((name,))
    camera = lot.of("camera")
    return Lab(
        name=name,
        building=lot.among(_BUILDINGS, "building"),
        camera_serial=f"{int(camera.between(10_000_000, 40_000_000, 'serial'))}",
        robot_serial=f"franka-{int(lot.between(0, 0xFFFF, 'robot serial')):04x}",
        camera=_camera(camera),
        table=_surface(lot.of("table"), light=(0.25, 0.7), vivid=(0.05, 0.6), period=(0.06, 0.18)),
        floor=_surface(lot.of("floor"), light=(0.2, 0.65), vivid=(0.0, 0.5), period=(0.15, 0.5)),
        walls=_surface(lot.of("walls"), light=(0.4, 0.85), vivid=(0.0, 0.5), period=(0.2, 0.6)),
        light=(
            lot.between(-0.1, 1.1, "light x"),
            lot.between(0.0, 1.1, "light y"),
            lot.between(1.35, 1.8, "light z"),
        ),
        light_colour=lot.colour("light", light=(0.9, 1.0), vivid=(0.0, 0.18)),
        ambient=lot.between(0.34, 0.48, "ambient"),
        things=(
            *(
                graspable(kind, lot.of(kind))
                for kind in lot.some(tuple(GRASPABLE), lot.among((2, 2, 3), "many"), "kinds")
            ),
            *decoration(lot.of("decoration")),
        ),
    )


def _surface(
    lot: Lot, light: tuple[float, float], vivid: tuple[float, float], period: tuple[float, float]
) -> Surface:
    """Two tones of one colour, or two colours, in a pattern."""
    first = lot.colour("first", light, vivid)
    tone = darker(first, lot.between(0.62, 0.85, "tone"))
    second = lot.among((tone, tone, lot.colour("second", light, vivid)), "two colours")
    return Surface(first, second, lot.among(sorted(PATTERNS), "pattern"), lot.between(*period, "p"))


def _camera(lot: Lot) -> Camera:
    """Left of the arm, looking at the workspace; as wide as it takes to see all of it."""
    camera = Camera(
        azimuth=lot.between(46.0, 78.0, "azimuth"),
        elevation=lot.between(22.0, 36.0, "elevation"),
        distance=lot.between(1.05, 1.3, "distance"),
        fov=0.0,
        target=(
            lot.between(0.38, 0.44, "x"),
            lot.between(-0.03, 0.03, "y"),
            lot.between(0.15, 0.21, "z"),
        ),
    )
    return _opened(camera)


def _opened(camera: Camera) -> Camera:
    """The camera with the angle of view at which all of the workspace is in the picture."""
    view = place_camera(camera, np.zeros(3))
    corners = np.stack(np.meshgrid(*zip(*WORKSPACE, strict=True)), axis=-1).reshape(-1, 3)
    local = (corners - view.position) @ view.axes
    extent = float(np.abs(local[:, :2] / local[:, 2:]).max()) / _IN_PICTURE
    # Half degrees: the last bits of a tangent are not the same on every machine.
    return replace(camera, fov=math.ceil(2 * math.degrees(2 * math.atan(extent))) / 2)
