"""What Dagster loads.

- every asset of the graph is there, in its group, under its docstring, with its upstreams;
- data assets are partitioned by source (a large one by hash bucket) or by lab, and a partition
  depends on exactly the upstream partitions that it is made from;
- gates are blocking checks of their asset; every asset is checked for determinism;
- every job resolves; nothing phones home.
"""

from __future__ import annotations

import dagster as dg
import pytest
import yaml

from assets.definitions import JOBS, build
from assets.deployment import ROOT, deployment
from assets.runs import POOL
from pipelines.graph import upstream_keys
from pipelines.nodes import GRAPH

GROUPS = {
    "curation": [
        "raw_videos", "scenes", "scene_embeddings", "clusters", "near_duplicates",
        "leakage_guard", "curated_scenes", "curation_report", "clip_shards", "duplicates",
        "videomix22m",
    ],
    "robot": ["droid_episodes", "episode_shards"],
    "training": ["encoder", "cooled_encoder", "frame_features", "world_model"],
    "evaluation": ["probe_report", "planning_report"],
    "planner": ["planner_bundle"],
    "experiments": [
        "mask_study", "feature_study", "learning_curve", "control_encoder",
        "control_cooled_encoder", "control_frame_features", "control_world_model",
        "control_planning", "robot_study",
    ],
    "benchmarks": [
        "released_weights", "benchmark_videos", "benchmark_features", "benchmark_report",
        "kitchen_films", "anticipation_report", "video_qa_report",
    ],
}  # fmt: skip


