"""A picture of the scene from rays alone: no OpenGL, the same bytes on every run.

Every pixel is the mean of `samples` x `samples` rays, each shaded by Lambert's law under one point
light with cast shadows, and textured by a pattern computed where it hits. What stands still is cast
and shaded once per camera; a frame then only casts the arm and the movable things.

Legend: S = samples across the image (size * samples), N = S * S rays. Lengths in metres.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.labs import Camera, Lab, Surface
from pipelines.robot.scene import ARM, MOVABLE, STILL

Array = NDArray[np.float64]

# A surface does not shade itself: a shadow needs something this much nearer to the light.
_SHADOW_GAP = 0.004
# Share of the light that falls on what faces the camera, wherever the lamp is.
_FILL = 0.18
_SKY: tuple[float, float, float] = (0.55, 0.58, 0.62)

JITTER = (8.0, 3.0, 0.05)
"""How far a camera is moved at a jitter of one: half ranges, units as of `place_camera`."""


@dataclass(frozen=True)
class Hits:
    """Where N rays ended: `distance` [N] (infinite on a miss), `geom` [N] (-1), `normal` [N, 3]."""

    distance: Array
    geom: NDArray[np.int32]
    normal: Array


class Cast(Protocol):
    """Casts rays from one point along unit `directions` [N, 3] at geoms of the given groups."""

    def __call__(self, origin: Array, directions: Array, groups: tuple[int, ...]) -> Hits:
        """What the rays hit, and where."""
        ...


@dataclass(frozen=True)
class View:
    """A camera in place: `position` [3], `axes` [3, 3] (columns right, up, back), `fov` degrees."""

    position: Array
    axes: Array
    fov: float

    def extrinsics(self) -> tuple[Array, Array]:
        """Position [3] and rotation [3, 3] of the camera frame with x right, y down, z ahead."""
        return self.position, self.axes * np.array([1.0, -1.0, -1.0])


def place_camera(camera: Camera, jitter: Array) -> View:
    """The view of a camera that stands around its target and looks at it, horizon level.

    jitter [3] is added: degrees of azimuth, degrees of elevation, share of the distance.
    """
    azimuth, elevation = np.radians(np.array([camera.azimuth, camera.elevation]) + jitter[:2])
    distance = camera.distance * (1.0 + jitter[2])
    level = np.cos(elevation)
    back = np.array([np.cos(azimuth) * level, np.sin(azimuth) * level, np.sin(elevation)])
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(back, right), back], axis=1)
    return View(np.asarray(camera.target) + distance * back, axes, camera.fov)


def painted(own: Array, materials: Array, chosen: NDArray[np.int32]) -> Array:
    """Colours [G, 3] of geoms: that of its material `chosen` [G] goes before a geom's own.

    own [G, 4] and materials [M, 4] are red, green, blue and opacity; -1 chooses none.
    """
    colours = own[:, :3].astype(np.float64)
    colours[chosen >= 0] = materials[chosen[chosen >= 0], :3]
    return colours


def ray_directions(view: View, across: int) -> Array:
    """Unit directions [across * across, 3] through the centres of a square image's samples."""
    extent = np.tan(np.radians(view.fov) / 2)
    steps = (2 * (np.arange(across) + 0.5) / across - 1) * extent
    right, up = np.meshgrid(steps, -steps)
    local = np.stack([right, up, -np.ones_like(right)], axis=-1).reshape(-1, 3)
    local /= np.linalg.norm(local, axis=1, keepdims=True)
    return local @ view.axes.T


def _noise(number: Array) -> Array:
    """A fixed value in [0, 1) for each number, without visible order."""
    return np.asarray(np.modf(np.abs(np.sin(number)) * 43758.5453)[0])


def _checks(u: Array, v: Array) -> Array:
    return (np.floor(u) + np.floor(v)) % 2


def _planks(u: Array, v: Array) -> Array:
    # Each plank has its own tone, and grain along its length.
    tone = _noise(np.floor(v) * 12.9898)
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * (3 * v + 0.35 * np.sin(2.1 * u)))
    seam = (v - np.floor(v) < 0.06).astype(np.float64)
    return np.clip(0.55 * tone + 0.25 * grain + seam, 0.0, 1.0)


def _bricks(u: Array, v: Array) -> Array:
    row = np.floor(2 * v)
    shifted = u + 0.5 * (row % 2)
    mortar = (2 * v - row < 0.12) | (shifted - np.floor(shifted) < 0.06)
    tone = _noise(row * 78.233 + np.floor(shifted) * 37.719)
    return np.where(mortar, 1.0, 0.6 * tone)


def _waves(u: Array, v: Array) -> Array:
    return 0.5 + 0.25 * np.sin(2 * np.pi * u) + 0.25 * np.sin(2 * np.pi * (v + 0.3 * np.sin(u)))


def _stripes(u: Array, v: Array) -> Array:
    return np.floor(u + v) % 2


