"""RLDS as TensorFlow Datasets stores it: one Example an episode, steps in lists, pictures as JPEG.

What is read of a step: `observation/<camera>`, `observation/state` (seven numbers: xyz, Euler
angles, gripper 1 open to 0 closed, as Bridge has them), `language_instruction`. States of another
width (joint angles) are refused: they say nothing of where the hand is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.robot.readers.recording import Recording
from pipelines.robot.readers.records import Value, parse_example, records
from storage.errors import InputError
from storage.pictures import VideoError
from storage.video import decode_image

_OBSERVATION = "steps/observation/"


class RLDS:
    """A folder with `dataset_info.json`, `features.json` and .tfrecord files."""

    name = "rlds"

    def recognises(self, folder: Path) -> bool:
        """By its two index files."""
        return all((folder / name).is_file() for name in ("dataset_info.json", "features.json"))

    def recordings(self, folder: Path, camera: str | None) -> Iterator[Recording]:
        """Every episode of every .tfrecord file, by name."""
        picture = f"{_OBSERVATION}{_chosen(folder, camera)}"
        files = sorted(path for path in folder.iterdir() if ".tfrecord" in path.name)
        if not files:
            raise InputError(f"{folder}: no .tfrecord file beside features.json")
        for path in files:
            for number, data in enumerate(records(path)):
                where = f"{path.name}: record {number}"
                try:
                    told = parse_example(data)
                except (ValueError, KeyError, UnicodeDecodeError) as error:
                    raise InputError(f"{where} is no tf.train.Example: {error}") from None
                yield _recording(told, picture, where)


def cameras(folder: Path) -> list[str]:
    """Names of the pictures of a step."""
    features = json.loads((folder / "features.json").read_text())
    steps = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    observed = steps["featuresDict"]["features"]["observation"]["featuresDict"]["features"]
    return sorted(name for name, feature in observed.items() if "image" in feature)


def _chosen(folder: Path, camera: str | None) -> str:
    try:
        there = cameras(folder)
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder}/features.json does not describe steps with observations"
        ) from None
    if not there or (camera is not None and camera not in there):
        wanted = f"no camera {camera!r}" if camera else "no pictures"
        raise InputError(f"{folder}: {wanted}; there is {', '.join(there) or 'none'}")
    return camera or there[0]


def _recording(told: Mapping[str, Value], picture: str, where: str) -> Recording:
    stored, flat = told.get(picture), told.get(f"{_OBSERVATION}state")
    if not isinstance(stored, list) or not stored:
        raise InputError(f"{where} has no {picture}")
    steps = len(stored)
    if not isinstance(flat, np.ndarray) or flat.size != 7 * steps:
        size = flat.size / steps if isinstance(flat, np.ndarray) else 0
        raise InputError(f"{where} has {size:g} numbers a state: 7 are read, xyz, angles, gripper")
    states = flat.reshape(steps, 7).astype(np.float64)
    if not np.isfinite(states).all():
        raise InputError(f"{where} has a state that is not finite")
    states[:, 6] = 1.0 - states[:, 6].clip(0.0, 1.0)
    try:
        frames = np.stack([decode_image(data, strict=True) for data in stored])
    except (VideoError, ValueError) as error:
        raise InputError(f"{where}: a picture cannot be decoded: {error}") from None
    sentences: Any = told.get("steps/language_instruction") or [b""]
    return Recording(where, frames, states, sentences[0].decode(errors="replace"), None)
