"""Finished trainings with random weights, laid out as the training stages lay theirs out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from models.encoder import Encoder, EncoderConfig
from models.preprocessing import Preprocessing
from models.world_model import WorldModel, WorldModelConfig
from storage.artifacts import Artifact
from tests.pipelines.builders import finished_training

ENCODER = EncoderConfig(width=24, depth=2, heads=2, mlp_hidden=48, patch=8, frames=4, size=32)
WORLD_MODEL = WorldModelConfig(
    encoder_width=24,
    width=32,
    depth=1,
    heads=2,
    mlp_hidden=64,
    grid=(4, 4),
    token_merge=2,
    extrinsics_width=0,
)


@pytest.fixture
def trainings(tmp_path: Path) -> dict[str, Artifact]:
    """`cooled_encoder` and `world_model`, as artifacts."""
    torch.manual_seed(3)
    encoder, target, world_model = Encoder(ENCODER), Encoder(ENCODER), WorldModel(WORLD_MODEL)
    world_model.normalise_with(torch.randn(100, 7) * 0.05, torch.rand(100, 7))
    networks = {"encoder": encoder, "target_encoder": target}
    return {
        "cooled_encoder": finished_training(
            tmp_path / "cooled_encoder",
            "cooled_encoder",
            networks,
            encoder=asdict(ENCODER),
            initialisation="fan_in",
        ),
        "world_model": finished_training(
            tmp_path / "world_model",
            "world_model",
            {"world_model": world_model},
            world_model=asdict(WORLD_MODEL),
            preprocessing=asdict(Preprocessing(size=32)),
            pace={"clock": "control", "rate_hz": 4.0, "control_rate_hz": 4.0},
        ),
    }
