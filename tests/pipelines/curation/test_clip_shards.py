"""Claims: every readable scene is stored once, its span, small, at the asked rate; the stock reader
reads the shards; the index points at the very bytes; bytes do not depend on workers; what cannot be
decoded is quarantined; a killed stage goes on; the plan of shards is a rule of the scenes alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from pipelines.curation.clip_shards import ClipShardsConfig, planned_shards, run
from pipelines.stage import Inputs
from storage.digests import digest_sample
from storage.frames import frames_at, iterate
from storage.payloads import read_span
from storage.pictures import Clip
from storage.tables import read_table
from storage.video import decode_image, encode, encode_image, probe
from tests.pipelines.builders import workspace
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
    # A shard that would hold nothing but the broken file is not there, and leaves no gap.
    names = sorted(path.name for path in (payload / "shards").iterdir())
    assert names == [f"{n:06d}.tar" for n in range(metrics["shards"])]
    assert set(names) == {row["shard"] for row in index}
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


def test_what_cannot_be_decoded_is_quarantined(made: tuple[Path, dict[str, Any]]) -> None:
    (row,) = read_table(made[0] / "quarantine.parquet")
    assert row["item"].startswith("broken.mp4 (") and row["stage"] == "clip_shards"
    assert row["reason"]


def test_curated_scenes_carry_their_draws(tmp_path: Path) -> None:
    raw = raw_videos(tmp_path / "raw", {"a.mp4": clip_of(3).data})
    drawn = scenes(
        tmp_path / "drawn", raw, [("a.mp4", 1.0, 3.0)], draws=4, weight=0.1, cluster=2
    )  # fmt: skip
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


def test_shards_are_planned_by_number_and_seconds() -> None:
    rows = [
        scene(f"s{n}", video_id=f"v{n // 2}", start_frame=n % 2, start=0.0, end=float(length))
        for n, length in enumerate((5, 5, 20, 1, 1, 1, 1))
    ]

    def plan(samples: int, seconds: float) -> list[list[str]]:
        shards = planned_shards(rows[::-1], samples, seconds)
        return [[row["scene_id"] for row in shard] for shard in shards]

    assert plan(3, 1000) == [["s0", "s1", "s2"], ["s3", "s4", "s5"], ["s6"]]
    assert plan(100, 10) == [["s0", "s1"], ["s2"], ["s3", "s4", "s5", "s6"]]
    assert planned_shards([], 3, 10) == []


@pytest.mark.parametrize(
    "change",
    [{"short_side": 8}, {"fps": 0}, {"crf": 52}, {"shard_samples": 0}, {"jpeg_quality": 1}],
)
def test_settings_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"ClipShardsConfig.{next(iter(change))} = "):
        ClipShardsConfig(**change)