def _tiles(u: Array, v: Array) -> Array:
    across, along = np.floor(u), np.floor(v)
    seam = (u - across < 0.08) | (v - along < 0.08)
    tone = _noise(across * 37.719 + along * 12.9898)
    return np.where(seam, 1.0, 0.4 * tone)


PATTERNS: Mapping[str, Callable[[Array, Array], Array]] = {
    "checks": _checks,
    "planks": _planks,
    "bricks": _bricks,
    "waves": _waves,
    "stripes": _stripes,
    "tiles": _tiles,
}


def surface_colour(surface: Surface, points: Array, normals: Array) -> Array:
    """Colours [N, 3] of a patterned surface at `points` [N, 3]: the pattern lies in its plane."""
    across = np.abs(normals).argmax(axis=1)
    rows = np.arange(len(points))
    u = points[rows, np.where(across == 0, 1, 0)] / surface.period
    v = points[rows, np.where(across == 2, 1, 2)] / surface.period
    blend = PATTERNS[surface.pattern](u, v)[:, None]
    first, second = np.array(surface.colour), np.array(surface.second)
    return np.asarray(first + blend * (second - first))


class RayRenderer:
    """Frames of one scene; what stands still is cast again only when the view is another."""

    def __init__(
        self, cast: Cast, lab: Lab, colours: Array, patterned: Mapping[int, Surface],
        size: int, samples: int | None = None,
    ) -> None:  # fmt: skip
        """Prepare for square frames of `size` pixels.

        colours [geoms, 3] in 0..1; patterned: geom id -> surface. samples: rays along a pixel's
        side; None takes as many as make 128 rays across the image, below which edges look ragged.
        """
        samples = -(-128 // size) if samples is None else samples
        self._cast, self._lab, self._colours, self._patterned = cast, lab, colours, patterned
        self._size, self._samples = size, samples
        self._light = np.asarray(lab.light)
        self._view: View | None = None

    def _set_view(self, view: View) -> None:
        """Cast and shade what stands still, once for all frames of this view."""
        self._view, self._eye = view, view.position
        self._rays = ray_directions(view, self._size * self._samples)
        still = self._cast(self._eye, self._rays, (STILL,))
        self._still_distance = still.distance
        seen = still.geom >= 0
        self._points = self._eye + self._rays * np.where(seen, still.distance, 0.0)[:, None]
        dim, bright = self._shade(self._points[seen], self._rays[seen], still, seen)
        bright *= self._lit(self._points[seen], bright, (STILL,))
        self._dim = np.tile(np.asarray(_SKY), (len(self._rays), 1))
        self._bright = np.zeros_like(self._dim)
        self._dim[seen] = dim
        self._bright[seen] = bright

    def frame(self, view: View) -> NDArray[np.uint8]:
        """The picture [size, size, 3] of the scene as it is now."""
        if view is not self._view:
            self._set_view(view)
        moving = self._cast(self._eye, self._rays, (ARM, MOVABLE))
        front = moving.distance < self._still_distance
        points, dim, bright = self._points.copy(), self._dim.copy(), self._bright.copy()
        points[front] = self._eye + self._rays[front] * moving.distance[front, None]
        dim[front], bright[front] = self._shade(points[front], self._rays[front], moving, front)
        image = dim + bright * self._lit(points, bright, (ARM, MOVABLE))
        image = np.minimum(image, 1.0).reshape(self._size, self._samples, self._size, -1, 3)
        return np.asarray(np.rint(255 * image.mean(axis=(1, 3))), dtype=np.uint8)

    def _shade(
        self, points: Array, rays: Array, hits: Hits, chosen: NDArray[np.bool_]
    ) -> tuple[Array, Array]:
        """Light that needs no lamp and light the lamp adds, [n, 3] each, at the chosen hits."""
        normals, geoms = hits.normal[chosen], hits.geom[chosen]
        colours = self._colours[geoms]
        for geom, surface in self._patterned.items():
            on = geoms == geom
            if on.any():
                colours[on] = surface_colour(surface, points[on], normals[on])
        to_light = self._light - points
        to_light /= np.linalg.norm(to_light, axis=1, keepdims=True)
        lamp = np.maximum((normals * to_light).sum(axis=1), 0.0)[:, None]
        facing = np.abs((normals * rays).sum(axis=1))[:, None]
        dim = colours * (self._lab.ambient + _FILL * facing)
        strength = 1.0 - 0.6 * self._lab.ambient
        return dim, colours * lamp * strength * np.asarray(self._lab.light_colour)

    def _lit(self, points: Array, bright: Array, groups: tuple[int, ...]) -> Array:
        """0 where something of these groups stands between light and point [N, 3], else 1: [N, 1].

        Points to which the lamp adds nothing (`bright` [N, 3]) are not asked for.
        """
        lit = np.ones((len(points), 1))
        asked = bright.any(axis=1)
        away = points[asked] - self._light
        reach = np.linalg.norm(away, axis=1)
        blocked = self._cast(self._light, away / reach[:, None], groups).distance
        lit[asked, 0] = blocked > reach - _SHADOW_GAP
        return lit
