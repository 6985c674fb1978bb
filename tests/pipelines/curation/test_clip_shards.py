"""Claims: every readable scene is stored once, its span, small, at the asked rate; the stock reader
reads the shards; the index points at the very bytes; bytes do not depend on workers; what cannot be
decoded is quarantined; a killed stage goes on; a video that is taken out changes its own shard
alone; long scenes are stored in pieces that share their weight, and a window lies inside one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from pipelines.curation.clip_shards import ClipShardsConfig, planned_shards, run
from pipelines.curation.transcoding import piece_frames
from pipelines.stage import Inputs, Workspace
from pipelines.training.clips import ClipConfig, ClipLoader
from pipelines.training.order import ClipSampler
from storage.digests import digest_bytes, digest_sample
from storage.frames import frames_at, iterate
from storage.payloads import read_span
from storage.pictures import Clip
from storage.tables import read_table
from storage.video import decode_image, encode, encode_image, probe
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.curation.builders import content, inputs, moving, raw_videos, scene, scenes

CONFIG = ClipShardsConfig(short_side=48, shard_samples=3)


def clip_of(seed: int) -> Clip:
    return encode(moving(100, seed), 25.0)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Two videos of two scenes, two stills, one file that is no video."""
    root = tmp_path_factory.mktemp("given")
    still = moving(1, 9)[0]
    files = {
        "a.mp4": clip_of(1).data, "b.mp4": clip_of(2).data,
        "photo.png": encode_image(still, "png"), "photo.jpg": encode_image(still, "jpg"),
        "broken.mp4": b"no video",
    }  # fmt: skip
    raw = raw_videos(root / "raw", files, "kinetics")
    spans = [(name, s, s + 2.0) for name in ("a.mp4", "b.mp4") for s in (0.0, 2.0)]
    spans += [("photo.png", 0.0, 0.0), ("photo.jpg", 0.0, 0.0), ("broken.mp4", 0.0, 4.0)]
    return inputs(raw_videos=raw, scenes=scenes(root / "scenes", raw, spans))


