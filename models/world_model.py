"""The action-conditioned world model (V-JEPA 2-AC): what the next frame's features will be.

Shapes: B batch, T steps (one frame each), HW = h * w patch tokens per frame, E encoder width, D
inner width, S = 2 + HW' tokens per step: action, state, patches. HW' = HW / token_merge^2.

- tokens:  [B, T*HW, E] layer-normed features of single frames
- actions: [B, T, 7] end-effector deltas: metres, radians, gripper
- states:  [B, T, 7] end-effector pose: metres, radians, gripper opening

Attention is block-causal: a token of step i sees every token of steps 0 … i. Keys and values of a
step therefore never change when later steps are added, which makes re-using them exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.rotary import Numerics, Rotary, rotary_tables
from models.tokens import check_frame_grid, check_tokens, merge_tokens, split_tokens
from models.transformer import (
    EPSILON,
    Block,
    Checkpointing,
    check_sizes,
    initialise,
    rescale,
    spared,
)

CONDITIONS = 2
"""Tokens before the patches in each step: action and state."""


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig:
    """Architecture of a world model. Defaults: V-JEPA 2-AC on ViT-g features of 256 pixels."""

    encoder_width: int = 1408
    """Width E of the features that come in and go out."""
    width: int = 1024
    """Width D inside."""
    depth: int = 24
    """Number of blocks."""
    heads: int = 16
    """Attention heads."""
    mlp_hidden: int = 4096
    """Width inside the MLP."""
    grid: tuple[int, int] = (16, 16)
    """Patch tokens of a frame (h, w), nominal: a call may name another."""
    action_width: int = 7
    """Numbers in an action, and in a state."""
    extrinsics_width: int = 6
    """Width of the camera-pose encoder that the official layout holds and never uses; 0: none."""
    residual: bool = False
    """Predict the change since the current frame instead of the next frame."""
    token_merge: int = 1
    """Side of the square of tokens merged into one: 2 leaves a quarter of the tokens."""
    numerics: Numerics = "corrected"
    """``corrected`` rotation, or ``official`` as the released weights need it."""

    def __post_init__(self) -> None:
        check_frame_grid(self.grid, 1)
        object.__setattr__(self, "grid", tuple(self.grid))
        check_sizes(
            "WorldModelConfig",
            width=self.width,
            heads=self.heads,
            numerics=self.numerics,
            encoder_width=self.encoder_width,
            depth=self.depth,
            mlp_hidden=self.mlp_hidden,
            action_width=self.action_width,
            token_merge=self.token_merge,
            grid_height=self.grid[0],
            grid_width=self.grid[1],
        )
        if type(self.extrinsics_width) is not int or self.extrinsics_width < 0:
            raise ValueError(
                f"WorldModelConfig.extrinsics_width is {self.extrinsics_width}; it must be a whole "
                f"number, 0 for none"
            )
        check_frame_grid(self.grid, self.token_merge)


class KeyValues(NamedTuple):
    """Keys and values [B, H, steps * S, hd] of every layer, for steps already seen."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    steps: int

    def first(self, steps: int) -> KeyValues:
        """Only the first steps; ValueError if there are not so many."""
        if not 1 <= steps <= self.steps:
            raise ValueError(f"of {self.steps} steps, the first {steps} were asked for")
        span = self.layers[0][0].shape[2] // self.steps
        kept = tuple((k[:, :, : steps * span], v[:, :, : steps * span]) for k, v in self.layers)
        return KeyValues(kept, steps)


