"""Claims: poses move as scipy's rotations say, frames are prepared as documented, the energy is
the mean L1 of the imagined tokens, and neither chunks nor the cache of past steps change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from models.losses import normalise
from models.preprocessing import Preprocessing, prepare
from pipelines.planner.world import ImaginedWorld, moved, poses_before


def frames(count: int, seed: int = 0, size: int = 32) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def test_poses_move_as_scipy_says():
    random = np.random.default_rng(1)
    states = random.uniform(-0.6, 0.6, (50, 7))
    states[:, 3] += math.pi
    states[:, 6] = random.uniform(0, 1, 50)
    actions = random.uniform(-0.5, 0.5, (50, 7))
    after = moved(torch.from_numpy(states), torch.from_numpy(actions)).numpy()
    assert np.allclose(after[:, :3], states[:, :3] + actions[:, :3])
    turn = Rotation.from_euler("xyz", actions[:, 3:6]) * Rotation.from_euler("xyz", states[:, 3:6])
    assert np.allclose(Rotation.from_euler("xyz", after[:, 3:6]).as_matrix(), turn.as_matrix())
    assert np.allclose(after[:, 6], np.clip(states[:, 6] + actions[:, 6], 0, 1))


def test_angles_do_not_jump_where_the_hand_points_down():
    state = torch.tensor([0.4, 0, 0.3, math.pi - 0.01, 0, 0, 0])
    turn = torch.tensor([0.0, 0, 0, 0.02, 0, 0, 0])
    assert math.isclose(float(moved(state, turn)[3]), math.pi + 0.01, abs_tol=1e-5)


def test_poses_before_each_action_follow_from_the_actions():
    state, actions = torch.rand(7), torch.randn(4, 3, 7) * 0.05
    poses = poses_before(state, actions)
    assert torch.equal(poses[:, 0], state.expand(4, 7))
    assert torch.allclose(poses[:, 2], moved(moved(state, actions[:, 0]), actions[:, 1]))


def test_frames_are_cut_scaled_and_normalised():
    preprocessing = Preprocessing(size=4, widest=1.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    wide = torch.zeros(1, 4, 8, 3, dtype=torch.uint8)
    wide[:, :, 2:6] = 255  # the centred square is white, the rest black
    assert torch.equal(prepare(wide, preprocessing), torch.ones(1, 3, 4, 4))
    assert torch.equal(prepare(wide.transpose(1, 2), preprocessing), torch.ones(1, 3, 4, 4))
    big = torch.full((2, 64, 64, 3), 51, dtype=torch.uint8)
    assert torch.allclose(prepare(big, preprocessing), torch.tensor((0.2 - 0.5) / 0.5), atol=1e-6)
    mean = prepare(frames(1, size=64), Preprocessing(size=32, mean=(0, 0, 0), std=(1, 1, 1))).mean()
    assert torch.isclose(mean, frames(1, size=64).float().mean() / 255, atol=0.01)
    with pytest.raises(ValueError, match=r"uint8 \[B, H, W, 3\]"):
        prepare(torch.zeros(1, 3, 4, 4), preprocessing)


def test_energy_is_the_mean_l1_of_the_imagined_tokens(tiny_world):
    world = tiny_world()
    now, goal = world.encode(frames(1)), world.encode(frames(1, seed=9))
    state, actions = torch.rand(7), torch.randn(5, 1, 7) * 0.05
    energies = world.energy(now, state, goal)(actions)
    for index in range(5):
        with torch.no_grad():
            one = world.world_model(now, actions[index : index + 1], state[None, None])
        by_hand = (normalise(one) - goal).abs().mean()
        assert torch.isclose(energies[index], by_hand, atol=1e-5)
    assert energies.std() > 1e-3  # the motion matters
    assert torch.allclose(world.energy(now, state, goal, chunk=2)(actions), energies, atol=1e-5)


def test_two_steps_feed_the_prediction_and_the_moved_pose_back(tiny_world):
    world = tiny_world()
    now, state = world.encode(frames(1)), torch.rand(7)
    actions = torch.randn(3, 2, 7) * 0.05
    goal = world.encode(frames(1, seed=9))
    energies = world.energy(now, state, goal)(actions)
    with torch.no_grad():
        tokens = now.expand(3, -1, -1)
        states = state.expand(3, -1)
        first = normalise(world.world_model(tokens, actions[:, :1], states[:, None]))
        both = torch.stack([states, moved(states, actions[:, 0])], 1)
        whole = world.world_model(torch.cat([tokens, first], 1), actions, both)
    by_hand = (normalise(whole)[:, 16:] - goal).abs().mean((1, 2))
    assert torch.allclose(energies, by_hand, atol=1e-5) and by_hand.std() > 1e-4


def test_a_frame_is_encoded_alone_and_layer_normed(tiny_world):
    world = tiny_world()
    pair = frames(2)
    both = world.encode(pair)
    assert both.shape == (2, 16, 24)
    assert torch.allclose(both[1:], world.encode(pair[1:]), atol=1e-5)
    assert torch.allclose(both.mean(-1), torch.zeros(2, 16), atol=1e-5)


def test_models_that_do_not_belong_together_are_refused(tiny_world):
    world = tiny_world()
    with pytest.raises(ValueError, match="do not belong together"):
        ImaginedWorld(world.encoder, world.world_model, Preprocessing(size=64))
