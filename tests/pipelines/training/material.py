"""Small inputs for tests of training: a mixture of clips, an encoder, robot episodes (no tests)."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from models.encoder import EncoderConfig
from pipelines.curation.mixture import write_mapped
from pipelines.robot.episode_shards import INDEX
from pipelines.training.clips import COLUMNS, ClipConfig
from pipelines.training.pretrain import CooldownConfig, PretrainConfig
from storage.artifacts import Artifact
from storage.digests import digest_file
from storage.shards import ShardWriter
from storage.tables import write_table
from storage.video import encode, encode_image
from tests.pipelines.builders import artifact

CLIP = ClipConfig(frames=4, crop=32)
ENCODER = EncoderConfig(width=24, depth=1, heads=2, mlp_hidden=48, patch=8, frames=4, size=32)


def pretrain_config(**changes: Any) -> PretrainConfig:
    """A main phase of milliseconds."""
    return PretrainConfig(**{
        "clip": CLIP, "encoder": ENCODER, "predictor_width": 12, "predictor_depth": 1,
        "predictor_heads": 1, "batch": 4, "gradient_shards": 2, "warmup_steps": 2,
        "constant_steps": 2, "lr_start": 0.0, "lr": 1e-3, "ema": 0.9, "checkpoint_every": 2,
        "diagnose_every": 2, "diagnose_clips": 3, "precision": "float32", **changes,
    })  # fmt: skip


def cooldown_config(**changes: Any) -> CooldownConfig:
    """A cool-down of milliseconds, at more frames and a higher resolution."""
    return CooldownConfig(**{
        "clip": ClipConfig(frames=6, crop=48), "batch": 2, "gradient_shards": 1, "steps": 2,
        "lr": 1e-3, "lr_end": 0.0, "checkpoint_every": 2, "diagnose_every": 2,
        "diagnose_clips": 2, "precision": "float32", **changes,
    })  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    """Every file of a payload and its digest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def mixture(folder: Path) -> dict[str, Artifact]:
    """`videomix22m` and `clip_shards`: four videos of squares that move, one still, one broken."""
    rows: list[dict[str, Any]] = []
    with ShardWriter(folder / "part" / "shards") as writer:
        for number in range(6):
            image = number == 4
            data = _still() if image else _video(number)
            ext = "jpg" if image else "mp4"
            data = data[:300] if number == 5 else data
            span = writer.write(f"clip{number}", {ext: data, "json": {}})[ext]
            rows.append({
                "key": f"clip{number}", "source": "imagenet" if image else "ssv2",
                "partition": "part", "shard": span.shard, "offset": span.offset,
                "size": span.size, "digest": span.digest, "kind": "image" if image else "video",
                "fps": 0.0 if image else 8.0, "frames": 1 if image else 24, "weight": 1.0,
                "width": 48, "height": 40,
            })  # fmt: skip
    kinds = {"fps": "float64", "weight": "float64"} | dict.fromkeys(
        ("offset", "size", "digest", "frames", "width", "height"), "int64"
    )
    schema = {name: kinds.get(name, "string") for name in COLUMNS}
    write_table(
        folder / "mix" / "index.parquet", [{n: row[n] for n in COLUMNS} for row in rows], schema
    )
    write_mapped(folder / "mix" / "index.arrow", folder / "mix" / "index.parquet")
    weights = {"weights": {"ssv2": 0.75, "imagenet": 0.25}}
    (folder / "mix" / "mixture.json").write_text(json.dumps(weights))
    return {
        "videomix22m": artifact(folder / "mix", "videomix22m"),
        "clip_shards/part": artifact(folder / "part", "clip_shards"),
    }


def _video(number: int) -> bytes:
    frames = np.full((24, 40, 48, 3), 40 * number, np.uint8)
    for time, frame in enumerate(frames):
        left = (time * (number + 1)) % 36
        frame[10 + 4 * number : 20 + 4 * number, left : left + 12] = (250, 120, 30)
    return encode(frames, 8.0).data


def _still() -> bytes:
    ramp = np.linspace(0, 255, 48).astype(np.uint8)
    return encode_image(np.tile(ramp[None, :, None], (40, 1, 3)), "jpg", 2)


def episodes(folder: Path, lab: str, count: int, frames: int = 8) -> Artifact:
    """`episode_shards` of a lab: a bright square stands where the hand is, and moves with it."""
    source = np.random.default_rng(len(lab) + sum(lab.encode()))
    rows = []
    with ShardWriter(folder / "shards") as writer:
        for number in range(count):
            states = np.zeros((frames, 7))
            states[:, :3] = 0.3 + np.cumsum(source.uniform(-0.05, 0.05, (frames, 3)), axis=0)
            states[:, 3] = np.pi
            strip = np.full((frames, 32, 32, 3), 30, np.uint8)
            for frame, state in zip(strip, states, strict=True):
                top, left = (int(np.clip(v * 40, 0, 26)) for v in state[:2])
                frame[top : top + 6, left : left + 6] = (240, 200, 60)
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, states)
            key = f"{lab}-{number:03d}"
            parts = {"png": encode_image(strip.reshape(-1, 32, 3), "png")}
            spans = writer.write(key, parts | {"states.npy": buffer.getvalue(), "json": {}})
            row = dict.fromkeys(INDEX, 0) | {
                "key": key, "lab": lab, "episode": key, "shard": spans["png"].shard,
                "offset": spans["png"].offset, "size": spans["png"].size,
                "digest": spans["png"].digest, "ext": "png",
                "states_offset": spans["states.npy"].offset,
                "states_size": spans["states.npy"].size,
                "states_digest": spans["states.npy"].digest, "frames": frames, "fps": 4.0,
                "clock": "control", "control_fps": 4.0, "success": True,
                "task": "move",
            }  # fmt: skip
            rows.append(row)
    write_table(folder / "index.parquet", rows, INDEX)
    return artifact(folder, "episode_shards")
