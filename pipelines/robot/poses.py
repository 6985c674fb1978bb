"""End-effector poses and the 7-D actions between them, for arrays of any leading shape.

A state is [..., 7]: xyz in metres in the robot's base frame, extrinsic-xyz Euler angles in radians
(scipy's lowercase "xyz": R = Rz(yaw) Ry(pitch) Rx(roll)), gripper from 0 (open) to 1 (closed).
An action is [..., 7] too: the change of each, the rotation multiplied from the left (base frame).
`apply_action` and `actions_between` are each other's inverse. Source: V-JEPA 2, section 3.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.rotations import angles, matrix_rows

Array = NDArray[np.float64]


def euler_to_matrix(euler: Array) -> Array:
    """Rotation matrices [..., 3, 3] of extrinsic-xyz Euler angles [..., 3] in radians."""
    euler = np.asarray(euler, dtype=np.float64)
    rows = matrix_rows(np.moveaxis(np.cos(euler), -1, 0), np.moveaxis(np.sin(euler), -1, 0))
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_euler(matrix: Array) -> Array:
    """Extrinsic-xyz Euler angles [..., 3] of rotation matrices [..., 3, 3].

    Roll and yaw lie in (-pi, pi], pitch in [-pi/2, pi/2]. At pitch ±pi/2 only the sum or the
    difference of roll and yaw is defined; yaw is then 0, and the rotation is still the right one.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    roll, pitch, yaw = angles(matrix, np.arctan2, np.hypot)
    locked = np.hypot(matrix[..., 0, 0], matrix[..., 1, 0]) < 1e-9
    roll = np.where(locked, np.arctan2(-matrix[..., 1, 2], matrix[..., 1, 1]), roll)
    yaw = np.where(locked, 0.0, yaw)
    return np.stack([roll, pitch, yaw], axis=-1)


def positive_roll(states: Array) -> Array:
    """The same poses with roll in [0, 2 pi) instead of (-pi, pi].

    A hand that points down has a roll near pi: just where the usual branch jumps by 2 pi, which a
    network that reads the state as seven numbers would take for a somersault.
    """
    states = np.array(states, dtype=np.float64)
    states[..., 3] %= 2 * np.pi
    return states


def apply_action(state: Array, action: Array) -> Array:
    """The pose [..., 7] reached from `state` [..., 7] by `action` [..., 7].

    The gripper stays in [0, 1]; roll is in [0, 2 pi) (see `positive_roll`).
    """
    state, action = (np.asarray(value, dtype=np.float64) for value in (state, action))
    turned = euler_to_matrix(action[..., 3:6]) @ euler_to_matrix(state[..., 3:6])
    position = state[..., :3] + action[..., :3]
    gripper = np.clip(state[..., 6:] + action[..., 6:], 0.0, 1.0)
    return positive_roll(np.concatenate([position, matrix_to_euler(turned), gripper], axis=-1))


def actions_between(states: Array) -> Array:
    """Actions [..., T-1, 7] that lead along states [..., T, 7]: the inverse of `apply_action`."""
    states = np.asarray(states, dtype=np.float64)
    rotations = euler_to_matrix(states[..., 3:6])
    turns = rotations[..., 1:, :, :] @ np.swapaxes(rotations[..., :-1, :, :], -1, -2)
    steps = np.diff(states, axis=-2)
    return np.concatenate([steps[..., :3], matrix_to_euler(turns), steps[..., 6:]], axis=-1)


def rotation_vector(matrix: Array) -> Array:
    """Axis times angle [3], radians, of one rotation matrix [3, 3] whose angle is below pi."""
    twist = np.array(
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
    )
    sine = 0.5 * float(np.linalg.norm(twist))
    angle = float(np.arctan2(sine, 0.5 * (float(np.trace(matrix)) - 1.0)))
    # Near zero the axis is undefined, and the antisymmetric part is the rotation vector itself.
    return 0.5 * twist if sine < 1e-9 else twist * (0.5 * angle / sine)
