"""Trained networks out of artifacts: the final checkpoint, as an artifact's model.json says.

Of a bucket's checkpoint the one file of weights that is needed is fetched, without moments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from models.checkpoints import load_into, load_weights
from models.encoder import Encoder, EncoderConfig
from models.predictor import Predictor, PredictorConfig
from models.preprocessing import Preprocessing
from models.world_model import WorldModel, WorldModelConfig
from pipelines.planner.world import ImaginedWorld
from pipelines.robot.pace import Pace
from storage.artifacts import Artifact
from storage.confined import check_path
from storage.errors import InputError, curable

Architecture = dict[str, Any]


def read_model(trained: Artifact) -> tuple[Architecture, str]:
    """The architecture of a finished training and the path of its final checkpoint.

    Raises:
        InputError: the artifact is not a finished training, or names no checkpoint of its own.
    """
    if not trained.has("model.json"):
        name = trained.manifest.name
        raise InputError(f"{name}: no model.json here, so this is not a finished training")
    model = trained.json("model.json")
    return model["architecture"], check_path(model["final"])


def read_pace(trained: Artifact) -> Pace:
    """The pace of the recordings that a world model was trained on.

    Raises:
        InputError: not a finished training, or one that does not say.
    """
    architecture, _ = read_model(trained)
    if "pace" not in architecture:
        raise InputError(f"{trained.manifest.name}: its model.json names no pace; make it again")
    return Pace(**architecture["pace"])


def weights_file(trained: Artifact, network: str) -> Path:
    """The weights of one network in the final checkpoint, on this machine."""
    return trained.file(f"{read_model(trained)[1]}/{network}.safetensors")


def open_encoder(trained: Artifact, device: str = "cpu") -> Encoder:
    """The target encoder (the moving average, which the paper evaluates) of a training.

    Raises:
        InputError: not a finished training, or weights that do not fit its architecture.
    """
    encoder = Encoder(EncoderConfig(**read_model(trained)[0]["encoder"]))
    path = weights_file(trained, "target_encoder")
    with curable(trained.manifest.name):
        load_into(encoder, load_weights(path), str(path))
    return encoder.eval().requires_grad_(False).to(torch.device(device))


def open_predictor(trained: Artifact, device: str = "cpu") -> Predictor:
    """The predictor of a training.

    Raises:
        InputError: not a finished training, one without a predictor, or weights that do not fit.
    """
    described = read_model(trained)[0].get("predictor")
    if described is None:
        raise InputError(f"{trained.manifest.name}: its weights have no predictor")
    predictor = Predictor(PredictorConfig(**described))
    path = weights_file(trained, "predictor")
    with curable(trained.manifest.name):
        load_into(predictor, load_weights(path), str(path))
    return predictor.eval().requires_grad_(False).to(torch.device(device))


def open_world_model(trained: Artifact, device: str = "cpu") -> WorldModel:
    """The world model of a post-training.

    Raises:
        InputError: not a finished training, or weights that do not fit its architecture.
    """
    architecture, path = read_model(trained)[0], weights_file(trained, "world_model")
    with curable(trained.manifest.name):
        return load_world_model(architecture, path, device)


def load_world_model(architecture: Architecture, path: Path, device: str = "cpu") -> WorldModel:
    """The world model of an architecture with the weights of a file.

    Raises:
        ValueError: weights that do not fit the architecture.
    """
    world_model = WorldModel(WorldModelConfig(**architecture["world_model"]))
    load_into(world_model, load_weights(path), str(path))
    return world_model.eval().requires_grad_(False).to(torch.device(device))


def open_world(encoder: Artifact, world_model: Artifact, device: str = "cpu") -> ImaginedWorld:
    """Both of them as one world, with frames prepared as the world model was trained.

    Raises:
        ValueError: as above, or the two do not belong together.
    """
    preprocessing = Preprocessing(**read_model(world_model)[0]["preprocessing"])
    return ImaginedWorld(
        open_encoder(encoder, device), open_world_model(world_model, device), preprocessing
    )
