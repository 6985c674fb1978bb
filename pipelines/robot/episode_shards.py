"""Robot episodes at training size as WebDataset shards: frames, states and where they came from."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.droid import EpisodeError, open_episode
from pipelines.robot.pictures import to_square
from pipelines.robot.poses import positive_roll
from pipelines.settings import EVEN, Count, Natural, NotNegative, Positive, at_least, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.digests import digest_json
from storage.errors import InputError, curable
from storage.frames import every_nth
from storage.pictures import VideoError
from storage.shards import ShardWriter
from storage.tables import QUARANTINE, write_table
from storage.video import decode_image, encode, encode_image, stored_frames
from storage.work import Work

Frames = NDArray[np.uint8]
States = NDArray[np.float64]

INDEX = {
    "key": "string",
    "lab": "string",
    "episode": "string",
    "shard": "string",
    "offset": "int64",
    "size": "int64",
    "digest": "int64",
    "ext": "string",
    "states_offset": "int64",
    "states_size": "int64",
    "states_digest": "int64",
    "frames": "int32",
    "fps": "float64",
    "clock": "string",
    "control_fps": "float64",
    "success": "bool",
    "task": "string",
    "trimmed": "int32",
}
_BATCH = 8
# Near-lossless; what 4:2:0 colour loses is little at 256 pixels.
_QUALITY = {"crf": "8", "x264-params": "cpu-independent=1"}


@settings
class EpisodeShardsConfig:
    """How episodes become training samples; defaults as in V-JEPA 2-AC, section 3.1."""

    size: Annotated[int, at_least(8), EVEN] = 256
    """Side of the square frames, pixels."""
    fps: Positive = 4.0
    """Frames a second to keep: every n-th, n the smallest that gives no more than this."""
    clock: Literal["control", "nominal"] = "control"
    """"control": rows are apart by the time stamps in trajectory.h5. "nominal": by the rate that
    the container claims, as the released code took it; on raw DROID (60 claimed, 15 true) four
    nominal seconds last sixteen."""
    min_seconds: NotNegative = 4.0
    """Shorter episodes are quarantined, by the same clock."""
    min_frames: Annotated[int, at_least(2)] = 16
    """So are those with fewer frames than one window of the world model. Sixteen frames at 15 / 4
    a second end after 61 of DROID's rows, 4.07 s: one of 4.0 s would be stored and never drawn."""
    frame_gap: Natural = 1
    """How many frames fewer than rows a recording may have; the rows beyond are cut off."""
    codec: Literal["h264", "png"] = "h264"
    """"h264" (near-lossless mp4) or "png" (lossless, frames stacked; better below 128 pixels)."""
    shard_bytes: Count = 256 << 20
    """A shard ends once it holds so many bytes."""


@dataclass(frozen=True)
class Sample:
    """An episode at training size: frames [T, size, size, 3] uint8, states [T, 7]."""

    frames: Frames
    states: States
    fps: float
    """Frames a second by the clock that was asked for."""
    control_fps: float | None
    """Frames a second by the time stamps in trajectory.h5, or None when there are none."""
    trimmed: int
    extrinsics: list[float] | None


def make_sample(root: Path, row: Mapping[str, Any], config: EpisodeShardsConfig) -> Sample:
    """Decode an episode, line its frames up with its states, keep every n-th and shrink them.

    Raises EpisodeError with the reason when it cannot be used.
    """
    trajectory, video = open_episode(root, dict(row))
    rows, rate, stride = len(trajectory.states), trajectory.control_hz, 1

    def step(claimed: float) -> int:
        nonlocal rate, stride
        rate = rate if config.clock == "control" else claimed
        if rate is None:
            raise EpisodeError("no time stamps in trajectory.h5; the control clock needs them")
        stride = max(1, math.ceil(rate / config.fps - 1e-6))
        return stride

    try:
        kept, count, _ = every_nth(video, step)
    except VideoError as error:
        raise EpisodeError(f"recording: {error}") from None
    assert rate is not None
    if not rows - config.frame_gap <= count <= rows:
        raise EpisodeError(f"recording has {count} frames, trajectory {rows} rows")
    _check_length(count, rate, len(kept), rate / stride, config)
    states = positive_roll(trajectory.states[:count:stride])
    extrinsics = None if trajectory.extrinsics is None else trajectory.extrinsics[0].tolist()
    return Sample(
        to_square(np.stack(kept), config.size),
        states,
        rate / stride,
        None if trajectory.control_hz is None else trajectory.control_hz / stride,
        rows - count,
        extrinsics,
    )


def _check_length(
    count: int, rate: float, kept: int, fps: float, config: EpisodeShardsConfig
) -> None:
    """Refuse what is shorter than the least length, or than one window of what is kept."""
    if count / rate < config.min_seconds:
        length = f"{count / rate:.2f} s by the {config.clock} clock"
        raise EpisodeError(f"{length}, less than {config.min_seconds} s")
    if kept < config.min_frames:
        raise EpisodeError(
            f"{count / rate:.2f} s give {kept} frames at {fps:.4g} a second; a window needs "
            f"min_frames = {config.min_frames}"
        )


@dataclass(frozen=True)
class Batch:
    """What one task packs: rows of an episodes.parquet; the parts are kept in scratch/parts."""

    rows: Sequence[Mapping[str, Any]]
    episodes: Artifact
    config: EpisodeShardsConfig
    work: Work


