"""Claims: a picture moves as its move says; from the pixels of a file its move can be told, from a
still it cannot; a stored clip holds several windows; the view at mid-clip is drawn apart from the
move; what lies beyond a texture mirrors it; the same numbers draw the same pixels everywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import affine_grid, grid_sample

from pipelines.curation.backdrops import backdrop, texture
from pipelines.curation.camera import (
    MOVES,
    ROLL,
    SIDE,
    SPEEDS,
    TEXELS,
    ZOOM,
    Move,
    View,
    film,
    move_of,
    view_of,
)
from pipelines.curation.embeddings import centre_square
from pipelines.curation.internet import make, shots_of, synthetic_videos
from pipelines.curation.shots import Shot, draw, stream
from pipelines.curation.sources import SOURCES
from pipelines.curation.themes import StyleConfig
from pipelines.curation.transcoding import stored_clips
from pipelines.nodes import PROFILES
from pipelines.training.clips import ClipConfig, frame_numbers
from storage.digests import digest_bytes
from storage.frames import frames_at
from storage.video import probe

STYLE = StyleConfig()
THEME_OF = {source.name: source.theme for source in SOURCES}
AHEAD = View(0.0, 0.0, 0.0, 0.0)
TURNS = {"right": 0.0, "down": 0.5, "left": 1.0, "up": 1.5}


def move(name: str, number: int = 0, seconds: float = 1.6) -> Move:
    return move_of(name, stream("test", number), seconds)


def places(move: Move, time: float, view: View = AHEAD) -> np.ndarray:
    """[2, 48, 64]: which texel, (right, down) of the texture's middle, each point shows."""
    texels = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    ramps = np.broadcast_to(texels, (SIDE, SIDE)), np.broadcast_to(texels[:, None], (SIDE, SIDE))
    return np.stack([
        next(film(np.ascontiguousarray(ramp), view, move, 48, 64, [time])) for ramp in ramps
    ])  # fmt: skip


# Points of the picture [48, 64] in short sides from its centre.
DOWN, RIGHT = (np.mgrid[:48, :64] + 0.5 - np.array([24, 32]).reshape(2, 1, 1)) / 48


@pytest.mark.parametrize("number", range(4))
def test_a_picture_moves_as_its_move_says(number: int) -> None:
    for name, turn in TURNS.items():
        found = replace(move(name, number), shift=0.0)
        speed = math.hypot(found.dx, found.dy)
        assert SPEEDS[0] <= speed <= SPEEDS[1]
        off = math.remainder(math.atan2(found.dy, found.dx) - turn * math.pi, 2 * math.pi)
        assert abs(off) <= math.radians(36) + 1e-9
        # What is at p after half a second was at p - half a second's way.
        there = np.stack([RIGHT - found.dx / 2, DOWN - found.dy / 2]) * TEXELS
        assert np.abs(places(found, 0.5) - there).max() < 1e-3
    speed = math.hypot(move("left", number).dx, move("left", number).dy)
    for name, sign in (("zoom_in", 1), ("zoom_out", -1)):
        found = move(name, number)
        assert found == Move(scale=pytest.approx(sign * ZOOM * speed))
        larger = math.exp(found.scale / 2)
        assert (larger > 1) == (name == "zoom_in")
        there = np.stack([RIGHT, DOWN]) * TEXELS / larger
        assert np.abs(places(found, 0.5) - there).max() < 1e-3
    for name, sign in (("roll_right", 1), ("roll_left", -1)):
        found = replace(move(name, number), shift=0.0)
        assert found == Move(angle=pytest.approx(sign * ROLL * speed))
        cosine, sine = math.cos(found.angle / 2), math.sin(found.angle / 2)
        # y goes down: a picture that rolls right shows above its middle what was left of it.
        there = np.stack([cosine * RIGHT + sine * DOWN, cosine * DOWN - sine * RIGHT]) * TEXELS
        assert np.abs(places(found, 0.5) - there).max() < 1e-3


def test_what_lies_beyond_a_texture_mirrors_it() -> None:
    far = View(2 * SIDE / TEXELS, 0.0, 0.0, 0.0)
    beyond = places(Move(), 0.0, far)
    assert np.all(np.abs(beyond) <= SIDE / 2)
    beside = places(Move(), 0.0, replace(far, x=SIDE / 2 / TEXELS))[0, 0]
    gaps = np.diff(beside)
    assert gaps[0] > 0.6 and gaps[-1] < -0.6


