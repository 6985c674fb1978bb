"""The pretraining step, ours and the official one, for bench_models.py.

A step is: target features, both masks through encoder and predictor, loss, backward, AdamW, moving
average. The official step is the body of the published training loop.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoder import Encoder
from models.masks import LONG_RANGE, SHORT_RANGE, multiblock_masks
from models.objectives import Masks, pretraining_loss
from models.optimizer import adamw, update_average
from models.predictor import Predictor, PredictorConfig
from tests.benchmarks.contenders import Contender, Shape
from tests.models import peers

LR, DECAY, MOMENTUM = 1e-4, 0.04, 0.99925
PUBLISHED_BATCH = 24
"""Clips per GPU in the paper: the official masks are cut to the least count among so many."""


def pretraining_contenders(shape: Shape) -> list[Contender]:
    """Ours; official; official with activation checkpointing, as it is shipped."""
    torch.manual_seed(0)
    encoder = Encoder(shape.encoder()).to(shape.device)
    predictor = Predictor(
        PredictorConfig(
            encoder_width=shape.width,
            width=shape.predictor,
            depth=shape.predictor_depth,
            heads=shape.predictor_heads,
            mlp_hidden=4 * shape.predictor,
            numerics="official",
        )
    ).to(shape.device)
    masks = [
        tuple(index[: shape.batch].to(shape.device) for index in drawn)
        for drawn in (
            multiblock_masks(shape.grid, PUBLISHED_BATCH, mask, 0, 0, numerics="official")
            for mask in (SHORT_RANGE, LONG_RANGE)
        )
    ]
    pairs = [("official", False), ("official, checkpointing (as shipped)", True)]
    return [
        Contender("ours", _our_step(deepcopy(encoder), deepcopy(predictor), shape, masks)),
        *(
            Contender(name, _official_step(encoder, predictor, shape, masks, spared))
            for name, spared in pairs
        ),
    ]


def _our_step(
    encoder: Encoder, predictor: Predictor, shape: Shape, masks: Masks
) -> Callable[[], float]:
    target = deepcopy(encoder).requires_grad_(False)
    if shape.compiled:
        for block in (*encoder.blocks, *target.blocks, *predictor.predictor_blocks):
            block.compile()
    optimizer = adamw([encoder, predictor], lr=LR, weight_decay=DECAY)
    video = shape.video()

    def step() -> float:
        with shape.autocast():
            loss = pretraining_loss(encoder, target, predictor, video, masks, shape.grid).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_average(target, encoder, MOMENTUM)
        return loss.item()

    return step


def _official_step(
    encoder: Encoder, predictor: Predictor, shape: Shape, masks: Masks, spared: bool
) -> Callable[[], float]:
    wrappers, tensors = peers.official("utils.wrappers"), peers.official("masks.utils")
    option = {"use_activation_checkpointing": spared}
    online = shape.official(**option)
    online.load_state_dict(encoder.state_dict())
    guess = peers.predictor(
        shape.width,
        shape.predictor,
        shape.predictor_depth,
        shape.predictor_heads,
        patch=16,
        frames=shape.frames,
        size=shape.size,
        **option,
    ).to(shape.device)
    guess.load_state_dict(predictor.state_dict())
    online = wrappers.MultiSeqWrapper(online)
    guess = wrappers.PredictorMultiSeqWrapper(guess)
    target = deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.AdamW(_official_groups(online, guess), lr=LR, weight_decay=DECAY)
    seen, hidden = [m[0] for m in masks], [m[1] for m in masks]
    video = shape.video()

    def step() -> float:
        with shape.autocast():
            with torch.no_grad():
                features = [F.layer_norm(h, (h.size(-1),)) for h in target([video])]
            predicted = guess(online([video], [seen]), [seen], [hidden])
            wanted = [tensors.apply_masks(features[0], hidden, concat=False)]
            terms = [
                torch.mean(torch.abs(z - h) ** 1.0) / 1.0
                for zs, hs in zip(predicted, wanted, strict=True)
                for z, h in zip(zs, hs, strict=True)
            ]
            loss = sum(terms) / len(terms)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            averaged, current = list(target.parameters()), list(online.parameters())
            torch._foreach_mul_(averaged, MOMENTUM)
            torch._foreach_add_(averaged, current, alpha=1 - MOMENTUM)
        return loss.item()

    return step


def _official_groups(*modules: nn.Module) -> list[dict[str, object]]:
    """The published four groups: weights of each module, then biases and vectors of each."""

    def plain(name: str, parameter: Tensor) -> bool:
        return "bias" in name or parameter.dim() == 1

    kept: list[dict[str, object]] = []
    for vectors in (False, True):
        for module in modules:
            chosen = [p for n, p in module.named_parameters() if plain(n, p) is vectors]
            kept.append({"params": chosen, **({"weight_decay": 0} if vectors else {})})
    return kept
