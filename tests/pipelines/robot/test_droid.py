"""Claims: a recording has DROID's layout and keys, the same bytes every time; whatever is wrong
with an episode is said in one line, and nothing wrong is taken for right."""

from __future__ import annotations

import datetime
import functools
import io
import json
import os
import shutil
import time

import h5py
import numpy as np
import pytest

from pipelines.robot.blueprint import find_lab
from pipelines.robot.droid import (
    EPISODES,
    EpisodeError,
    find_episodes,
    find_lab_folder,
    open_episode,
    read_episode,
)
from pipelines.robot.hdf5 import write_hdf5
from pipelines.robot.poses import euler_to_matrix
from pipelines.robot.recorder import FAULTS, KINDS, choose_policy, decide, record, write_slate
from pipelines.robot.scene import WORKSPACE
from pipelines.robot.simulator import Simulator
from pipelines.robot.trajectory import TrajectoryError, read_trajectory
from storage.frames import iterate

FRAMES = 5
SERIAL = find_lab("lab-000").camera_serial
# What DROID's own converter and readers take from a trajectory.
KEYS = [
    "observation/robot_state/cartesian_position",
    "observation/robot_state/gripper_position",
    "observation/robot_state/joint_positions",
    f"observation/camera_extrinsics/{SERIAL}_left",
    f"observation/camera_type/{SERIAL}",
    f"observation/timestamp/cameras/{SERIAL}_read_start",
    f"observation/timestamp/cameras/{SERIAL}_frame_received",
    f"observation/timestamp/cameras/{SERIAL}_estimated_capture",
    "observation/timestamp/control/step_start",
    "observation/timestamp/control/step_end",
    "observation/timestamp/skip_action",
    "observation/controller_info/success",
    "observation/controller_info/failure",
    "observation/controller_info/movement_enabled",
    "action/cartesian_position",
    "action/gripper_position",
    "action/joint_position",
]


@functools.cache
def simulator() -> Simulator:
    return Simulator("lab-000", 0, 32, samples=1, hz=15.0)


def recorded(number: int = 0, fault: str | None = None) -> dict[str, bytes]:
    return record(
        simulator(), seed=1, number=number, frames=FRAMES, container_fps=60.0, fault=fault
    )


@pytest.fixture
def root(tmp_path):
    """A lab with one sound episode."""
    for path, data in recorded().items():
        target = tmp_path / "lab-000" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return tmp_path


def only(root):
    [folder] = find_episodes(root / "lab-000")
    return folder


def test_the_layout_is_droids(root):
    folder = only(root)
    lab, outcome, date, stamp = folder.relative_to(root).parts
    assert (lab, date) == ("lab-000", "2023-03-01")
    assert outcome in ("success", "failure")
    assert datetime.datetime.strptime(stamp.replace("__", "_0"), "%a_%b_%d_%H:%M:%S_%Y")
    metadata = json.loads(next(folder.glob("metadata_*.json")).read_bytes())
    assert f"metadata_{metadata['uuid']}.json" in [path.name for path in folder.iterdir()]
    assert metadata["ext1_cam_serial"] == SERIAL
    assert (root / "lab-000" / metadata["left_mp4_path"]).is_file()
    assert (root / "lab-000" / metadata["hdf5_path"]).is_file()
    assert metadata["success"] == (outcome == "success")
    assert (folder / "recordings" / "MP4" / f"{SERIAL}.mp4").is_file()


def test_the_keys_are_droids_and_every_row_is_there(root):
    with h5py.File(only(root) / "trajectory.h5") as file:
        for key in KEYS:
            assert len(file[key]) == FRAMES, key
        assert file["observation/robot_state/cartesian_position"].shape == (FRAMES, 6)
        assert set(file.attrs) >= {"success", "building", "scene_id", "version_number"}
        steps = np.diff(file["observation/timestamp/control/step_start"][()])
        roll = file["observation/robot_state/cartesian_position"][:, 3]
    assert set(steps) <= {66, 67}  # milliseconds: 15 Hz
    assert (np.abs(roll) <= np.pi).all()