def test_no_move_takes_the_middle_square_beyond_the_texture() -> None:
    # Training cuts clips to it. Its corners, at either end of a clip of two seconds:
    for name, number in itertools.product(MOVES, range(300)):
        view, found = view_of(stream("view", number)), move(name, number, 2.0)
        for time in (-1.0, 1.0):
            step = TEXELS / math.exp(view.scale + found.shift + found.scale * time)
            reach = step * (math.sqrt(0.5) + math.hypot(found.dx, found.dy))
            assert reach + TEXELS * math.hypot(view.x, view.y) < SIDE / 2


def test_the_view_is_drawn_apart_from_the_move() -> None:
    pictures = {}
    for name in MOVES:
        frames = list(draw(Shot(("apart",), "foliage", name, 1.0), 48, 64, 11))
        assert len(frames) == 11
        pictures[name] = frames[5]  # at mid-clip
    assert all(np.array_equal(pictures["left"], pictures[n]) for n in (*TURNS, "roll_left"))
    assert np.array_equal(pictures["zoom_in"], pictures["zoom_out"])
    # A zoom alone changes the scale: the others are given one that it might have had.
    assert not np.array_equal(pictures["left"], pictures["zoom_in"])
    assert move("left").shift == move("roll_right").shift != move("zoom_in").shift == 0.0


def test_at_an_instant_every_move_shows_views_of_the_same_kind() -> None:
    random = np.random.default_rng(0)
    edges = np.quantile([scale(move("left", n), n, 0.0) for n in range(2000)], np.linspace(0, 1, 6))
    edges[[0, -1]] = -9, 9
    for name in MOVES:
        times = (random.random(500) - 0.5) / 2 * 1.6  # of the middle half
        seen = [scale(move(name, n), n, float(t)) for n, t in enumerate(times)]
        counts = np.histogram(seen, edges)[0]
        assert np.all(np.abs(counts - 100) < 45), (name, counts)  # five deviations of 9


def scale(move: Move, number: int, time: float) -> float:
    return view_of(stream("view", number)).scale + move.shift + move.scale * time


def test_noise_is_grey_and_lit_alike() -> None:
    pictures = [backdrop("noise", stream("grey", n), SIDE, SIDE)[0] for n in range(8)]
    assert all(np.array_equal(p[..., 0], p[..., c]) for p in pictures for c in (1, 2))
    assert max(abs(p.mean() - 127.5) for p in pictures) < 6
    assert max(p.std() for p in pictures) - min(p.std() for p in pictures) < 6
    # Isotropic, and its knots 5.5 apart: alike at 1, opposite or unlike from 7 on, either way.
    amount = texture("noise", stream("grey", 0), SIDE, SIDE)[0] - 0.5
    power = (amount**2).mean()
    for step, low, high in ((1, 0.9, 1.0), (7, -0.25, 0.25)):
        for alike in (
            (amount[step:] * amount[:-step]).mean() / power,
            (amount[:, step:] * amount[:, :-step]).mean() / power,
        ):
            assert low < alike < high


# ------------------------------------------------------------------ what a file shows


