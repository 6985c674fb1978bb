"""Claims: what so many videos cost is what earlier runs took, per hour of video behind them; real
files come before the generator's; every rate names its artifacts; lists give lengths."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from assets.cli.cost import cost
from assets.deployment import deployment
from pipelines.cost import Films, films, measured
from pipelines.nodes import GRAPH
from storage.artifacts import ArtifactStore, Manifest
from storage.digests import digest_json
from storage.errors import InputError
from tests import toy_growth


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


def shown(
    store: ArtifactStore, name: str, size: int, seconds: float, *above: Manifest, **record: Any
) -> Manifest:
    """An artifact of so many bytes that took so many seconds of two workers."""
    asset, _, partition = name.partition("/")
    contents = {parent.name: parent.content for parent in above}
    asked = {"stage": asset, "partition": partition or None, "config": {}, "inputs": contents}
    draft = {
        "asset": asset, "partition": partition or None, "recipe_inputs": asked,
        "recipe": digest_json(asked), "parents": {p.name: (p.recipe, p.content) for p in above},
        "record": {"seconds": seconds, "workers": 2, "device": "cpu"} | record,
    }  # fmt: skip
    with store.work(draft["recipe"]) as work:
        (work / "payload").mkdir(parents=True)
        (work / "payload" / "file").write_bytes(name.encode().ljust(size))
        manifest = store.seal(work, draft)
    store.set_ref(asset, partition or None, manifest)
    return manifest


def raw(store: ArtifactStore, name: str, videos: int, seconds: float, media: str) -> Manifest:
    """raw_videos of some videos of some length, which took 90 s."""
    metrics = {"videos": videos, "seconds": videos * seconds, "bytes": 1000 * videos}
    return shown(store, f"raw_videos/{name}", 50, 90.0, media=media, metrics=metrics)


def test_rates_are_seconds_times_workers_over_the_hours_behind_them(store: ArtifactStore) -> None:
    mine = raw(store, "yt1b-00", 3, 600.0, "/my/videos")  # half an hour
    shown(store, "scenes/yt1b-00", 100, 45.0, mine)
    shown(store, "clip_shards/yt1b-00", 700, 10.0, mine, device="cuda")
    generated = raw(store, "coin", 9, 2.0, "payload")
    shown(store, "scenes/coin", 100, 5000.0, generated)
    shown(store, "encoder", 80, 100.0, metrics={"clips": 400})
    rates, mean = measured(GRAPH, store)
    assert mean == 600.0
    assert {r.asset: (r.worker_seconds, r.size, r.device) for r in rates} == {
        "raw_videos": (360.0, 6000.0, "cpu"),
        "scenes": (180.0, 200.0, "cpu"),
        "clip_shards": (40.0, 1400.0, "cuda"),
        "encoder": (200.0, 80.0, "cpu"),
    }
    assert mine.content[:12] in rates[0].source and "making" not in rates[0].source
    assert rates[-1].source.endswith(", 2 a second")


def test_an_asset_is_priced_where_its_declaration_says_what_its_cost_grows_with(
    store: ArtifactStore,
) -> None:
    mine = raw(store, "toy_benchmark", 3, 600.0, "/my/videos")
    other = raw(store, "yt1b-00", 9, 600.0, "/my/videos")
    shards = shown(store, "clip_shards/toy_benchmark", 100, 45.0, mine)
    pool = shown(store, "clusters", 100, 45.0, other)  # whatever else of the pool is behind it
    shown(store, "clip_lengths/toy_benchmark", 100, 45.0, shards, pool)
    assert [rate.asset for rate in measured(GRAPH, store)[0]] == ["raw_videos", "clip_shards"]
    rates = {rate.asset: rate.worker_seconds for rate in measured(toy_growth.GRAPH, store)[0]}
    assert rates == {"raw_videos": 180.0, "clip_shards": 180.0, "clip_lengths": 180.0}


def test_where_all_is_generated_it_is_said(store: ArtifactStore) -> None:
    raw(store, "coin", 9, 2.0, "payload")
    [rate], _ = measured(GRAPH, store)
    assert rate.source.endswith("(with the making of the films)")


def test_nothing_measured_is_told(store: ArtifactStore) -> None:
    with pytest.raises(InputError, match="shows no videos to take rates from: run `vjepa2 run`"):
        measured(GRAPH, store)


def test_videos_are_a_number_or_a_list(tmp_path: Path) -> None:
    assert films("20", 90.0) == Films(20, 1800.0) and films("20", 90.0).hours == 0.5
    listed = tmp_path / "videos.csv"
    listed.write_text("\ufeffa.mp4,100\n\nb, c.mp4,20.5\nd.mp4\ne, f.mp4,\n")
    assert films(str(listed), 7.0) == Films(4, 134.5)
    listed.write_text("2024\n")  # a path that looks like a number
    assert films(str(listed), 7.0) == Films(1, 7.0)
    listed.write_text("\n")
    refused = {str(listed): "has no line", "none.csv": "give a number from 1", "0": "give a"}
    for videos, message in refused.items():
        with pytest.raises(InputError, match=message):
            films(videos, 7.0)


@pytest.mark.parametrize("length", ["nan", "-1", "inf", "1e999", "seconds", "12 s", "0x10"])
def test_a_length_that_is_none_is_refused_by_line_and_value(length: str, tmp_path: Path) -> None:
    listed = tmp_path / "videos.csv"
    listed.write_text(f"a.mp4,100\n\nb.mp4, {length}\n")
    told = f"line 3: '{length}' is no length; give seconds from 0, or nothing after the last comma"
    with pytest.raises(InputError, match=told):
        films(str(listed), 7.0)


def test_the_table_adds_up(store: ArtifactStore, tmp_path: Path) -> None:
    mine = raw(store, "yt1b-00", 3, 600.0, "/my/videos")
    shown(store, "scenes/yt1b-00", 100, 45.0, mine)
    environment = {"VJEPA2_STORE": str(tmp_path / "store"), "VJEPA2_HOME": str(tmp_path)}
    told = io.StringIO()
    cost(deployment("demo", environment=environment), "1440", None, told)
    lines = told.getvalue().splitlines()
    assert lines[0] == (
        "1,440 videos, 240.0 hours (where no length is told 600.0 s, the mean of those here)"
    )
    [total] = [line.split() for line in lines if line.startswith("all")]
    assert total == ["all", "1.500", "0.000", "0.001"]
    assert lines[-2] == "nothing was made on a GPU here: no rate of one is known"
    assert lines[-1] == "18.00 hours with 2 workers (execution.workers)"
