"""Recording one episode of the simulated arm in DROID's raw layout.

Names, times and motions follow from (seed, lab, number of the episode) alone: there is no clock.
As in DROID, the container of a recording may claim another frame rate than that of the control
steps; the time stamps in trajectory.h5 tell the true one.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.demonstrations import STAGES, Demonstration
from pipelines.robot.hdf5 import write_hdf5
from pipelines.robot.policies import DECISIONS_PER_SECOND, Grasp, Policy, Reach, Wander, spread
from pipelines.robot.poses import matrix_to_euler
from pipelines.robot.scene import WORKSPACE
from pipelines.robot.simulator import Simulator
from storage.digests import digest_json, unit_interval
from storage.video import encode

Array = NDArray[np.float64]

# The day of the first episode; each later one falls into the hour after its predecessor's.
_FIRST_DAY = datetime.datetime(2023, 3, 1)
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
KINDS = ("wander", "reach", "grasp", *STAGES)
"""What an episode may show."""
FILMED = {"wander": 0.5, "reach": 0.35, "grasp": 0.15}
"""Shares of the films for pretraining."""
_LONGEST = 22  # decisions that the longest task takes: an episode that is shorter begins midway
# A low rate factor, as what is lost here is lost to everything after. Without "cpu-independent",
# x264's fastest instructions give other bytes from run to run on frames as small as these.
_QUALITY = {"crf": "12", "x264-params": "cpu-independent=1"}

FAULTS = ("short recording", "no recording", "broken trajectory", "state not finite")
"""What can be wrong with an episode; each is found in real DROID folders."""


@dataclass(frozen=True)
class Slate:
    """What identifies an episode."""

    uuid: str
    folder: str
    """Relative to the lab's outcome folder: date/timestamp."""
    moment: datetime.datetime


def write_slate(seed: int, lab: str, number: int) -> Slate:
    """Identity of an episode: uuid and time as DROID writes them, from the arguments alone."""
    fraction = unit_interval("moment", seed, lab, number)
    moment = _FIRST_DAY + datetime.timedelta(seconds=3600 * number + int(3600 * fraction))
    code = digest_json(["uuid", seed, lab, number])[:8]
    stamp = moment.strftime("%Y-%m-%d-%Hh-%Mm-%Ss")
    day, month = _WEEKDAYS[moment.weekday()], _MONTHS[moment.month - 1]
    clock = f"{day}_{month}_{moment.day:2d}_{moment:%H:%M:%S}_{moment.year}".replace(" ", "_")
    return Slate(f"{lab}+{code}+{stamp}", f"{moment:%Y-%m-%d}/{clock}", moment)


def choose_policy(
    simulator: Simulator, rng: np.random.Generator, shares: Mapping[str, float] = FILMED
) -> Policy:
    """A motion for this episode, drawn by the shares of `KINDS`."""
    edges = np.cumsum([shares.get(kind, 0.0) for kind in KINDS])
    kind = KINDS[int(np.searchsorted(edges / edges[-1], rng.random(), side="right"))]
    if kind == "wander":
        return Wander(WORKSPACE)
    if kind == "reach":
        target = rng.uniform(WORKSPACE[0] + [0.0, 0.0, 0.08], WORKSPACE[1])
        return Reach(target, WORKSPACE, pace=float(rng.uniform(0.03, 0.075)))
    name = str(rng.choice([thing.name for thing in simulator.lab.things if thing.mass > 0]))
    if kind in STAGES:
        return Demonstration(simulator, name, kind, rng)
    return Grasp(
        where=lambda: simulator.thing(name),
        noise=float(rng.uniform(0.0, 0.02)),
        task=f"lift the {name}",
    )