class WorldModel(nn.Module):
    """Block-causal transformer; parameter names as in the official checkpoints."""

    action_mean: Tensor
    action_std: Tensor
    state_mean: Tensor
    state_std: Tensor

    activation_checkpointing: Checkpointing = "off"
    """What of each block is computed again in the backward pass: less memory, the same numbers."""

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        merged = config.encoder_width * config.token_merge**2
        self.predictor_embed = nn.Linear(merged, config.width)
        self.action_encoder = nn.Linear(config.action_width, config.width)
        self.state_encoder = nn.Linear(config.action_width, config.width)
        if config.extrinsics_width:
            self.extrinsics_encoder = nn.Linear(config.extrinsics_width, config.width)
        self.predictor_blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_hidden) for _ in range(config.depth)
        )
        self.predictor_norm = nn.LayerNorm(config.width, eps=EPSILON)
        self.predictor_proj = nn.Linear(config.width, merged)
        for name in ("action", "state"):
            self.register_buffer(f"{name}_mean", torch.zeros(config.action_width))
            self.register_buffer(f"{name}_std", torch.ones(config.action_width))
        initialise(self)
        rescale(block for block in self.predictor_blocks if isinstance(block, Block))
        if config.extrinsics_width:
            # Kept for the official layout; without gradients it cannot stall a distributed run.
            self.extrinsics_encoder.requires_grad_(False)

    def normalise_with(self, actions: Tensor, states: Tensor) -> None:
        """Take mean and deviation of actions and states ([..., 7]) to normalise inputs from now.

        A coordinate that never changes keeps a deviation of 1.
        """
        for name, values in (("action", actions), ("state", states)):
            if values.shape[-1] != self.config.action_width:
                raise ValueError(
                    f"{name}s must be [..., {self.config.action_width}]; found {list(values.shape)}"
                )
            flat = values.reshape(-1, self.config.action_width).float()
            spread = flat.std(dim=0, correction=0)
            getattr(self, f"{name}_mean").copy_(flat.mean(dim=0))
            getattr(self, f"{name}_std").copy_(torch.where(spread > 1e-6, spread, 1.0))

    def forward(
        self,
        tokens: Tensor,
        actions: Tensor,
        states: Tensor,
        grid: tuple[int, int] | None = None,
        past: KeyValues | None = None,
        return_past: bool = False,
    ) -> Tensor | tuple[Tensor, KeyValues]:
        """Predicted features of the frame after each step: [B, T*HW, E].

        past: keys and values of the steps before these. tokens and past may have batch 1, to be
        shared by all actions. With return_past, also the keys and values of all steps so far.
        """
        grid = grid or self.config.grid
        steps = self._check(tokens, actions, states, grid, past)
        first = past.steps if past else 0
        x, rotary, span = self._embed(tokens, actions, states, grid, first)
        layers = []
        for number, layer in enumerate(self.predictor_blocks):
            block = cast(Block, layer)
            before = past.layers[number] if past else None
            how = self.activation_checkpointing
            x, k, v = spared(how, _causal, block, x, rotary, span, before)
            if return_past:
                layers.append((k, v))
        patches = self.predictor_norm(torch.unflatten(x, 1, (steps, span))[:, :, CONDITIONS:])
        predicted = split_tokens(self.predictor_proj(patches), grid, self.config.token_merge)
        predicted = predicted.flatten(1, 2)
        if self.config.residual:
            predicted = tokens + predicted
        if return_past:
            return predicted, KeyValues(tuple(layers), first + steps)
        return predicted

    def _embed(
        self, tokens: Tensor, actions: Tensor, states: Tensor, grid: tuple[int, int], first: int
    ) -> tuple[Tensor, Rotary, int]:
        """Tokens of all steps [B, T*S, D], their rotation tables and S."""
        steps = actions.shape[1]
        frames = torch.unflatten(tokens, 1, (steps, -1))
        patches = self.predictor_embed(merge_tokens(frames, grid, self.config.token_merge))
        patches = patches.expand(actions.shape[0], -1, -1, -1)
        action = self.action_encoder((actions - self.action_mean) / self.action_std)
        state = self.state_encoder((states - self.state_mean) / self.state_std)
        x = torch.cat([action[:, :, None], state[:, :, None], patches], dim=2)
        rotary = self._rotary(steps, grid, first, tokens.device)
        return x.flatten(1, 2), rotary, x.shape[2]

    def _rotary(
        self, steps: int, grid: tuple[int, int], first: int, device: torch.device
    ) -> Rotary:
        """Tables [T*S, hd]; action and state tokens turn with time only (row and column 0).

        The official code stretches columns by height over width, as if every picture were square.
        """
        h, w = (side // self.config.token_merge for side in grid)
        cell = torch.arange(h * w, device=device)
        row, column = F.pad(cell // w, (CONDITIONS, 0)), F.pad(cell % w, (CONDITIONS, 0))
        if self.config.numerics == "official":
            column = column.float() * (h / w)
        time = torch.arange(first, first + steps, device=device)
        head_width = self.config.width // self.config.heads
        return rotary_tables(
            time.repeat_interleave(len(row)),
            row.repeat(steps),
            column.repeat(steps),
            head_width,
            self.config.numerics,
        )

    def _check(
        self,
        tokens: Tensor,
        actions: Tensor,
        states: Tensor,
        grid: tuple[int, int],
        past: KeyValues | None,
    ) -> int:
        """Steps of a call whose shapes agree; ValueError names what does not."""
        width = self.config.action_width
        check_frame_grid(grid, self.config.token_merge)
        for name, value in (("actions", actions), ("states", states)):
            fits = value.dim() == 3 and value.shape[-1] == width and value.shape[1] > 0
            if not fits or value.shape != actions.shape:
                raise ValueError(
                    f"{name} must be [B, T, {width}], T above 0, actions and states alike; found "
                    f"actions {list(actions.shape)}, states {list(states.shape)}"
                )
        count = actions.shape[1] * grid[0] * grid[1]
        check_tokens(tokens, self.config.encoder_width, "tokens", count)
        if tokens.shape[0] not in (1, actions.shape[0]):
            raise ValueError(
                f"tokens are of batch {tokens.shape[0]}, actions of batch {actions.shape[0]}"
            )
        if past is not None:
            self._check_past(past, actions.shape[0], grid)
        return actions.shape[1]

    def _check_past(self, past: KeyValues, batch: int, grid: tuple[int, int]) -> None:
        span = CONDITIONS + grid[0] * grid[1] // self.config.token_merge**2
        held, _, tokens, _ = past.layers[0][0].shape if past.layers else (0, 0, 0, 0)
        whole = len(past.layers) == self.config.depth and tokens == past.steps * span
        if not whole or held not in (1, batch):
            raise ValueError(
                f"past must be of {self.config.depth} layers, batch 1 or {batch} and {span} tokens "
                f"a step; found {len(past.layers)} layers, batch {held} and {tokens} tokens in "
                f"{past.steps} steps"
            )


def _causal(
    block: Block, x: Tensor, rotary: Rotary, span: int, before: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """One block over whole steps of `span` tokens; also the keys and values, earlier ones first."""
    queries, keys, values = block.attn.project(block.norm1(x), rotary)
    if before is not None:
        batch = x.shape[0]
        keys = torch.cat([before[0].expand(batch, -1, -1, -1), keys], dim=2)
        values = torch.cat([before[1].expand(batch, -1, -1, -1), values], dim=2)
    x = x + block.attn.merge(attend_by_step(queries, keys, values, span))
    return x + block.mlp(block.norm2(x)), keys, values


def attend_by_step(queries: Tensor, keys: Tensor, values: Tensor, span: int) -> Tensor:
    """Block-causal attention without a mask: each step's queries see a prefix of the keys.

    queries: [B, H, T*S, hd], the last T steps; keys, values: [B, H, (P + T)*S, hd], S = span.
    """
    offset = keys.shape[2] - queries.shape[2]
    attended = []
    for start in range(0, queries.shape[2], span):
        seen = offset + start + span
        step = queries[:, :, start : start + span]
        attended.append(
            F.scaled_dot_product_attention(step, keys[:, :, :seen], values[:, :, :seen])
        )
    return torch.cat(attended, dim=2)
