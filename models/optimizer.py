"""AdamW as the paper uses it, its parameter groups, and the moving average of the encoder."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def parameter_groups(modules: Iterable[nn.Module]) -> list[dict[str, object]]:
    """Decayed and undecayed parameters of several modules, those that need gradients.

    Biases and vectors (LayerNorm) are not decayed; mask tokens, being [1, 1, D], are.
    """
    decayed: list[Tensor] = []
    undecayed: list[Tensor] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                plain = parameter.dim() <= 1 or name.endswith("bias")
                (undecayed if plain else decayed).append(parameter)
    return [
        {"params": decayed, "decayed": True},
        {"params": undecayed, "decayed": False, "weight_decay": 0.0},
    ]


def adamw(
    modules: Iterable[nn.Module],
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """AdamW over modules in one fused kernel per device."""
    groups = parameter_groups(modules)
    groups[0]["weight_decay"] = weight_decay
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Give all groups a learning rate, and the decayed ones a weight decay."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if group["decayed"]:
            group["weight_decay"] = weight_decay


def shorten(gradients: Iterable[Tensor | None], norm: float, most: float | None) -> None:
    """Scale gradients, whose norm together is `norm`, in place to at most `most`; None: not."""
    if most is not None and norm > most:
        for gradient in gradients:
            if gradient is not None:
                gradient.mul_(most / norm)


@torch.no_grad()
def update_average(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Move the target's parameters towards the online ones: θ' = m θ' + (1 - m) θ."""
    averaged: list[Tensor] = list(target.parameters())
    current: list[Tensor] = list(online.parameters())
    if len(averaged) != len(current):
        raise ValueError(
            f"the target has {len(averaged)} parameters and the online module {len(current)}"
        )
    torch._foreach_lerp_(averaged, current, 1.0 - momentum)