def record(
    simulator: Simulator, *, seed: int, number: int, frames: int, container_fps: float,
    fault: str | None = None, shares: Mapping[str, float] = FILMED,
) -> dict[str, bytes]:  # fmt: skip
    """Play one episode of `frames` control steps: path below the lab's folder -> bytes.

    The simulator is reset first; `fault` is one of `FAULTS`; `shares` say how often an episode is
    of each of `KINDS`.
    """
    lab = simulator.lab
    slate = write_slate(seed, lab.name, number)
    rng = np.random.default_rng(int(digest_json(["motion", seed, lab.name, number])[:16], 16))
    simulator.reset(int(digest_json(["scene", seed, lab.name, number])[:12], 16))
    policy = choose_policy(simulator, rng, shares)
    if shares is not FILMED:
        _lead_in(simulator, policy, rng, frames)
    rows, pictures = _play(simulator, policy, rng, frames)
    success = policy.succeeded(simulator.state())
    columns = _columns(rows, simulator, slate, success)
    if fault == "state not finite":
        columns["observation/robot_state/cartesian_position"][frames // 2, 0] = np.nan
    folder = f"{'success' if success else 'failure'}/{slate.folder}"
    video = f"{folder}/recordings/MP4/{lab.camera_serial}.mp4"
    trajectory = write_hdf5(columns, _attributes(simulator, success))
    metadata = _metadata(simulator, slate, policy.task, success, folder, frames)
    files = {
        f"{folder}/metadata_{slate.uuid}.json": json.dumps(metadata, indent=2).encode(),
        f"{folder}/trajectory.h5": trajectory[: len(trajectory) // 3]
        if fault == "broken trajectory"
        else trajectory,
    }
    if fault != "no recording":
        shown = pictures[:-1] if fault == "short recording" else pictures
        files[video] = encode(shown, container_fps, options=_QUALITY).data
    return files


def _lead_in(simulator: Simulator, policy: Policy, rng: np.random.Generator, frames: int) -> None:
    """Let a task run for a while before it is recorded, where an episode cannot hold all of it.

    Else short episodes would show its beginning alone, and no thing ever in the hand.
    """
    spare = _LONGEST - int(frames * DECISIONS_PER_SECOND / simulator.hz)
    if spare <= 0 or isinstance(policy, Wander | Reach):
        return
    per_decision = max(1, round(simulator.hz / DECISIONS_PER_SECOND))
    for _ in range(int(rng.integers(spare + 1))):
        action = spread(policy.action(simulator.state(), rng), simulator.hz)
        for _ in range(per_decision):
            simulator.step(action)


def decide(
    simulator: Simulator, policy: Policy, rng: np.random.Generator, frames: int
) -> Iterator[tuple[NDArray[np.uint8], Array, Array]]:
    """Frame, state [7] and the action [7] to make before the next is asked for, step by step.

    Decisions fall at 4 Hz, whatever the rate of the steps.
    """
    decided, action = -1, np.zeros(7)
    for step in range(frames):
        picture, state = simulator.observe()
        due = int(step * DECISIONS_PER_SECOND / simulator.hz)
        if due > decided:
            decided, action = due, spread(policy.action(state, rng), simulator.hz)
        yield picture, state, action


def _play(
    simulator: Simulator, policy: Policy, rng: np.random.Generator, frames: int
) -> tuple[list[dict[str, Array]], list[NDArray[np.uint8]]]:
    """Observe, note, then act, once every control step."""
    rows, pictures = [], []
    for picture, state, action in decide(simulator, policy, rng, frames):
        before = simulator.joints()
        simulator.step(action)
        pictures.append(picture)
        rows.append(
            {
                "state": state,
                "action": action,
                "command": simulator.command(),
                "joint_target": simulator.joints()["targets"],
                **before,
            }
        )
    return rows, pictures


def _columns(
    rows: list[dict[str, Array]], simulator: Simulator, slate: Slate, success: bool
) -> dict[str, NDArray[Any]]:
    """DROID's keys. Velocities are per second; times are milliseconds since 1970."""
    table = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    count, serial = len(rows), simulator.lab.camera_serial
    state, command = (_usual_roll(table[name]) for name in ("state", "command"))
    velocity = table["action"] * simulator.hz
    position, rotation = simulator.view.extrinsics()
    camera = np.concatenate([position, matrix_to_euler(rotation)])
    steps = np.arange(count) * (1000.0 / simulator.hz)
    epoch = slate.moment.replace(tzinfo=datetime.UTC).timestamp() * 1000
    times = np.rint(epoch + steps).astype(np.int64)
    robot, clock = "observation/robot_state", "observation/timestamp"
    columns: dict[str, NDArray[Any]] = {
        f"{robot}/cartesian_position": state[:, :6],
        f"{robot}/gripper_position": state[:, 6],
        f"{robot}/joint_positions": table["positions"],
        f"{robot}/joint_velocities": table["velocities"],
        f"{robot}/motor_torques_measured": table["torques"],
        f"observation/camera_extrinsics/{serial}_left": np.tile(camera, (count, 1)),
        f"observation/camera_type/{serial}": np.ones(count, dtype=np.int64),
        f"{clock}/skip_action": np.zeros(count, dtype=bool),
        "observation/controller_info/success": np.arange(count) == (count - 1 if success else -1),
        "observation/controller_info/failure": np.arange(count) == (-1 if success else count - 1),
        "observation/controller_info/movement_enabled": np.ones(count, dtype=bool),
        "action/cartesian_position": command[:, :6],
        "action/gripper_position": command[:, 6],
        "action/joint_position": table["joint_target"],
        "action/cartesian_velocity": velocity[:, :6],
        "action/gripper_velocity": velocity[:, 6],
    }
    for event in ("read_start", "estimated_capture", "frame_received", "read_end"):
        columns[f"{clock}/cameras/{serial}_{event}"] = times
    for event in ("step_start", "policy_start", "control_start", "sleep_start"):
        columns[f"{clock}/control/{event}"] = times
    columns[f"{clock}/control/step_end"] = times + round(1000.0 / simulator.hz)
    for event in ("read_start", "read_end"):
        columns[f"{clock}/robot_state/{event}"] = times
    return columns


def _usual_roll(states: Array) -> Array:
    """Poses [T, 7] with roll in [-pi, pi), as DROID stores them."""
    states = states.copy()
    states[:, 3] = (states[:, 3] + np.pi) % (2 * np.pi) - np.pi
    return states


def _attributes(simulator: Simulator, success: bool) -> Mapping[str, str | bool]:
    lab = simulator.lab
    return {
        "building": lab.building,
        "robot_serial_number": lab.robot_serial,
        "scene_id": lab.name,
        "success": success,
        "failure": not success,
        "version_number": "1.3",
    }


def _metadata(
    simulator: Simulator, slate: Slate, task: str, success: bool, folder: str, frames: int
) -> dict[str, Any]:
    lab = simulator.lab
    position, rotation = simulator.view.extrinsics()
    video = f"{folder}/recordings/MP4/{lab.camera_serial}.mp4"
    return {
        "uuid": slate.uuid,
        "lab": lab.name,
        "user": "simulator",
        "date": f"{slate.moment:%Y-%m-%d}",
        "timestamp": slate.uuid.rsplit("+", 1)[1],
        "hdf5_path": f"{folder}/trajectory.h5",
        "building": lab.building,
        "scene_id": lab.name,
        "success": success,
        "robot_serial": lab.robot_serial,
        "r2d2_version": "1.3",
        "current_task": task,
        "trajectory_length": frames,
        "ext1_cam_serial": lab.camera_serial,
        "ext1_cam_extrinsics": [*position.tolist(), *matrix_to_euler(rotation).tolist()],
        "ext1_mp4_path": video,
        "left_mp4_path": video,
    }
