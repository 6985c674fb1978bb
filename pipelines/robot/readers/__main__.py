"""Bring a data set of another layout into DROID's raw layout; see `pipelines.robot.readers`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.robot.hdf5 import write_hdf5
from pipelines.robot.readers import reader_of
from pipelines.robot.readers.recording import Recording
from pipelines.robot.trajectory import GRIPPER, POSES, STEP_START
from storage.digests import digest_json
from storage.errors import InputError, UserError
from storage.video import encode

SERIAL = "00000000"
"""The camera's name where the data set has no serial."""
_QUALITY = {"crf": "8", "x264-params": "cpu-independent=1"}


def write_episode(recording: Recording, lab: Path, hz: float) -> Path:
    """One recording as an episode folder of a lab; the same bytes every time.

    The day in its path is a count: other layouts have no dates. An episode without a flag of its
    own stands under success, as demonstrations do.
    """
    code = digest_json(recording.name)[:16]
    outcome = "failure" if recording.success is False else "success"
    folder = lab / outcome / "1970-01-01" / code
    (folder / "recordings" / "MP4").mkdir(parents=True, exist_ok=True)
    times = np.rint(np.arange(len(recording.states)) * 1000.0 / hz)
    columns = {
        POSES: recording.states[:, :6], GRIPPER: recording.states[:, 6],
        STEP_START: times.astype(np.int64),
    }  # fmt: skip
    attributes = {} if recording.success is None else {"success": recording.success}
    (folder / "trajectory.h5").write_bytes(write_hdf5(columns, attributes))
    video = f"recordings/MP4/{SERIAL}.mp4"
    (folder / video).write_bytes(encode(recording.frames, hz, options=_QUALITY).data)
    told = {"uuid": code, "left_mp4_path": video, "current_task": recording.task,
            "brought_in_from": recording.name}  # fmt: skip
    (folder / f"metadata_{code}.json").write_text(json.dumps(told, indent=2))
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, write, and say how many."""
    parser = argparse.ArgumentParser(prog="pipelines.robot.readers", description=__doc__)
    parser.add_argument("folder", type=Path, help="the data set")
    parser.add_argument("target", type=Path, help="becomes the folder with the labs in")
    parser.add_argument("--hz", type=float, required=True, help="rows a second: no layout says it")
    parser.add_argument("--lab", default="brought-in", help="name of the lab")
    parser.add_argument("--camera", help="which picture of a step; the first by name if not given")
    asked = parser.parse_args(arguments)
    try:
        if not 0 < asked.hz <= 1000:
            raise InputError(f"--hz {asked.hz:g}: want above 0, at most 1000")
        count = 0
        for recording in reader_of(asked.folder).recordings(asked.folder, asked.camera):
            write_episode(recording, asked.target / asked.lab, asked.hz)
            count += 1
    except UserError as refused:
        print(refused, file=sys.stderr)
        return 2
    place = f"droid_episodes.location={asked.target} droid_episodes.labs={asked.lab}"
    print(f"{count} episodes in {asked.target / asked.lab}; read them with --set {place}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
