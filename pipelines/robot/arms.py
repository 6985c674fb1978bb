"""Which arm stands in the lab: the project's own Franka, or another MJCF described by its names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

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
    """Position actuators of the joints, in the same order."""
    open_fingers: tuple[str, ...] = ()
    """Joints that a reset puts at the open end of `finger_range`."""
    hand: str | None = None
    """MJCF file of a separate hand, attached at the arm's site `hand_site`."""
    hand_site: str = "attachment_site"
    visual_group: int = 2
    """Geom group of the shapes to be seen; others only collide."""
    damping: float = 0.5
    """Factor on the actuators' velocity damping."""


FRANKA = Arm(
    model=str(Path(__file__).with_name("franka.xml")),
    tcp="tcp",
    gripper="gripper",
    gripper_range=(0.04, 0.0),
    finger="left_finger",
    finger_range=(0.04, 0.0),
    open_fingers=("left_finger", "right_finger"),
)


def damped_step(jacobian: Array, error: Array, posture: Array) -> Array:
    """Joint step [n] against a pose error [6] (m, rad), by damped least squares.

    jacobian [6, n]. What the task leaves free drifts by a tenth of `posture` [n] towards a rest.
    """
    gram = jacobian @ jacobian.T + 1e-5 * np.eye(6)
    inverse = np.linalg.solve(gram, jacobian).T
    free = np.eye(jacobian.shape[1]) - inverse @ jacobian
    return np.asarray(inverse @ error + free @ (0.1 * posture))
