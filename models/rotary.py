"""Three-axis rotary position embedding: where a token sits in time, height and width.

Shapes: B batch, N tokens, H heads, hd head width, a = 2 * floor(floor(hd / 3) / 2) the width of one
axis. A head vector is laid out as [time a | height a | width a | rest, never rotated].

Two numerics exist. ``corrected`` gives the two elements of a pair (2m, 2m + 1) one angle, which is
a true rotation: norms are kept and q·k depends on relative position alone. ``official`` repeats
what the released V-JEPA 2 weights were trained with: the list of angles is tiled, so that the two
elements of a pair turn by different angles. Angles are float32 in both; the official code rounds
them to bfloat16 under mixed precision, which is not repeated.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Numerics = Literal["corrected", "official"]
NUMERICS: tuple[Numerics, ...] = ("corrected", "official")
_THETA = 10000.0


class Rotary(NamedTuple):
    """Tables to rotate with: cos and sin, each [N, hd] or [B, N, hd], float32.

    The signs of the partner term are folded into sin; the unrotated tail has cos 1 and sin 0.
    """

    cos: Tensor
    sin: Tensor

    def at(self, index: Tensor) -> Rotary:
        """The rows of some tokens: index [B, K] into a table [N, hd] -> tables [B, K, hd]."""
        return Rotary(self.cos[index], self.sin[index])


def axis_width(head_width: int) -> int:
    """How many elements of a head vector one axis rotates."""
    return 2 * (head_width // 3 // 2)


def rotary_tables(
    time: Tensor, row: Tensor, column: Tensor, head_width: int, numerics: Numerics
) -> Rotary:
    """Tables for tokens at the given positions.

    time, row, column: [..., N] positions on the token grid (any dtype).
    Returns tables [..., N, hd].
    """
    width = axis_width(head_width)
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=time.device)
    frequencies = 1.0 / _THETA ** (steps / max(1, half))
    angles = torch.stack([time, row, column], dim=-1).float()[..., None] * frequencies
    angles = _spread(angles, numerics).flatten(-2)  # [..., N, 3 * width]
    sign = torch.ones(3 * width, device=time.device)
    sign[0::2] = -1.0
    tail = (*angles.shape[:-1], head_width - 3 * width)
    cos = torch.cat([angles.cos(), angles.new_ones(tail)], dim=-1)
    sin = torch.cat([angles.sin() * sign, angles.new_zeros(tail)], dim=-1)
    return Rotary(cos, sin)


def _spread(angles: Tensor, numerics: Numerics) -> Tensor:
    """Give each element of an axis its angle: [..., half] -> [..., 2 * half]."""
    if numerics == "official":
        return torch.cat([angles, angles], dim=-1)
    return angles.repeat_interleave(2, dim=-1)


def grid_positions(grid: tuple[int, int, int], device: torch.device) -> tuple[Tensor, ...]:
    """Positions (time, row, column), each [t * h * w], in time-major raster order."""
    axes = [torch.arange(extent, device=device) for extent in grid]
    return tuple(axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij"))


def grid_rotary(
    grid: tuple[int, int, int], head_width: int, numerics: Numerics, device: torch.device
) -> Rotary:
    """Tables [t * h * w, hd] for every token of a grid."""
    time, row, column = grid_positions(grid, device)
    return rotary_tables(time, row, column, head_width, numerics)


def rotate(packed: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values out of one projection, queries and keys rotated.

    packed: [B, N, 3, H, hd]; tables [N, hd] or [B, N, hd]. Returns three contiguous [B, H, N, hd],
    which attention reads faster than strided ones.
    """
    # Tables stay float32 under mixed precision: a bfloat16 angle is off by up to 0.03 rad.
    tables = (table.unsqueeze(-3) if table.dim() == 3 else table for table in rotary)
    queries, keys, values = _Rotate.apply(packed, *tables)
    return queries, keys, values


def _swap_into(out: Tensor, x: Tensor) -> Tensor:
    """Write x to out with the two elements of every adjacent pair of the last axis exchanged."""
    pairs = x.shape[-1] // 2 * 2
    out[..., 0:pairs:2] = x[..., 1:pairs:2]
    out[..., 1:pairs:2] = x[..., 0:pairs:2]
    if pairs < x.shape[-1]:  # the last of an odd head is never turned
        out[..., pairs:] = x[..., pairs:]
    return out


class _Rotate(torch.autograd.Function):
    """x * cos + swap(x) * sin for queries and keys, all heads apart, in as few passes as may be.

    Linear in x, so the backward pass needs the small tables and nothing else.
    """

    @staticmethod
    def forward(
        ctx: Any, packed: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        heads = packed.permute(2, 0, 3, 1, 4).contiguous()
        x = heads[:2]
        turned = _swap_into(torch.empty_like(x), x).mul_(sin).addcmul_(x, cos)
        return turned[0], turned[1], heads[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        batch, heads, tokens, width = gradients[0].shape
        packed = gradients[0].new_empty(batch, tokens, 3, heads, width)
        parts = packed.permute(2, 0, 3, 1, 4)
        for part, gradient in zip(parts[:2], gradients[:2], strict=True):
            _swap_into(part, gradient * sin).addcmul_(gradient, cos)
        parts[2].copy_(gradients[2])
        return packed, None, None
