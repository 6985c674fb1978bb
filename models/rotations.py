"""Rotations and extrinsic x-y-z Euler angles (R = Rz(yaw) Ry(pitch) Rx(roll), radians).

The formulas stand here once, in arithmetic that tensors and numpy arrays share. Planner and robot
call them each with functions of their own library, whose cosines differ in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def matrix_rows(cosines: Iterable[Any], sines: Iterable[Any]) -> tuple[tuple[Any, ...], ...]:
    """The rows of a rotation matrix, from the cosines and the sines of (roll, pitch, yaw).

    Each may be a number, or an array or tensor of any shape, which then every entry has.
    """
    (cr, cp, cy), (sr, sp, sy) = cosines, sines
    return (
        (cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
        (sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
        (-sp, cp * sr, cp * cr),
    )


def angles(
    matrix: Any, arctan2: Callable[[Any, Any], Any], hypot: Callable[[Any, Any], Any]
) -> tuple[Any, Any, Any]:
    """(roll, pitch, yaw) of rotation matrices [..., 3, 3], an array or tensor; each is [...].

    Roll and yaw lie in [-pi, pi], pitch in [-pi/2, pi/2]; at the ends of pitch, where only a sum or
    difference of roll and yaw is defined, those two are not to be used.
    """
    pitch = arctan2(-matrix[..., 2, 0], hypot(matrix[..., 0, 0], matrix[..., 1, 0]))
    roll = arctan2(matrix[..., 2, 1], matrix[..., 2, 2])
    return roll, pitch, arctan2(matrix[..., 1, 0], matrix[..., 0, 0])
