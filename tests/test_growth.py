"""The graph grows by one declaration: a toy asset and a toy source stand in one file of the tests
(`toy_growth`), nothing else names them, and both are there on the command line and on the page.

- the source has its settings, its partitions and its generated files, and the asset its section;
- one command makes the asset from the source, its gate judges it, and the summary tells it; so do
  who-saw and cost;
- a source that is there for an evaluation alone never makes an encoder stale.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import build
from assets.deployment import deployment
from pipelines import nodes
from pipelines.graph import statuses, upstream_keys
from storage.artifacts import ArtifactStore
from tests import toy_growth
from tests.tiny import ROOT, TINY, vjepa2

NAMED = {"VJEPA2_GRAPH": f"{toy_growth.__name__}:GRAPH"}
SOURCE, ASSET = toy_growth.TOY_SOURCE.name, toy_growth.CLIP_LENGTHS.asset


def test_nothing_outside_the_fixture_knows_the_toys() -> None:
    rooms = ("assets", "models", "pipelines", "storage")
    modules = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    assert len(modules) > 80
    for word in (SOURCE, ASSET):
        assert [path for path in modules if word in path.read_text()] == []
    assert ASSET not in nodes.GRAPH.by_name


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house in which all that encoders are trained on was made before anybody added the toys."""
    folder = tmp_path_factory.mktemp("home")
    vjepa2("run", "videomix22m", home=folder)
    return folder


def test_adding_the_source_and_then_changing_it_leaves_all_that_was_made_fresh(home) -> None:
    store = ArtifactStore(str(home / "store"))
    for more in ((), (f"raw_videos.internet.counts.{SOURCE}=2",)):
        deployed = deployment(
            "demo", [*TINY, *more], str(home / "store"), {**NAMED, "VJEPA2_HOME": str(home)}
        )
        states = {
            (s.asset, s.partition): s.state
            for s in statuses(deployed.graph, deployed.profile, store)
        }
        made = {key for key in states if store.ref(*key)}
        assert ("videomix22m", None) in made
        assert {states[key] for key in made} == {"fresh"}
        assert states["raw_videos", SOURCE] == "missing"


def test_one_command_makes_the_toy_asset_from_the_toy_source(home) -> None:
    settings = (*TINY, f"raw_videos.internet.counts.{SOURCE}=4", f"{ASSET}.at_least=0.2")
    told = vjepa2("run", ASSET, home=home, settings=settings, variables=NAMED)
    assert f"Toys\n  {ASSET}/{SOURCE} 4 clips" in told
    store = ArtifactStore(str(home / "store"), read_only=True)
    [video, *_] = store.open(store.ref("raw_videos", SOURCE)).table("videos.parquet", ["path"])
    told = vjepa2("who-saw", video["path"], home=home, settings=settings, variables=NAMED)
    assert f"{ASSET}/{SOURCE}" in told and "1 measured clip" in told
    told = vjepa2("cost", "--videos", "9", home=home, settings=settings, variables=NAMED)
    assert f"\n{ASSET} " in told
    refused = vjepa2(
        "run", ASSET, home=home, settings=(*settings, "gates.enough_clips=5"),
        variables=NAMED, expect=1,
    )  # fmt: skip
    assert "does not pass enough_clips: 4 clips, at least 5" in refused


def test_the_page_has_the_toys(tmp_path) -> None:
    deployed = deployment("demo", environment={**NAMED, "VJEPA2_HOME": str(tmp_path)})
    page = build(deployed).resolve_asset_graph()
    node = page.get(dg.AssetKey(ASSET))
    assert node.group_name == "toys"
    assert SOURCE in page.get(dg.AssetKey("raw_videos")).partitions_def.get_partition_keys()
    checks = {key.name for key in page.asset_check_keys if key.asset_key == dg.AssetKey(ASSET)}
    assert checks == {"enough_clips", "deterministic", "fresh"}


@pytest.mark.parametrize("asset", ["clusters", "videomix22m", "encoder", "cooled_encoder"])
def test_a_source_for_evaluation_alone_is_read_by_no_encoder(asset: str) -> None:
    graph, profile = toy_growth.GRAPH, toy_growth.GRAPH.profiles["demo"]
    with_it = upstream_keys(graph, graph[asset], None, profile)
    without = upstream_keys(nodes.GRAPH, nodes.GRAPH[asset], None, nodes.PROFILES["demo"])
    assert with_it == without
    assert graph.profiles["demo"].videomix22m == nodes.PROFILES["demo"].videomix22m
