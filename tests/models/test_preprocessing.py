"""Claims: what training and the planner share is one thing: the mean and spread, the widest cut and
the formulas of rotations, which numpy and torch both get from here."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from models.preprocessing import ASPECT, IMAGENET_MEAN, WIDEST, Preprocessing, centred_cut
from models.rotations import angles, matrix_rows
from pipelines.planner.world import euler_angles, rotation
from pipelines.robot.poses import euler_to_matrix, matrix_to_euler
from pipelines.training.clips import ClipConfig

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("assets", "models", "pipelines", "storage")


@pytest.mark.parametrize(
    ("high", "wide", "cut"),
    [
        (100, 100, (0, 0, 100, 100)),
        (100, 135, (0, 0, 100, 135)),
        (100, 200, (0, 32, 100, 135)),
        (200, 100, (32, 0, 135, 100)),
        (1, 1, (0, 0, 1, 1)),
        (720, 1280, (0, 154, 720, 972)),
    ],
)
def test_the_cut_is_centred_and_at_most_so_wide(high, wide, cut) -> None:
    assert centred_cut(high, wide) == cut
    assert centred_cut(high, wide, 1.0)[2:] == (min(high, wide),) * 2


def test_defaults_are_one_number_everywhere() -> None:
    assert Preprocessing().widest == WIDEST == ASPECT[1] == ClipConfig().aspect[1]
    texts = {p: p.read_text() for room in ROOMS for p in (ROOT / room).rglob("*.py")}
    for number in (f"{IMAGENET_MEAN[0]}", f"= {WIDEST}", f", {WIDEST})"):
        holders = {p.relative_to(ROOT).as_posix() for p in texts if number in texts[p]}
        assert holders <= {"models/preprocessing.py"}, number
    formula = re.compile(r"sy \* sp \* sr")
    assert [p.name for p in texts if formula.search(texts[p])] == ["rotations.py"]


def test_rotations_are_scipys_by_either_library() -> None:
    euler = np.random.default_rng(2).uniform(-3.1, 3.1, (200, 3))
    euler[:, 1] /= 2.1
    wanted = Rotation.from_euler("xyz", euler).as_matrix()
    tensor = torch.from_numpy(euler)
    assert np.allclose(euler_to_matrix(euler), wanted)
    assert np.allclose(rotation(tensor).numpy(), wanted)
    assert np.allclose(matrix_to_euler(wanted), euler)
    assert np.allclose(euler_angles(torch.from_numpy(wanted)).numpy(), euler)


def test_the_formulas_take_plain_numbers() -> None:
    rows = matrix_rows((1.0, 1.0, 0.0), (0.0, 0.0, 1.0))  # a quarter turn about z
    assert rows == ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (-0.0, 0.0, 1.0))
    assert angles(np.array(rows), np.arctan2, np.hypot) == (0.0, 0.0, np.pi / 2)