def test_commands_are_what_the_arm_then_does(root):
    with h5py.File(only(root) / "trajectory.h5") as file:
        told = file["action/cartesian_position"][:-1]
        done = file["observation/robot_state/cartesian_position"][1:]
    assert np.abs(told[:, :3] - done[:, :3]).max() < 0.012
    assert np.abs(euler_to_matrix(told[:, 3:]) - euler_to_matrix(done[:, 3:])).max() < 0.03


def test_both_clocks_are_told(root):
    episode = read_episode(root, only(root))
    assert episode.row["control_hz"] == pytest.approx(15, rel=0.01)
    times = [frame.time for frame in iterate(root / episode.row["mp4"])]
    assert np.allclose(np.diff(times), 1 / 60, atol=1e-3)


def test_bytes_depend_on_seed_lab_and_number_alone():
    first = recorded(3)
    other = recorded(4)
    time.sleep(1.1)  # HDF5 counts its time stamps in seconds
    assert recorded(3) == first
    assert set(other) != set(first)
    fresh = Simulator("lab-000", 99, 32, samples=1, hz=15.0)
    again = record(fresh, seed=1, number=3, frames=FRAMES, container_fps=60.0)
    assert again == first


def test_recordings_do_not_depend_on_what_else_is_in_memory():
    arm, seen = Simulator("lab-000", 0, 64, samples=1), set()
    rng = np.random.default_rng()  # any sizes will do
    for _ in range(12):
        clutter = [np.full(rng.integers(1, 100_000), 7.0) for _ in range(30)]
        files = record(arm, seed=5, number=6, frames=6, container_fps=60.0)
        seen.add(hash(tuple(files.values())))
        del clutter
    assert len(seen) == 1


def test_slates_are_unique_and_need_no_clock():
    slates = [write_slate(0, "lab-000", number) for number in range(200)]
    assert len({slate.folder for slate in slates}) == 200
    assert len({slate.uuid for slate in slates}) == 200
    assert slates[5] == write_slate(0, "lab-000", 5)
    assert slates[5] != write_slate(1, "lab-000", 5)


def test_motions_are_diverse_and_stay_in_the_box():
    moves = []
    arm = Simulator("lab-001", 0, 16, samples=1)
    for number in range(12):
        files = record(arm, seed=0, number=number, frames=8, container_fps=4.0)
        [data] = [data for path, data in files.items() if path.endswith(".h5")]
        states = read_trajectory(data, arm.lab.camera_serial).states
        moves.append(np.diff(states, axis=0))
        assert (states[:, :3] > WORKSPACE[0] - 0.01).all()
        assert (states[:, :3] < WORKSPACE[1] + 0.01).all()
    moves = np.concatenate(moves)
    assert (moves[:, :3].std(axis=0) > 0.025).all()
    assert np.abs(moves[:, :3]).max() < 0.085
    assert moves[:, 6].std() > 0.05


def test_a_row_says_what_the_episode_is(root):
    episode = read_episode(root, only(root))
    assert list(episode.row) == list(EPISODES)
    assert episode.row["rows"] == FRAMES
    assert episode.row["serial"] == SERIAL
    assert episode.trajectory.states.shape == (FRAMES, 7)
    camera = simulator()
    recorded()
    assert np.allclose(episode.trajectory.extrinsics[0, :3], camera.view.position)


def test_the_stereo_recording_is_never_taken(root):
    folder = only(root)
    video = folder / "recordings" / "MP4" / f"{SERIAL}.mp4"
    (video.parent / f"{SERIAL}-stereo.mp4").write_bytes(b"both eyes")
    assert read_episode(root, folder).row["mp4"].endswith(f"MP4/{SERIAL}.mp4")
    video.unlink()
    with pytest.raises(EpisodeError, match=f"MP4/{SERIAL}.mp4 is missing"):
        read_episode(root, folder)


