"""What every picture promises: a PNG, the same bytes for the same numbers, small enough to keep."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.image import imread  # decoding only: pictures are drawn in assets/pictures.py

from assets.previews import figures, scores
from assets.previews.style import LIMIT

NUMBERS = np.random.default_rng(0)
FRAMES = [NUMBERS.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(4)]
CLUSTERS = {
    "scenes": np.array([9, 4]), "kept": np.array([True, False]), "weight": np.array([0.7, 0.0]),
    "n_k710": np.array([3, 0]), "n_ssv2": np.array([0, 0]),
}  # fmt: skip
AXIS = np.linspace(-7.5, 7.5, 9)
SPARSE = np.where(np.arange(100) % 25, np.nan, 5.0)  # a number taken every 25 steps

DRAWINGS: dict[str, Callable[[], bytes]] = {
    "contact_sheet": lambda: figures.contact_sheet(FRAMES, list("abcd"), "scenes"),
    "table_bars": lambda: figures.table_bars({"codec": {"h264": 3, "vp9": 1}}, "videos"),
    "embedding_map": lambda: figures.embedding_map(
        np.random.default_rng(1).normal(size=(12, 5)), ["a", "b"] * 6, "map"
    ),
    "cluster_sheet": lambda: figures.cluster_sheet(CLUSTERS),
    "mixture_bars": lambda: figures.mixture_bars({"a": 0.3, "b": 0.7}, {"a": 10}),
    "training_curves": lambda: figures.training_curves(
        np.arange(100),
        {"loss": {"all": np.linspace(1, 0, 100)}, "rank": {"some": SPARSE}},
        "training",
    ),
    "film_strip": lambda: figures.film_strip(
        FRAMES, ["0 s", "1 s", "2 s", "goal"], {"x": AXIS}, ("step", "cm"), "episode"
    ),
    "ranking_histogram": lambda: scores.ranking_histogram(
        np.array([0, 0, 3, 7]), 16, {"true": 0.3, "shuffled": 0.5}
    ),
    "confusion": lambda: scores.confusion(np.eye(3, dtype=int) * 5, list("abc"), "probe"),
    "score_bars": lambda: scores.score_bars(
        {"pretrained": (0.5, 0.4, 0.6), "random": (0.3, 0.2, 0.4)}, 0.125, "accuracy", "probe"
    ),
    "benchmark_bars": lambda: scores.benchmark_bars(
        {"linear\npretrained": (0.5, 0.4, 0.6), "linear\nrandom": (0.3, 0.2, 0.4)},
        0.125,
        ("ViT-g", 0.75),
        "ssv2",
    ),
    "label_curves": lambda: scores.label_curves(
        {
            ("linear", "pretrained"): [(240, 0.4, 0.3, 0.5), (1000, 0.6, 0.5, 0.7)],
            ("k-NN", "random"): [(240, 0.2, 0.1, 0.3), (1000, 0.3, 0.2, 0.4)],
        },
        0.125,
        "probe",
    ),
    "arms_by_seed": lambda: scores.arms_by_seed(
        {"ssv2": {"temporal": [0.6, 0.7, 0.65], "untrained": [0.3, 0.31, 0.29]}},
        0.125,
        "accuracy",
        "masks",
    ),
    "energy_landscape": lambda: scores.energy_landscape(
        np.hypot(AXIS[None] - 2, AXIS[:, None]), (AXIS, AXIS), (2.0, 0.5)
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_is_a_png_with_ink_on_it(name):
    pixels = imread(io.BytesIO(DRAWINGS[name]()), format="png")
    assert pixels.ndim == 3
    assert pixels[..., :3].std() > 0.01, "an empty sheet"


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_same_numbers_give_the_same_bytes(name):
    assert DRAWINGS[name]() == DRAWINGS[name]()


def test_every_picture_is_under_test():
    drawn = {
        n
        for n, f in {**vars(figures), **vars(scores)}.items()
        if getattr(f, "__qualname__", "").startswith("drawn.")
    }
    assert drawn == set(DRAWINGS)


def test_photographs_are_drawn_coarser_until_they_fit():
    """Noise does not compress: at full resolution these sheets would be far over the limit."""
    noise = [NUMBERS.integers(0, 255, (360, 640, 3), dtype=np.uint8) for _ in range(24)]
    assert 10_000 < len(figures.contact_sheet(noise, [""] * 24, "noise")) <= LIMIT


def test_other_numbers_give_another_picture():
    more = figures.mixture_bars({"a": 0.4, "b": 0.6}, {"a": 10})
    assert more != DRAWINGS["mixture_bars"]()


def test_a_sheet_without_frames_still_says_what_it_is():
    assert figures.contact_sheet([], [], "nothing was kept").startswith(b"\x89PNG")
