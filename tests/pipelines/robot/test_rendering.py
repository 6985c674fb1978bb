"""Claims: light, shadow and camera are what a hand computes; patterns vary; a frame's bytes
depend on the scene alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipelines.robot.blueprint import find_lab
from pipelines.robot.labs import Camera, Surface
from pipelines.robot.rendering import (
    PATTERNS,
    Hits,
    RayRenderer,
    View,
    painted,
    place_camera,
    ray_directions,
    surface_colour,
)
from pipelines.robot.scene import ARM, STILL
from pipelines.robot.simulator import Simulator

LAB = find_lab("lab-000")
STRAIGHT_DOWN = View(np.array([0.0, 0.0, 2.0]), np.eye(3), 60.0)
LAMP = dataclasses.replace(LAB, light=(0.0, 0.0, 3.0), light_colour=(1, 1, 1), ambient=0.5)


class FlatWorld:
    """A floor at z = 0 (geom 0, still) and, if `lid`, a square lid at z = 1 (geom 1, arm)."""

    def __init__(self, lid: float = 0.0) -> None:
        self.lid = lid

    def __call__(self, origin, directions, groups):
        height = 0.0 if STILL in groups else 1.0 if ARM in groups else None
        with np.errstate(divide="ignore"):
            distance = (height - origin[2]) / directions[:, 2]
        points = origin + distance[:, None] * directions
        hit = distance > 0
        if STILL not in groups:
            hit &= np.abs(points[:, :2]).max(axis=1) < self.lid
        normal = np.tile([0.0, 0.0, 1.0], (len(directions), 1))
        geom = np.where(hit, int(STILL not in groups), -1).astype(np.int32)
        return Hits(np.where(hit, distance, np.inf), geom, normal)


def test_a_lit_floor_has_lamberts_colour():
    colours = np.array([[0.6, 0.4, 0.2], [1.0, 1.0, 1.0]])
    renderer = RayRenderer(FlatWorld(), LAMP, colours, {}, size=9, samples=1)
    frame = renderer.frame(STRAIGHT_DOWN)
    # In the middle, light and sight both fall straight down: 0.5 ambient, 0.18 fill, 0.7 lamp.
    wanted = np.minimum(1.0, colours[0] * (0.5 + 0.18 + (1 - 0.6 * 0.5)))
    assert np.abs(frame[4, 4] - 255 * wanted).max() <= 1
    # A corner is 1.03 m away sideways: the lamp's cosine there is 3 / sqrt(9 + 2 x²).
    x = 2 * np.tan(np.radians(30)) * 8 / 9
    cosine, sight = 3 / np.sqrt(9 + 2 * x * x), 2 / np.sqrt(4 + 2 * x * x)
    wanted = colours[0] * (0.5 + 0.18 * sight + 0.7 * cosine)
    assert np.abs(frame[0, 0] - 255 * np.minimum(1.0, wanted)).max() <= 1


def test_what_moves_hides_the_floor_and_throws_a_shadow():
    colours = np.array([[0.5, 0.5, 0.5], [0.9, 0.0, 0.0]])
    world = FlatWorld(lid=0.2)
    frame = RayRenderer(world, LAMP, colours, {}, size=101, samples=1).frame(STRAIGHT_DOWN)
    red = frame[..., 0].astype(int) - frame[..., 1] > 60
    # The lid spans ±0.2 m at 1 m from the eye: 0.2 / tan(30°) of the half width.
    assert red[50].sum() == pytest.approx(101 * 0.2 / np.tan(np.radians(30)), abs=1)
    # A lamp 3 m above x = 0.9 throws the lid's shadow to x from -0.75 to -0.15 on the floor.
    aside = dataclasses.replace(LAMP, light=(0.9, 0.0, 3.0))
    row = RayRenderer(world, aside, colours, {}, size=101, samples=1).frame(STRAIGHT_DOWN)[50]
    beside, shaded, across = (
        row[round(50 + 50.5 * x / (2 * np.tan(np.radians(30)))), 0] for x in (-1.0, -0.6, 0.6)
    )
    assert shaded < 0.75 * beside
    assert across > beside


def test_a_material_paints_over_a_geoms_own_colour():
    own, materials = np.array([[0.1, 0.2, 0.3, 1.0]] * 3), np.array([[0.9, 0.8, 0.7, 1.0]])
    colours = painted(own, materials, np.array([-1, 0, -1], np.int32))
    assert colours.tolist() == [[0.1, 0.2, 0.3], [0.9, 0.8, 0.7], [0.1, 0.2, 0.3]]
    bare = painted(own, np.empty((0, 4)), np.full(3, -1, np.int32))
    assert bare.tolist() == own[:, :3].tolist()


def test_rays_pass_through_their_pixels():
    view = place_camera(Camera(0.0, 0.0, 2.0, 90.0, (0.0, 0.0, 0.0)), np.zeros(3))
    assert np.allclose(view.position, [2, 0, 0])
    rays = ray_directions(view, 2).reshape(2, 2, 3)
    assert np.allclose(np.linalg.norm(rays, axis=-1), 1)
    # Looking along -x with z up: the image's right is +y.
    assert np.allclose(rays[0, 1] / -rays[0, 1, 0], [-1, 0.5, 0.5])
    assert np.allclose(rays[1, 0] / -rays[1, 0, 0], [-1, -0.5, -0.5])


def test_jitter_moves_the_camera_around_its_target():
    camera = LAB.camera
    still = place_camera(camera, np.zeros(3))
    moved = place_camera(camera, np.array([5.0, -2.0, 0.1]))
    reach = [np.linalg.norm(view.position - camera.target) for view in (still, moved)]
    assert reach[0] == pytest.approx(camera.distance)
    assert reach[1] == pytest.approx(1.1 * camera.distance)
    for view in (still, moved):
        assert np.allclose(view.axes.T @ view.axes, np.eye(3))
        ahead = (np.asarray(camera.target) - view.position) / camera.distance
        assert np.allclose(np.cross(ahead, view.axes[:, 2]), 0, atol=1e-9)


def test_extrinsics_look_ahead_along_z():
    view = place_camera(LAB.camera, np.zeros(3))
    position, rotation = view.extrinsics()
    target = rotation.T @ (np.asarray(LAB.camera.target) - position)
    assert np.allclose(target, [0, 0, LAB.camera.distance], atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert (rotation.T @ [0, 0, 1.0])[1] < 0  # up in the world is up (-y) in the image


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_patterns_mix_two_colours_and_vary(pattern):
    surface = Surface((0.2, 0.4, 0.6), (0.6, 0.8, 0.9), pattern, 0.2)
    points = np.random.default_rng(0).uniform(-1, 1, (500, 3))
    up = np.tile([0.0, 0.0, 1.0], (500, 1))
    colours = surface_colour(surface, points, up)
    assert (colours >= np.array(surface.colour) - 1e-9).all()
    assert (colours <= np.array(surface.second) + 1e-9).all()
    assert colours.std(axis=0).min() > 0.01
    # On a wall the pattern lies in the wall: what is behind it does not matter.
    side = np.tile([1.0, 0.0, 0.0], (500, 1))
    deeper = points + np.array([0.37, 0, 0])
    assert (surface_colour(surface, points, side) == surface_colour(surface, deeper, side)).all()


def test_finer_rays_give_the_mean_of_coarse_pixels():
    fine = Simulator("lab-000", 4, 64, samples=1).observe()[0].astype(float)
    coarse = Simulator("lab-000", 4, 32, samples=2).observe()[0]
    mean = fine.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(mean - coarse).max() <= 1
