"""Token grids and token indices: what is a valid one, and how tokens are picked and merged.

Token order everywhere: time-major raster, index = time * (h * w) + row * w + column, on the grid
(t, h, w) of the actual input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Grid = tuple[int, int, int]
"""Tokens along (time, height, width)."""


def count(grid: Grid) -> int:
    """How many tokens a grid has."""
    return grid[0] * grid[1] * grid[2]


def token_grid(shape: torch.Size, *, channels: int, tubelet: int, patch: int) -> Grid:
    """Grid of a video of shape [B, C, T, H, W].

    Raises ValueError if the shape does not divide into tubelets of `tubelet` frames and `patch`
    by `patch` pixels.
    """
    if len(shape) != 5:
        raise ValueError(f"a video is [B, {channels}, T, H, W]; found {list(shape)}")
    if shape[1] != channels:
        hint = " (frames before channels?)" if shape[2] == channels else ""
        raise ValueError(f"a video has {channels} channels; found {list(shape)}{hint}")
    sizes = {"frames": (shape[2], tubelet), "height": (shape[3], patch), "width": (shape[4], patch)}
    for name, (size, unit) in sizes.items():
        if size < unit or size % unit:
            raise ValueError(
                f"{name} must be a multiple of {unit}; found {size} in a video of {list(shape)}"
            )
    return shape[2] // tubelet, shape[3] // patch, shape[4] // patch


def check_index(index: Tensor, batch: int, tokens: int, name: str) -> None:
    """Refuse an index that is not int64 [batch, K] with values in 0 … tokens - 1.

    On an accelerator the values are asserted there, without waiting for the device.
    """
    if index.dtype != torch.int64 or index.dim() != 2 or index.shape[0] != batch:
        raise ValueError(
            f"{name} must be int64 of shape [{batch}, K]; "
            f"found {index.dtype} of shape {list(index.shape)}"
        )
    if index.numel() == 0:
        raise ValueError(f"{name} holds no token: shape {list(index.shape)}")
    if index.device.type == "meta":
        return
    inside = (index >= 0).logical_and(index < tokens).all()
    if index.device.type != "cpu":
        torch._assert_async(inside)
    elif not inside:
        raise ValueError(
            f"{name} must lie in 0 … {tokens - 1} ({tokens} tokens); "
            f"found {int(index.min())} … {int(index.max())}"
        )


def check_tokens(tokens: Tensor, width: int, name: str, count: int | None = None) -> None:
    """Refuse tokens that are not [B, N, width] (with N = count, if given)."""
    wrong = tokens.dim() != 3 or tokens.shape[-1] != width
    if wrong or (count is not None and tokens.shape[1] != count):
        expected = f"[B, {'N' if count is None else count}, {width}]"
        raise ValueError(f"{name} must be {expected}; found {list(tokens.shape)}")


def pick(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens [B, N, D] at index [B, K] -> [B, K, D]."""
    rows = torch.arange(tokens.shape[0], device=tokens.device)[:, None]
    return tokens[rows, index]


def check_frame_grid(grid: tuple[int, int], merge: int) -> None:
    """Refuse what is not the (h, w) of a frame in whole squares of merge by merge tokens."""
    if not isinstance(grid, Sequence) or len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"a frame's grid is (h, w), each at least 1; found {grid}")
    if grid[0] % merge or grid[1] % merge:
        raise ValueError(f"grid {tuple(grid)} does not divide into squares of {merge} by {merge}")


def merge_tokens(tokens: Tensor, grid: tuple[int, int], merge: int) -> Tensor:
    """Squares of merge by merge tokens become one: [..., HW, E] -> [..., HW/m^2, m*m*E]."""
    if merge == 1:
        return tokens
    h, w = grid[0] // merge, grid[1] // merge
    squares = torch.unflatten(tokens, -2, (h, merge, w, merge)).movedim(-3, -4)
    return squares.flatten(-3).flatten(-3, -2)


def split_tokens(merged: Tensor, grid: tuple[int, int], merge: int) -> Tensor:
    """The inverse of merge_tokens: [..., HW/m^2, m*m*E] -> [..., HW, E]."""
    if merge == 1:
        return merged
    h, w = grid[0] // merge, grid[1] // merge
    squares = torch.unflatten(torch.unflatten(merged, -2, (h, w)), -1, (merge, merge, -1))
    return squares.movedim(-3, -4).flatten(-5, -2)
