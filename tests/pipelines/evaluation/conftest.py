"""Finished trainings with random weights, laid out as the training stages lay theirs out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from models.checkpoints import save_weights
from models.encoder import Encoder, EncoderConfig
from models.world_model import WorldModel, WorldModelConfig
from pipelines.planner.world import Preprocessing
from storage.artifacts import Artifact, Manifest
from storage.digests import digest_json
from storage.manifests import content_digest, list_files

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


def as_artifact(name: str, folder: Path) -> Artifact:
    files = list_files(folder)
    asked = {"stage": name}
    recipe = digest_json(asked)
    return Artifact(Manifest(name, None, asked, recipe, content_digest(files), files, {}), folder)


def _finish(folder: Path, architecture: dict[str, object], weights: dict[str, object]) -> None:
    checkpoint = folder / "checkpoints" / "step-000007"
    for name, network in weights.items():
        save_weights(checkpoint / f"{name}.safetensors", network.state_dict())
    model = {"architecture": architecture, "final": "checkpoints/step-000007", "step": 7}
    (folder / "model.json").write_text(json.dumps(model))


@pytest.fixture
def trainings(tmp_path: Path) -> dict[str, Artifact]:
    """`cooled_encoder` and `world_model`, as artifacts."""
    torch.manual_seed(3)
    encoder, target, world_model = Encoder(ENCODER), Encoder(ENCODER), WorldModel(WORLD_MODEL)
    world_model.normalise_with(torch.randn(100, 7) * 0.05, torch.rand(100, 7))
    seen = tmp_path / "cooled_encoder"
    _finish(seen, {"encoder": asdict(ENCODER)}, {"encoder": encoder, "target_encoder": target})
    imagined = tmp_path / "world_model"
    described = {
        "world_model": asdict(WORLD_MODEL),
        "preprocessing": asdict(Preprocessing(size=32)),
    }
    _finish(imagined, described, {"world_model": world_model})
    return {
        "cooled_encoder": as_artifact("cooled_encoder", seen),
        "world_model": as_artifact("world_model", imagined),
    }


@pytest.fixture
def artifact() -> Callable[[str, Path], Artifact]:
    """Make an artifact of a folder."""
    return as_artifact
