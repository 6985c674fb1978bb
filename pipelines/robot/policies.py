"""Scripted motions whose actions are diverse: wandering, reaching for a point, grasping a thing.

A world model learns what actions do only if the recordings hold many different ones, so every
policy mixes its purpose with noise and with moves for their own sake. Actions are for the planner's
rate, 4 Hz: [7] deltas, at most `LIMIT` metres per axis; a faster recorder spreads each one over
its own steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.poses import euler_to_matrix, matrix_to_euler

Array = NDArray[np.float64]
Where = Callable[[], Array]

DECISIONS_PER_SECOND = 4.0
LIMIT = 0.075
"""Largest delta per axis, metres: V-JEPA 2's box around the present position (section 4.1)."""
TURN_LIMIT = 0.2
REACHED = 0.04
"""A reach ends within this distance, metres (section 4.2)."""
LIFTED = 0.05


class Policy(Protocol):
    """What drives an episode."""

    task: str

    def action(self, state: Array, rng: np.random.Generator) -> Array:
        """The next 4 Hz action [7] for the measured state [7]."""
        ...

    def succeeded(self, state: Array) -> bool:
        """Whether the purpose is achieved in this state [7]; wandering has none."""
        ...


def _level(state: Array, yaw: float | None, rng: np.random.Generator) -> Array:
    """A turn [3] that brings the hand back to pointing down (at `yaw`, if given), with noise."""
    wanted = np.array([np.pi, 0.0, state[5] if yaw is None else yaw])
    turn = matrix_to_euler(euler_to_matrix(wanted) @ euler_to_matrix(state[3:6]).T)
    share = 0.3 if yaw is None else 1.0
    noise = rng.normal(0.0, [0.03, 0.03, 0.06]) if yaw is None else np.zeros(3)
    return np.clip(share * turn + noise, -TURN_LIMIT, TURN_LIMIT)


def _inside(position: Array, move: Array, workspace: tuple[Array, Array]) -> Array:
    """`move` [3] with the components that would leave the workspace turned back into it."""
    low, high = workspace
    after = position + move
    return np.where((after < low) | (after > high), -move, move)


@dataclass
class Wander:
    """Moves for their own sake: anywhere in the box, now and then kept up, turned or gripped."""

    workspace: tuple[Array, Array]
    task: str = "wander"
    _drift: Array = field(default_factory=lambda: np.zeros(3))

    def action(self, state: Array, rng: np.random.Generator) -> Array:
        """The next delta [7] (metres, radians, gripper) for state [7]: a drift, or a new one."""
        if rng.random() < 0.6:
            self._drift = rng.uniform(-LIMIT, LIMIT, 3)
        move = np.clip(self._drift + rng.normal(0.0, 0.01, 3), -LIMIT, LIMIT)
        self._drift = _inside(state[:3], move, self.workspace)
        # The planner keeps rotation and gripper still: a good part of the data must, too.
        turn = _level(state, None, rng) if rng.random() < 0.6 else np.zeros(3)
        grip = rng.uniform(-1.0, 1.0) if rng.random() < 0.25 else 0.0
        return np.concatenate([self._drift, turn, [np.clip(grip, -state[6], 1 - state[6])]])

    def succeeded(self, state: Array) -> bool:  # noqa: ARG002 - wandering has no aim
        """Never: wandering has no aim, whatever the state [7]."""
        return False


@dataclass
class Reach:
    """Towards `target` [3] at a pace of its own; once there, on to another one."""

    target: Array
    workspace: tuple[Array, Array]
    pace: float
    """Largest delta per axis, metres."""
    task: str = "reach a point"
    _reached: bool = False

    def action(self, state: Array, rng: np.random.Generator) -> Array:
        """The next delta [7] (metres, radians, gripper) for state [7]: straight to the target."""
        if np.linalg.norm(self.target - state[:3]) < REACHED:
            self._reached = True
            self.target = rng.uniform(self.workspace[0] + [0.0, 0.0, 0.08], self.workspace[1])
        left = self.target - state[:3]
        move = np.clip(left, -self.pace, self.pace) + rng.normal(0.0, 0.012, 3)
        move = _inside(state[:3], np.clip(move, -LIMIT, LIMIT), self.workspace)
        turn = _level(state, None, rng) if rng.random() < 0.4 else np.zeros(3)
        return np.concatenate([move, turn, [0.0]])

    def succeeded(self, state: Array) -> bool:
        """Whether the hand (state [7]) is at its target, or has been at one before."""
        return self._reached or bool(np.linalg.norm(self.target - state[:3]) < REACHED)


@dataclass
class Grasp:
    """Above a thing, down, close, lift: one phase follows another when its place is reached."""

    where: Where
    """The thing's xyz in metres and angle about the vertical in radians, [4]."""
    noise: float
    """Spread of the sideways noise while approaching, metres."""
    task: str
    _phase: int = 0
    _waited: int = 0
    _lift_from: float = 0.0

    def action(self, state: Array, rng: np.random.Generator) -> Array:
        """The next delta [7] (metres, radians, gripper) for state [7], by the phase it is in."""
        goal = self._goal()
        if self._phase < 2 and np.linalg.norm(goal - state[:3]) < 0.02:
            self._phase += 1
        elif self._phase == 2:
            self._waited += 1
            if self._waited == 2:
                self._phase, self._lift_from = 3, float(self.where()[2])
        goal = self._goal()
        noise = rng.normal(0.0, self.noise, 3) if self._phase == 0 else np.zeros(3)
        move = np.clip(goal - state[:3] + noise, -LIMIT, LIMIT)
        # A gripper's jaws look the same after a quarter turn on a box.
        yaw = (float(self.where()[3]) + np.pi / 4) % (np.pi / 2) - np.pi / 4
        grip = 1.0 if self._phase >= 2 else -1.0
        return np.concatenate([move, _level(state, yaw, rng), [grip]])

    def _goal(self) -> Array:
        above = np.array([0.0, 0.0, (0.12, 0.0, 0.0, 0.2)[self._phase]])
        return np.asarray(self.where()[:3] + above)

    def succeeded(self, state: Array) -> bool:  # noqa: ARG002 - the thing tells, not the hand
        """Whether the thing has been lifted; the hand's state [7] does not matter."""
        return self._phase == 3 and float(self.where()[2]) > self._lift_from + LIFTED


def spread(action: Array, hz: float) -> Array:
    """One 4 Hz action [7] as the equal action [7] of each of the hz / 4 steps that carry it out."""
    return action * (DECISIONS_PER_SECOND / hz)
