"""Recordings of the tasks: the scripted expert, with noise, so that a world model sees things held,
carried, put down and let go of.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.policies import LIMIT
from pipelines.robot.simulator import Simulator
from pipelines.robot.tasks import NEAR, Expert

Array = NDArray[np.float64]

STAGES = {"carry": ("grasp", "carry"), "place": ("grasp", "carry", "place")}
"""What is recorded -> the expert's stages."""
_TEXT = {"carry": "carry the {}", "place": "pick the {} and place it"}
_ZONE = ((0.38, -0.20), (0.58, 0.20))
_NOISE = 0.012  # spread of the noise of a motion, at most, metres


class Demonstration:
    """The expert's motions with noise sideways; when they are over, the hand goes on its way."""

    def __init__(
        self, simulator: Simulator, kind: str, what: str, rng: np.random.Generator
    ) -> None:
        """Carry, or place (see `STAGES`), the thing of that kind to a place that is drawn."""
        self.task = _TEXT[what].format(kind)
        self._simulator, self._kind, self._what = simulator, kind, what
        self._target = rng.uniform(*_ZONE)
        self._noise = float(rng.uniform(0.0, _NOISE))
        self._done = False
        expert = Expert(simulator, kind, self._target)
        self._motions = self._all(expert)

    def _all(self, expert: Expert) -> Iterator[Array]:
        for stage in STAGES[self._what]:
            yield from expert.motions(stage)

    def action(self, state: Array, rng: np.random.Generator) -> Array:
        """The next delta [7] (metres, radians, gripper) for state [7]."""
        motion = next(self._motions, None)
        if motion is None:
            self._done = self._done or self._there(state)
            grip = 1.0 if self._what == "carry" else -1.0
            return np.array([*rng.uniform(-0.5, 1.0, 3) * LIMIT / 2, 0.0, 0.0, 0.0, grip])
        # Still where it descends on the thing, closes or opens: noise there would only miss.
        if np.abs(motion[:2]).max() > 0.02:
            motion[:3] += rng.normal(0.0, self._noise, 3)
        motion[:3] = np.clip(motion[:3], -LIMIT, LIMIT)
        motion[6] = np.clip(motion[6], -state[6], 1 - state[6])
        return motion

    def succeeded(self, state: Array) -> bool:
        """Whether the thing was brought where it should be (the hand is in `state`)."""
        return self._done or self._there(state)

    def _there(self, state: Array) -> bool:
        thing = self._simulator.thing(self._kind)[:3]
        there = bool(np.linalg.norm(thing[:2] - self._target) < NEAR)
        held = bool(np.linalg.norm(thing - state[:3]) < NEAR and state[6] > 0.1)
        return there and held == (self._what == "carry")