@pytest.fixture(scope="module")
def made(given: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = workspace(tmp_path_factory.mktemp("made"), "kinetics", workers=2)
    metrics = run(CONFIG, given, out)
    return out.payload, metrics


def test_every_readable_scene_is_stored_small(
    made: tuple[Path, dict[str, Any]], given: Inputs
) -> None:
    payload, metrics = made
    index = read_table(payload / "index.parquet")
    asked = given["scenes"].table("scenes.parquet")
    readable = {row["scene_id"] for row in asked if row["path"] != "broken.mp4"}
    assert {row["key"] for row in index} == readable and len(index) == 6
    assert metrics["samples"] == 6 and metrics["quarantined"] == 1
    # A shard that would hold nothing but the broken file is not there.
    names = {path.name for path in (payload / "shards").iterdir()}
    assert names == {row["shard"] for row in index} and len(names) == metrics["shards"] > 1
    for row in index:  # a shard begins at the id that it is named by
        assert row["shard"][:6] <= row["video_id"][:6]
    for row in index:
        data = read_span(payload / "shards" / row["shard"], row["offset"], row["size"])
        assert row["digest"] == digest_sample(data)
        assert (row["width"], row["height"], row["weight"]) == (64, 48, 1.0)
        if row["kind"] == "image":
            assert decode_image(data).shape == (48, 64, 3)
            assert (row["frames"], row["fps"], row["seconds"]) == (1, 0.0, 0.0)
            continue
        found = probe(data)
        assert (found.width, found.height, found.frames, found.fps) == (64, 48, 16, 8.0)
        assert (row["frames"], row["fps"], row["seconds"]) == (16, 8.0, 2.0)
    assert sorted(row["ext"] for row in index) == ["jpg", "mp4", "mp4", "mp4", "mp4", "png"]


def test_a_stored_clip_shows_the_span_it_was_cut_from(
    made: tuple[Path, dict[str, Any]], given: Inputs
) -> None:
    payload, _ = made
    by_key = {row["key"]: row for row in read_table(payload / "index.parquet")}
    for asked in given["scenes"].table("scenes.parquet"):
        if asked["path"] not in ("a.mp4", "b.mp4"):
            continue
        row = by_key[asked["scene_id"]]
        data = read_span(payload / "shards" / row["shard"], row["offset"], row["size"])
        stored = np.stack([frame.rgb for frame in iterate(data)]).astype(int)
        original = given["raw_videos"].payload.root / "media" / asked["path"]
        times = [asked["start"] + step / 8 for step in range(16)]
        wanted = frames_at(original.read_bytes(), times, 48).astype(int)
        assert np.abs(stored - wanted).mean() < 4
        # The square moves 6 pixels from one stored frame to the next: any other frame is off.
        assert np.abs(stored[1:] - wanted[:-1]).mean() > 1.5 * np.abs(stored - wanted).mean()


def test_the_stock_package_reads_the_shards(made: tuple[Path, dict[str, Any]]) -> None:
    payload, _ = made
    urls = sorted(str(path) for path in (payload / "shards").glob("*.tar"))
    samples = {s["__key__"]: s for s in webdataset.WebDataset(urls, shardshuffle=False).decode()}
    index = {row["key"]: row for row in read_table(payload / "index.parquet")}
    assert set(samples) == set(index)
    for key, row in index.items():
        assert samples[key]["json"]["video_id"] == row["video_id"]
        assert samples[key]["json"]["scene_id"] == key
    raw = {s["__key__"]: s for s in webdataset.WebDataset(urls, shardshuffle=False)}
    for key, row in index.items():
        data = read_span(payload / "shards" / row["shard"], row["offset"], row["size"])
        assert raw[key][row["ext"]] == data


def test_bytes_do_not_depend_on_workers_or_on_a_kill(
    made: tuple[Path, dict[str, Any]], given: Inputs, tmp_path: Path
) -> None:
    out = workspace(tmp_path, "kinetics", workers=1)
    run(CONFIG, given, out)
    alone = content(out)
    assert alone == content(workspace(made[0].parent, "kinetics", workers=2))
    # Killed after the shards were made and one of them was taken into the payload; another is lost.
    shards = sorted((out.payload / "shards").iterdir())
    for shard in shards[1:]:
        shard.unlink()
    (out.scratch / "shards" / shards[-1].name).unlink()
    (out.payload / "index.parquet").unlink()
    run(CONFIG, given, out)
    assert content(out) == alone


def test_a_video_that_is_taken_out_changes_its_own_shard_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)
    files = {f"{n}.mp4": encode(moving(8, n), 25.0).data for n in range(10)}
    config = ClipShardsConfig(short_side=48, shard_samples=3)

    def built(name: str, kept: list[str]) -> tuple[dict[str, bytes], dict[str, str]]:
        raw = raw_videos(tmp_path / name / "raw", {path: files[path] for path in kept}, "ssv2")
        spans = [(path, 0.0, 0.32) for path in kept]
        out = workspace(tmp_path / name / "out", "ssv2")
        given = inputs(raw_videos=raw, scenes=scenes(tmp_path / name / "scenes", raw, spans))
        run(config, given, out)
        shards = {path.name: path.read_bytes() for path in (out.payload / "shards").iterdir()}
        index = read_table(out.payload / "index.parquet")
        return shards, {row["video_id"]: row["shard"] for row in index}

    whole, held = built("whole", list(files))
    assert len(whole) > 3
    video = max(held, key=lambda v: list(held.values()).count(held[v]))  # it has neighbours
    gone = next(path for path, data in files.items() if digest_bytes(data)[:32] == video)
    less, _ = built("less", [path for path in files if path != gone])
    assert set(less) == set(whole)
    assert {name for name in whole if whole[name] != less[name]} == {held[video]}


def test_what_cannot_be_decoded_is_quarantined(made: tuple[Path, dict[str, Any]]) -> None:
    (row,) = read_table(made[0] / "quarantine.parquet")
    assert row["item"].startswith("broken.mp4 (") and row["stage"] == "clip_shards"
    assert row["reason"]


