"""What assets show of real artifacts: every preview draws what its stage really writes.

The stages that write films, rankings and reports need minutes; their previews are shown what they
write by tests/test_whole_graph.py, which walks the whole graph. Here: the cheap ones, what is
empty or broken, and the studies, which are made on request alone, from made-up counts.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from assets.previews import PREVIEWS, curation
from pipelines.assignments import override
from pipelines.evaluation.benchmarks import videos
from pipelines.evaluation.benchmarks.videos import (
    BenchmarkVideosConfig,
    GeneratedConfig,
    PlaceConfig,
)
from pipelines.graph import open_inputs
from pipelines.nodes import GRAPH, PROFILES
from pipelines.stage import Inputs, Workspace
from storage.artifacts import ArtifactStore
from storage.video import encode
from tests.build import build
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.experiments import material

FEW = GeneratedConfig(train=2, validation=2)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """(store, profile) with one video, one photograph's worth of noise and one broken file."""
    folder = tmp_path_factory.mktemp("looks")
    (folder / "videos").mkdir()
    (folder / "empty").mkdir()
    (folder / "empty" / "broken.mp4").write_bytes(b"no video")
    numbers = np.random.default_rng(0)
    frames = numbers.integers(0, 255, (9, 48, 64, 3), dtype=np.uint8)
    (folder / "videos" / "noise.mp4").write_bytes(encode(frames, 3.0).data)
    profile = override(
        PROFILES["demo"],
        [
            f"raw_videos.sources.ssv2.location={folder / 'videos'}",
            f"raw_videos.sources.coin.location={folder / 'empty'}",
            f"execution.cache={folder / 'cache'}",
        ],
    )
    return ArtifactStore(str(folder / "store")), profile


def drawn(house, asset: str, partition: str) -> dict[str, bytes]:
    store, profile = house
    made = build(GRAPH, asset, partition, profile, store)
    inputs = Inputs(open_inputs(GRAPH, GRAPH[asset], partition, profile, store))
    return dict(PREVIEWS[asset](made.artifact, inputs))


def test_files_scenes_and_clips_are_drawn(house):
    for asset in ("raw_videos", "scenes", "clip_shards"):
        pictures = drawn(house, asset, "ssv2")
        assert pictures, asset
        assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())


def test_a_source_of_which_nothing_can_be_read_still_has_a_page(house):
    assert "kinds of files" in drawn(house, "raw_videos", "coin")
    assert drawn(house, "scenes", "coin")["contact sheet"].startswith(b"\x89PNG")


def test_pictures_of_one_artifact_are_the_same_bytes(house):
    first = drawn(house, "scenes", "ssv2")
    assert drawn(house, "scenes", "ssv2") == first


def test_evenly_takes_both_ends_and_never_more_than_there_is():
    assert curation.evenly(list(range(10)), 4) == [0, 3, 6, 9]
    assert curation.evenly([1, 2], 16) == [1, 2]
    assert curation.evenly([], 16) == []


def test_a_scene_that_cannot_be_decoded_is_grey_on_the_sheet(house, monkeypatch):
    """A later stage sets it aside with its reason; a page must not fail over it."""
    monkeypatch.setattr(curation, "read_media", lambda artifact, row: b"broken since")
    frame = curation._scene_frame(None, {"start": 0.0, "end": 1.0})
    assert frame.shape == (curation.SIDE, curation.SIDE, 3)
    assert np.ptp(frame) == 0


def test_reaching_is_drawn_for_unseen_and_seen_labs_apart(tmp_path):
    rate = {"successes": 3, "trials": 4, "rate": 0.75, "low": 0.3, "high": 0.95}
    found = {"reached": rate, "passed": rate}
    told = {"settings": {"success": 0.04}, "policies": {"planner": {"pooled": found}}}

    def names() -> set[str]:
        (tmp_path / "report.json").write_text(json.dumps(told))
        report = artifact(tmp_path, "planning_report")
        return set(PREVIEWS["planning_report"](report, Inputs({})))

    unseen = {"ended within 4 cm, unseen labs", "passed within 4 cm, unseen labs"}
    assert names() == unseen
    told["policies"]["planner"]["seen"] = found
    assert names() == unseen | {name.replace("unseen", "seen") for name in unseen}


def test_studies_have_a_picture_for_each_readout_and_number_of_labels(tmp_path):
    for name in ("mask_study", "feature_study"):
        drawn = PREVIEWS[name](material.study_of(tmp_path, name), Inputs({}))
        assert set(drawn) == {
            f"{readout}, {labels} labels"
            for readout in material.READOUTS
            for labels in material.LABELS
        }
        assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())


@pytest.mark.parametrize(
    ("name", "made", "titles"),
    [
        ("robot_study", material.robots, ["reached", "distances"]),
        ("learning_curve", material.curve, ["curve"]),
    ],
)
def test_studies_of_robots_and_of_steps_have_their_pictures(tmp_path, name, made, titles):
    drawn = PREVIEWS[name](made(tmp_path), Inputs({}))
    assert list(drawn) == titles
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())


def test_a_benchmark_shows_its_items(tmp_path, monkeypatch):
    monkeypatch.setattr(Workspace, "map", map_in_turn)
    out = workspace(tmp_path, "jester")
    asked = BenchmarkVideosConfig(places={"jester": PlaceConfig()}, generated=FEW)
    metrics = videos.run(asked, Inputs({}), out)
    made = artifact(out.payload, "benchmark_videos/jester", {"media": metrics["media"]})
    drawn = PREVIEWS["benchmark_videos"](made, Inputs({}))
    assert drawn["items"].startswith(b"\x89PNG")