def clips(source: str, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Four frames [4, 64, 64] of each file, a quarter of a second apart, and the moves."""
    pictures, labels = [], []
    for number, video in enumerate(synthetic_videos(source, THEME_OF[source], count, 0, STYLE)):
        data = make(video, STYLE)
        start = (number * 0.381966) % 1.0 * (probe(data).seconds - 0.8)
        frames = frames_at(data, [start + step / 4 for step in range(4)], 64)
        pictures.append(np.stack([centre_square(frame) for frame in frames]).mean(-1) / 255)
        labels.append(MOVES.index(str(video.label)))
    return pictures, np.array(labels)


def guesses() -> tuple[torch.Tensor, np.ndarray]:
    """Affine maps [G, 2, 3] (for grid_sample) of a frame onto the next, and the move of each."""
    maps, of = [], []
    for index, name in enumerate(MOVES):
        for speed in (0.055, 0.075, 0.095, 0.117):  # a frame
            found = [Move(scale=ZOOM * speed * (1 if name == "zoom_in" else -1))]
            if name in TURNS:
                headings = [TURNS[name] * math.pi + slant for slant in (-0.53, -0.18, 0.18, 0.53)]
                found = [Move(dx=speed * math.cos(h), dy=speed * math.sin(h)) for h in headings]
            elif name.startswith("roll"):
                found = [Move(angle=ROLL * speed * (1 if name == "roll_right" else -1))]
            for moved in found:
                a = math.cos(moved.angle) / math.exp(moved.scale)
                b = math.sin(moved.angle) / math.exp(moved.scale)
                maps.append([
                    [a, b, -2 * (a * moved.dx + b * moved.dy)],
                    [-b, a, -2 * (a * moved.dy - b * moved.dx)],
                ])  # fmt: skip
                of.append(index)
    return torch.tensor(maps), np.array(of)


def told(frames: np.ndarray, maps: torch.Tensor, of: np.ndarray) -> int:
    """The move whose map brings each frame nearest to the next."""
    pictures = torch.from_numpy(frames).float()[:, None]
    pictures = torch.nn.functional.avg_pool2d(pictures, pictures.shape[-1] // 32)
    grid = affine_grid(maps, [len(maps), 1, *pictures.shape[2:]], align_corners=False)
    within = (grid.abs() <= 1).all(-1).float()
    cost = torch.zeros(len(maps))
    for before, after in itertools.pairwise(pictures):
        moved = grid_sample(before.expand(len(maps), -1, -1, -1), grid, align_corners=False)
        cost += ((moved[:, 0] - after) ** 2 * within).sum((1, 2)) / within.sum((1, 2))
    return int(of[int(cost.argmin())])


@pytest.mark.parametrize("source", ["ssv2", "kinetics"])
def test_the_pixels_of_a_file_tell_its_move(source: str) -> None:
    pictures, labels = clips(source, 64)
    maps, of = guesses()
    right = np.mean([told(p, maps, of) == label for p, label in zip(pictures, labels, strict=True)])
    assert right >= 0.95


def test_stored_as_the_demo_stores_them_they_hold_several_windows_of_four_frames() -> None:
    config, clip = PROFILES["demo"].clip_shards, ClipConfig(frames=4, fps=4.0, crop=32)
    for video in synthetic_videos("ssv2", THEME_OF["ssv2"], 12, 0, STYLE):
        data = make(video, STYLE)
        scene = {"kind": "video", "path": video.path, "start": 0.0, "end": probe(data).seconds}
        [stored] = stored_clips(data, scene, "mp4", 48, config)
        first, last = (frame_numbers(stored.frames, stored.fps, clip, s) for s in (0.0, 0.999))
        assert np.diff(first).tolist() == np.diff(last).tolist() == [2, 2, 2], "never held"
        assert last[0] - first[0] >= 3


def nearest_right(features: Sequence[np.ndarray], labels: np.ndarray) -> float:
    rows = np.stack([f.reshape(-1) for f in features]).astype(np.float32)
    square = (rows**2).sum(1)
    apart = square[:, None] + square[None] - 2 * rows @ rows.T
    np.fill_diagonal(apart, np.inf)
    return float((labels[apart.argmin(1)] == labels).mean())


@pytest.mark.parametrize("source", ["ssv2", "kinetics"])
def test_a_still_does_not_tell_the_move(source: str) -> None:
    random, stills, sharp, labels = np.random.default_rng(0), [], [], []
    for video in synthetic_videos(source, THEME_OF[source], 512, 0, STYLE):
        frames = list(draw(replace(shots_of(video, STYLE)[0], seconds=1.6), 24, 24, 5))
        still = frames[int(random.integers(2, 6))].astype(np.float32)  # of the middle half
        stills.append(still)
        change = [np.abs(np.diff(still, axis=axis)).mean() for axis in (0, 1)]
        sharp.append(np.array([*change, still.mean(), still.std()]))  # the scale shows in these
        labels.append(MOVES.index(str(video.label)))
    chance, deviation = 1 / 8, math.sqrt(7 / 64 / 512)
    assert nearest_right(stills, np.array(labels)) < chance + 4 * deviation
    assert nearest_right(sharp, np.array(labels)) < chance + 4 * deviation


# ------------------------------------------------------------------ the same everywhere


def test_the_pixels_have_not_drifted() -> None:
    frames = [
        frame
        for theme, name in (("noise", "zoom_out"), ("foliage", "left"), ("bricks", "roll_left"))
        for frame in draw(Shot(("pinned",), theme, name, 0.5), 48, 64, 8)
    ]
    assert digest_bytes(b"".join(frame.tobytes() for frame in frames)) == PINNED


PINNED = "141939d7abc1255738facb7fdb08bd801ca4d7ba35c869b53eb5519d21d51a36"


def test_a_file_is_made_the_same_again() -> None:
    for source in ("ssv2", "kinetics"):
        video = list(synthetic_videos(source, THEME_OF[source], 3, 0, STYLE))[2]
        assert make(video, STYLE) == make(video, STYLE)