def spoil(root, name):
    """Do one thing to the only episode that makes it unusable."""
    folder = only(root)
    metadata = next(folder.glob("metadata_*.json"))
    h5 = folder / "trajectory.h5"
    if name == "no h5":
        h5.unlink()
    elif name == "text as h5":
        h5.write_text("not found")
    elif name == "no gripper":
        with h5py.File(h5, "a") as file:
            del file["observation/robot_state/gripper_position"]
    elif name == "five numbers a pose":
        with h5py.File(h5, "a") as file:
            poses = file["observation/robot_state/cartesian_position"][:, :5]
            del file["observation/robot_state/cartesian_position"]
            file["observation/robot_state/cartesian_position"] = poses
    elif name == "rows differ":
        with h5py.File(h5, "a") as file:
            del file["observation/robot_state/gripper_position"]
            file["observation/robot_state/gripper_position"] = np.zeros(3)
    elif name == "no metadata":
        metadata.unlink()
    elif name == "metadata cut":
        metadata.write_bytes(metadata.read_bytes()[:40])
    elif name == "no path":
        metadata.write_text('{"uuid": "x"}')
    elif name == "stereo path":
        metadata.write_text(f'{{"left_mp4_path": "recordings/MP4/{SERIAL}-stereo.mp4"}}')


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no h5", "trajectory.h5: No such file"),
        ("text as h5", "no readable HDF5 file"),
        ("no gripper", "has no observation/robot_state/gripper_position"),
        ("five numbers a pose", r"shape \(5, 5\), not \(steps, 6\)"),
        ("rows differ", "5 rows of .* but 3 of"),
        ("no metadata", r"no metadata_\*\.json"),
        ("metadata cut", "is not JSON"),
        ("no path", "names no left_mp4_path"),
        ("stereo path", "is the stereo recording"),
    ],
)
def test_what_is_wrong_is_said(root, name, reason):
    spoil(root, name)
    with pytest.raises(EpisodeError, match=reason) as error:
        read_episode(root, only(root))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_recorders_faults_are_real(tmp_path, fault):
    for path, data in recorded(1, fault).items():
        target = tmp_path / "lab-000" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    if fault == "short recording":  # found only by decoding: see test_episode_shards
        row = read_episode(tmp_path, only(tmp_path)).row
        assert len(list(iterate(tmp_path / row["mp4"]))) == FRAMES - 1
        return
    reason = {
        "no recording": "is missing",
        "broken trajectory": "no readable HDF5 file: truncated",
        "state not finite": "state of row 2 of 5 is not finite",
    }[fault]
    with pytest.raises(EpisodeError, match=reason):
        read_episode(tmp_path, only(tmp_path))


def test_files_that_change_later_are_refused(root):
    row = read_episode(root, only(root)).row
    trajectory, video = open_episode(root, row)
    assert len(trajectory.states) == FRAMES
    path = root / row["mp4"]
    path.write_bytes(video[:-1] + b"?")
    with pytest.raises(EpisodeError, match=rf"{SERIAL}\.mp4 has changed"):
        open_episode(root, row)


def test_a_trajectory_without_calibration_or_time_still_reads():
    columns = {
        "observation/robot_state/cartesian_position": np.zeros((4, 6)),
        "observation/robot_state/gripper_position": np.zeros(4),
    }
    trajectory = read_trajectory(write_hdf5(columns, {}), "123")
    assert trajectory.extrinsics is None
    assert trajectory.control_hz is None
    assert trajectory.success is None
    with pytest.raises(TrajectoryError, match="no readable HDF5"):
        read_trajectory(io.BytesIO().getvalue(), "123")


def test_a_missing_lab_names_those_there(tmp_path):
    (tmp_path / "AUTOLab").mkdir()
    (tmp_path / "IRIS").mkdir()
    assert find_lab_folder(tmp_path, "lab-IRIS").name == "IRIS"
    with pytest.raises(ValueError, match=r"no lab 'CLVR' in it; .* name AUTOLab, IRIS"):
        find_lab_folder(tmp_path, "lab-CLVR")
    with pytest.raises(ValueError, match="no such folder"):
        find_lab_folder(tmp_path / "droid", "lab-IRIS")


SECRET = b"nobody outside may read this"


