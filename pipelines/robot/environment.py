"""Reaching with a goal picture: what a planner is evaluated in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.labs import Lab
from pipelines.robot.scene import WORKSPACE
from pipelines.robot.simulator import Simulator
from storage.errors import InputError

Array = NDArray[np.float64]
Observation = tuple[NDArray[np.uint8], Array]


BOUNDS = np.array([0.15, 0.15, 0.15, 0.5, 0.5, 0.5, 1.0])
"""Largest change of one motion, per axis: metres, radians, gripper."""
_AXES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


def checked_action(action: Array) -> Array:
    """An action [7] that may be carried out; InputError names the number that may not."""
    values = np.asarray(action, dtype=np.float64)
    if values.shape != BOUNDS.shape:
        raise InputError(f"action has shape {list(values.shape)}: it must be 7 numbers")
    # Not "greater than": what is no number is out of bounds, too.
    wrong = [at for at in range(7) if not abs(values[at]) <= BOUNDS[at]]
    if wrong:
        at = wrong[0]
        raise InputError(
            f"action moves {_AXES[at]} by {values[at]:.4g}: at most {BOUNDS[at]:g} in one motion"
        )
    return values


class ReachEnvironment:
    """One arm, one goal position, one picture of the arm at the goal."""

    def __init__(self, lab: str | Lab, seed: int, size: int = 64, **simulator: Any) -> None:
        """`size` of the frames in pixels; further keywords go to `Simulator`."""
        self.simulator = Simulator(lab, seed, size, **simulator)
        self._seed = seed
        self._target = self.simulator.state()[:3]

    @property
    def workspace(self) -> tuple[Array, Array]:
        """Low and high corner [3] of where the hand may go, metres."""
        return WORKSPACE[0].copy(), WORKSPACE[1].copy()

    def reset(self, seed: int | None = None) -> Observation:
        """Start anew from `seed` (the last one when None): frame [H, W, 3] uint8, state [7]."""
        self._seed = self._seed if seed is None else seed
        self.simulator.reset(self._seed)
        self._target = self.simulator.state()[:3]
        return self.simulator.observe()

    def goal(self, position: Array) -> Observation:
        """Frame and state with the arm truly moved to `position` [3]; the world is put back after.

        Raises ValueError if the arm cannot get within 1 cm of it.
        """
        before = self.simulator.snapshot()
        self.simulator.move_to(position)
        observation = self.simulator.observe()
        self.simulator.restore(before)
        left = float(np.linalg.norm(observation[1][:3] - position))
        if left > 0.01:
            raise ValueError(
                f"goal {np.round(position, 3).tolist()}: the arm stops {left:.3f} m before it; "
                f"choose one in {WORKSPACE[0].tolist()} .. {WORKSPACE[1].tolist()}, clear of things"
            )
        self._target = np.array(position, dtype=np.float64)
        return observation

    def random_goal(self, distance: float, seed: int, *, lowest: float = 0.12) -> Array:
        """A position [3] in the workspace `distance` metres from the hand, above `lowest`.

        Directions are tried in an order fixed by `seed`. Raises ValueError when none fits.
        """
        rng = np.random.default_rng(seed)
        start = self.simulator.state()[:3]
        low, high = self.workspace
        low[2] = lowest
        for _ in range(1000):
            direction = rng.normal(size=3)
            place = start + distance * direction / np.linalg.norm(direction)
            if (place >= low).all() and (place <= high).all():
                return np.asarray(place)
        where = start.round(3).tolist()
        raise InputError(f"no goal {distance} m away from {where} in the workspace")

    def step(self, action: Array) -> Observation:
        """Carry out one action [7]: frame and state after it.

        Raises InputError, before anything moves, for one that is not finite or out of `BOUNDS`.
        """
        self.simulator.step(checked_action(action))
        return self.simulator.observe()

    def distance(self) -> float:
        """Distance of the hand to the goal position, metres."""
        return float(np.linalg.norm(self.simulator.state()[:3] - self._target))
