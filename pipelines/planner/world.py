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
import torch.nn.functional as F
from torch import Tensor

from models.encoder import Encoder, encode_frames
from models.imagination import energies
from models.world_model import WorldModel
from pipelines.planner.cem import Energy

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a camera frame becomes the encoder's input; the contract between training and robot."""

    size: int = 256
    """Pixels along each side of what the encoder sees."""
    widest: float = 1.35
    """A frame wider than this times its height (or the reverse) is cut to it, centred; the rest
    is scaled to the square. 1.35 is what the released robot models were trained with."""
    antialias: bool = True
    """Average areas when shrinking a frame. The released robot models were trained without."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Of the red, green and blue channel in [0, 1]; subtracted."""
    std: tuple[float, float, float] = IMAGENET_STD
    """What the difference is divided by."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.widest < 1 or min(self.std) <= 0:
            raise ValueError(
                f"size {self.size}, widest {self.widest}, std {self.std}: size and widest must be "
                "at least 1, std above 0"
            )
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))


def prepare(frames: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Camera frames as the encoder takes them.

    Args:
        frames: [B, H, W, 3] uint8, RGB.
        preprocessing: the contract.

    Returns:
        [B, 3, size, size] float32.

    Raises:
        ValueError: frames of another shape or type.
    """
    if frames.dtype != torch.uint8 or frames.dim() != 4 or frames.shape[-1] != 3:
        raise ValueError(
            f"frames are {frames.dtype} of shape {list(frames.shape)}: "
            "they must be uint8 [B, H, W, 3], red first"
        )
    high, wide = frames.shape[1:3]
    cut_high = min(high, math.floor(preprocessing.widest * wide))
    cut_wide = min(wide, math.floor(preprocessing.widest * high))
    top, left = (high - cut_high) // 2, (wide - cut_wide) // 2
    cut = frames[:, top : top + cut_high, left : left + cut_wide]
    pictures = cut.permute(0, 3, 1, 2).float() / 255
    if pictures.shape[2:] != (preprocessing.size, preprocessing.size):
        square = (preprocessing.size, preprocessing.size)
        pictures = F.interpolate(
            pictures,
            square,
            mode="bilinear",
            antialias=preprocessing.antialias,
            align_corners=False,
        )
    mean = torch.tensor(preprocessing.mean, device=frames.device)[:, None, None]
    std = torch.tensor(preprocessing.std, device=frames.device)[:, None, None]
    return (pictures - mean) / std


def rotation(euler: Tensor) -> Tensor:
    """Extrinsic x-y-z Euler angles [..., 3] in radians -> rotation matrices [..., 3, 3]."""
    (cr, cp, cy), (sr, sp, sy) = euler.cos().unbind(-1), euler.sin().unbind(-1)
    rows = (
        (cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
        (sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
        (-sp, cp * sr, cp * cr),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def euler_angles(matrix: Tensor) -> Tensor:
    """The inverse of `rotation`, pitch in [-pi/2, pi/2]; the arm never comes near those ends."""
    pitch = torch.atan2(-matrix[..., 2, 0], torch.hypot(matrix[..., 0, 0], matrix[..., 1, 0]))
    roll = torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2])
    yaw = torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])
    return torch.stack([roll, pitch, yaw], -1)


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

    def energy(self, tokens: Tensor, state: Tensor, goal: Tensor, chunk: int = 64) -> Energy:
        """The energy of the paper: mean L1 distance between predicted and goal tokens.

        Args:
            tokens: [1, HW, D] of the frame seen now.
            state: [7] now.
            goal: [1, HW, D] of the goal frame.
            chunk: candidates imagined at once; it bounds memory and changes no result.
        """
        state = state.to(self.device, torch.float32)

        def energy(candidates: Tensor) -> Tensor:
            actions = candidates.to(self.device)
            poses = poses_before(state, actions)
            found = energies(self.world_model, tokens, actions, poses, goal, chunk=chunk)
            return found.cpu()

        return energy