def lead_out(root, name, outside):
    """Make one thing of the only episode lead out of the root; the secret is fit to be taken."""
    folder = only(root)
    [metadata] = folder.glob("metadata_*.json")
    video = folder / "recordings" / "MP4" / f"{SERIAL}.mp4"
    outside.mkdir()

    def moved(path):
        target = outside / path.name
        path.rename(target)
        path.symlink_to(target)

    if name == "metadata":
        moved(metadata)
    elif name == "trajectory":
        moved(folder / "trajectory.h5")
    elif name == "recording":
        moved(video)
    elif name == "recordings":
        moved(folder / "recordings")
    elif name == "episode":
        moved(folder)
    elif name == "date":
        moved(folder.parent)
    elif name == "circle":
        video.unlink()
        video.symlink_to(video)
    else:
        shutil.copy(video, outside / "secret.mp4")
        metadata.write_text(json.dumps({"left_mp4_path": name.format(outside=outside)}))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("metadata", "'metadata_.*' leads out of the episodes' folder"),
        ("trajectory", "'trajectory.h5' leads out of the episodes' folder"),
        ("recording", f"'{SERIAL}.mp4' leads out of the episodes' folder"),
        ("recordings", f"'{SERIAL}.mp4' leads out of the episodes' folder"),
        ("episode", "leads out of the episodes' folder"),
        ("date", "leads out of the episodes' folder"),
        ("circle", f"'{SERIAL}.mp4' leads out of the episodes' folder"),
        ("{outside}/secret.mp4", "recordings/MP4/secret.mp4 is missing"),
        ("../../../../../../outside/secret.mp4", "recordings/MP4/secret.mp4 is missing"),
        ("recordings/MP4/..", r"left_mp4_path 'recordings/MP4/\.\.' names no recording"),
        ("/", "left_mp4_path '/' names no recording"),
        ("a\0b.mp4", r"left_mp4_path 'a\\x00b.mp4' names no recording"),
        ("two\nlines.mp4", r"left_mp4_path 'two\\nlines.mp4' names no recording"),
    ],
)
def test_no_path_leads_out_of_the_root(tmp_path, root, name, reason):
    root = root.rename(tmp_path.with_name(f"{tmp_path.name}-root"))
    outside = root.with_name(f"{tmp_path.name}-outside")
    before = read_episode(root, only(root)).row
    lead_out(root, name, outside)
    [folder] = find_episodes(root / "lab-000")
    with pytest.raises(EpisodeError, match=reason) as error:
        read_episode(root, folder)
    assert "\n" not in str(error.value)
    if outside.joinpath("secret.mp4").exists() or name in ("metadata", "circle"):
        return
    # A row that was written before the link was planted does not lead there either.
    with pytest.raises(EpisodeError, match="leads out of the episodes' folder"):
        open_episode(root, before)


@pytest.mark.parametrize("column", ["path", "mp4"])
@pytest.mark.parametrize("start", ["../", "lab-000/../../", "/"])
def test_a_table_cannot_name_files_elsewhere(root, column, start):
    row = read_episode(root, only(root)).row
    outside = root.with_name(f"{root.name}-outside")
    shutil.copytree(root / "lab-000", outside / "lab-000")
    there = f"{outside}/" if start == "/" else f"{start}{outside.name}/"
    assert (root / there / row[column]).exists()
    with pytest.raises(EpisodeError, match="leads out of the episodes' folder"):
        open_episode(root, row | {column: there + row[column]})


def test_a_lab_is_a_folder_of_the_root(tmp_path):
    root = tmp_path / "root"
    (root / "AUTOLab").mkdir(parents=True)
    (tmp_path / "secret" / "success").mkdir(parents=True)
    (root / "IRIS").symlink_to(tmp_path / "secret")
    for name in ("lab-../secret", f"lab-{tmp_path}/secret", "lab-IRIS", "lab-."):
        with pytest.raises(
            ValueError, match=r"no lab '.*' in it; droid_episodes\.labs may name AUTOLab"
        ):
            find_lab_folder(root, name)


