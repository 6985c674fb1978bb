"""Claims: a lab follows from its name alone; labs look different, more than a lab does from day to
day; every lab is valid: the hand is in the picture and its moves show, the arm reaches, things lie
in the zone, decoration out of reach; no lab has two roles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipelines.robot.blueprint import find_lab
from pipelines.robot.furniture import Lot
from pipelines.robot.rendering import JITTER, place_camera
from pipelines.robot.roles import ROLES, check_labs, labs_of, number_of, role_of
from pipelines.robot.scene import WORKSPACE, lay_out
from pipelines.robot.simulator import Simulator

ALL = [lab for role in ROLES for lab in labs_of(role)]
DOZEN = ALL[3::87]
CORNERS = np.stack(np.meshgrid(*zip(*WORKSPACE, strict=True)), axis=-1).reshape(-1, 3)


def test_roles_part_the_thousand_labs() -> None:
    assert len(ALL) == len(set(ALL)) == 1000
    assert [f"lab-{number:03d}" for number in range(1000)] == ALL
    assert [role_of(ALL[n]) for n in (0, 399, 400, 499, 500, 599, 600, 999)] == [
        "recording", "recording", "tuning", "tuning", "evaluation", "evaluation", "pretraining",
        "pretraining",
    ]  # fmt: skip
    assert labs_of("evaluation", 2) == ("lab-500", "lab-501")


@pytest.mark.parametrize("name", ["lab-1000", "lab-7", "lab-a", "", "500", "lab--01"])
def test_what_is_no_lab_is_refused(name: str) -> None:
    for find in (find_lab, number_of, role_of):
        with pytest.raises(ValueError, match=r"is not known: there are lab-000 to lab-999$"):
            find(name)
    with pytest.raises(ValueError, match=r"labs names .* no lab: choose from lab-400 to lab-599$"):
        check_labs("labs", [name], "tuning", "evaluation")


def test_a_lab_follows_from_its_name_alone() -> None:
    first = [find_lab(name) for name in DOZEN]
    find_lab.cache_clear()
    assert [find_lab(name) for name in reversed(DOZEN)] == first[::-1]
    frames = [Simulator("lab-777", 5, 32, samples=1).observe()[0] for _ in range(2)]
    assert (frames[0] == frames[1]).all()


def test_a_value_drawn_more_changes_no_other() -> None:
    lot = Lot(("lab-001",)).of("thing")
    before = lot.between(0.0, 1.0, "x"), lot.among("abcdefgh", "y")
    lot.between(0.0, 1.0, "z")
    assert before == (lot.between(0.0, 1.0, "x"), lot.among("abcdefgh", "y"))
    assert sorted(lot.some("abcdefgh", 8, "order")) == list("abcdefgh")


def test_every_lab_is_another() -> None:
    labs = [find_lab(name) for name in ALL]
    for look in ("camera", "table", "floor", "walls", "light", "light_colour", "things"):
        assert len({repr(getattr(lab, look)) for lab in labs}) > 990, look
    assert len({lab.camera_serial for lab in labs}) > 990
    assert {len([t for t in lab.things if t.mass > 0]) for lab in labs} == {2, 3}
    for lab in labs:
        names = [thing.name for thing in lab.things]
        assert len(set(names)) == len(names)


def test_labs_differ_more_than_days_in_one_lab() -> None:
    frames = {}
    for name in DOZEN:
        arm = Simulator(name, 0, 32, samples=1)
        for seed in (0, 1):
            arm.reset(seed)
            frames[name, seed] = arm.observe()[0].astype(float)
            assert frames[name, seed].std() > 20  # no flat picture
    within = [np.abs(frames[name, 0] - frames[name, 1]).mean() for name in DOZEN]
    between = [
        np.abs(frames[one, 0] - frames[two, 0]).mean()
        for one, two in itertools.combinations(DOZEN, 2)
    ]
    assert min(within) > 2
    assert np.median(between) > 1.5 * np.median(within)
    assert min(between) > 15


def test_every_camera_sees_the_whole_workspace_wherever_it_is_moved() -> None:
    pushes = [np.array(signs) * JITTER for signs in itertools.product((-1, 1), repeat=3)]
    for name in ALL[::5]:
        camera = find_lab(name).camera
        for push in (np.zeros(3), *pushes):
            view = place_camera(camera, push)
            local = (CORNERS - view.position) @ view.axes
            extent = np.tan(np.radians(view.fov) / 2)
            assert np.abs(local[:, :2] / local[:, 2:] / extent).max() < 1.03


@pytest.mark.parametrize("name", DOZEN)
def test_the_hand_shows_and_reaches_in_every_lab(name: str) -> None:
    arm = Simulator(name, 2, 48, samples=1)
    middle = np.array([0.45, 0.0, 0.25])
    arm.move_to(middle)
    rest, before = arm.snapshot(), arm.observe()[0].astype(int)
    for axis in range(3):
        arm.move_to(middle + 0.05 * np.eye(3)[axis])
        changed = np.abs(arm.observe()[0] - before).max(axis=2) > 20
        assert 0.01 < changed.mean() < 0.3
        arm.restore(rest)
    (x, y, _), (far, left, high) = WORKSPACE
    for corner in ((x, y, high), (x, y, 0.16), (far, y, 0.16), (far, left, high)):
        assert arm.move_to(np.array(corner)) < 0.003


@pytest.mark.parametrize("name", DOZEN)
def test_things_lie_in_the_zone_and_decoration_out_of_reach(name: str) -> None:
    lab = find_lab(name)
    low, high = WORKSPACE
    for seed in range(5):
        poses = lay_out(lab, np.random.default_rng(seed))
        assert set(poses) == {thing.name for thing in lab.things if thing.mass > 0}
        for pose in poses.values():
            assert (pose[:2] > low[:2]).all() and (pose[:2] < high[:2]).all()
        for one, two in itertools.combinations(poses.values(), 2):
            assert np.linalg.norm(one[:2] - two[:2]) > 0.1
    for thing in (thing for thing in lab.things if thing.mass == 0):
        for part in thing.parts:
            half = part.size[1] if part.shape == "box" else part.size[0]
            assert thing.at[1] + part.at[1] + half < low[1] - 0.05
