"""The planner as a robot uses it: camera frame, measured state and goal picture in, motion out."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.planner.cem import ACTION_WIDTH, Plan, PlannerConfig
from pipelines.planner.search import search
from pipelines.planner.world import ImaginedWorld

Frame = NDArray[np.uint8]
State = NDArray[np.float64]
_GOALS_KEPT = 16


class Planner:
    """Searches, at every call, for the motion that brings the camera's view closest to a goal.

    It holds no state but the tokens of recent goal pictures: equal calls give equal motions.
    """

    def __init__(self, world: ImaginedWorld, config: PlannerConfig, seed: int = 0) -> None:
        """`seed`: with the step of a call, all randomness of the search comes from it."""
        self.world, self.config, self.seed = world, config, seed
        self._goals: dict[bytes, Tensor] = {}

    def plan(self, frame: Frame, state: State, goal_frame: Frame, step: int = 0) -> State:
        """The next motion.

        Args:
            frame: [H, W, 3] uint8, RGB, what the camera sees now.
            state: [7] x, y, z (metres), extrinsic x-y-z Euler angles (radians), gripper (0 open,
                1 closed), in the robot's base frame.
            goal_frame: [H, W, 3] uint8, RGB, what the camera shall see; same camera, same place.
            step: number of the motion; another number, another draw of candidates.

        Returns:
            [7] change of the state to make before the next frame; all zero to stay.

        Raises:
            ValueError: a frame or the state has another shape or type, or is not finite.
        """
        first = self.search(frame, state, goal_frame, step).actions[0]
        return np.asarray(first.numpy(), dtype=np.float64)

    def search(self, frame: Frame, state: State, goal_frame: Frame, step: int = 0) -> Plan:
        """Like `plan`, with all planned motions and the energies that led to them."""
        pose = checked_state(state)
        seen, wanted = as_batch(frame, "frame"), as_batch(goal_frame, "goal_frame")
        if seen.shape != wanted.shape:
            raise ValueError(
                f"goal_frame is {list(goal_frame.shape)}, frame {list(frame.shape)}: both must "
                "come from one camera, at one size"
            )
        now = self.world.encode(seen)
        energy = self.world.energy(now, pose, self._goal(goal_frame))
        return search(energy, self.config, self.seed, step, room_left(pose, self.config))

    def _goal(self, frame: Frame) -> Tensor:
        """The tokens of a goal picture, encoded once."""
        batch = as_batch(frame, "goal_frame")
        key = hashlib.sha256(repr(frame.shape).encode() + frame.tobytes()).digest()
        if key not in self._goals:
            if len(self._goals) >= _GOALS_KEPT:
                self._goals.pop(next(iter(self._goals)))
            self._goals[key] = self.world.encode(batch)
        return self._goals[key]


def as_batch(frame: Frame, name: str) -> Tensor:
    """A frame [H, W, 3] uint8 as a batch of one; ValueError for anything else."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3:
        found = f"{getattr(frame, 'dtype', type(frame).__name__)} {list(np.shape(frame))}"
        raise ValueError(f"{name} is {found}: it must be a numpy array uint8 [H, W, 3]")
    return torch.tensor(frame)[None]


def checked_state(state: State) -> Tensor:
    """A state as float32 [7]; ValueError if it has another shape or is not finite."""
    values = np.asarray(state, dtype=np.float64)
    if values.shape != (ACTION_WIDTH,) or not np.isfinite(values).all():
        raise ValueError(
            f"state is {values.tolist()}: it must be 7 finite numbers, "
            "x, y, z in metres, three Euler angles in radians, gripper from 0 to 1"
        )
    return torch.from_numpy(values).float()


def room_left(pose: Tensor, config: PlannerConfig) -> Tensor | None:
    """[2, 3] how far the hand may go down and up each axis before it leaves the workspace.

    A hand outside is only allowed back in, as far as one motion reaches.
    """
    if config.workspace is None:
        return None
    walls = torch.tensor(config.workspace).reshape(2, 3)
    return (walls - pose[:3]).clamp(-config.max_translation, config.max_translation)
