"""Networks with weights that depend on a seed alone, in one of two initialisations.

"published": as released, deviation 0.02. "fan_in": every matrix at 1 / sqrt(inputs) and mask tokens
at 0.5, which networks a hundred wide need. Both divide what block i adds by sqrt(2 i).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from models.encoder import CHANNELS, Encoder, EncoderConfig
from models.predictor import Predictor, PredictorConfig
from models.transformer import Block, initialise_fan_in, rescale

Initialisation = Literal["published", "fan_in"]
_MASK_TOKEN_STD = 0.5


def seeded_encoder(
    config: EncoderConfig, seed: int, initialisation: Initialisation = "published"
) -> Encoder:
    """An encoder that was never trained."""
    return seeded_networks(config, None, seed, initialisation)[0]


def seeded_networks(
    encoder: EncoderConfig,
    predictor: PredictorConfig | None,
    seed: int,
    initialisation: Initialisation = "published",
) -> tuple[Encoder, Predictor | None]:
    """Encoder and predictor before any training; the encoder's weights come first."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        seeing = Encoder(encoder)
        if initialisation == "fan_in":
            _fan_in(seeing)
        if predictor is None:
            return seeing, None
        guessing = Predictor(predictor)
        if initialisation == "fan_in":
            _fan_in(guessing)
            for token in guessing.mask_tokens:
                nn.init.normal_(token, std=_MASK_TOKEN_STD)
    return seeing, guessing


def raw_patches(config: EncoderConfig) -> Encoder:
    """No encoder at all: the layer-normed pixels of each tubelet, as an encoder of depth 0.

    Patch and tubelet, frames and size are those of `config`; the width is the number of pixels.
    """
    width = CHANNELS * config.tubelet * config.patch**2
    raw = replace(config, width=width, depth=0, heads=1, mlp_hidden=1)
    encoder = Encoder(raw).requires_grad_(False)
    encoder.patch_embed.proj.weight.flatten(1).copy_(torch.eye(width))
    return encoder


def _fan_in(network: Encoder | Predictor) -> None:
    initialise_fan_in(network)
    rescale(part for part in network.modules() if isinstance(part, Block))
