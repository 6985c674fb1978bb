"""Which arm stands in the lab: the project's own Franka, or another MJCF described by its names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import InputError

Array = NDArray[np.float64]

# Position gains of the joints, N m/rad and N m s/rad: as in franka.xml.
STIFFNESS = (4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 2000.0)
DAMPING = (130.0, 125.0, 100.0, 85.0, 35.0, 35.0, 30.0)
_JOINTS = tuple(f"joint{number}" for number in range(1, 8))


@dataclass(frozen=True)
class Arm:
    """A seven-joint arm with a gripper as MJCF, and the names by which it is controlled."""

    model: str
    """Path of the arm's MJCF file."""
    tcp: str
    """Site between the finger tips, z pointing out of the hand."""
    gripper: str
    """Actuator of the gripper."""
    gripper_range: tuple[float, float]
    """Its control values for open and closed."""
    finger: str
    """Joint whose position tells how far the gripper is closed."""
    finger_range: tuple[float, float]
    """That joint's position when open and when closed."""
    joints: tuple[str, ...] = _JOINTS
    motors: tuple[str, ...] = _JOINTS
    """Position actuators of the joints, in the same order; one that is named like its joint and
    is missing is made, with `STIFFNESS` and `DAMPING`."""
    open_fingers: tuple[str, ...] = ()
    """Joints that a reset puts at the open end of `finger_range`."""
    hand: str | None = None
    """MJCF file of a separate hand, attached at `hand_site`; its names then begin with "hand/"."""
    hand_site: str = "attachment_site"
    visual_group: int = 2
    """Geom group of the shapes to be seen; others only collide."""


FRANKA = Arm(
    model=str(Path(__file__).with_name("franka.xml")),
    tcp="tcp",
    gripper="gripper",
    gripper_range=(0.04, 0.0),
    finger="left_finger",
    finger_range=(0.04, 0.0),
    open_fingers=("left_finger", "right_finger"),
)


def load_arm(description: str) -> Arm:
    """The arm of that description: "franka", or the path of a JSON file with the fields of `Arm`.

    Paths in the file are relative to it. Raises ValueError saying what is wrong with it.
    """
    if description == "franka":
        return FRANKA
    path = Path(description)
    try:
        given = json.loads(path.read_bytes())
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in given.items()
        }
        for name in ("model", "hand"):
            if fields.get(name) is not None:
                fields[name] = str((path.parent / fields[name]).resolve())
        return Arm(**fields)
    except OSError as error:
        raise InputError(f'arm {path}: {error.strerror}; give "franka" or a JSON file') from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"arm {path}: no JSON object with the fields of an arm: {error}") from None


def arm_files(description: str) -> list[Path]:
    """Every file that an arm from elsewhere may depend on: its description and MJCF folders."""
    if description == "franka":
        return []
    arm = load_arm(description)
    folders = {Path(name).parent for name in (arm.model, arm.hand) if name is not None}
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    return sorted({Path(description).resolve(), *files})


def damped_step(jacobian: Array, error: Array, posture: Array) -> Array:
    """Joint step [n] against a pose error [6] (m, rad), by damped least squares.

    jacobian [6, n]. What the task leaves free drifts by a tenth of `posture` [n] towards a rest.
    """
    gram = jacobian @ jacobian.T + 1e-5 * np.eye(6)
    inverse = np.linalg.solve(gram, jacobian).T
    free = np.eye(jacobian.shape[1]) - inverse @ jacobian
    return np.asarray(inverse @ error + free @ (0.1 * posture))
