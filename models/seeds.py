"""Networks with weights that depend on a seed alone, in one of two initialisations.

"published": as released, deviation 0.02. "fan_in": every matrix at 1 / sqrt(inputs) and mask tokens
at 0.5, which networks a hundred wide need. Both divide what block i adds by sqrt(2 i).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from models.encoder import Encoder, EncoderConfig
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


def _fan_in(network: Encoder | Predictor) -> None:
    initialise_fan_in(network)
    rescale(part for part in network.modules() if isinstance(part, Block))
