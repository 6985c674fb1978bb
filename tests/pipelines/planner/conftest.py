"""A world small enough to imagine in milliseconds, whose motions matter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.encoder import Encoder, EncoderConfig
from models.preprocessing import Preprocessing
from models.world_model import WorldModel, WorldModelConfig
from pipelines.planner.world import ImaginedWorld

ENCODER = EncoderConfig(width=24, depth=2, heads=2, mlp_hidden=48, patch=8, frames=2, size=32)
WORLD_MODEL = WorldModelConfig(
    encoder_width=24,
    width=32,
    depth=2,
    heads=2,
    mlp_hidden=64,
    grid=(4, 4),
    residual=True,
    token_merge=2,
    extrinsics_width=0,
)


def build(seed: int = 0) -> ImaginedWorld:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, world_model = Encoder(ENCODER), WorldModel(WORLD_MODEL)
        for parameter in world_model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        world_model.normalise_with(torch.randn(100, 7) * 0.05, torch.rand(100, 7))
    return ImaginedWorld(encoder, world_model, Preprocessing(size=32))


@pytest.fixture
def tiny_world() -> Callable[..., ImaginedWorld]:
    """Make the world of a seed."""
    return build
