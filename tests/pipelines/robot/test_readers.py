"""Claims: our episodes go out as a LeRobot v3 dataset and come back as they were; the real Bridge
file is read without TensorFlow, record by record, and what was read goes through the stages like
DROID; a damaged or foreign file is told by name; a folder of another layout gets an error that
names the reader."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from pipelines.robot import lerobot
from pipelines.robot.droid import EpisodeError, find_episodes, find_lab_folder, read_episode
from pipelines.robot.episode_shards import EpisodeShardsConfig, load_episode, make_sample
from pipelines.robot.readers import reader_of
from pipelines.robot.readers.__main__ import main, write_episode
from pipelines.robot.readers.lerobot import LeRobot
from pipelines.robot.readers.records import masked_crc, parse_example, records
from pipelines.robot.readers.rlds import RLDS, cameras
from storage.errors import InputError
from storage.video import encode_image
from tests.pipelines.training import material

FEATURES = {
    "featuresDict": {
        "features": {
            "steps": {
                "sequence": {
                    "feature": {
                        "featuresDict": {
                            "features": {
                                "observation": {
                                    "featuresDict": {
                                        "features": {
                                            "image_0": {"image": {}},
                                            "image_1": {"image": {}},
                                            "state": {"tensor": {}},
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}


def field(number: int, data: bytes) -> bytes:
    size, head = len(data), bytes([number << 3 | 2])
    while size >= 0x80:
        head, size = head + bytes([size & 0x7F | 0x80]), size >> 7
    return head + bytes([size]) + data


def example(**features: list[bytes] | np.ndarray) -> bytes:
    entries = b""
    for name, values in features.items():
        if isinstance(values, list):
            value = field(1, b"".join(field(1, item) for item in values))
        else:
            value = field(2, field(1, values.astype("<f4").tobytes()))
        key = name.replace("__", "/").encode()
        entries += field(1, field(1, key) + field(2, value))
    return field(1, entries)


def record(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))


def episode(steps: int = 6, width: int = 7, value: float = 0.5) -> bytes:
    states = np.full((steps, width), value, np.float32)
    states[:, 0] += np.arange(steps) * 0.01
    red = [
        encode_image(np.full((32, 32, 3), (200, 9 * n, 0), np.uint8), "jpg") for n in range(steps)
    ]
    return example(
        steps__observation__image_0=red, steps__observation__image_1=red[::-1],
        steps__observation__state=states.ravel(),
        steps__language_instruction=[b"put the cup away"] * steps,
    )  # fmt: skip


@pytest.fixture
def rlds(tmp_path) -> Path:
    folder = tmp_path / "rlds"
    folder.mkdir()
    (folder / "features.json").write_text(json.dumps(FEATURES))
    (folder / "dataset_info.json").write_text("{}")
    (folder / "mine-train.tfrecord-00000-of-00001").write_bytes(record(episode()) * 2)
    return folder


def test_checksums_are_the_published_ones():
    # CRC-32C of "123456789" is e3069283; TFRecord turns it by 15 bits and adds a constant.
    crc = 0xE3069283
    assert masked_crc(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_an_episode_goes_through_the_stages(rlds, tmp_path, capsys):
    assert main([str(rlds), str(tmp_path / "in"), "--hz", "5"]) == 0
    assert "2 episodes in" in capsys.readouterr().out
    lab = find_lab_folder(tmp_path / "in", "lab-brought-in")
    found = list(find_episodes(lab))
    row = read_episode(tmp_path / "in", found[0]).row
    assert (row["rows"], row["control_hz"], row["task"]) == (6, 5.0, "put the cup away")
    config = EpisodeShardsConfig(size=32, fps=5.0, min_seconds=1.0, min_frames=6)
    sample = make_sample(tmp_path / "in", row, config)
    assert sample.frames.shape == (6, 32, 32, 3) and sample.control_fps == 5.0
    assert sample.frames[..., 0].mean() > 180 > 40 > sample.frames[..., 2].mean()
    np.testing.assert_allclose(np.diff(sample.states[:, 0]), 0.01, atol=1e-6)
    assert (sample.states[:, 6] == 0.5).all()  # open is 0 here, 1 there


def test_the_camera_is_the_one_that_is_asked_for(rlds):
    one, two = (next(RLDS().recordings(rlds, name)) for name in (None, "image_1"))
    assert cameras(rlds) == ["image_0", "image_1"]
    assert (one.frames == two.frames[::-1]).all() and (one.frames[0] != two.frames[0]).any()
    with pytest.raises(InputError, match="no camera 'wrist'; there is image_0, image_1"):
        next(RLDS().recordings(rlds, "wrist"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-3], "record 1 is cut short"),
        (lambda data: data[:5] + b"?" + data[6:], "the length of record 0 is damaged"),
        (lambda data: data[:200] + b"?" + data[201:], "record 0 is damaged: its checksum differs"),
        (lambda data: data + b"tail", "record 2 is cut short"),
        (lambda data: record(b"\xff" * 30), "record 0 is no tf.train.Example"),
        # A length of -11 leads back to where its field begins; 2^40 stands where bytes belong.
        (lambda data: record(b"\x0a\xf5" + b"\xff" * 8 + b"\x01"), "no tf.train.Example: a field"),
        (lambda data: record(b"\x08\x01"), "no tf.train.Example: a number"),
        (lambda data: record(b"\x0a\x09\x0a\x07\x08" + b"\x80" * 5 + b"\x20"), "ple: a number"),
        (lambda data: record(episode(width=14)), "14 numbers a state: 7 are read"),
        (lambda data: record(episode(value=float("nan"))), "a state that is not finite"),
        (lambda data: record(example(steps__observation__state=np.zeros(7))), "has no steps/obs"),
    ],
)
def test_what_is_damaged_is_told_by_name(rlds, damage, said):
    [path] = rlds.glob("*.tfrecord*")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=said) as refused:
        list(RLDS().recordings(rlds, None))
    assert "\n" not in str(refused.value) and path.name in str(refused.value)


def test_other_layouts_are_told_with_their_reader(rlds, tmp_path):
    with pytest.raises(InputError, match=r"an RLDS data set, .* `python -m pipelines.rob"):
        find_lab_folder(rlds, "lab-a")
    (tmp_path / "lerobot" / "meta").mkdir(parents=True)
    (tmp_path / "lerobot" / "meta" / "info.json").write_text("{}")
    with pytest.raises(InputError, match="a LeRobot data set"):
        find_lab_folder(tmp_path / "lerobot", "lab-a")
    with pytest.raises(InputError, match=r"no reader \(rlds, lerobot\) knows this layout"):
        reader_of(tmp_path)


def test_the_real_bridge_file_is_read(real_data, tmp_path):
    folder = real_data / "robot" / "bridge_debug_rlds" / "1.0.0"
    found = list(reader_of(folder).recordings(folder, None))
    assert len(found) == 20
    for one in found:
        assert one.frames.shape[1:] == (64, 64, 3) and len(one.frames) == len(one.states)
        assert one.states[:, 6].min() >= 0.0 and one.states[:, 6].max() <= 1.0
        assert np.linalg.norm(np.diff(one.states[:, :3], axis=0), axis=1).max() < 0.2
    assert sum(bool(one.task) for one in found) > 0
    path = write_episode(found[0], tmp_path / "bridge", 5.0)
    row = read_episode(tmp_path, path).row
    assert row["rows"] == len(found[0].states) and row["task"] == found[0].task
    first = next(records(next(folder.glob("*.tfrecord*"))))
    assert "steps/action" in parse_example(first)
    with pytest.raises(EpisodeError):
        read_episode(tmp_path, tmp_path / "bridge")


@pytest.fixture
def dataset(tmp_path) -> Path:
    shards = material.episodes(tmp_path / "shards", "lab-a", 3)
    assert lerobot.main([str(tmp_path / "shards"), str(tmp_path / "out")]) == 0
    assert shards.table("index.parquet")[0]["task"] == "move"
    return tmp_path / "out"


def test_a_lerobot_dataset_has_the_published_schema(dataset):
    info = json.loads((dataset / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"]) == ("v3.0", 4, 3)
    assert info["total_frames"] == 24 and info["splits"] == {"train": "0:3"}
    data = dataset / info["data_path"].format(chunk_index=0, file_index=0)
    table = pyarrow.parquet.read_table(data)
    assert set(table.column_names) | {lerobot.VIDEO} == set(info["features"])
    assert str(table.schema.field("action").type) == "fixed_size_list<element: float>[7]"
    rows = table.to_pylist()
    assert [row["index"] for row in rows] == list(range(24))
    assert [row["frame_index"] for row in rows] == [*range(8)] * 3
    assert rows[9]["timestamp"] == 0.25 and rows[7]["action"] == [0.0] * 7
    step = np.array(rows[4]["observation.state"]) - rows[3]["observation.state"]
    np.testing.assert_allclose(rows[3]["action"], step, atol=1e-6)
    tasks = pyarrow.parquet.read_table(dataset / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    stats = json.loads((dataset / "meta/stats.json").read_text())
    assert set(stats) == set(info["features"])
    assert np.shape(stats[lerobot.VIDEO]["mean"]) == (3, 1, 1) and stats["action"]["count"] == [24]
    [episodes] = [pyarrow.parquet.read_table(p).to_pylist()
                  for p in (dataset / "meta/episodes").rglob("*.parquet")]  # fmt: skip
    for number, row in enumerate(episodes):
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (8 * number, 8 * number + 8)
        film = info["video_path"].format(
            video_key=lerobot.VIDEO, chunk_index=row[f"videos/{lerobot.VIDEO}/chunk_index"],
            file_index=row[f"videos/{lerobot.VIDEO}/file_index"],
        )  # fmt: skip
        assert (dataset / film).is_file()
        assert row[f"videos/{lerobot.VIDEO}/to_timestamp"] == 2.0
        assert {f"stats/{name}/mean" for name in info["features"]} <= set(row)


def test_what_went_out_comes_back(dataset, tmp_path):
    shards = lerobot.open_payload(tmp_path / "shards")
    found = list(reader_of(dataset).recordings(dataset, None))
    for row, one in zip(shards.table("index.parquet"), found, strict=True):
        frames, states = load_episode(shards, row)
        np.testing.assert_allclose(one.states, states, atol=1e-6)
        assert one.task == "move"
        assert np.abs(one.frames.astype(int) - frames).mean() < 4  # near-lossless film
    with pytest.raises(InputError, match="is not empty: name a new folder"):
        lerobot.write_dataset(shards, dataset)
    with pytest.raises(InputError, match=r"no camera 'wrist'; there is observation\.images"):
        next(LeRobot().recordings(dataset, "wrist"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codebase_version": "v2.1"}, "is of version v2.1; version v3.0 is read"),
        ({"video_path": "../../{video_key}.mp4"}, "names no file of the dataset"),
        ({"data_path": "data/{nobody}.parquet"}, "names no file of the dataset"),
        ({"features": {"observation.state": {"names": ["joint"]}}}, r"is of \['joint'\]: x, y, z"),
    ],
)
def test_foreign_datasets_are_told(dataset, change, said):
    path = dataset / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=said):
        list(LeRobot().recordings(dataset, None))


def test_a_rate_that_is_no_whole_number_is_refused(tmp_path):
    material.episodes(tmp_path / "shards", "lab-a", 2)
    shards = lerobot.open_payload(tmp_path / "shards")
    rows = [row | {"fps": 3.75} for row in shards.table("index.parquet")]
    with pytest.raises(InputError, match=r"at 3\.75 frames a second, LeRobot counts whole ones"):
        lerobot._whole_rate(rows)
    with pytest.raises(InputError, match=r"it has no index\.parquet"):
        lerobot.open_payload(tmp_path)
