"""LeRobot datasets, version 3.0: columns in parquet, episodes one after another in films.

What is read: `observation.state` of seven numbers named x, y, z, roll, pitch, yaw, gripper (0 open
to 1 closed), one camera, the sentence of each episode. States of joints are refused: they say
nothing of where the hand is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.readers.recording import Recording
from storage.confined import PathError, check_path, inside
from storage.errors import InputError
from storage.frames import frames_at
from storage.pictures import VideoError
from storage.tables import read_table

AXES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
_STATE = "observation.state"


class LeRobot:
    """A folder with `meta/info.json` of codebase version 3.0."""

    name = "lerobot"

    def recognises(self, folder: Path) -> bool:
        """By its index file."""
        return (folder / "meta" / "info.json").is_file()

    def recordings(self, folder: Path, camera: str | None) -> Iterator[Recording]:
        """Every episode, by its number."""
        info = _info(folder)
        video, fps = _camera(info, camera), float(info["fps"])
        known: dict[Path, list[dict[str, Any]]] = {}
        for path in sorted((folder / "meta" / "episodes").glob("*/*.parquet")):
            for row in read_table(path):
                where = f"{path.name}: episode {row['episode_index']}"
                data = _file(folder, info["data_path"], row, "data", "", where)
                if data not in known:
                    known = {data: read_table(data, ["index", _STATE])}  # one file at a time
                begin, end = row["dataset_from_index"], row["dataset_to_index"]
                states = [r[_STATE] for r in known[data] if begin <= r["index"] < end]
                film = _file(folder, info["video_path"], row, f"videos/{video}", video, where)
                start = row[f"videos/{video}/from_timestamp"]
                yield _recording(where, row, np.array(states, np.float64), film, start, fps)


def _info(folder: Path) -> Mapping[str, Any]:
    try:
        info = json.loads((folder / "meta" / "info.json").read_text())
        version = info["codebase_version"]
        missing = {"fps", "features", "data_path", "video_path"} - set(info)
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder}/meta/info.json describes no dataset") from None
    if version != "v3.0" or missing:
        raise InputError(
            f"{folder} is of version {version}; version v3.0 is read: convert it first"
        )
    state = info["features"].get(_STATE, {})
    if state.get("names") != AXES:
        raise InputError(
            f"{folder}: {_STATE} is of {state.get('names')}: {', '.join(AXES)} are read"
        )
    return dict(info)


def _camera(info: Mapping[str, Any], camera: str | None) -> str:
    there = sorted(name for name, told in info["features"].items() if told["dtype"] == "video")
    if not there or (camera is not None and camera not in there):
        raise InputError(f"no camera {camera!r}; there is {', '.join(there) or 'none'}")
    return camera or there[0]


def _file(
    folder: Path, pattern: str, row: Mapping[str, Any], where: str, video: str, episode: str
) -> Path:
    """A file that an episode's row names; never one outside the folder."""
    try:
        place = {part: int(row[f"{where}/{part}"]) for part in ("chunk_index", "file_index")}
        found = inside(folder, check_path(pattern.format(video_key=video, **place)))
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, PathError):
        raise InputError(f"{episode}: {pattern!a} names no file of the dataset") from None
    if not found.is_file():
        raise InputError(f"{episode}: {found.name} is missing")
    return found


def _recording(
    where: str, row: Mapping[str, Any], states: NDArray[np.float64], film: Path, start: float,
    fps: float,
) -> Recording:  # fmt: skip
    if states.shape != (row["length"], 7) or not np.isfinite(states).all():
        raise InputError(f"{where} has {len(states)} finite states, its length is {row['length']}")
    try:
        frames = frames_at(film, [start + at / fps for at in range(len(states))])
    except VideoError as error:
        raise InputError(f"{where}: {film.name}: {error}") from None
    return Recording(where, np.ascontiguousarray(frames), states, " ".join(row["tasks"]), None)
