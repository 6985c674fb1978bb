"""Embeddings: one vector of length 1 for the middle frame of every scene.

Step 3 of the curation (V-JEPA 2, section 10.2): DINOv2 ViT-L on one frame, the middle one. Not
stated in the paper, chosen here: the frame's centre square at 224 px, ImageNet normalisation, the
class token after the last layer norm, scaled to length 1. The networks are in `embedders`.

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
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.embedders import EmbedderError, embed, load_embedder, weights_file
from pipelines.curation.ingest import read_media
from pipelines.curation.labels import HELD_OUT
from pipelines.curation.sources import POOL
from pipelines.execution import ExecutionConfig
from pipelines.node import source_of
from pipelines.settings import EVEN, Count, Natural, at_least, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.digests import digest_file, unit_interval
from storage.frames import middle_frame
from storage.pictures import VideoError
from storage.tables import QUARANTINE, write_table
from storage.work import Work

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
    target_scenes: Count | None = None
    """Scenes of each retrieval target, at most, by a hash of their id: of those that may be trained
    on; None takes all. The pool is always embedded whole."""
    held_out_scenes: Natural | None = None
    """The same of the scenes that are held out, which the leakage guard compares the pool with."""


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


def chosen_scenes(
    scenes: Sequence[Mapping[str, Any]], most: int | None, held_out: int | None
) -> list[Mapping[str, Any]]:
    """At most `most` of the scenes that may be trained on, `held_out` of those that are held out.

    They are sorted by (video id, first frame). One scene's turn depends on nothing but itself, so a
    new file changes the choice by few scenes.
    """

    def turn(scene: Mapping[str, Any]) -> float:
        return unit_interval("embeddings", scene["scene_id"])

    ordered = sorted(scenes, key=turn)
    trained = [scene for scene in ordered if scene["split"] != HELD_OUT][:most]
    judged = [scene for scene in ordered if scene["split"] == HELD_OUT][:held_out]
    return sorted(trained + judged, key=lambda scene: (scene["video_id"], scene["start_frame"]))


def partition_config(config: EmbeddingsConfig, partition: str | None) -> EmbeddingsConfig:
    """The part of the config that a partition depends on: the pool is embedded whole."""
    pool = source_of(partition or POOL) == POOL
    return replace(config, target_scenes=None, held_out_scenes=None) if pool else config


def run(config: EmbeddingsConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Embed the scenes of this partition on Ray, chunk by chunk, and join the chunks in order."""
    # Loaded here too, so that a wrong folder is one clear line before any task starts.
    embedder = load_embedder(config.model, config.weights, out.execution.device)
    if config.size % embedder.patch:
        raise EmbedderError(
            f"scene_embeddings.size = {config.size}: must be a multiple of the network's patch, "
            f"{embedder.patch}"
        )
    cut = inputs["scenes"].table("scenes.parquet")
    scenes = chosen_scenes(cut, config.target_scenes, config.held_out_scenes)
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


def observe(config: EmbeddingsConfig, _partition: str | None, _: ExecutionConfig) -> dict[str, Any]:
    """What lies outside the store: the digest of the weights, whatever their folder is called."""
    path = weights_file(config.model, config.weights)
    return {"weights_sha256": _digest(path, path.stat().st_mtime_ns)} if path else {}


@functools.cache
def _digest(path: Path, _modified_ns: int) -> str:
    return digest_file(path)


STAGE = Stage(
    "scene_embeddings", version=2, config=EmbeddingsConfig, run=run, narrow=partition_config,
    observe=observe, on_device=True, paths=("weights",),
)  # fmt: skip