def test_curated_scenes_carry_their_draws(tmp_path: Path) -> None:
    raw = raw_videos(tmp_path / "raw", {"a.mp4": clip_of(3).data})
    drawn = scenes(tmp_path / "drawn", raw, [("a.mp4", 1.0, 3.0)], draws=4)
    out = workspace(tmp_path / "work", "yt1b-00", workers=2)
    run(CONFIG, Inputs({"raw_videos": raw, "curated_scenes": drawn}), out)
    (row,) = read_table(out.payload / "index.parquet")
    assert row["weight"] == 4.0


def test_nothing_to_store_is_an_empty_index(tmp_path: Path) -> None:
    raw = raw_videos(tmp_path / "raw", {"a.mp4": b"any"})
    nothing = scenes(tmp_path / "scenes", raw, [])
    out = workspace(tmp_path / "work", "yt1b-00", workers=2)
    metrics = run(CONFIG, Inputs({"raw_videos": raw, "scenes": nothing}), out)
    assert metrics["samples"] == 0
    assert read_table(out.payload / "index.parquet") == []


def test_small_originals_are_not_enlarged(given: Inputs, tmp_path: Path) -> None:
    out = workspace(tmp_path, "kinetics", workers=2)
    run(ClipShardsConfig(short_side=320), given, out)
    sizes = {(r["width"], r["height"]) for r in read_table(out.payload / "index.parquet")}
    assert sizes == {(128, 96)}


def test_shards_are_ranges_of_ids_halved_until_they_fit() -> None:
    ids = ["00", "01", "3f", "40", "7f", "80", "c0", "ff"]
    rows = [
        scene(f"s{n}", video_id=f"{name}{0:030d}", start=0.0, end=5.0) for n, name in enumerate(ids)
    ]

    def plan(samples: int, seconds: float) -> dict[str, list[str]]:
        shards = planned_shards(rows[::-1], samples, seconds)
        return {name: [row["video_id"][:2] for row in shard] for name, shard in shards.items()}

    assert plan(8, 40.0) == {"000000": ids}
    assert plan(7, 1e6) == {"000000": ids[:5], "800000": ids[5:]}
    assert plan(4, 1e6) == {"000000": ids[:3], "400000": ids[3:5], "800000": ids[5:]}
    assert plan(8, 15.0) == plan(3, 1e6) == plan(4, 1e6)
    alone = {"000000": ["00"], "010000": ["01"], "200000": ["3f"]}
    assert {name: shard for name, shard in plan(1, 1e6).items() if name < "4"} == alone
    # One video is never divided, whatever its scenes add up to.
    many = [scene(f"s{n}", video_id="ab" * 16, start_frame=n) for n in range(9)]
    assert [len(shard) for shard in planned_shards(many, 2, 1.0).values()] == [9]
    assert planned_shards([], 3, 10) == {}


def test_a_video_less_leaves_all_other_shards_as_planned() -> None:
    rows = [
        scene(f"s{n}", video_id=digest_bytes(str(n).encode())[:32], end=1.0 + n % 7)
        for n in range(3000)
    ]
    before, rejoined = planned_shards(rows, 100, 400.0), 0
    assert len(before) > 20
    for gone in rows[::25]:
        left = [row for row in rows if row is not gone]
        after = planned_shards(left, 100, 400.0)
        [own] = [name for name, shard in before.items() if gone in shard]
        moved = {name for name in before if before[name] != after.get(name)}
        assert own in moved
        if moved != {own}:  # two halves that fit one shard without it
            joined = next(name for name in after if len(after[name]) > len(before.get(name, [])))
            assert {row["scene_id"] for row in after[joined]} == {
                row["scene_id"] for name in moved for row in before[name] if row is not gone
            }
            rejoined += 1
    assert rejoined < 8  # of 120


