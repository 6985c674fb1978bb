"""The whole walk, tiny but real, in processes of its own. Claims:

- one command makes every asset of the graph but the studies, from files to the planner bundle;
- a second one recomputes nothing and says so;
- a second house, built with another number of workers, has the same bytes in every artifact;
- one retrieval weight makes stale exactly the curated scenes and what is made from them;
- a checkpoint file leads back to its source videos, and a video leads to its checkpoints;
- one flipped byte anywhere is named by `verify`, and the asset can be made again.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipelines.nodes import GRAPH
from storage.artifacts import ArtifactStore
from tests.tiny import TINY, vjepa2

USUAL = {node.asset for node in GRAPH.nodes if not node.on_request}


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a tiny house in which everything has been made."""
    home = tmp_path_factory.mktemp("home")
    told = vjepa2("run", home=home)
    assert "planner_bundle" in told
    return home


def contents(home: Path) -> dict[str, str]:
    """Artifact -> content digest of everything that a house shows."""
    store = ArtifactStore(str(home / "store"))
    refs = {key: store.ref(*key) for key in store.refs()}
    return {m.name: m.content for m in refs.values() if m is not None}


def test_everything_is_made(walked: Path) -> None:
    made = contents(walked)
    assert {name.split("/")[0] for name in made} == USUAL
    assert not any((walked / "store" / "work").glob("*/")), "work in progress was left behind"


def test_again_nothing_is_recomputed(walked: Path) -> None:
    before = sorted(p.name for p in (walked / "store" / "manifests").iterdir())
    assert "nothing to recompute" in vjepa2("run", home=walked)
    assert sorted(p.name for p in (walked / "store" / "manifests").iterdir()) == before


def test_two_houses_have_the_same_bytes(walked: Path, tmp_path: Path) -> None:
    vjepa2("run", home=tmp_path, settings=(*TINY, "execution.workers=1"))
    assert contents(tmp_path) == contents(walked)


def test_one_retrieval_weight_makes_stale_what_depends_on_it(walked: Path) -> None:
    told = vjepa2("status", "--set", "curated_scenes.weights.ssv2=0.5", home=walked)
    stale = {m[1] for m in re.finditer(r"^stale\s+(\w+)", told, re.M)}
    untouched = {
        "raw_videos", "scenes", "scene_embeddings", "clusters", "near_duplicates", "leakage_guard",
        "duplicates", "droid_episodes", "episode_shards",
    }  # fmt: skip
    assert stale == USUAL - untouched
    assert "weights.ssv2: 0.125 -> 0.5" in told


def test_a_checkpoint_leads_to_its_videos_and_back(walked: Path) -> None:
    store = ArtifactStore(str(walked / "store"))
    manifest = store.ref("cooled_encoder")
    assert manifest is not None
    artifact = store.open(manifest)
    name = [path for path in artifact.files() if path.endswith("target_encoder.safetensors")][-1]
    checkpoint = artifact.file(name)
    told = vjepa2("lineage", str(checkpoint), home=walked)
    for part in ("cooled_encoder", "videomix22m", "raw_videos", "yt1b", " shard"):
        assert part in told


def test_a_flipped_byte_is_named_and_mended(walked: Path) -> None:
    store = ArtifactStore(str(walked / "store"))
    manifest = store.ref("clusters")
    assert manifest is not None
    victim = store.open(manifest).file("centroids.npy")
    assert "centroids.npy" not in vjepa2("verify", home=walked)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert "centroids.npy" in vjepa2("verify", home=walked, expect=1)
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    vjepa2("verify", home=walked)


def test_reports_hold_numbers_beside_their_baselines(walked: Path) -> None:
    store = ArtifactStore(str(walked / "store"))
    for key in (("probe_report", "ssv2"), ("probe_report", "kinetics"), ("planning_report", None)):
        manifest = store.ref(*key)
        assert manifest is not None
        report = store.open(manifest).json("report.json")
        assert "random" in json.dumps(report)