def media_root(episodes: Artifact, row: Mapping[str, Any]) -> Path:
    """The folder under which the files of one row of episodes.parquet lie on this machine."""
    media = episodes.record.get("media", "payload")
    if media != "payload":
        return Path(media)
    episodes.file(f"{row['path']}/trajectory.h5")
    episodes.file(row["mp4"])
    return episodes.payload.root


def pack_batch(batch: Batch) -> list[dict[str, Any]]:
    """Turn some episodes into sample parts; a description or a reason for each."""
    results: list[dict[str, Any]] = []
    for row in batch.rows:
        try:
            sample = make_sample(media_root(batch.episodes, row), row, batch.config)
        except EpisodeError as error:
            reason = {"item": row["path"], "stage": STAGE.name, "reason": str(error)}
            results.append(reason)
            continue
        key = digest_json(row["path"])[:32]
        ext, picture = _encode(sample, batch.config.codec)
        batch.work.put(f"scratch/parts/{key}.{ext}", picture)
        batch.work.put(f"scratch/parts/{key}.states.npy", _npy(sample.states))
        results.append(
            {
                "key": key,
                "ext": ext,
                "fps": sample.fps,
                "clock": batch.config.clock,
                "control_fps": sample.control_fps,
                "frames": len(sample.frames),
                "trimmed": sample.trimmed,
                "camera_extrinsics": sample.extrinsics,
                **{name: row[name] for name in ("episode", "lab", "success", "task", "path")},
            }
        )
    return results


def _encode(sample: Sample, codec: str) -> tuple[str, bytes]:
    if codec == "png":
        return "png", encode_image(sample.frames.reshape(-1, *sample.frames.shape[2:]), "png")
    return "mp4", encode(sample.frames, sample.fps, options=_QUALITY).data


def _npy(array: States) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _write_shards(
    done: list[dict[str, Any]], out: Workspace, shard_bytes: int
) -> list[dict[str, Any]]:
    """Put the parts into shards, in order; the rows of index.parquet."""
    index = []
    with ShardWriter(out.payload / "shards", shard_bytes=shard_bytes) as writer:
        for entry in done:
            key, ext = entry["key"], entry["ext"]
            spans = writer.write(
                key,
                {
                    ext: out.file(f"scratch/parts/{key}.{ext}").read_bytes(),
                    "states.npy": out.file(f"scratch/parts/{key}.states.npy").read_bytes(),
                    "json": entry,
                },
            )
            states = asdict(spans["states.npy"])
            place = asdict(spans[ext]) | {f"states_{name}": value for name, value in states.items()}
            index.append({name: {**entry, **place}[name] for name in INDEX})
    return index


def run(config: EpisodeShardsConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Shrink every listed episode on Ray, then write shards and index in the list's order."""
    source = inputs["droid_episodes"]
    rows = source.table("episodes.parquet")
    items = {
        rows[start]["path"]: Batch(rows[start : start + _BATCH], source, config, out.work)
        for start in range(0, len(rows), _BATCH)
    }
    packed = out.map(pack_batch, items, noun="batches of episodes packed")
    entries = [entry for batch in packed.values() for entry in batch]
    good = [entry for entry in entries if "reason" not in entry]
    bad = [entry for entry in entries if "reason" in entry]
    index = _write_shards(good, out, config.shard_bytes)
    write_table(out.payload / "index.parquet", index, INDEX)
    write_table(out.payload / "quarantine.parquet", bad, QUARANTINE)
    return {
        "episodes": len(good),
        "quarantined": len(bad),
        "trimmed": sum(entry["trimmed"] > 0 for entry in good),
        "frames": sum(entry["frames"] for entry in good),
        "seconds": round(sum(entry["frames"] / entry["fps"] for entry in good), 3),
    }


def load_episode(artifact: Artifact, row: Mapping[str, Any]) -> tuple[Frames, States]:
    """Frames [T, size, size, 3] uint8 and states [T, 7] of one row of index.parquet.

    Actions follow by `pipelines.robot.poses.actions_between(states)`.

    Raises:
        InputError: the bytes are not those that were written, or do not decode undamaged.
    """
    shard = f"shards/{row['shard']}"
    data = artifact.sample(shard, row["offset"], row["size"], row["digest"])
    with curable(f"{artifact.manifest.name}: {shard}: {row['key']}"):
        if row["ext"] == "png":
            strip = decode_image(data, strict=True)
            frames = strip.reshape(row["frames"], -1, *strip.shape[1:])
        else:
            frames = np.ascontiguousarray(stored_frames(data, range(row["frames"])))
    states = load_states(artifact, row)
    if len(frames) != len(states):
        raise InputError(
            f"{artifact.manifest.name}: {shard}: {row['key']} has {len(frames)} frames, "
            f"{len(states)} states; run `vjepa2 verify`, or make the artifact again"
        )
    return frames, states


def load_states(artifact: Artifact, row: Mapping[str, Any]) -> States:
    """States [T, 7] of one row of index.parquet.

    Raises:
        InputError: the bytes are not those that were written.
    """
    place = (row[f"states_{name}"] for name in ("offset", "size", "digest"))
    stored = io.BytesIO(artifact.sample(f"shards/{row['shard']}", *place))
    return np.asarray(np.lib.format.read_array(stored, allow_pickle=False), np.float64)


STAGE = Stage("episode_shards", version=4, config=EpisodeShardsConfig, run=run)
