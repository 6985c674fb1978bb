"""Probes on frozen features: attentive pooling with learned queries, then linear heads.

Shapes: tokens [B, N, D] from the encoder, Q queries, C classes. Self-attention blocks without
positions, one cross-attention block, linear. The published probes have 4 blocks in all, 16 heads
for every encoder and a LayerNorm epsilon of 1e-5 (not the encoder's 1e-6).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.tokens import check_tokens
from models.transformer import Block, Mlp, check_sizes, initialise, rescale

PROBE_EPSILON = 1e-5


class CrossAttention(nn.Module):
    """Queries attend to tokens; one projection for keys and values and none after."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Queries [B, Q, D], tokens [B, N, D] -> [B, Q, D]."""
        q = self.q(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(tokens).unflatten(-1, (2, self.heads, -1)).transpose(1, 3).unbind(2)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class CrossAttentionBlock(nn.Module):
    """Cross-attention then MLP; the tokens are normed, the queries go in as they are."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.xattn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Queries [B, Q, D], tokens [B, N, D] -> [B, Q, D]."""
        queries = queries + self.xattn(queries, self.norm1(tokens))
        out: Tensor = queries + self.mlp(self.norm2(queries))
        return out


class AttentivePooler(nn.Module):
    """Tokens [B, N, D] -> one vector per query [B, Q, D]."""

    def __init__(self, width: int, heads: int, depth: int, queries: int, eps: float) -> None:
        super().__init__()
        check_sizes(
            "AttentiveProbe",
            width=width,
            heads=heads,
            numerics="official",
            depth=depth,
            queries=queries,
        )
        self.query_tokens = nn.Parameter(torch.empty(1, queries, width))
        self.cross_attention_block = CrossAttentionBlock(width, heads, 4 * width, eps)
        if depth > 1:
            self.blocks = nn.ModuleList(
                Block(width, heads, 4 * width, eps) for _ in range(depth - 1)
            )
        initialise(self)
        nn.init.trunc_normal_(self.query_tokens, std=0.02, a=-2.0, b=2.0)
        if depth > 1:
            rescale(block for block in self.blocks if isinstance(block, Block))
        # The official code counts the cross-attention block as the last self-attention block.
        number = max(1, depth - 1)
        self.cross_attention_block.mlp.fc2.weight.data.div_(math.sqrt(2.0 * number))

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, D] -> [B, Q, D]."""
        check_tokens(tokens, self.query_tokens.shape[-1], "tokens")
        for block in getattr(self, "blocks", ()):
            tokens = block(tokens)
        queries = self.query_tokens.expand(tokens.shape[0], -1, -1)
        out: Tensor = self.cross_attention_block(queries, tokens)
        return out


class AttentiveProbe(nn.Module):
    """Classifies clips from frozen tokens."""

    def __init__(
        self,
        width: int,
        heads: int = 16,
        depth: int = 4,
        classes: int = 174,
        queries: int = 1,
        eps: float = PROBE_EPSILON,
    ) -> None:
        super().__init__()
        self.pooler = AttentivePooler(width, heads, depth, queries, eps)
        self.linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.02, a=-2.0, b=2.0)
        nn.init.zeros_(self.linear.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> logits [B, C], or [B, Q, C] with several queries."""
        logits: Tensor = self.linear(self.pooler(tokens))
        return logits.squeeze(1)


class AnticipationProbe(nn.Module):
    """One query and one linear head per thing to name: verb, noun and action."""

    def __init__(
        self,
        width: int,
        classes: Mapping[str, int],
        heads: int = 16,
        depth: int = 4,
        eps: float = PROBE_EPSILON,
    ) -> None:
        super().__init__()
        self.names = tuple(classes)
        self.pooler = AttentivePooler(width, heads, depth, len(self.names), eps)
        for name, number in classes.items():
            head = nn.Linear(width, number)
            nn.init.trunc_normal_(head.weight, std=0.02, a=-2.0, b=2.0)
            nn.init.zeros_(head.bias)
            self.add_module(f"{name}_classifier", head)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Tokens [B, N, D] (encoder's, then predicted) -> logits [B, C] by name."""
        pooled = self.pooler(tokens)
        return {
            name: self.get_submodule(f"{name}_classifier")(pooled[:, place])
            for place, name in enumerate(self.names)
        }
