"""Claims: both stages run on Ray and give the same bytes again; what is broken is listed with its
reason; samples are what the camera saw and the robot measured, row by row; stock readers read them;
a user's folder works like the simulator's; bytes that changed are never taken for a sample."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
import webdataset

from pipelines.execution import ExecutionConfig
from pipelines.robot import episode_shards, episodes
from pipelines.robot.arms import FRANKA
from pipelines.robot.droid import EpisodeError, open_episode, read_episode
from pipelines.robot.episode_shards import EpisodeShardsConfig, load_episode, make_sample
from pipelines.robot.episodes import EpisodesConfig, Shares, narrow, observe
from pipelines.robot.poses import positive_roll
from pipelines.robot.recorder import record
from pipelines.robot.simulator import Simulator
from pipelines.stage import materialize
from storage.artifacts import Artifact, ArtifactStore
from storage.digests import digest_json
from storage.errors import InputError
from storage.frames import iterate
from storage.payloads import LocalPayload
from storage.video import Decoder
from storage.work import LocalWork

COUNT, FRAMES = 9, 6
RECORDING = EpisodesConfig(
    episodes=COUNT, frames=FRAMES, hz=4.0, container_fps=60.0, frame_size=64, faulty=4, seed=5
)
SHARDS = EpisodeShardsConfig(size=32, min_seconds=1.0, min_frames=2, codec="png")


def psnr(one, two):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - two) ** 2))


def build(folder, config=RECORDING, shards=SHARDS, partition="lab-000"):
    """Both artifacts of a lab, made by their stages."""
    store = ArtifactStore(str(folder / "store"))
    execution = ExecutionConfig(workers=2, cache=folder / "cache")
    recorded = materialize(
        store,
        episodes.STAGE,
        config,
        {},
        asset="droid_episodes",
        partition=partition,
        execution=execution,
    ).artifact
    packed = materialize(
        store,
        episode_shards.STAGE,
        shards,
        {f"droid_episodes/{partition}": recorded},
        asset="episode_shards",
        partition=partition,
        execution=execution,
    ).artifact
    return recorded, packed


@pytest.fixture(scope="module")
def built(ray_cluster, tmp_path_factory):
    return build(tmp_path_factory.mktemp("robot"))


def test_what_is_broken_is_listed_with_its_reason(built):
    recorded, packed = built
    lost = recorded.table("quarantine.parquet")
    assert {row["stage"] for row in lost} == {"droid_episodes"}
    reasons = " | ".join(sorted(row["reason"] for row in lost))
    assert len(lost) == 3
    for part in ("is missing", "no readable HDF5 file", "is not finite"):
        assert part in reasons
    rows = recorded.table("episodes.parquet")
    assert len(rows) == COUNT - 3
    assert recorded.metrics["episodes"] == COUNT - 3
    assert recorded.record["media"] == "payload"
    # The recording that is a frame short is cut to what both have, and counted.
    assert packed.metrics["trimmed"] == 1
    index = packed.table("index.parquet")
    assert sorted(row["frames"] for row in index) == [FRAMES - 1] + [FRAMES] * (COUNT - 4)
    assert packed.table("quarantine.parquet") == []


def test_two_builds_give_the_same_bytes(built, tmp_path):
    again = build(tmp_path)
    assert [artifact.content for artifact in again] == [artifact.content for artifact in built]


def test_samples_are_what_was_seen_and_measured(built):
    recorded, packed = built
    rows = {row["episode"]: row for row in recorded.table("episodes.parquet")}
    for row in packed.table("index.parquet"):
        frames, states = load_episode(packed, row)
        assert frames.shape == (row["frames"], 32, 32, 3)
        assert frames.dtype == np.uint8
        trajectory, _ = open_episode(recorded.payload.root, rows[row["episode"]])
        assert (states == positive_roll(trajectory.states[: row["frames"]])).all()
        assert (row["fps"], row["lab"]) == (4.0, "lab-000")
        assert states[:, 3].min() > 2  # points down: near pi, on one branch


def test_the_first_frame_is_the_simulators(built):
    _, packed = built
    first = min(packed.table("index.parquet"), key=lambda row: row["episode"][15:])
    number = next(
        n for n in range(COUNT) if digest_json(["uuid", 5, "lab-000", n])[:8] in first["episode"]
    )
    camera = Simulator("lab-000", int(digest_json(["scene", 5, "lab-000", number])[:12], 16), 32)
    frames, states = load_episode(packed, first)
    assert np.allclose(states[0], camera.state(), atol=1e-9)
    assert psnr(frames[0], camera.observe()[0]) > 28
    moved = [psnr(frame, frames[0]) for frame in frames[2:]]
    assert max(moved) < psnr(frames[0], camera.observe()[0])


@pytest.mark.parametrize("part", ["", "states_"])
def test_overwritten_bytes_are_noticed_in_every_sample(built, tmp_path, part):
    _, packed = built
    shutil.copytree(packed.payload.root, tmp_path / "damaged")
    damaged = Artifact(packed.manifest, LocalPayload(tmp_path / "damaged"))
    for row in packed.table("index.parquet"):
        with (tmp_path / "damaged" / "shards" / row["shard"]).open("r+b") as file:
            file.seek(row[f"{part}offset"] + row[f"{part}size"] // 2)
            file.write(b"damaged!")
        with pytest.raises(InputError, match="do not fit their digest"):
            load_episode(damaged, row)


def test_the_stock_package_reads_the_shards(built):
    _, packed = built
    index = {row["key"]: row for row in packed.table("index.parquet")}
    shards = sorted((packed.payload.root / "shards").glob("*.tar"))
    stream = webdataset.WebDataset([str(path) for path in shards], shardshuffle=False)
    seen = {sample["__key__"]: sample for sample in stream}
    assert set(seen) == set(index)
    for key, sample in seen.items():
        states = np.load(io.BytesIO(sample["states.npy"]))
        assert states.dtype == np.float64
        assert states.shape == (index[key]["frames"], 7)
        about = json.loads(sample["json"])
        assert about["episode"] == index[key]["episode"]
        assert len(about["camera_extrinsics"]) == 6


def test_h264_shards_are_near_lossless(built):
    recorded, _ = built
    [row] = recorded.table("episodes.parquet")[:1]
    config = dataclasses.replace(SHARDS, size=64, codec="h264")
    sample = make_sample(recorded.payload.root, row, config)
    ext, data = episode_shards._encode(sample, "h264")
    decoded = np.stack([frame.rgb for frame in iterate(data)])
    assert ext == "mp4"
    assert psnr(decoded, sample.frames) > 33


def test_a_users_folder_works_like_the_simulators(built, tmp_path):
    recorded, packed = built
    # The same lab elsewhere and under another name, as a user's own robot would be.
    shutil.copytree(recorded.payload.root / "lab-000", tmp_path / "droid" / "AUTOLab")
    config = EpisodesConfig(location=str(tmp_path / "droid"), labs=("AUTOLab",))
    theirs, shards = build(tmp_path, config, partition="lab-AUTOLab")
    assert theirs.record["media"] == str(tmp_path / "droid")
    assert not (theirs.payload.root / "AUTOLab").exists()  # nothing is copied
    ours, mine = (a.table("episodes.parquet") for a in (recorded, theirs))
    assert [row["mp4_sha256"] for row in ours] == [row["mp4_sha256"] for row in mine]
    frames = [
        load_episode(artifact, row)[0]
        for artifact in (packed, shards)
        for row in artifact.table("index.parquet")[:1]
    ]
    assert (frames[0] == frames[1]).all()


def test_a_changed_file_is_a_changed_question(built, tmp_path):
    recorded, _ = built
    shutil.copytree(recorded.payload.root / "lab-000", tmp_path / "droid" / "lab-000")
    shutil.copytree(recorded.payload.root / "lab-000", tmp_path / "droid" / "lab-001")
    config = EpisodesConfig(location=str(tmp_path / "droid"))
    execution = ExecutionConfig(cache=tmp_path / "cache")
    before = [observe(config, lab, execution) for lab in ("lab-000", "lab-001")]
    assert before == [observe(config, lab, execution) for lab in ("lab-000", "lab-001")]
    path = next((tmp_path / "droid" / "lab-000").rglob("*.mp4"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    after = [observe(config, lab, execution) for lab in ("lab-000", "lab-001")]
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_one_lab_does_not_depend_on_the_others():
    both, one = EpisodesConfig(labs=("lab-000", "lab-001")), EpisodesConfig(labs=("lab-000",))
    assert narrow(both, "lab-000") == narrow(one, "lab-000")
    assert narrow(both, "lab-000") != narrow(dataclasses.replace(both, seed=1), "lab-000")
    # What is recorded in the simulator does not matter to a folder.
    folder = EpisodesConfig(location="/data/droid", episodes=3)
    assert narrow(folder, "lab-000") == narrow(dataclasses.replace(folder, episodes=4), "lab-000")


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    """A folder with one episode of 30 rows at 15 Hz whose container claims 60."""
    folder = tmp_path_factory.mktemp("fast")
    arm = Simulator("lab-001", 0, 32, samples=1, hz=15.0)
    for path, data in record(arm, seed=0, number=0, frames=30, container_fps=60.0).items():
        target = folder / "lab-001" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    [episode] = episodes.find_episodes(folder / "lab-001")
    return folder, read_episode(folder, episode)


@pytest.mark.parametrize(("clock", "stride", "fps"), [("control", 4, 3.75), ("nominal", 15, 4.0)])
def test_the_clock_decides_which_frames_are_kept(fast, clock, stride, fps):
    folder, episode = fast
    config = EpisodeShardsConfig(size=32, clock=clock, min_seconds=0.4, min_frames=2)
    sample = make_sample(folder, episode.row, config)
    assert sample.fps == pytest.approx(fps, rel=0.01)
    wanted = positive_roll(episode.trajectory.states[::stride])
    assert (sample.states == wanted).all()
    assert len(sample.frames) == len(wanted)


def test_both_rates_stand_beside_each_other(fast):
    folder, episode = fast
    loose = {"size": 32, "min_seconds": 0.4, "min_frames": 2}
    by_clock = make_sample(folder, episode.row, EpisodeShardsConfig(clock="nominal", **loose))
    assert (by_clock.fps, by_clock.control_fps) == (4.0, pytest.approx(1.0, rel=0.01))
    own = make_sample(folder, episode.row, EpisodeShardsConfig(**loose))
    assert own.fps == own.control_fps == pytest.approx(3.75, rel=0.01)


def test_what_is_shorter_than_a_window_is_said_and_not_stored(fast):
    folder, episode = fast
    enough = EpisodeShardsConfig(size=32, min_seconds=1.9, min_frames=8)
    assert len(make_sample(folder, episode.row, enough).frames) == 8
    short = dataclasses.replace(enough, min_frames=9)
    told = r"2\.0\d s give 8 frames at 3\.7\d* a second; a window needs min_frames = 9"
    with pytest.raises(EpisodeError, match=told):
        make_sample(folder, episode.row, short)


def test_a_recording_is_decoded_once(fast, monkeypatch):
    folder, episode = fast
    opened = []

    class Counting(Decoder):
        def __init__(self, source, **more):
            opened.append(1)
            super().__init__(source, **more)

    monkeypatch.setattr("storage.frames.Decoder", Counting)
    make_sample(folder, episode.row, EpisodeShardsConfig(size=32, min_seconds=1.0, min_frames=2))
    assert len(opened) == 1


def test_recordings_that_nobody_looks_at_change_no_question(built, tmp_path):
    recorded, _ = built
    shutil.copytree(recorded.payload.root / "lab-000", tmp_path / "droid" / "lab-000")
    config = EpisodesConfig(location=str(tmp_path / "droid"))
    execution = ExecutionConfig(cache=tmp_path / "cache")
    before = observe(config, "lab-000", execution)
    used = next((tmp_path / "droid").rglob("recordings/MP4/*.mp4"))
    for name in ("99999999.mp4", f"{used.stem}-stereo.mp4", "notes.json"):
        (used.parent / name).write_bytes(b"the wrist's, or both eyes'")
        assert observe(config, "lab-000", execution) == before
    used.write_bytes(used.read_bytes() + b"?")
    assert observe(config, "lab-000", execution) != before


def test_short_is_short_by_the_chosen_clock(fast):
    folder, episode = fast
    make_sample(folder, episode.row, EpisodeShardsConfig(size=32, min_seconds=1.9, min_frames=8))
    nominal = EpisodeShardsConfig(size=32, min_seconds=1.9, min_frames=2, clock="nominal")
    with pytest.raises(EpisodeError, match=r"0\.50 s by the nominal clock, less than 1\.9 s"):
        make_sample(folder, episode.row, nominal)


def test_recordings_that_do_not_fit_are_refused(fast, tmp_path):
    folder, episode = fast
    arm = Simulator("lab-001", 0, 32, samples=1, hz=15.0)
    shorter = record(arm, seed=0, number=0, frames=27, container_fps=60.0)
    shutil.copytree(folder / "lab-001", tmp_path / "lab-001")
    video = tmp_path / episode.row["mp4"]
    video.write_bytes(next(data for path, data in shorter.items() if path.endswith(".mp4")))
    row = read_episode(tmp_path, tmp_path / episode.row["path"]).row
    loose = EpisodeShardsConfig(size=32, min_seconds=1.0, min_frames=2, frame_gap=3)
    assert make_sample(tmp_path, row, loose).trimmed == 3
    with pytest.raises(EpisodeError, match="recording has 27 frames, trajectory 30 rows"):
        make_sample(tmp_path, row, dataclasses.replace(loose, frame_gap=2))
    video.write_bytes(b"no video at all")
    row = read_episode(tmp_path, tmp_path / episode.row["path"]).row
    with pytest.raises(EpisodeError, match="recording: "):
        make_sample(tmp_path, row, loose)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EpisodesConfig(labs=("a",)), "labs names 'a', which is no lab: choose from lab-0"),
        (
            lambda: EpisodesConfig(labs=("lab-500",)),
            r"EpisodesConfig\.labs names 'lab-500', a lab for evaluation: choose from lab-000 to "
            "lab-399$",
        ),
        (lambda: EpisodesConfig(labs=("lab-007", "lab-007")), "labs names 'lab-007' twice"),
        (lambda: EpisodesConfig(location="/d", labs=("A", "lab-A")), "labs names 'A' twice"),
        (lambda: Shares(wander=0, reach=0, grasp=0, carry=0, place=0), "all shares are 0"),
        (lambda: EpisodesConfig(hz=0.0), r"EpisodesConfig\.hz = 0\.0"),
        (lambda: EpisodesConfig(frame_size=33), "size = .*: must be even and at least"),
        (lambda: EpisodesConfig(episodes=0), "at least 1"),
        (lambda: EpisodesConfig(renderer="x"), "'rays' or 'gl'"),
        (lambda: EpisodeShardsConfig(clock="wall"), "control"),
        (lambda: EpisodeShardsConfig(codec="gif"), "h264"),
        (lambda: EpisodeShardsConfig(size=7), "size = .*: must be even and at least"),
        (lambda: EpisodeShardsConfig(fps=0.0), "fps = 0.0: must be above 0"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_another_arm_is_another_question(tmp_path):
    (tmp_path / "mine").mkdir()
    shutil.copy(FRANKA.model, tmp_path / "mine" / "mine.xml")
    fields = {
        "model": "mine.xml",
        "visual_group": 1,
        **{name: getattr(FRANKA, name) for name in ("tcp", "gripper", "finger", "open_fingers")},
        **{name: getattr(FRANKA, name) for name in ("gripper_range", "finger_range")},
    }
    description = tmp_path / "mine" / "arm.json"
    description.write_text(json.dumps(fields))
    config = dataclasses.replace(RECORDING, arm=str(description), labs=(), faulty=0)
    execution = ExecutionConfig(cache=tmp_path / "cache")
    before = observe(config, "lab-000", execution)
    assert observe(RECORDING, "lab-000", execution) == {}
    # The same arm under another name records the same bytes.
    for arm in (str(description), "franka"):
        same = dataclasses.replace(config, arm=arm)
        work = LocalWork(tmp_path / arm[-4:], tmp_path / f"scratch-{arm[-4:]}")
        episodes.record_batch(episodes.Batch(same, "lab-000", [0], work))
    mine, ours = ({p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.*") if p.is_file()}
                  for name in ("json", "anka"))  # fmt: skip
    assert mine == ours
    assert len(mine) == 3
    model = tmp_path / "mine" / "mine.xml"
    model.write_text(model.read_text().replace('kp="4500"', 'kp="4400"'))
    assert observe(config, "lab-000", execution) != before


def test_what_leads_out_of_a_folder_is_quarantined_unread(ray_cluster, tmp_path):
    """The secret is a good recording: one row says why it was not taken, no digest of it leaks."""
    root, outside = tmp_path / "droid", tmp_path / "outside"
    arm = Simulator("lab-000", 0, 32, samples=1, hz=4.0)
    for number in range(2):
        for path, data in record(arm, seed=2, number=number, frames=4, container_fps=4.0).items():
            target = root / "A" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    outside.mkdir()
    video = min((root / "A").glob("*/*/*/recordings/MP4/*.mp4"))
    video.rename(outside / video.name)
    video.symlink_to(outside / video.name)
    config, execution = (
        EpisodesConfig(location=str(root), labs=("A",)),
        ExecutionConfig(cache=tmp_path / "cache"),
    )
    seen = observe(config, "lab-A", execution)
    (outside / video.name).write_bytes(b"another secret")
    assert observe(config, "lab-A", execution) == seen
    made = materialize(
        ArtifactStore(str(tmp_path / "store")), episodes.STAGE, config, {},
        asset="droid_episodes", partition="lab-A", execution=execution,
    ).artifact  # fmt: skip
    [row] = made.table("quarantine.parquet")
    assert row["reason"] == f"'{video.name}' leads out of the episodes' folder"
    assert len(made.table("episodes.parquet")) == 1
