"""Claims: angles mean what scipy's "xyz" means, actions between states lead from one to the next,
and a hand that points down has no jump in its roll."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from pipelines.robot.poses import (
    actions_between,
    apply_action,
    euler_to_matrix,
    matrix_to_euler,
    positive_roll,
    rotation_vector,
)

POSES = arrays(np.float64, (5, 7), elements=st.floats(-1.5, 1.5)).map(
    lambda values: np.concatenate([values[:, :6] * [1, 1, 1, 2, 1, 2], abs(values[:, 6:]) / 2], 1)
)


@given(arrays(np.float64, (4, 3), elements=st.floats(-6.0, 6.0)))
def test_matrices_are_scipys(euler):
    assert np.allclose(euler_to_matrix(euler), Rotation.from_euler("xyz", euler).as_matrix())


@given(arrays(np.float64, (4, 3), elements=st.floats(-6.0, 6.0)))
def test_angles_give_their_matrix_back(euler):
    matrix = euler_to_matrix(euler)
    assert np.allclose(euler_to_matrix(matrix_to_euler(matrix)), matrix, atol=1e-7)


def test_angles_are_scipys_away_from_the_pole():
    euler = np.random.default_rng(0).uniform(-1.4, 1.4, (50, 3))
    wanted = Rotation.from_euler("xyz", euler).as_euler("xyz")
    assert np.allclose(matrix_to_euler(euler_to_matrix(euler)), wanted)


def test_straight_up_and_down_keep_the_rotation():
    for pitch in (np.pi / 2, -np.pi / 2):
        matrix = euler_to_matrix(np.array([0.4, pitch, 0.9]))
        angles = matrix_to_euler(matrix)
        assert angles[2] == 0
        assert np.allclose(euler_to_matrix(angles), matrix, atol=1e-9)


@given(POSES)
def test_actions_lead_from_state_to_state(states):
    reached = apply_action(states[:-1], actions_between(states))
    assert np.allclose(reached[:, :3], states[1:, :3])
    assert np.allclose(reached[:, 6], states[1:, 6])
    wanted = euler_to_matrix(states[1:, 3:6])
    assert np.allclose(euler_to_matrix(reached[:, 3:6]), wanted, atol=1e-7)


@given(POSES)
def test_states_give_the_actions_that_made_them(states):
    action = np.array([0.01, -0.02, 0.03, 0.1, -0.05, 0.2, 0.1])
    after = apply_action(states, action)
    pair = np.stack([states, after], axis=1)
    between = actions_between(pair)[:, 0]
    assert np.allclose(between[:, :6], action[:6], atol=1e-7)
    assert np.allclose(between[:, 6], after[:, 6] - states[:, 6])


def test_a_turn_is_multiplied_from_the_left():
    # A hand pointing along y, turned by 90 degrees about the base's z, points along -x.
    state = np.array([0.0, 0, 0, -np.pi / 2, 0, 0, 0])
    turned = apply_action(state, np.array([0.0, 0, 0, 0, 0, np.pi / 2, 0]))
    pointing = euler_to_matrix(turned[3:6]) @ [0.0, 0.0, 1.0]
    assert np.allclose(pointing, [-1, 0, 0])


def test_the_gripper_stays_between_open_and_closed():
    state = np.zeros(7)
    assert apply_action(state, np.array([0, 0, 0, 0, 0, 0, 1.7]))[6] == 1.0
    assert apply_action(state, np.array([0, 0, 0, 0, 0, 0, -0.3]))[6] == 0.0


def test_roll_does_not_jump_where_the_hand_points_down():
    rolls = np.linspace(np.pi - 0.3, np.pi + 0.3, 60)
    usual = Rotation.from_euler("x", rolls[:, None]).as_euler("xyz")
    states = np.concatenate([np.zeros((60, 3)), usual, np.zeros((60, 1))], axis=1)
    assert abs(np.diff(states[:, 3])).max() > 6
    assert np.allclose(positive_roll(states)[:, 3], rolls)
    assert abs(np.diff(actions_between(states)[:, 3])).max() < 1e-9


@given(arrays(np.float64, 3, elements=st.floats(-1.7, 1.7)))
def test_rotation_vectors_are_scipys(vector):
    matrix = Rotation.from_rotvec(vector).as_matrix()
    assert np.allclose(rotation_vector(matrix), vector, atol=1e-7)