@pytest.fixture(scope="module")
def in_pieces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Inputs]:
    """A scene of 3.5 s that was drawn twice and a short one, stored in pieces of 1.5 s at most."""
    root = tmp_path_factory.mktemp("pieces")
    raw = raw_videos(root / "raw", {"a.mp4": clip_of(4).data, "b.mp4": clip_of(5).data})
    drawn = scenes(root / "drawn", raw, [("a.mp4", 0.25, 3.75), ("b.mp4", 0.0, 1.0)], draws=2)
    given = Inputs({"raw_videos": raw, "curated_scenes": drawn})
    out = workspace(root / "out", "yt1b-00")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "map", map_in_turn)
        run(ClipShardsConfig(short_side=48, piece_seconds=1.5), given, out)
    return out.payload, given


def test_a_long_scene_is_stored_in_equal_pieces(in_pieces: tuple[Path, Inputs]) -> None:
    payload, given = in_pieces
    index = read_table(payload / "index.parquet")
    [short] = [row for row in index if row["frames"] == 8]
    assert (short["key"], short["piece"], short["weight"]) == (short["scene_id"], 0, 2.0)
    long = sorted((row for row in index if row is not short), key=lambda row: row["piece"])
    assert [row["frames"] for row in long] == [9, 9, 10]
    assert [row["key"] for row in long] == [f"{long[0]['scene_id']}-{n:03d}" for n in range(3)]
    assert sum(row["weight"] for row in long) == pytest.approx(2.0)
    assert [row["weight"] for row in long] == pytest.approx([18 / 28, 18 / 28, 20 / 28])
    # Together they are the scene, frame by frame.
    samples = [
        read_span(payload / "shards" / row["shard"], row["offset"], row["size"]) for row in long
    ]
    original = given["raw_videos"].payload.root / "media" / "a.mp4"
    wanted = frames_at(original.read_bytes(), [0.25 + step / 8 for step in range(28)], 48)
    stored = np.stack([frame.rgb for sample in samples for frame in iterate(sample)])
    assert np.abs(stored.astype(int) - wanted).mean() < 4
    # And each says which part of the original it is.
    urls = sorted(str(path) for path in (payload / "shards").glob("*.tar"))
    read = {s["__key__"]: s for s in webdataset.WebDataset(urls, shardshuffle=False).decode()}
    spans = [(read[row["key"]]["json"]["start"], read[row["key"]]["json"]["end"]) for row in long]
    assert spans == [(0.25, 1.375), (1.375, 2.5), (2.5, 3.75)]


def test_a_window_lies_inside_one_piece(in_pieces: tuple[Path, Inputs]) -> None:
    payload, _ = in_pieces
    index = read_table(payload / "index.parquet")
    columns = {name: np.array([row[name] for row in index]) for name in index[0]}
    columns["partition"] = np.full(len(index), "p")
    sampler = ClipSampler(columns, {"yt1b": 1.0}, seed=1)
    reader = ClipLoader(
        columns, {"p": artifact(payload, "clip_shards/p")}, sampler, ClipConfig(frames=4, crop=32)
    )
    drawn = [index[sampler.draw(0, slot).row] for slot in range(400)]
    # Either scene is drawn as often as the other: pieces share the weight of theirs.
    assert np.mean([row["frames"] == 8 for row in drawn]) == pytest.approx(0.5, abs=0.08)
    for slot in range(20):
        assert reader.clip(0, slot).shape == (3, 4, 32, 32)
    assert reader.replacements == []


def test_pieces_are_few_and_equal() -> None:
    assert piece_frames(480, 480.0) == [480]
    assert piece_frames(481, 480.0) == [240, 241]
    assert piece_frames(3120, 480.0) == [445, 446, 446, 445, 446, 446, 446]
    assert piece_frames(1, 0.5) == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"short_side": 8},
        {"fps": 0},
        {"crf": 52},
        {"shard_samples": 0},
        {"jpeg_quality": 1},
        {"piece_seconds": 0},
    ],
)
def test_settings_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"ClipShardsConfig.{next(iter(change))} = "):
        ClipShardsConfig(**change)