def test_what_is_no_plain_file_is_not_waited_for(root):
    folder = only(root)
    (folder / "trajectory.h5").unlink()
    os.mkfifo(folder / "trajectory.h5")
    with pytest.raises(EpisodeError, match=r"trajectory\.h5 is no file"):
        read_episode(root, folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 200_000, "is not JSON"),
        ('{"left_mp4_path": "x.mp4", "current_task": {"a": 1}}', "x.mp4 is missing"),
        (f'{{"left_mp4_path": "{SERIAL}.mp4", "current_task": ["a"]}}', "current_task .* no text"),
        (f'{{"left_mp4_path": "{" " * (17 << 20)}"}}', "bytes; at most 16777216 are read"),
    ],
)
def test_metadata_are_not_trusted(root, text, reason):
    folder = only(root)
    next(folder.glob("metadata_*.json")).write_text(text)
    with pytest.raises(EpisodeError, match=reason):
        read_episode(root, folder)


def trajectory(states, hz: float | None = 15.0):
    columns = {KEYS[0]: states[:, :6], KEYS[1]: states[:, 6]}
    if hz is not None:
        columns["observation/timestamp/control/step_start"] = np.arange(len(states)) * 1000 / hz
    return read_trajectory(write_hdf5(columns, {}), SERIAL)


@pytest.mark.parametrize(("hz", "far"), [(15.0, 0.2), (4.0, 0.75), (None, 0.75)])
def test_a_hand_that_jumps_is_no_recording(hz, far):
    states = np.zeros((9, 7))
    states[:, 0] = np.linspace(0.4, 0.6, 9)
    trajectory(states, hz)
    states[5:, 1] += far + 0.01
    with pytest.raises(TrajectoryError, match=r"jumps 0\.\d\d m from row 4 to row 5 of 9; at most"):
        trajectory(states, hz)


def test_a_camera_that_the_metadata_do_not_know_is_refused(root):
    folder = only(root)
    path = next(folder.glob("metadata_*.json"))
    metadata = json.loads(path.read_text())
    read_episode(root, folder)
    metadata["ext1_cam_serial"] = "12345678"
    path.write_text(json.dumps(metadata))
    with pytest.raises(
        EpisodeError, match=rf"names the camera '{SERIAL}', the metadata '12345678'"
    ):
        read_episode(root, folder)
    metadata["ext2_cam_serial"] = SERIAL  # it is the other exterior one's: DROID's left may be
    path.write_text(json.dumps(metadata))
    assert read_episode(root, folder).row["serial"] == SERIAL


@pytest.mark.parametrize("what", ["carry", "place"])
def test_things_are_held_carried_and_put_down_on_film(what):
    """Every task is recorded, beginnings and ends, with a share of its own."""
    arm, held, done = Simulator("lab-001", 0, 16, hz=4.0, renderer="none"), [], 0
    shares = dict.fromkeys(KINDS, 0.0) | {what: 1.0}
    for number in range(8):
        rng = np.random.default_rng(number)
        arm.reset(number)
        policy = choose_policy(arm, rng, shares)
        rows = []
        for _, state, action in decide(arm, policy, rng, 26):
            rows.append(state)
            arm.step(action)
        grip = np.array(rows)[:, 6]
        held.append(((grip > 0.1) & (grip < 0.9)).mean())  # closed on something
        done += policy.succeeded(arm.state())
        assert policy.task.split()[0] == {"carry": "carry", "place": "pick"}[what]
    assert min(held) > 0.15 and done >= 7


def test_short_episodes_begin_midway_and_long_ones_at_the_start():
    arm = Simulator("lab-001", 0, 16, samples=1, hz=4.0)
    grips = {}
    for frames in (6, 40):
        closed = []
        for number in range(6):
            files = record(
                arm, seed=3, number=number, frames=frames, container_fps=4.0,
                shares={"place": 1.0},
            )  # fmt: skip
            data = next(data for path, data in files.items() if path.endswith(".h5"))
            closed.append(read_trajectory(data, arm.lab.camera_serial).states[0, 6] > 0.1)
        grips[frames] = sum(closed)
    assert grips[40] == 0 and 1 <= grips[6] <= 5
