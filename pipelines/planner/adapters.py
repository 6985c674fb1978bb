"""The planner's world behind the three calls that solvers of other projects make.

stable-worldmodel's solvers (CEM, iCEM, MPPI) ask `get_cost(info, candidates)`, or a dynamics with
`encode` and `rollout`. They never clip their candidates, so the bounds of `PlannerConfig` hold in
here: what lies outside is moved inside before it is imagined.

Shapes: B questions at once, S candidates each, H steps, A numbers an action (3: x, y, z; 4: and the
gripper; 7: all); HW tokens of width D.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.imagination import imagine
from pipelines.planner.cem import ACTION_WIDTH, PlannerConfig, as_actions, bounded
from pipelines.planner.world import ImaginedWorld, poses_before


class SolverModel:
    """An imagined world as a cost, and as dynamics."""

    def __init__(self, world: ImaginedWorld, config: PlannerConfig) -> None:
        """`config`: the bounds of the candidates; its search settings do not matter here."""
        self.world, self.config = world, config

    def encode(self, pixels: Tensor) -> Tensor:
        """Frames [..., h, w, 3] uint8 -> tokens [..., HW, D]."""
        tokens = self.world.encode(pixels.reshape(-1, *pixels.shape[-3:]))
        return tokens.unflatten(0, pixels.shape[:-3])

    @torch.inference_mode()
    def rollout(self, tokens: Tensor, states: Tensor, candidates: Tensor) -> Tensor:
        """Tokens [B, S, HW, D] after all steps of each candidate.

        tokens: [B, HW, D] of the frames seen now; states: [B, 7] now; candidates: [B, S, H, A].
        """
        asked = zip(tokens, states, self.inside(candidates), strict=True)
        return torch.stack([self._imagined(now, state, plans) for now, state, plans in asked])

    def get_cost(self, info: Mapping[str, Tensor], candidates: Tensor) -> Tensor:
        """Mean L1 distance [B, S] between what each candidate leads to and the goal picture.

        info: `pixels` and `goal` [B, h, w, 3] uint8, `state` [B, 7]; a solver may have repeated
        them to [B, S, ...], and the first of each is taken.
        """
        one = {name: _first(info[name], rank) for name, rank in _RANKS.items()}
        found = self.rollout(self.encode(one["pixels"]), one["state"].float(), candidates)
        return (found - self.encode(one["goal"])[:, None]).abs().mean((2, 3))

    def inside(self, candidates: Tensor) -> Tensor:
        """Candidates [B, S, H, A] as motions [B, S, H, 7] within the bounds.

        Raises ValueError for another number of numbers, or one that is not finite.
        """
        width = candidates.shape[-1]
        if candidates.dim() != 4 or width not in (3, 4, ACTION_WIDTH):
            raise ValueError(
                f"candidates are {list(candidates.shape)}: they must be [B, S, H, 3, 4 or 7]"
            )
        if not bool(torch.isfinite(candidates).all()):
            raise ValueError("a candidate is not finite")
        searched = candidates[..., [0, 1, 2, 6]] if width == ACTION_WIDTH else candidates
        return as_actions(bounded(searched.float(), self.config), self.config)

    def _imagined(self, now: Tensor, state: Tensor, plans: Tensor) -> Tensor:
        plans, state = plans.to(self.world.device), state.to(self.world.device).float()
        poses = poses_before(state, plans)
        return torch.cat(list(imagine(self.world.world_model, now[None], plans, poses)))


_RANKS = {"pixels": 4, "goal": 4, "state": 2}


def _first(value: Tensor, rank: int) -> Tensor:
    """A value of one question each, whether or not it was repeated for every candidate."""
    return value if value.dim() == rank else value[:, 0]
