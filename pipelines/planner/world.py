"""The world as the planner imagines it: frames become tokens, motions move tokens and pose.

Shapes: S candidate motions, H steps planned ahead, HW tokens of a frame, D encoder width. A state
is [7]: x, y, z in metres in the robot's base frame, extrinsic x-y-z Euler angles in radians, the
gripper from 0 (open) to 1 (closed); an action [7] is the change of each between two frames, its
rotation multiplied from the left (V-JEPA 2, section 3.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.encoder import Encoder, encode_frames
from models.imagination import energies, imagine
from models.preprocessing import Preprocessing, prepare
from models.rotations import angles, matrix_rows
from models.world_model import WorldModel


def rotation(euler: Tensor) -> Tensor:
    """Extrinsic x-y-z Euler angles [..., 3] in radians -> rotation matrices [..., 3, 3]."""
    rows = matrix_rows(euler.cos().unbind(-1), euler.sin().unbind(-1))
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def euler_angles(matrix: Tensor) -> Tensor:
    """The inverse of `rotation`, pitch in [-pi/2, pi/2]; the arm never comes near those ends."""
    return torch.stack(angles(matrix, torch.atan2, torch.hypot), -1)


def moved(states: Tensor, actions: Tensor) -> Tensor:
    """States [..., 7] after actions [..., 7].

    Angles stay on the branch nearest to the angle before (a hand that points down has a roll near
    pi, where the usual branch jumps by a whole turn); the gripper stays in [0, 1].
    """
    before = states[..., 3:6]
    turned = euler_angles(rotation(actions[..., 3:6]) @ rotation(before))
    turned = turned + 2 * math.pi * torch.round((before - turned) / (2 * math.pi))
    place = states[..., :3] + actions[..., :3]
    gripper = (states[..., 6:] + actions[..., 6:]).clamp(0, 1)
    return torch.cat([place, turned, gripper], -1)


def poses_before(state: Tensor, actions: Tensor) -> Tensor:
    """The pose before each action: state [7], actions [S, H, 7] -> [S, H, 7]."""
    poses = [state.expand(len(actions), -1)]
    for action in actions[:, :-1].unbind(1):
        poses.append(moved(poses[-1], action))
    return torch.stack(poses, 1)


class ImaginedWorld:
    """A frozen encoder and world model, asked what motions would lead to."""

    def __init__(
        self, encoder: Encoder, world_model: WorldModel, preprocessing: Preprocessing
    ) -> None:
        """Both models on one device.

        Raises:
            ValueError: the world model was made for features of another width or grid.
        """
        self.preprocessing = preprocessing
        self.encoder = encoder.eval().requires_grad_(False)
        self.world_model = world_model.eval().requires_grad_(False)
        self.device = next(encoder.parameters()).device
        side = preprocessing.size // encoder.config.patch
        found = (encoder.config.width, (side, side))
        expected = (world_model.config.encoder_width, world_model.config.grid)
        if found != expected:
            raise ValueError(
                f"the encoder gives features of width and grid {found} at {preprocessing.size} "
                f"pixels, the world model was trained on {expected}: they do not belong together"
            )

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> Tensor:
        """Frames [B, H, W, 3] uint8 -> layer-normed tokens [B, HW, D], each frame on its own."""
        pictures = prepare(frames.to(self.device), self.preprocessing)
        return encode_frames(self.encoder, pictures[:, :, None])

    def energy(self, tokens: Tensor, state: Tensor, goal: Tensor, chunk: int = 64) -> GoalEnergy:
        """The energy of the paper: mean L1 distance between predicted and goal tokens.

        Args:
            tokens: [1, HW, D] of the frame seen now.
            state: [7] now.
            goal: [1, HW, D] of the goal frame.
            chunk: candidates imagined at once; it bounds memory and changes no result.
        """
        return GoalEnergy(
            self.world_model, tokens, state.to(self.device, torch.float32), goal, chunk
        )


@dataclass(frozen=True)
class GoalEnergy:
    """candidates [S, H, 7] -> [S]: how far what each leads to is from the goal picture's tokens."""

    world_model: WorldModel
    tokens: Tensor
    """[1, HW, D]"""
    state: Tensor
    """[7]"""
    goal: Tensor
    """[1, HW, D]"""
    chunk: int

    def __call__(self, candidates: Tensor) -> Tensor:
        """Mean L1 distance [S] over tokens and channels."""
        actions = candidates.to(self.tokens.device)
        poses = poses_before(self.state, actions)
        found = energies(self.world_model, self.tokens, actions, poses, self.goal, chunk=self.chunk)
        return found.cpu()

    def imagined(self, candidates: Tensor) -> Tensor:
        """What each candidate leads to: tokens [S, HW * D] of the last frame."""
        actions = candidates.to(self.tokens.device)
        poses = poses_before(self.state, actions)
        frames = imagine(self.world_model, self.tokens, actions, poses, chunk=self.chunk)
        return torch.cat(list(frames)).flatten(1)
