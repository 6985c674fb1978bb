"""Backgrounds of eleven themes, each with its texture and range of colours.

`noise` is the plain one: grey, isotropic, lit alike everywhere, so that nothing which stays the
same in a clip tells one clip from another.

Only additions, products, comparisons and remainders of arrays: the same pixels everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Random = np.random.Generator
Colour = tuple[int, int, int]

KNOTS = 5.5
"""Pixels between the knots of `noise`."""


def _grain(random: Random, height: int, width: int, rows: int, columns: int) -> Plane:
    """Smooth noise in [0, 1]: a random grid of rows x columns knots, interpolated linearly."""
    knots = random.random((rows + 1, columns + 1), dtype=np.float32)

    def between(length: int, cells: int) -> tuple[npt.NDArray[np.int64], Plane]:
        place = np.arange(length, dtype=np.float32) * np.float32(cells / length)
        cell = np.minimum(place.astype(np.int64), cells - 1)
        return cell, place - cell.astype(np.float32)

    row, down = between(height, rows)
    column, across = between(width, columns)
    bands = knots[row] + (knots[row + 1] - knots[row]) * down[:, None]
    return bands[:, column] + (bands[:, column + 1] - bands[:, column]) * across[None, :]


def _noise(random: Random, height: int, width: int) -> Plane:
    """Smooth noise: random knots KNOTS pixels apart, interpolated by cubics through them."""

    def between(length: int) -> tuple[npt.NDArray[np.int64], list[Plane]]:
        place = np.arange(length, dtype=np.float32) * np.float32(1.0 / KNOTS)
        knot = place.astype(np.int64)
        t = place - knot.astype(np.float32)
        # Catmull-Rom: what each of the four knots around a place contributes.
        weights = [
            ((2 - t) * t - 1) * t, (3 * t - 5) * t * t + 2, ((4 - 3 * t) * t + 1) * t,
            (t - 1) * t * t,
        ]  # fmt: skip
        return knot, [weight * np.float32(0.5) for weight in weights]

    down, rows = between(height)
    across, columns = between(width)
    knots = random.random((int(down[-1]) + 4, int(across[-1]) + 4), dtype=np.float32)
    # Added up one after the other: the order of a library's sum is its own affair.
    bands = np.zeros((height, knots.shape[1]), np.float32)
    for step, weight in enumerate(rows):
        bands += knots[down + step] * weight[:, None]
    waves = np.zeros((height, width), np.float32)
    for step, weight in enumerate(columns):
        waves += bands[:, across + step] * weight
    return np.clip((waves - np.float32(0.5)) * np.float32(1.2) + np.float32(0.5), 0, 1)


def _axes(height: int, width: int) -> tuple[Plane, Plane]:
    y, x = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    return y[:, None], x[None, :]


def _tiles(random: Random, height: int, width: int) -> Plane:
    y, x = _axes(height, width)
    side = float(random.integers(14, 26))
    joint = (y % side < 2) | (x % side < 2)
    checker = ((y // side + x // side) % 2) * np.float32(0.25)
    return np.where(joint, np.float32(0.05), np.float32(0.65) + checker)


def _planks(random: Random, height: int, width: int) -> Plane:
    board = int(random.integers(14, 24))
    tones = random.random(height // board + 1, dtype=np.float32)[np.arange(height) // board]
    streaks = _grain(random, height, width, height // 2, 4)
    seam = (np.arange(height) % board < 2)[:, None]
    return np.where(seam, np.float32(0.0), 0.3 + 0.4 * tones[:, None] + 0.3 * streaks)


def _foliage(random: Random, height: int, width: int) -> Plane:
    coarse = _grain(random, height, width, 6, 8)
    fine = _grain(random, height, width, height // 4, width // 4)
    return np.where(fine > coarse, 0.9 * fine, np.float32(0.25) * coarse)


def _sky(random: Random, height: int, width: int) -> Plane:
    y, _ = _axes(height, width)
    cloud = np.maximum(_grain(random, height, width, 4, 5) - np.float32(0.5), 0) * 2
    return np.minimum(np.float32(0.7) * y / height + cloud, 1.0).astype(np.float32)


def _bricks(random: Random, height: int, width: int) -> Plane:
    y, x = _axes(height, width)
    tall, long = float(random.integers(8, 12)), float(random.integers(18, 28))
    shifted = x + (y // tall % 2) * np.float32(long / 2)
    mortar = (y % tall < 2) | (shifted % long < 2)
    worn = _grain(random, height, width, 12, 12)
    return np.where(mortar, np.float32(1.0), np.float32(0.5) * worn)


def _night(random: Random, height: int, width: int) -> Plane:
    y, x = _axes(height, width)
    glow = np.zeros((height, width), np.float32)
    for _ in range(int(random.integers(10, 18))):
        row, column = random.integers(height), random.integers(width)
        away = (y - np.float32(row)) ** 2 + (x - np.float32(column)) ** 2
        glow += np.float32(random.uniform(6.0, 30.0)) / (away + np.float32(12.0))
    return np.minimum(glow, 1.0).astype(np.float32)


def _paper(random: Random, height: int, width: int) -> Plane:
    y, x = _axes(height, width)
    line, words = 8, _grain(random, height // 8 + 1, width, height // 8 + 1, width // 5)
    written = (words[(np.arange(height) // line)] > 0.45) & (y % line < 3) & (x % 37 > 4)
    return np.where(written, np.float32(0.0), np.float32(1.0))


def _sand(random: Random, height: int, width: int) -> Plane:
    dunes = _grain(random, height, width, 4, 3)
    return 0.5 * dunes + 0.5 * random.random((height, width), dtype=np.float32)


def _water(random: Random, height: int, width: int) -> Plane:
    y, _ = _axes(height, width)
    bent = y + 18 * _grain(random, height, width, 4, 6)
    length = np.float32(random.integers(9, 16))
    return np.abs(bent % length / length * 2 - 1).astype(np.float32)


def _metal(random: Random, height: int, width: int) -> Plane:
    y, x = _axes(height, width)
    brushed = random.random(height + width, dtype=np.float32)
    slant = (y + x).astype(np.int64)
    sheen = np.abs((y + x) / np.float32(height + width) * 2 - 1)
    return (0.35 * brushed[slant] + 0.65 * sheen).astype(np.float32)


# Texture, then the colours that it goes from and to.
_THEMES: dict[str, tuple[Callable[[Random, int, int], Plane], Colour, Colour]] = {
    "tiles": (_tiles, (120, 140, 160), (250, 250, 245)),
    "planks": (_planks, (60, 30, 10), (205, 150, 95)),
    "foliage": (_foliage, (10, 40, 10), (120, 190, 60)),
    "sky": (_sky, (60, 120, 220), (235, 240, 250)),
    "bricks": (_bricks, (110, 30, 20), (200, 180, 165)),
    "night": (_night, (5, 5, 20), (255, 220, 140)),
    "paper": (_paper, (40, 40, 50), (245, 242, 230)),
    "sand": (_sand, (170, 130, 80), (245, 220, 170)),
    "water": (_water, (0, 50, 90), (90, 200, 215)),
    "metal": (_metal, (50, 52, 58), (205, 208, 215)),
    "noise": (_noise, (8, 8, 8), (247, 247, 247)),
}
THEMES = tuple(_THEMES)
UNTINTED = ("noise",)
"""Themes whose colours are the same in every picture."""


def texture(theme: str, random: Random, height: int, width: int) -> tuple[Plane, Plane]:
    """How far each point [height, width] is from one colour to another, and the two [2, 3]."""
    drawn, dark, bright = _THEMES[theme]
    palette = np.array([dark, bright], np.float32)
    if theme not in UNTINTED:
        light = np.float32(random.uniform(0.55, 1.15))
        tint = random.uniform(-35.0, 35.0, (2, 3)).astype(np.float32)
        palette = np.clip((palette + tint) * light, 0, 255)
    return drawn(random, height, width).astype(np.float32), palette


def coloured(amount: Plane, palette: Plane) -> Pixels:
    """A texture [height, width] in its two colours: [height, width, 3]."""
    canvas = palette[0] + (palette[1] - palette[0]) * amount[..., None]
    return (np.clip(canvas, 0, 255) + np.float32(0.5)).astype(np.uint8)


def backdrop(theme: str, random: Random, height: int, width: int) -> tuple[Pixels, Plane]:
    """A background [height, width, 3] and its two colours [2, 3], tinted and lit at random."""
    amount, palette = texture(theme, random, height, width)
    return coloured(amount, palette), palette


def contrasting(random: Random, palette: Plane) -> Plane:
    """Two colours [2, 3] of a body: of 16 pairs, the one that stands out most from the palette."""
    pairs = random.uniform(0, 255, (16, 2, 3)).astype(np.float32)
    apart = np.abs(pairs[:, :, None] - palette).sum(-1).min((1, 2))  # from the background
    within = np.abs(pairs[:, 0] - pairs[:, 1]).sum(-1)  # of the two halves
    best: Plane = pairs[int(np.argmax(np.minimum(apart, within)))]
    return best
