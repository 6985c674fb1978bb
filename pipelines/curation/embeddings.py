"""Embeddings: one vector of length 1 for the middle frame of every scene.

Step 3 of the curation (V-JEPA 2, section 10.2): DINOv2 ViT-L on one frame, the middle one. Not
stated in the paper, chosen here: the frame's centre square at 224 px, ImageNet normalisation, the
class token after the last layer norm, scaled to length 1. The networks are in `embedders`.

On the CPU each frame goes through the network alone and on one thread (`batch=1`): kernels pick
another order of summation for another batch size or thread count, and a digest would see it. Of
larger batches every one is full, the last one by frames that stand in for others.

A scene's vector is remembered under what it depends on (the bytes of its file, its bounds, the
network, the kind of processor), so that where one file changed, its scenes alone are embedded.

Reads `scenes` and `raw_videos` of one partition. Payload:
    embeddings.npy      [N, D] float32, rows of length 1
    rows.parquet        scene_id, source, split: the N scenes in the same order
    model.json          the network, its width and the digest of its weights
    quarantine.parquet  scenes whose middle frame cannot be decoded
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.embedders import (
    Embedder,
    EmbedderError,
    embed,
    load_embedder,
    settings_file,
    weights_file,
)
from pipelines.curation.ingest import read_media
from pipelines.curation.labels import HELD_OUT
from pipelines.curation.sources import POOL
from pipelines.curation.transcoding import bounds
from pipelines.execution import ExecutionConfig
from pipelines.node import source_of
from pipelines.provenance import cpu_capability
from pipelines.settings import EVEN, Count, Natural, at_least, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.digests import digest_file, unit_interval
from storage.frames import middle_frame
from storage.pictures import VideoError
from storage.results import Results
from storage.tables import QUARANTINE, write_table
from storage.work import Work

ROWS = {"scene_id": "string", "source": "string", "split": "string"}
# Scenes of one task, or four batches of a GPU: some seconds of work, so that a kill costs no more.
# The scenes of one file stay together.
CHUNK = 16


@settings
class EmbeddingsConfig:
    """What looks at the middle frames."""

    model: Literal["dinov2", "efficientnet_lite0", "vjepa2"] = "dinov2"
    """"dinov2" (PAPER), "efficientnet_lite0" (packaged) or "vjepa2" (this graph's encoder)."""
    weights: str | None = None
    """Folder of the weights: of dinov2 as `save_pretrained` of transformers lays it out, of vjepa2
    a checkpoint of the asset `encoder` (step-NNNNNN)."""
    size: Annotated[int, at_least(32), EVEN] = 224
    """Side of the square the network sees, pixels; even, and a multiple of the network's patch
    (14 of DINOv2)."""
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
    """What one task embeds: all scenes of some files of one partition, and where they go."""

    scenes: Sequence[Mapping[str, Any]]
    media: Artifact
    config: EmbeddingsConfig
    device: str
    work: Work
    target: str
    """Name of the file in the work."""
    results: Results = field(default_factory=Results)


class _File:
    """The scenes of one file: some have vectors already, the others are looked at."""

    def __init__(self, chunk: Chunk, scenes: Sequence[Mapping[str, Any]], network: Embedder):
        self.scenes, self.broken, self._chunk, self._seen = scenes, list[Any](), chunk, list[Any]()
        self._question = _question(chunk, scenes[0]["sha256"], network)
        self._known: dict[str, str] = chunk.results.recall(self._question) or {}

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """The square to be embedded of each scene without a vector, one after the other."""
        unknown = [scene for scene in self.scenes if bounds(scene) not in self._known]
        data = read_media(self._chunk.media, unknown[0]) if unknown else b""
        for scene in unknown:
            try:
                frame = middle_frame(data, scene["start"], scene["end"], self._chunk.config.size)
            except VideoError as error:
                item = f"{scene['path']} ({scene['scene_id']})"
                self.broken.append({"item": item, "stage": STAGE.name, "reason": str(error)})
            else:
                self._seen.append(scene)
                yield centre_square(frame)

    def learn(self, vectors: Iterator[NDArray[np.float32]]) -> None:
        """Take the vectors of what was looked at, and remember them."""
        for scene, vector in zip(self._seen, vectors, strict=False):
            self._known[bounds(scene)] = base64.b64encode(vector.astype("<f4").tobytes()).decode()
        if self._seen:
            self._chunk.results.keep(self._question, self._known)

    def embedded(self) -> Iterator[tuple[dict[str, Any], NDArray[np.float32]]]:
        """The row and the vector of each scene that has one."""
        for scene in self.scenes:
            if text := self._known.get(bounds(scene)):
                vector = np.frombuffer(base64.b64decode(text), "<f4")
                yield {name: scene[name] for name in ROWS}, vector


def _question(chunk: Chunk, content: str, network: Embedder) -> dict[str, Any]:
    """What the vectors of a file's scenes depend on, but for their bounds."""
    config = chunk.config
    return {
        "item": "embeddings", "version": STAGE.version, "content": content, "model": config.model,
        "weights_sha256": network.weights_sha256, "settings_sha256": network.settings_sha256,
        "size": config.size, "batch": config.batch,
        "device": chunk.device, "torch": version("torch"), "cpu": cpu_capability(),
    }  # fmt: skip


def _embedded(
    frames: Iterator[NDArray[np.uint8]], batch: int, network: Embedder, device: str
) -> Iterator[NDArray[np.float32]]:
    """The vector of each frame. All batches have one shape, so that a vector depends on its frame
    alone: the last frame fills the last batch up.
    """
    while some := list(itertools.islice(frames, batch)):
        full = some + some[-1:] * (batch - len(some))
        yield from embed(np.stack(full), network, device)[: len(some)]


def embed_chunk(chunk: Chunk) -> dict[str, Any]:
    """Embed the scenes of a chunk into `chunk.target`; returns who is in it and who is not.

    A scene that cannot be decoded becomes a quarantine row. A file that is gone or is no longer
    the one that was ingested is an error: the partition has to be ingested again.
    """
    network = load_embedder(chunk.config.model, chunk.config.weights, chunk.device)
    of_a_file = itertools.groupby(chunk.scenes, key=lambda scene: scene["video_id"])
    files = [_File(chunk, list(scenes), network) for _, scenes in of_a_file]
    frames = itertools.chain.from_iterable(file.frames() for file in files)
    vectors = iter(list(_embedded(frames, chunk.config.batch, network, chunk.device)))
    for file in files:
        file.learn(vectors)
    found = [pair for file in files for pair in file.embedded()]
    with chunk.work.room() as room:
        stacked = [np.empty((0, network.width), np.float32), *(v[None] for _, v in found)]
        np.save(room / "vectors.npy", np.concatenate(stacked))
        chunk.work.keep(room / "vectors.npy", chunk.target)
    broken = [row for file in files for row in file.broken]
    return {"rows": [row for row, _ in found], "quarantine": broken}


def _chunks(scenes: Sequence[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    """Scenes, sorted by video, in parts of whole videos: each but the last has `size` or more."""
    part: list[Mapping[str, Any]] = []
    for _, some in itertools.groupby(scenes, key=lambda scene: scene["video_id"]):
        part += some
        if len(part) >= size:
            yield part
            part = []
    if part:
        yield part


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
        f"{number:06d}": Chunk(
            part, inputs["raw_videos"], config, out.execution.device, out.work,
            f"scratch/embeddings/{number:06d}.npy", out.results,
        )
        for number, part in enumerate(_chunks(scenes, size))
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
    """What lies outside the store: the digests of the weights and of what says how they are put
    together, whatever their folder is called.
    """
    files = {
        "weights_sha256": weights_file(config.model, config.weights),
        "settings_sha256": settings_file(config.model, config.weights),
    }
    return {name: _digest(path, path.stat().st_mtime_ns) for name, path in files.items() if path}


@functools.cache
def _digest(path: Path, _modified_ns: int) -> str:
    return digest_file(path)


STAGE = Stage(
    "scene_embeddings", version=3, config=EmbeddingsConfig, run=run, narrow=partition_config,
    observe=observe, on_device=True, paths=("weights",),
)  # fmt: skip