FILES = {
    f"{name}_files"
    for name in (
        "raw_videos", "droid_episodes", "benchmark_videos", "kitchen_films", "video_qa_report",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    return deployment("demo", store=str(folder / "store"), environment={"VJEPA2_HOME": str(folder)})


@pytest.fixture(scope="module")
def graph(deployed):
    return build(deployed).resolve_asset_graph()


def test_every_asset_stands_in_its_group(graph):
    found: dict[str, list[str]] = {}
    for node in GRAPH.nodes:
        found.setdefault(graph.get(dg.AssetKey(node.asset)).group_name, []).append(node.asset)
    assert found == GROUPS
    shown = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert shown == {*GRAPH.by_name, *FILES}


def test_every_asset_explains_itself_to_whoever_opens_its_page(graph):
    for name in GRAPH.by_name:
        text = graph.get(dg.AssetKey(name)).description
        first, _, rest = text.partition("\n\n")
        assert len(first) < 120 and first.endswith("."), f"{name}: one sentence first"
        assert len(rest) > 100, f"{name}: and then what is in it"
        files = (".parquet", ".json", ".safetensors", "`checkpoints", "load_planner")
        assert any(word in text for word in files), f"{name}: what its payload is"


def test_upstreams_are_those_of_the_graph(graph):
    for name, node in GRAPH.by_name.items():
        parents = {key.to_user_string() for key in graph.get(dg.AssetKey(name)).parent_keys}
        assert parents - FILES == set(node.upstream)


def test_partitions_are_sources_buckets_and_labs(graph, deployed):
    def keys(name: str) -> set[str]:
        partitions = graph.get(dg.AssetKey(name)).partitions_def
        return set(partitions.get_partition_keys()) if partitions else set()

    buckets = {key for key in keys("raw_videos") if key.startswith("yt1b-")}
    assert len(buckets) == deployed.profile.raw_videos.sources["yt1b"].buckets
    trained = {"ssv2", "kinetics", "howto100m", "imagenet", "robot_videos"} | buckets
    assert keys("raw_videos") == keys("scenes") == trained | {"coin", "epic_kitchens"}
    assert keys("scene_embeddings") == buckets | {"kinetics", "ssv2", "coin", "epic_kitchens"}
    assert keys("curated_scenes") == buckets
    assert keys("clip_shards") == trained
    assert keys("droid_episodes") == keys("episode_shards") == keys("frame_features") != set()
    assert keys("probe_report") == {"ssv2", "kinetics"}
    for whole in ("clusters", "duplicates", "videomix22m", "encoder", "cooled_encoder",
                  "world_model", "planning_report"):  # fmt: skip
        assert keys(whole) == set()


def test_a_partition_depends_on_exactly_what_it_is_made_from(graph, deployed):
    """Dagster's own answer (what the page shows) against the graph's (what the stage is given)."""
    for name, node in GRAPH.by_name.items():
        below = graph.get(dg.AssetKey(name))
        for upstream in node.upstream:
            above = graph.get(dg.AssetKey(upstream))
            if below.partitions_def is None or above.partitions_def is None:
                continue
            mapping = below.partition_mappings.get(dg.AssetKey(upstream)) or (
                dg.IdentityPartitionMapping()
            )
            for partition in below.partitions_def.get_partition_keys():
                subset = below.partitions_def.subset_with_partition_keys([partition])
                asked = mapping.get_upstream_mapped_partitions_result_for_partitions(
                    subset, below.partitions_def, above.partitions_def
                ).partitions_subset.get_partition_keys()
                made_from = upstream_keys(GRAPH, node, partition, deployed.profile)
                assert set(asked) == {str(key) for asset, key in made_from if asset == upstream}


def test_gates_are_blocking_checks_and_every_asset_is_checked_for_determinism(graph):
    for name in GRAPH.by_name:
        checks = {key.name: graph.get_check_spec(key) for key in graph.asset_check_keys
                  if key.asset_key == dg.AssetKey(name)}  # fmt: skip
        gates = {gate.name for gate in GRAPH[name].gates}
        assert {check for check, spec in checks.items() if spec.blocking} == gates
        assert set(checks) == gates | {"deterministic", "fresh"}


def test_what_trains_is_gated_before_it_is_used():
    for name in ("raw_videos", "scenes", "scene_embeddings", "clip_shards", "episode_shards"):
        assert "quarantine_small" in {gate.name for gate in GRAPH[name].gates}
    assert {"loss_finite", "features_not_collapsed"} <= {g.name for g in GRAPH["encoder"].gates}
    assert {"ranks_true_action", "needs_true_actions"} <= {
        g.name for g in GRAPH["world_model"].gates
    }
    assert {gate.name for gate in GRAPH["videomix22m"].gates} == {"weights_match"}
    assert {gate.name for gate in GRAPH["probe_report"].gates} == {"pretrained_beats_random"}


def test_code_versions_are_those_of_the_stages(graph):
    for name, node in GRAPH.by_name.items():
        assert graph.get(dg.AssetKey(name)).code_version == str(node.stage.version)


def test_every_job_resolves_over_its_assets(deployed):
    definitions = build(deployed)
    for name, (assets, _) in JOBS.items():
        layer = definitions.resolve_job_def(name).asset_layer
        assert {key.to_user_string() for key in layer.executable_asset_keys} == set(assets)


def test_nothing_phones_home_and_no_form_covers_the_page():
    settings = yaml.safe_load((ROOT / "dagster_home" / "dagster.yaml").read_text())
    assert settings["telemetry"] == {"enabled": False}
    assert settings["nux"] == {"enabled": False}


def test_files_of_users_are_assets_that_are_observed(graph):
    for name in FILES:
        assert graph.get(dg.AssetKey(name)).is_observable
        below = dg.AssetKey(name.removesuffix("_files"))
        assert graph.get(below).parent_keys == {dg.AssetKey(name)}
        assert graph.get(below).partitions_def == graph.get(dg.AssetKey(name)).partitions_def


def test_every_asset_has_an_owner_a_kind_and_a_place_in_a_pool(graph, deployed):
    for name in GRAPH.by_name:
        node = graph.get(dg.AssetKey(name))
        assert node.owners and node.kinds and node.tags["scale"] == "demo"
        assert (node.automation_condition is None) == GRAPH[name].on_request
    for assets in build(deployed).assets:
        if str(assets.key.to_user_string()) not in FILES:
            assert assets.op.pool == POOL


def test_what_makes_or_reads_much_by_itself_is_off_until_it_is_wanted(deployed):
    repository = build(deployed).get_repository_def()
    running = dg.DefaultSensorStatus.RUNNING
    on = {s.name for s in repository.sensor_defs if s.default_status == running}
    assert on == {"freshness"}
    assert {s.name for s in repository.sensor_defs} > {"freshness", "new_files"}
    assert [s.default_status.value for s in repository.schedule_defs] == ["STOPPED"]
