"""Episodes as a LeRobot dataset, version 3.0.

    python -m pipelines.robot.lerobot <episode_shards payload> <target>

    meta/info.json                      what the columns are, frames a second, where files lie
    meta/stats.json                     of each column: min, max, mean, std, count
    meta/tasks.parquet                  sentence (pandas' index) and its number
    meta/episodes/chunk-000/file-000.parquet   an episode a row: length, tasks, files, statistics
    data/chunk-000/file-000.parquet     a frame a row: state and action [7], times and numbers
    videos/observation.images.left/chunk-000/file-NNN.mp4   an episode a file

The action of a frame leads to the next one; that of an episode's last frame is zero. LeRobot counts
frames in whole numbers a second, so episodes at another rate are refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.episode_shards import load_episode
from pipelines.robot.pace import pace_of
from pipelines.robot.poses import actions_between
from storage.artifacts import Artifact, Manifest
from storage.errors import InputError, UserError
from storage.manifests import content_digest, list_files
from storage.payloads import LocalPayload
from storage.places import write_file
from storage.tables import write_table
from storage.video import encode

VIDEO = "observation.images.left"
AXES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
_CHUNK = 1000  # files in a folder
_FRAME = {
    "observation.state": "float32[7]", "action": "float32[7]", "timestamp": "float32",
    "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64",
}  # fmt: skip
_KINDS = ("min", "max", "mean", "std")
_QUALITY = {"crf": "8", "x264-params": "cpu-independent=1"}


def write_dataset(shards: Artifact, target: Path) -> int:
    """Write the episodes of an `episode_shards` into a new folder; returns their number.

    Raises:
        InputError: there is none, their rate is no whole number, or the folder is not empty.
    """
    index = shards.table("index.parquet")
    fps = _whole_rate(index)
    if target.exists() and any(target.iterdir()):
        raise InputError(f"{target} is not empty: name a new folder")
    texts = [row["task"] or row["lab"] for row in index]
    tasks = {text: number for number, text in enumerate(sorted(set(texts)))}
    frames: list[dict[str, Any]] = []
    episodes, videos = [], []
    for number, (row, text) in enumerate(zip(index, texts, strict=True)):
        pictures, states = load_episode(shards, row)
        begin = len(frames)
        frames += _rows(states, number, begin, tasks[text], fps)
        videos.append(pictures.reshape(-1, 3))
        place = {"chunk_index": number // _CHUNK, "file_index": number % _CHUNK}
        path = VIDEO_PATH.format(video_key=VIDEO, **place)
        write_file(target / path, encode(pictures, float(fps), options=_QUALITY).data)
        told = {"episode_index": number, "tasks": [text], "length": len(states)}
        episodes.append(told | _places(begin, len(states), place, fps))
        episodes[-1] |= _flat(_statistics(frames[begin:], videos[-1]))
    _write_tables(target, frames, episodes, tasks)
    stats = _statistics(frames, np.concatenate(videos))
    write_file(target / "meta/stats.json", json.dumps(stats, indent=4).encode())
    info = _info(fps, pictures.shape[1:3], len(episodes), len(frames), len(tasks))
    write_file(target / "meta/info.json", json.dumps(info, indent=4).encode())
    return len(episodes)


def _whole_rate(index: Sequence[Mapping[str, Any]]) -> int:
    rate = pace_of(index).rate_hz
    if abs(rate - round(rate)) > 1e-3:
        raise InputError(
            f"episodes are at {rate:.3g} frames a second, LeRobot counts whole ones: make them "
            "with an episode_shards.fps that divides their rate evenly"
        )
    return round(rate)


def _rows(
    states: NDArray[np.float64], episode: int, begin: int, task: int, fps: int
) -> list[dict[str, Any]]:
    actions = np.concatenate([actions_between(states), np.zeros((1, 7))])
    return [
        {
            "observation.state": state.astype(np.float32).tolist(),
            "action": action.astype(np.float32).tolist(),
            "timestamp": at / fps, "frame_index": at, "episode_index": episode,
            "index": begin + at, "task_index": task,
        }
        for at, (state, action) in enumerate(zip(states, actions, strict=True))
    ]  # fmt: skip


def _places(begin: int, length: int, video: Mapping[str, int], fps: int) -> dict[str, Any]:
    return {
        "data/chunk_index": 0, "data/file_index": 0,
        "dataset_from_index": begin, "dataset_to_index": begin + length,
        **{f"videos/{VIDEO}/{name}": value for name, value in video.items()},
        f"videos/{VIDEO}/from_timestamp": 0.0, f"videos/{VIDEO}/to_timestamp": length / fps,
        "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
    }  # fmt: skip


def _statistics(
    rows: Sequence[Mapping[str, Any]], pixels: NDArray[np.uint8]
) -> dict[str, dict[str, Any]]:
    """Column -> kind -> numbers; of pictures a value a channel, in [0, 1], as [3, 1, 1]."""
    found: dict[str, dict[str, Any]] = {}
    for column in _FRAME:
        values = np.array([row[column] for row in rows], np.float64).reshape(len(rows), -1)
        found[column] = {kind: getattr(values, kind)(axis=0).tolist() for kind in _KINDS}
        found[column]["count"] = [len(rows)]
    shades = pixels.astype(np.float64) / 255.0
    found[VIDEO] = {
        kind: getattr(shades, kind)(axis=0).reshape(3, 1, 1).tolist() for kind in _KINDS
    }
    found[VIDEO]["count"] = [len(rows)]
    return found


def _flat(stats: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"stats/{c}/{kind}": v for c, kinds in stats.items() for kind, v in kinds.items()}


def _write_tables(
    target: Path, frames: Sequence[Mapping[str, Any]], episodes: Sequence[Mapping[str, Any]],
    tasks: Mapping[str, int],
) -> None:  # fmt: skip
    write_table(target / DATA_PATH.format(chunk_index=0, file_index=0), frames, _FRAME)
    rows = [{"task_index": number, "task": text} for text, number in tasks.items()]
    schema = {"task_index": "int64", "task": "string"}
    write_table(target / "meta/tasks.parquet", rows, schema, index="task")
    columns = {name: _kind_of(name) for name in episodes[0]}
    write_table(target / EPISODES_PATH, episodes, columns)


def _kind_of(column: str) -> str:
    if column.startswith("stats/"):
        if column.endswith("/count"):
            return "int64[]"
        return "float64[][][]" if VIDEO in column else "float64[]"
    if column == "tasks":
        return "string[]"
    return "float64" if column.endswith("_timestamp") else "int64"


def _info(
    fps: int, size: tuple[int, ...], episodes: int, frames: int, tasks: int
) -> dict[str, Any]:
    features: dict[str, Any] = {
        name: {"dtype": "float32", "shape": [7], "names": AXES}
        for name in ("observation.state", "action")
    }
    features[VIDEO] = {
        "dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"],
        "info": {
            "video.height": size[0], "video.width": size[1], "video.codec": "h264",
            "video.pix_fmt": "yuv420p", "video.is_depth_map": False, "video.fps": fps,
            "video.channels": 3, "has_audio": False,
        },
    }  # fmt: skip
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in ("frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "codebase_version": "v3.0", "robot_type": "franka", "total_episodes": episodes,
        "total_frames": frames, "total_tasks": tasks, "chunks_size": _CHUNK,
        "data_files_size_in_mb": 100, "video_files_size_in_mb": 200, "fps": fps,
        "splits": {"train": f"0:{episodes}"}, "data_path": DATA_PATH, "video_path": VIDEO_PATH,
        "features": features,
    }  # fmt: skip


def open_payload(folder: Path) -> Artifact:
    """The payload of an `episode_shards`, wherever it was copied to. InputError if it is none."""
    if not (folder / "index.parquet").is_file():
        raise InputError(f"{folder} is no payload of episode_shards: it has no index.parquet")
    files = list_files(folder)
    described = Manifest("episode_shards", None, {}, "", content_digest(files), files, {}, {})
    return Artifact(described, LocalPayload(folder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a dataset and say how many episodes it has."""
    parser = argparse.ArgumentParser(prog="pipelines.robot.lerobot", description=__doc__)
    parser.add_argument("payload", type=Path, help="the payload of an episode_shards")
    parser.add_argument("target", type=Path, help="a new folder")
    asked = parser.parse_args(arguments)
    try:
        count = write_dataset(open_payload(asked.payload), asked.target)
    except UserError as refused:
        print(refused, file=sys.stderr)
        return 2
    print(f"{count} episodes in {asked.target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
