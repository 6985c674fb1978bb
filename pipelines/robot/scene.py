"""A lab as MJCF text: table, room, light, camera and things, with a frame where the arm goes.

Geom groups are what cameras and rays select by: 0 stands still, 1 is the arm, 2 can be moved.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.labs import Lab, Part, Surface, Thing

STILL, ARM, MOVABLE = 0, 1, 2

# Where the point between the finger tips may go: low and high corner, metres, table top at z = 0.
WORKSPACE = (np.array([0.30, -0.28, 0.02]), np.array([0.62, 0.28, 0.42]))

# Where movable things are laid out, and how far apart at least, metres.
_ZONE = ((0.38, -0.22), (0.60, 0.22))
_APART = 0.13

# The room: half sizes and places of its slabs, metres. The table top is at z = 0.
_SLABS = {
    "table": ("0.625 0.65 0.02", "0.325 0 -0.02"),
    "floor": ("2.5 2.5 0.02", "0 0 -0.77"),
    "back_wall": ("2.5 0.02 1.5", "0 -1.1 0.73"),
    "side_wall": ("0.02 2.5 1.5", "-1.1 0 0.73"),
}


def surfaces(lab: Lab) -> dict[str, Surface]:
    """The lab's patterned surfaces by the name of the geom that carries each."""
    walls = {"back_wall": lab.walls, "side_wall": lab.walls}
    return {"table": lab.table, "floor": lab.floor, **walls}


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def _add_part(body: Element, part: Part, group: int) -> None:
    SubElement(
        body,
        "geom",
        type=part.shape,
        size=_numbers(part.size),
        pos=_numbers(part.at),
        rgba=_numbers((*part.colour, 1.0)),
        group=str(group),
    )


def _add_thing(world: Element, thing: Thing) -> None:
    movable = thing.mass > 0
    body = SubElement(world, "body", name=thing.name, pos=_numbers(thing.at))
    if movable:
        SubElement(body, "freejoint", name=thing.name)
        # A solid block's inertia: precise enough for something a gripper lifts.
        inertia = (thing.mass * thing.height**2 / 6,) * 3
        SubElement(
            body, "inertial", pos="0 0 0", mass=str(thing.mass), diaginertia=_numbers(inertia)
        )
    for part in thing.parts:
        _add_part(body, part, MOVABLE if movable else STILL)


def _add_slabs(root: Element, world: Element, lab: Lab) -> None:
    """The room's slabs; the textures are for OpenGL, rays compute the pattern where they hit."""
    asset = SubElement(root, "asset")
    for name, surface in surfaces(lab).items():
        SubElement(
            asset,
            "texture",
            name=name,
            type="2d",
            builtin="checker",
            width="64",
            height="64",
            rgb1=_numbers(surface.colour),
            rgb2=_numbers(surface.second),
        )
        repeat = _numbers((0.5 / surface.period,) * 2)
        SubElement(asset, "material", name=name, texture=name, texrepeat=repeat, texuniform="true")
        size, place = _SLABS[name]
        SubElement(
            world,
            "geom",
            name=name,
            type="box",
            size=size,
            pos=place,
            material=name,
            rgba="1 1 1 1",
            group=str(STILL),
            friction="1 0.01 0.0005",
        )


def scene_xml(lab: Lab) -> str:
    """MJCF of the lab without its arm, which belongs at the frame named "mount"."""
    root = Element("mujoco", model=lab.name)
    SubElement(root, "compiler", angle="radian", autolimits="true")
    SubElement(root, "option", integrator="implicitfast", impratio="5", cone="elliptic")
    SubElement(SubElement(root, "default"), "geom", contype="2", conaffinity="3", condim="4")
    visual = SubElement(root, "visual")
    fill = _numbers((lab.ambient,) * 3)
    SubElement(visual, "headlight", ambient=fill, diffuse="0.15 0.15 0.15", specular="0 0 0")
    SubElement(visual, "quality", shadowsize="512", offsamples="4")
    world = SubElement(root, "worldbody")
    _add_slabs(root, world, lab)
    SubElement(
        world,
        "light",
        pos=_numbers(lab.light),
        dir="0 0 -1",
        cutoff="90",
        exponent="0",
        diffuse=_numbers(lab.light_colour),
    )
    SubElement(world, "camera", name="left", pos="1 1 1", fovy=f"{lab.camera.fov:.6g}")
    SubElement(world, "frame", name="mount")
    for thing in lab.things:
        _add_thing(world, thing)
    return tostring(root, encoding="unicode")


def lay_out(lab: Lab, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Movable thing -> pose [7] (xyz in metres, quaternion wxyz): upright, anywhere in the zone."""
    poses: dict[str, NDArray[np.float64]] = {}
    for thing in lab.things:
        if thing.mass <= 0:
            continue
        place = rng.uniform(*_ZONE)
        while any(np.linalg.norm(place - other[:2]) < _APART for other in poses.values()):
            place = rng.uniform(*_ZONE)
        half = rng.uniform(-np.pi / 8, np.pi / 8)
        poses[thing.name] = np.array(
            [*place, thing.height / 2, np.cos(half), 0.0, 0.0, np.sin(half)]
        )
    return poses
