"""A DROID `trajectory.h5`, written and read. The one door to h5py.

Rows are control steps; keys are DROID's own: observation/robot_state/..., observation/
camera_extrinsics/<serial>_left, observation/timestamp/..., action/....
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

POSES = "observation/robot_state/cartesian_position"
GRIPPER = "observation/robot_state/gripper_position"
EXTRINSICS = "observation/camera_extrinsics"
STEP_START = "observation/timestamp/control/step_start"


class TrajectoryError(ValueError):
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


def write_trajectory(
    columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, str | int | float | bool]
) -> bytes:
    """An HDF5 file with `columns` (path -> [T, ...]) and root `attributes`, the same every time."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
        for path, values in sorted(columns.items()):
            file.create_dataset(path, data=values, track_times=False)
        for name, value in sorted(attributes.items()):
            file.attrs[name] = value
    return buffer.getvalue()


def read_trajectory(data: bytes, serial: str) -> Trajectory:
    """Read a trajectory.h5 and the extrinsics of the camera's left eye.

    Raises:
        TrajectoryError: not an HDF5 file, a key is missing, shapes differ or are wrong, or a
            state is not finite.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            poses, gripper = _column(file, POSES, 6), _column(file, GRIPPER, None)
            camera = f"{EXTRINSICS}/{serial}_left"
            extrinsics = _column(file, camera, 6) if camera in file else None
            starts = _column(file, STEP_START, None) if STEP_START in file else None
            flag = file.attrs.get("success")
    except OSError as error:
        detail = str(error).partition("(")[2].rstrip(")") or error
        raise TrajectoryError(f"trajectory.h5 is no readable HDF5 file: {detail}") from None
    if len(poses) != len(gripper):
        raise TrajectoryError(f"{len(poses)} rows of {POSES} but {len(gripper)} of {GRIPPER}")
    states = np.concatenate([poses, gripper[:, None]], axis=1)
    if not np.isfinite(states).all():
        row = int(np.flatnonzero(~np.isfinite(states).all(axis=1))[0])
        raise TrajectoryError(f"state of row {row} of {len(states)} is not finite")
    success = None if flag is None else bool(flag)
    return Trajectory(states, extrinsics, _rate(starts), success)


def _column(file: h5py.File, path: str, width: int | None) -> Array:
    if path not in file:
        raise TrajectoryError(f"trajectory.h5 has no {path}")
    if not isinstance(file[path], h5py.Dataset):
        raise TrajectoryError(f"{path} is a group, not a column")
    values = np.asarray(file[path][()], dtype=np.float64)
    wanted = (len(values),) if width is None else (len(values), width)
    if values.shape != wanted or not len(values):
        raise TrajectoryError(f"{path} has shape {values.shape}, not (steps, {width or ''})")
    return values


def _rate(starts: Array | None) -> float | None:
    """Steps per second from time stamps [T] in milliseconds: the median, as single steps stall."""
    if starts is None or len(starts) < 2:
        return None
    step = float(np.median(np.diff(starts)))
    return 1000.0 / step if np.isfinite(step) and step > 0 else None
