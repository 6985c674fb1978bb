"""A DROID `trajectory.h5`: its keys, and what is read of them.

Rows are control steps; keys are DROID's own: observation/robot_state/..., observation/
camera_extrinsics/<serial>_left, observation/timestamp/..., action/....
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.hdf5 import Hdf5Error, read_hdf5
from storage.errors import UserError

Array = NDArray[np.float64]

POSES = "observation/robot_state/cartesian_position"
GRIPPER = "observation/robot_state/gripper_position"
EXTRINSICS = "observation/camera_extrinsics"
STEP_START = "observation/timestamp/control/step_start"

MAX_SPEED = 3.0
"""Of the hand, m/s: a Franka's data sheet says 1.7."""
MAX_STEP = 0.75
"""Between two rows without time stamps, metres."""


class TrajectoryError(UserError, ValueError):
    """A trajectory that cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class Trajectory:
    """What is read of an episode of T control steps."""

    states: Array
    """[T, 7]: xyz in metres, extrinsic-xyz Euler angles in radians, gripper 0 open to 1 closed."""
    extrinsics: Array | None
    """[T, 6] xyz and Euler angles of the camera in the base frame, or None when not calibrated."""
    control_hz: float | None
    """Rate of the rows by their own time stamps, or None when there are none."""
    success: bool | None
    """The recording's own flag, or None."""


def read_trajectory(data: bytes, serial: str) -> Trajectory:
    """Read a trajectory.h5 and the extrinsics of the camera's left eye.

    Raises:
        TrajectoryError: not an HDF5 file, or one that `read_hdf5` refuses; a key is missing,
            shapes differ or are wrong, or a state is not finite.
    """
    camera = f"{EXTRINSICS}/{serial}_left"
    try:
        columns, flag = read_hdf5(data, (POSES, GRIPPER, camera, STEP_START), "success")
    except Hdf5Error as error:
        raise TrajectoryError(f"trajectory.h5 {error}") from None
    poses, gripper = _column(columns, POSES, 6), _column(columns, GRIPPER, None)
    extrinsics = _column(columns, camera, 6) if camera in columns else None
    starts = _column(columns, STEP_START, None) if STEP_START in columns else None
    if len(poses) != len(gripper):
        raise TrajectoryError(f"{len(poses)} rows of {POSES} but {len(gripper)} of {GRIPPER}")
    states = np.concatenate([poses, gripper[:, None]], axis=1)
    if not np.isfinite(states).all():
        row = int(np.flatnonzero(~np.isfinite(states).all(axis=1))[0])
        raise TrajectoryError(f"state of row {row} of {len(states)} is not finite")
    rate = _rate(starts)
    _check_jumps(states, rate)
    success = None if flag is None else bool(flag)
    return Trajectory(states, extrinsics, rate, success)


def _check_jumps(states: Array, rate: float | None) -> None:
    """Refuse a hand that is here now and there the next moment: no arm moves like that."""
    steps = np.linalg.norm(np.diff(states[:, :3], axis=0), axis=1)
    farthest = MAX_SPEED / rate if rate else MAX_STEP
    if len(steps) and steps.max() > farthest:
        row = int(steps.argmax())
        raise TrajectoryError(
            f"the hand jumps {steps[row]:.2f} m from row {row} to row {row + 1} of {len(states)}; "
            f"at most {farthest:.2f} m are believed"
        )


def _column(columns: Mapping[str, Array], path: str, width: int | None) -> Array:
    if path not in columns:
        raise TrajectoryError(f"trajectory.h5 has no {path}")
    values = columns[path]
    wanted = values.shape[:1] + (() if width is None else (width,))
    if values.shape != wanted or not values.size:
        raise TrajectoryError(f"{path} has shape {values.shape}, not (steps, {width or ''})")
    return values


def _rate(starts: Array | None) -> float | None:
    """Steps per second from time stamps [T] in milliseconds: the median, as single steps stall."""
    if starts is None or len(starts) < 2:
        return None
    step = float(np.median(np.diff(starts)))
    return 1000.0 / step if np.isfinite(step) and step > 0 else None
