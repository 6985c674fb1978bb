"""Trained networks out of an artifact's folder: the final checkpoint, as its model.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from models.checkpoints import load_into, load_weights
from models.encoder import Encoder, EncoderConfig
from models.preprocessing import Preprocessing
from models.world_model import WorldModel, WorldModelConfig
from pipelines.planner.world import ImaginedWorld
from storage.confined import check_path, inside


def read_model(folder: Path) -> tuple[dict[str, Any], Path]:
    """The architecture of a finished training and the folder of its final checkpoint.

    Raises:
        ValueError: the folder is not a finished training, or its checkpoint lies elsewhere.
    """
    described = folder / "model.json"
    if not described.is_file():
        raise ValueError(f"{folder}: no model.json here, so this is not a finished training")
    model = json.loads(described.read_text())
    return model["architecture"], inside(folder, check_path(model["final"]))


def open_encoder(folder: Path, device: str = "cpu") -> Encoder:
    """The target encoder (the moving average, which the paper evaluates) of a training.

    Raises:
        ValueError: not a finished training, or weights that do not fit its architecture.
    """
    architecture, checkpoint = read_model(folder)
    encoder = Encoder(EncoderConfig(**architecture["encoder"]))
    path = checkpoint / "target_encoder.safetensors"
    load_into(encoder, load_weights(path), str(path))
    return encoder.eval().requires_grad_(False).to(torch.device(device))


def open_world_model(folder: Path, device: str = "cpu") -> WorldModel:
    """The world model of a post-training.

    Raises:
        ValueError: not a finished training, or weights that do not fit its architecture.
    """
    architecture, checkpoint = read_model(folder)
    world_model = WorldModel(WorldModelConfig(**architecture["world_model"]))
    path = checkpoint / "world_model.safetensors"
    load_into(world_model, load_weights(path), str(path))
    return world_model.eval().requires_grad_(False).to(torch.device(device))


def open_world(encoder: Path, world_model: Path, device: str = "cpu") -> ImaginedWorld:
    """Both of them as one world, with frames prepared as the world model was trained.

    Raises:
        ValueError: as above, or the two do not belong together.
    """
    preprocessing = Preprocessing(**read_model(world_model)[0]["preprocessing"])
    return ImaginedWorld(
        open_encoder(encoder, device), open_world_model(world_model, device), preprocessing
    )
