"""Claims: the planner turns frames, state and goal into a motion inside the workspace, equal calls
give equal motions, and wrong inputs are refused with what they should have been."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.planner.cem import PlannerConfig
from pipelines.planner.control import Planner, checked_state, room_left

CONFIG = PlannerConfig(samples=16, iterations=3, elites=4, gripper=False)


def pictures(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(count)]


STATE = np.array([0.5, 0.0, 0.3, 3.1, 0.0, 0.2, 0.0])


def test_equal_calls_give_equal_motions_and_other_questions_others(tiny_world):
    frame, goal, other = pictures(3)
    planner = Planner(tiny_world(), CONFIG, seed=4)
    action = planner.plan(frame, STATE, goal)
    assert action.shape == (7,) and action.dtype == np.float64
    assert np.abs(action[:3]).max() <= 0.075 and np.abs(action[:3]).max() > 0
    assert not action[3:].any()
    planner.plan(other, STATE, goal, step=3)  # leaves no trace
    assert np.array_equal(planner.plan(frame, STATE, goal), action)
    assert np.array_equal(Planner(tiny_world(), CONFIG, seed=4).plan(frame, STATE, goal), action)
    assert not np.array_equal(planner.plan(frame, STATE, other), action)
    assert not np.array_equal(planner.plan(frame, STATE, goal, step=1), action)


def test_the_motion_is_the_one_of_least_energy_among_many(tiny_world):
    frame, goal = pictures(2)
    world = tiny_world()
    config = PlannerConfig(samples=128, iterations=6, gripper=False)
    found = Planner(world, config).search(frame, STATE, goal)
    energy = world.energy(
        world.encode(torch.tensor(frame)[None]), checked_state(STATE),
        world.encode(torch.tensor(goal)[None]),
    )  # fmt: skip
    random = torch.zeros(500, 1, 7)
    random[:, 0, :3] = (torch.rand(500, 3) * 2 - 1) * 0.075
    assert found.energy < energy(random).quantile(0.05)


def test_the_hand_stays_in_its_workspace(tiny_world):
    frame, goal = pictures(2)
    walls = (0.3, -0.3, 0.02, 0.52, 0.3, 0.48)
    config = PlannerConfig(samples=16, iterations=3, elites=4, gripper=False, workspace=walls)
    for step in range(4):
        action = Planner(tiny_world(step), config).plan(frame, STATE, goal, step)
        assert STATE[0] + action[0] <= 0.52 + 1e-6
    room = room_left(torch.tensor([0.6, 0.0, 0.3, 0, 0, 0, 0]), config)
    assert room is not None and torch.allclose(room[:, 0], torch.tensor([-0.075, -0.075]))


def test_wrong_inputs_say_what_is_right(tiny_world):
    frame, goal = pictures(2)
    planner = Planner(tiny_world(), CONFIG)
    with pytest.raises(ValueError, match=r"frame is float64 \[32, 32, 3\]"):
        planner.plan(frame.astype(np.float64), STATE, goal)
    with pytest.raises(ValueError, match=r"goal_frame is uint8 \[32, 32\]"):
        planner.plan(frame, STATE, goal[..., 0])
    with pytest.raises(ValueError, match=r"goal_frame is \[16, 32, 3\], frame \[32, 32, 3\]: both"):
        planner.plan(frame, STATE, goal[::2])
    with pytest.raises(ValueError, match="7 finite numbers"):
        planner.plan(frame, np.full(7, np.nan), goal)
    with pytest.raises(ValueError, match="workspace is"):
        PlannerConfig(workspace=(0, 0, 0, 1, 1, 0))
