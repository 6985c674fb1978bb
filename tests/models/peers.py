"""The official sources, as repackaged in cc-vjepa2, made importable beside CPU-only torch.

They import one function from timm, whose torchvision does not load here; a module of that name with
that function (used only where stochastic depth is on, which it never is) stands in for it.
"""

from __future__ import annotations

import sys
import types
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def official(name: str) -> Any:
    """The module `vjepa2.<name>` of the official sources."""
    if "timm" not in sys.modules:
        layers = types.ModuleType("timm.models.layers")
        layers.drop_path = lambda x, probability=0.0, training=False: x  # type: ignore[attr-defined]
        sys.modules["timm"] = types.ModuleType("timm")
        sys.modules["timm.models"] = types.ModuleType("timm.models")
        sys.modules["timm.models.layers"] = layers
    __import__(f"vjepa2.{name}")
    return sys.modules[f"vjepa2.{name}"]


NORM = partial(nn.LayerNorm, eps=1e-6)


def encoder(
    width: int,
    depth: int,
    heads: int,
    hidden: int,
    *,
    patch: int,
    frames: int,
    size: int,
    **more: Any,
) -> nn.Module:
    """The official encoder with any sizes."""
    return official("models.vision_transformer").VisionTransformer(
        img_size=(size, size),
        patch_size=patch,
        num_frames=frames,
        tubelet_size=2,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=hidden / width,
        qkv_bias=True,
        norm_layer=NORM,
        use_rope=True,
        use_sdpa=True,
        handle_nonsquare_inputs=True,
        **more,
    )


def predictor(
    encoder_width: int,
    width: int,
    depth: int,
    heads: int,
    *,
    patch: int,
    frames: int,
    size: int,
    mask_tokens: int = 10,
    **more: Any,
) -> nn.Module:
    """The official predictor with any sizes."""
    return official("models.predictor").vit_predictor(
        img_size=(size, size),
        patch_size=patch,
        num_frames=frames,
        tubelet_size=2,
        embed_dim=encoder_width,
        predictor_embed_dim=width,
        depth=depth,
        num_heads=heads,
        use_mask_tokens=True,
        num_mask_tokens=mask_tokens,
        use_rope=True,
        use_sdpa=True,
        **more,
    )


def world_model(
    encoder_width: int,
    width: int,
    depth: int,
    heads: int,
    *,
    patch: int,
    frames: int,
    size: int,
    **more: Any,
) -> nn.Module:
    """The official action-conditioned predictor with any sizes; `frames` counts pairs of two."""
    return official("models.ac_predictor").vit_ac_predictor(
        img_size=(size, size),
        patch_size=patch,
        num_frames=frames,
        tubelet_size=2,
        embed_dim=encoder_width,
        predictor_embed_dim=width,
        depth=depth,
        num_heads=heads,
        use_rope=True,
        use_sdpa=True,
        **more,
    )


def world_model_loss(
    model: nn.Module, features: Tensor, actions: Tensor, states: Tensor, span: int, rolled: int
) -> Tensor:
    """The published step: teacher forcing, then a rollout that runs every prefix again.

    `features` [B, T * span, width] hold `span` tokens a frame.
    """

    def step(tokens: Tensor, upto: int) -> Tensor:
        out = model(tokens, actions[:, :upto], states[:, :upto])
        return F.layer_norm(out, (out.shape[-1],))

    steps = features.shape[1] // span - 1
    forced = step(features[:, :-span], steps)
    sequence = torch.cat([features[:, :span], forced[:, :span]], dim=1)
    for number in range(1, rolled):
        sequence = torch.cat([sequence, step(sequence, number + 1)[:, -span:]], dim=1)
    wanted, free = features[:, span:], sequence[:, span:]
    return (forced - wanted).abs().mean() + (free - wanted[:, : span * rolled]).abs().mean()


def probe(width: int, heads: int, depth: int, classes: int) -> nn.Module:
    """The official attentive classifier."""
    return official("models.attentive_pooler").AttentiveClassifier(
        embed_dim=width, num_heads=heads, depth=depth, num_classes=classes
    )


@torch.no_grad()
def scatter(module: nn.Module, seed: int) -> nn.Module:
    """Fill every parameter with numbers that show mistakes: norms away from 1, masks not 0."""
    source = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=source)
        if name.endswith("norm.weight") or (".norm" in name and name.endswith("weight")):
            parameter.copy_(1.0 + 0.3 * noise)
        elif "mask_tokens" in name:
            parameter.copy_(noise)
        else:
            parameter.copy_(0.08 * noise)
    return module
