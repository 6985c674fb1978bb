"""Reading DROID's raw layout, ours or a folder of the real one, and saying what is wrong with it.

    <root>/<lab>/success|failure/<date>/<timestamp>/metadata_<uuid>.json
                                                    trajectory.h5
                                                    recordings/MP4/<serial>.mp4

Real folders are incomplete: recordings are missing or a frame short, stereo files lie beside the
left eye's, states are not finite. An episode that cannot be used raises `EpisodeError` with the
reason; nothing is replaced by something else. Folders are untrusted: no file outside the root is
read, whatever names it (metadata, a row of a table, a symbolic link).
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.robot.trajectory import Trajectory, TrajectoryError, read_trajectory
from storage.confined import PathError, check_path, inside
from storage.digests import digest_bytes, digest_file, digest_json
from storage.errors import InputError, UserError

OUTCOMES = ("success", "failure")
RECORDINGS = "recordings/MP4"
_SERIALS = ("ext1_cam_serial", "ext2_cam_serial", "wrist_cam_serial")
MAX_BYTES = {".json": 16 << 20, ".h5": 256 << 20}
"""What is read at most of a file, by its kind; recordings have no limit."""


class EpisodeError(UserError, ValueError):
    """An episode that cannot be used; the message is the reason, one line."""


@dataclass(frozen=True)
class Episode:
    """One readable episode; `row` is its line in episodes.parquet."""

    row: dict[str, Any]
    trajectory: Trajectory
    metadata: dict[str, Any]


# Columns of episodes.parquet. Paths are relative to the root that holds the labs.
EPISODES = {
    "episode": "string",
    "lab": "string",
    "path": "string",
    "mp4": "string",
    "serial": "string",
    "success": "bool",
    "task": "string",
    "rows": "int64",
    "control_hz": "float64",
    "h5_sha256": "string",
    "mp4_sha256": "string",
}


def find_lab_folder(root: Path, partition: str) -> Path:
    """The folder of a partition: `lab-a` is `lab-a`, or `a`, under `root`.

    Raises ValueError that names the labs that are there.
    """
    if not root.is_dir():
        raise InputError(
            f"droid_episodes.location {root}: no such folder; give the one with the labs in"
        )
    for name in (partition, partition.removeprefix("lab-")):
        if _leads_inside(root, name) and (root / name).is_dir():
            return root / name
    if layout := other_layout(root):
        raise InputError(
            f"droid_episodes.location {root}: this is {layout}, not DROID's raw layout: bring it "
            "in with `python -m pipelines.robot.readers <folder> <target> --hz <rows a second>`"
        )
    there = sorted(p.name for p in root.iterdir() if p.is_dir() and _leads_inside(root, p.name))
    raise InputError(
        f"droid_episodes.location {root}: no lab {partition.removeprefix('lab-')!r} in it; "
        f"droid_episodes.labs may name {', '.join(there) or 'nothing: the folder is empty'}"
    )


def other_layout(root: Path) -> str | None:
    """What else a folder is, by its index files, or None."""
    marks = {
        "an RLDS data set": "features.json",
        "a LeRobot v1 data set (no reader yet)": "meta_data/info.json",
        "a LeRobot data set": "meta/info.json",
    }
    return next((name for name, mark in marks.items() if (root / mark).is_file()), None)


def find_episodes(lab: Path) -> Iterator[Path]:
    """Episode folders of a lab, sorted: what lies at <outcome>/<date>/<timestamp>."""
    for outcome in OUTCOMES:
        yield from sorted(path for path in lab.glob(f"{outcome}/*/*") if path.is_dir())


def read_episode(root: Path, folder: Path) -> Episode:
    """Read and check one episode without decoding its video. Raises EpisodeError."""
    metadata = _read_metadata(root, folder)
    video = _find_video(root, folder, metadata)
    data = _read(root, folder / "trajectory.h5")
    try:
        trajectory = read_trajectory(data, video.stem)
    except TrajectoryError as error:
        raise EpisodeError(str(error)) from None
    path = folder.relative_to(root).as_posix()
    row = {
        "episode": str(metadata.get("uuid") or digest_json(path)[:16]),
        "lab": PurePosixPath(path).parts[0],
        "path": path,
        "mp4": video.relative_to(root).as_posix(),
        "serial": video.stem,
        "success": PurePosixPath(path).parts[1] == "success",
        "task": _task(metadata),
        "rows": len(trajectory.states),
        "control_hz": trajectory.control_hz,
        "h5_sha256": digest_bytes(data),
        "mp4_sha256": digest_file(_inside(root, video)),
    }
    return Episode(row, trajectory, metadata)


def used_files(root: Path, folder: Path) -> list[Path]:
    """The files of an episode that its row and its frames depend on, as far as they are there."""
    named = [*folder.glob("metadata_*.json"), folder / "trajectory.h5"]
    with suppress(EpisodeError):
        named.append(_find_video(root, folder, _read_metadata(root, folder)))
    return sorted(path for path in named if path.is_file())


def open_episode(root: Path, row: dict[str, Any]) -> tuple[Trajectory, bytes]:
    """Trajectory and recording of an episode that `read_episode` described.

    Raises EpisodeError when a file is gone, outside the root, or no longer what it was then.
    """
    data = _read(root, root / row["path"] / "trajectory.h5")
    video = _read(root, root / row["mp4"])
    for found, wanted, name in (
        (digest_bytes(data), row["h5_sha256"], "trajectory.h5"),
        (digest_bytes(video), row["mp4_sha256"], PurePosixPath(row["mp4"]).name),
    ):
        if found != wanted:
            raise EpisodeError(f"{name} has changed since the episodes were listed; list them anew")
    try:
        return read_trajectory(data, row["serial"]), video
    except TrajectoryError as error:
        raise EpisodeError(str(error)) from None


def _leads_inside(root: Path, name: str) -> bool:
    try:
        inside(root, check_path(name))
    except PathError:
        return False
    return True


def _inside(root: Path, path: Path) -> Path:
    """Where a path really leads. EpisodeError when that is not below the root."""
    try:
        return inside(root, path)
    except PathError:
        raise EpisodeError(f"{path.name!r} leads out of the episodes' folder") from None


def _read(root: Path, path: Path) -> bytes:
    file, name = _inside(root, path), path.name
    try:
        state = file.stat()
        if not stat.S_ISREG(state.st_mode):
            raise EpisodeError(f"{name} is no file")  # reading a pipe would never end
        if state.st_size > (limit := MAX_BYTES.get(path.suffix, state.st_size)):
            raise EpisodeError(f"{name} has {state.st_size} bytes; at most {limit} are read")
        return file.read_bytes()
    except OSError as error:
        raise EpisodeError(f"{name}: {error.strerror}") from None


def _read_metadata(root: Path, folder: Path) -> dict[str, Any]:
    files = sorted(_inside(root, folder).glob("metadata_*.json"))
    if len(files) != 1:
        raise EpisodeError(f"{len(files) or 'no'} metadata_*.json in the folder, need one")
    text = _read(root, files[0])
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        raise EpisodeError(f"{files[0].name} is not JSON") from None
    if not isinstance(metadata, dict):
        raise EpisodeError(f"{files[0].name} holds no JSON object")
    return metadata


def _task(metadata: dict[str, Any]) -> str | None:
    task = metadata.get("current_task")
    if not isinstance(task, str | None):
        raise EpisodeError("current_task in the metadata is no text")
    return task


def _find_video(root: Path, folder: Path, metadata: dict[str, Any]) -> Path:
    """The left exterior camera's recording: named by the metadata, never found by a pattern.

    A pattern would also match `<serial>-stereo.mp4`, which shows both eyes side by side. Of the
    name only the last part counts: the file lies among the episode's own recordings.
    """
    named = metadata.get("left_mp4_path") or metadata.get("ext1_mp4_path")
    if not isinstance(named, str) or not named:
        raise EpisodeError("metadata names no left_mp4_path")
    name = PurePosixPath(named).name
    if name in ("", "..") or not name.isprintable():
        raise EpisodeError(f"left_mp4_path {named!a} names no recording")
    if name.endswith("-stereo.mp4"):
        raise EpisodeError(f"left_mp4_path is the stereo recording {name}")
    serial = PurePosixPath(name).stem
    known = sorted({str(metadata[key]) for key in _SERIALS if metadata.get(key)})
    if known and serial not in known:
        raise EpisodeError(
            f"left_mp4_path names the camera {serial!a}, the metadata {', '.join(known)!a} alone"
        )
    video = folder / RECORDINGS / name
    if not _inside(root, video).is_file():
        raise EpisodeError(f"{RECORDINGS}/{name} is missing")
    return video
