"""The world model in use: what a robot would see after actions it has not taken.

Shapes: S candidate plans of H actions; HW tokens per frame; E encoder width. What all candidates
share, the frames before the current one, is computed once; candidates run in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from models.losses import normalise
from models.world_model import KeyValues, WorldModel


@torch.no_grad()
def remember(
    world_model: WorldModel,
    tokens: Tensor,
    actions: Tensor,
    states: Tensor,
    grid: tuple[int, int] | None = None,
) -> KeyValues:
    """Keys and values of frames whose actions are known: tokens [1, T*HW, E], the rest [1, T, 7].

    Computed once, shared by all candidates through `imagine(past=...)`.
    """
    _, past = world_model(tokens, actions, states, grid, return_past=True)
    kept: KeyValues = past
    return kept


@torch.no_grad()
def imagine(
    world_model: WorldModel,
    tokens: Tensor,
    actions: Tensor,
    states: Tensor,
    grid: tuple[int, int] | None = None,
    *,
    past: KeyValues | None = None,
    chunk: int = 64,
) -> Iterator[Tensor]:
    """Layer-normed features of the frame after each whole plan, [s, HW, E] chunk by chunk.

    tokens: [1, HW, E] the current frame, layer-normed; actions: [S, H, 7]; states: [S, H, 7] the
    pose before each action (poses follow from actions, not from predictions). Each step costs one
    frame's tokens: earlier steps are re-used through their keys and values, exactly.
    """
    if chunk < 1 or tokens.shape[0] != 1 or actions.dim() != 3 or not actions.numel():
        raise ValueError(
            f"needs a chunk of at least 1, tokens [1, HW, E] and a plan or more, [S, H, 7]; found "
            f"chunk {chunk}, tokens {list(tokens.shape)}, plans {list(actions.shape)}"
        )
    for begin in range(0, actions.shape[0], chunk):
        plans, poses = actions[begin : begin + chunk], states[begin : begin + chunk]
        frame, seen = tokens, past
        for step in range(plans.shape[1]):
            last = step + 1 == plans.shape[1]
            out = world_model(
                frame,
                plans[:, step : step + 1],
                poses[:, step : step + 1],
                grid,
                past=seen,
                return_past=not last,
            )
            frame, seen = (out, None) if last else out
            frame = normalise(frame)
        yield frame


@torch.no_grad()
def energies(
    world_model: WorldModel,
    tokens: Tensor,
    actions: Tensor,
    states: Tensor,
    goal: Tensor,
    grid: tuple[int, int] | None = None,
    *,
    past: KeyValues | None = None,
    chunk: int = 64,
) -> Tensor:
    """Energy [S] of each plan: mean L1 between its imagined last frame and goal [1, HW, E]."""
    if goal.shape != tokens.shape:
        raise ValueError(f"goal must be {list(tokens.shape)} as tokens; found {list(goal.shape)}")
    frames = imagine(world_model, tokens, actions, states, grid, past=past, chunk=chunk)
    return torch.cat([(frame - goal).abs().mean(dim=(1, 2)) for frame in frames])
