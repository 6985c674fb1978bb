"""The V-JEPA 2 predictor: from context features to the features of masked tokens.

Shapes: context [B, K, E] encoder features at context_index [B, K]; target_index [B, M]; both index
lists point into the token grid (t, h, w) of the clip (the official code takes the square grid it
was built for, right or wrong; name that one to repeat it). Predictor width P. Attention is full,
and positions enter through the rotation alone, so the order of tokens is free: nothing is sorted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.rotary import Numerics, Rotary, grid_rotary
from models.tokens import Grid, check_index, check_tokens, count
from models.transformer import (
    EPSILON,
    Block,
    Checkpointing,
    check_sizes,
    initialise,
    rescale,
    run_blocks,
)


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Architecture of a predictor. Defaults: the one of every released size, beside a ViT-L."""

    encoder_width: int = 1024
    """Width E of the features that come in and go out."""
    width: int = 384
    """Width P inside."""
    depth: int = 12
    """Number of blocks."""
    heads: int = 12
    """Attention heads."""
    mlp_hidden: int = 1536
    """Width inside the MLP."""
    mask_tokens: int = 10
    """Learned mask tokens. Released files hold 10 (two masks, five data sets); training uses
    token 0 alone, so one is enough for a model trained from scratch."""
    context_head: bool = False
    """Whether a second head predicts at context tokens (for a context loss as in V-JEPA 2.1)."""
    numerics: Numerics = "corrected"
    """``corrected`` rotation, or ``official`` as the released weights need it."""

    def __post_init__(self) -> None:
        check_sizes(
            "PredictorConfig",
            width=self.width,
            heads=self.heads,
            numerics=self.numerics,
            encoder_width=self.encoder_width,
            depth=self.depth,
            mlp_hidden=self.mlp_hidden,
            mask_tokens=self.mask_tokens,
        )


class Predictor(nn.Module):
    """Transformer over context and mask tokens; parameter names as in the official checkpoints."""

    activation_checkpointing: Checkpointing = "off"
    """What of each block is computed again in the backward pass: less memory, the same numbers."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        self.predictor_embed = nn.Linear(config.encoder_width, config.width)
        self.mask_tokens = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1, config.width)) for _ in range(config.mask_tokens)
        )
        self.predictor_blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_hidden) for _ in range(config.depth)
        )
        self.predictor_norm = nn.LayerNorm(config.width, eps=EPSILON)
        self.predictor_proj = nn.Linear(config.width, config.encoder_width)
        if config.context_head:
            self.predictor_proj_context = nn.Linear(config.width, config.encoder_width)
        initialise(self)
        rescale(block for block in self.predictor_blocks if isinstance(block, Block))

    def forward(
        self,
        context: Tensor,
        context_index: Tensor,
        target_index: Tensor,
        grid: Grid,
        mask_index: int = 0,
        return_context: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Predicted features at target_index, in its order: [B, M, E].

        mask_index chooses the mask token, modulo their number. Training uses 0; Hugging Face and
        the official anticipation evaluation use 1, which matters for released weights.
        With return_context, also the context head's predictions: ([B, M, E], [B, K, E]).
        """
        if return_context and not self.config.context_head:
            raise ValueError("this predictor has no context head: set PredictorConfig.context_head")
        self._check(context, context_index, target_index, grid)
        last = None if return_context else target_index.shape[1]
        hidden = self._run(context, context_index, target_index, grid, mask_index, last)
        predicted: Tensor = self.predictor_proj(hidden[:, -target_index.shape[1] :])
        if return_context:
            kept = context_index.shape[1]
            return predicted, self.predictor_proj_context(hidden[:, :kept])
        return predicted

    def _run(
        self,
        context: Tensor,
        context_index: Tensor,
        target_index: Tensor,
        grid: Grid,
        mask_index: int,
        last: int | None,
    ) -> Tensor:
        """Normed hidden states of context then targets, or of the last: [B, K + M or last, P]."""
        batch = context.shape[0]
        mask = self.mask_tokens[mask_index % len(self.mask_tokens)]
        embedded = self.predictor_embed(context)
        # All mask tokens are one vector until positions tell them apart inside the first block.
        x = torch.cat([embedded, mask.to(embedded.dtype).expand(batch, -1, -1)], dim=1)
        x = run_blocks(
            self.predictor_blocks,
            x,
            self._rotary(torch.cat([context_index, target_index], dim=1), grid),
            checkpointing=self.activation_checkpointing,
            last=last,
            copies=target_index.shape[1],
        )
        out: Tensor = self.predictor_norm(x)
        return out

    def _check(
        self, context: Tensor, context_index: Tensor, target_index: Tensor, grid: Grid
    ) -> None:
        if len(grid) != 3 or min(grid) < 1:
            raise ValueError(f"a token grid is (t, h, w), each at least 1; found {tuple(grid)}")
        seen = context_index.shape[1] if context_index.dim() == 2 else None
        check_tokens(context, self.config.encoder_width, "context", seen)
        for name, index in (("context_index", context_index), ("target_index", target_index)):
            check_index(index, context.shape[0], count(grid), name)

    def _rotary(self, index: Tensor, grid: Grid) -> Rotary:
        head_width = self.config.width // self.config.heads
        return grid_rotary(grid, head_width, self.config.numerics, index.device).at(index)
