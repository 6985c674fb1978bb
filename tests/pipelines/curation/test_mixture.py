"""Claims: the published weights are the defaults and must sum to 1; every weighted source has a
clip; held-out samples are listed and weigh nothing; the order of the parts does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.curation.clip_shards import INDEX
from pipelines.curation.duplicates import DUPLICATES
from pipelines.curation.mixture import (
    COLUMNS,
    MixtureConfig,
    run,
    source_table,
)
from pipelines.curation.sources import generated_weights, mixture_weights
from pipelines.stage import Inputs
from pipelines.training.order import ClipSampler
from storage.tables import MappedIndex, read_table, write_table
from tests.pipelines.builders import artifact, workspace
from tests.pipelines.curation.builders import content


def sample(key: str, source: str, **changes: Any) -> dict[str, Any]:
    row = {
        "key": key, "scene_id": key, "video_id": key, "source": source, "shard": "000000.tar",
        "offset": 512, "size": 10, "digest": 0, "piece": 0, "ext": "mp4", "kind": "video",
        "fps": 8.0, "frames": 36, "seconds": 4.5, "width": 64, "height": 48, "weight": 1.0,
        "label": None, "split": None,
    }  # fmt: skip
    return row | changes


PARTS = {
    "yt1b-01": [sample("y2", "yt1b", weight=3.0), sample("y3", "yt1b", offset=4096)],
    "yt1b-00": [sample("y1", "yt1b")],
    "ssv2": [sample("s1", "ssv2", split="train"), sample("s2", "ssv2", split="validation")],
    "kinetics": [sample("k1", "kinetics")],
    "howto100m": [sample("h1", "howto100m", seconds=3600.0)],
    "imagenet": [sample("i1", "imagenet", kind="image", seconds=0.0)],
}


def given(
    root: Path, parts: dict[str, list[dict[str, Any]]], copies: Sequence[tuple[str, str]] = ()
) -> Inputs:
    """`copies`: (partition, video id) of what is left out."""
    for name, rows in parts.items():
        (root / name).mkdir(parents=True)
        write_table(root / name / "index.parquet", rows, INDEX)
    known = {f"clip_shards/{n}": artifact(root / n, f"clip_shards/{n}") for n in parts}
    rows = [
        {"video_id": video, "partition": part, "path": "a", "kept_partition": "b", "kept_path": "b"}
        for part, video in copies
    ]
    write_table(root / "copies" / "duplicates.parquet", rows, DUPLICATES)
    return Inputs(known | {"duplicates": artifact(root / "copies", "duplicates")})


def weighted(**weights: float) -> MixtureConfig:
    return MixtureConfig(weights=mixture_weights() | weights)


def test_the_papers_weights_are_the_defaults() -> None:
    assert MixtureConfig().weights == {
        "ssv2": 0.056, "kinetics": 0.188, "howto100m": 0.318, "yt1b": 0.188, "imagenet": 0.250,
    }  # fmt: skip


def test_weights_must_sum_to_one() -> None:
    with pytest.raises(ValueError, match=r"imagenet 0.5 = 1.25; they must sum to 1"):
        weighted(imagenet=0.5)
    with pytest.raises(ValueError, match=r"MixtureConfig.weights.ssv2 = -0.1: must be from 0 to 1"):
        weighted(ssv2=-0.1)
    weighted(ssv2=0.0, kinetics=0.0, howto100m=0.0, imagenet=0.0, yt1b=1.0)


def test_the_index_is_sorted_and_mapped_as_it_is_written(tmp_path: Path) -> None:
    out = workspace(tmp_path / "work", workers=2)
    run(MixtureConfig(), given(tmp_path, PARTS | {"yt1b-01": PARTS["yt1b-01"][::-1]}), out)
    rows = read_table(out.payload / "index.parquet")
    assert [row["key"] for row in rows] == ["h1", "i1", "k1", "s1", "s2", "y1", "y2", "y3"]
    assert [row["partition"] for row in rows][-3:] == ["yt1b-00", "yt1b-01", "yt1b-01"]
    mapped = MappedIndex(out.payload / "index.arrow")
    assert set(mapped) == set(COLUMNS)
    for name, column in mapped.items():
        assert [column[row] for row in range(len(column))] == [row[name] for row in rows]
    held = {name: np.array([row[name] for row in rows]) for name in ("source", "weight")}
    orders = []
    for index in (mapped, held):
        sampler = ClipSampler(index, mixture_weights(), seed=3)
        orders.append([rows[sampler.draw(step, 0).row]["key"] for step in range(300)])
    assert orders[0] == orders[1]
    assert set(orders[0]) == {"h1", "i1", "k1", "s1", "y1", "y2", "y3"}


def test_held_out_samples_are_listed_and_weigh_nothing(tmp_path: Path) -> None:
    out = workspace(tmp_path / "work", workers=2)
    metrics = run(MixtureConfig(), given(tmp_path, PARTS), out)
    by_key = {row["key"]: row["weight"] for row in read_table(out.payload / "index.parquet")}
    assert by_key == {
        "h1": 1.0, "i1": 1.0, "k1": 1.0, "s1": 1.0, "s2": 0.0, "y1": 1.0, "y2": 3.0, "y3": 1.0,
    }  # fmt: skip
    assert (metrics["samples"], metrics["held_out"]) == (7, 1)
    record = json.loads((out.payload / "mixture.json").read_text())
    assert record["weights"]["howto100m"] == 0.318
    assert record["samples"]["yt1b"] == {
        "weight": 0.188, "samples": 3, "held_out": 0, "draws": 5.0, "hours": 13.5 / 3600,
    }  # fmt: skip
    assert record["samples"]["howto100m"]["hours"] == 1.0


def test_two_builds_one_digest(tmp_path: Path) -> None:
    answers = []
    for number in range(2):
        out = workspace(tmp_path / f"work{number}", workers=2)
        run(MixtureConfig(), given(tmp_path / f"given{number}", PARTS), out)
        answers.append(content(out))
    assert answers[0] == answers[1]


def columns(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows]) for name in ("source", "weight", "seconds")}


def test_a_weighted_source_without_clips_is_refused() -> None:
    weights = mixture_weights()
    others = [columns(rows) for name, rows in PARTS.items() if name != "ssv2"]
    with pytest.raises(ValueError, match=r"source ssv2 has weight 0.056 but no clip to train on"):
        source_table(others, weights)
    only_held_out = columns([sample("s2", "ssv2", weight=0.0)])
    held = r"ssv2 has weight 0.056 but no clip to train on \(1 are for validation\); add files"
    with pytest.raises(ValueError, match=held):
        source_table([*others, only_held_out], weights)
    with pytest.raises(ValueError, match=r"source 'coin' has clips but no weight"):
        source_table([columns([sample("c", "coin")])], weights)


def test_where_all_is_generated_the_mixture_is_another_one_that_sums_to_one() -> None:
    weights = MixtureConfig(weights=generated_weights()).weights
    assert set(weights) == {*mixture_weights(), "robot_videos"} and weights["imagenet"] == 0.0
    assert min(weights["ssv2"], weights["kinetics"]) > max(weights["howto100m"], weights["yt1b"])


def test_a_source_of_weight_zero_is_listed_and_never_drawn(tmp_path: Path) -> None:
    config = MixtureConfig(weights=generated_weights())
    out = workspace(tmp_path / "work", workers=2)
    parts = PARTS | {"robot_videos": [sample("r1", "robot_videos")]}
    assert run(config, given(tmp_path, parts), out)["sources"]["imagenet"]["samples"] == 1
    rows = read_table(out.payload / "index.parquet")
    index = {name: np.array([row[name] for row in rows]) for name in ("source", "weight", "key")}
    sampler = ClipSampler(index, config.weights, seed=0)
    drawn = {index["key"][sampler.draw(step, 0).row] for step in range(400)}
    assert drawn == {"h1", "k1", "r1", "s1", "y1", "y2", "y3"}, (
        "neither the still nor the held-out clip"
    )


def test_one_source_alone(tmp_path: Path) -> None:
    only = weighted(ssv2=0.0, kinetics=0.0, howto100m=0.0, imagenet=0.0, yt1b=1.0)
    parts = {name: rows for name, rows in PARTS.items() if name.startswith("yt1b")}
    out = workspace(tmp_path / "work", workers=2)
    metrics = run(only, given(tmp_path, parts), out)
    assert metrics["samples"] == 3


def test_a_copy_that_is_left_out_is_not_listed(tmp_path: Path) -> None:
    out = workspace(tmp_path / "work")
    inputs = given(tmp_path, PARTS, [("yt1b-01", "y2"), ("yt1b-00", "y3"), ("ssv2", "s9")])
    metrics = run(MixtureConfig(), inputs, out)
    keys = [row["key"] for row in read_table(out.payload / "index.parquet")]
    assert keys == ["h1", "i1", "k1", "s1", "s2", "y1", "y3"], (
        "y2 alone, and in its partition alone"
    )
    assert metrics["duplicates"] == 1 and metrics["sources"]["yt1b"]["samples"] == 2
