"""The graph: every asset is made from exactly what it should be made from; a change makes exactly
what depends on it stale, and says why; an upstream that comes out the same wakes nobody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation.ingest import SourceConfig
from pipelines.curation.sources import SOURCES
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.execution import ExecutionConfig
from pipelines.graph import Key, key_name, open_inputs, statuses, upstream_keys
from pipelines.node import Graph, Node, Profile, source_of
from pipelines.nodes import GRAPH, PROFILES, build_graph
from pipelines.settings import SettingError, leaves, plain, spec_of
from pipelines.stage import Inputs, Stage, Workspace, recipe_inputs
from storage.artifacts import ArtifactError, ArtifactStore
from tests.build import build

DEMO = PROFILES["demo"]
NODES = GRAPH.nodes
YT1B = tuple(f"yt1b-{bucket:02d}" for bucket in range(4))
LABS = tuple(f"lab-{number:03d}" for number in range(24))
CUT = ("ssv2", "kinetics", "howto100m", *YT1B, "imagenet", "robot_videos")
ALL = (*CUT, "coin", "epic_kitchens")
STUDIES = ("mask_study", "feature_study", "learning_curve", "robot_study")
CONTROL_ASSETS = (
    "control_encoder", "control_cooled_encoder", "control_frame_features", "control_world_model",
    "control_planning",
)  # fmt: skip
CONTROLS = tuple(
    f"{arm}-{seed}" for seed in range(3) for arm in ("pretrained", "random", "stills", "raw")
)


# ------------------------------------------------------------------ what is made from what


@pytest.mark.parametrize("name", ["kinetics-400", "Mine", "", "a.b", "4k"])
def test_a_source_whose_name_parts_its_partitions_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"Source\.name is .*: give small letters"):
        replace(SOURCES[0], name=name)


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two sources are called ssv2"):
        build_graph((*SOURCES, SOURCES[0]))


def test_partitions_are_sources_buckets_and_labs() -> None:
    keys = {node.asset: node.keys(DEMO) for node in NODES}
    assert set(keys["raw_videos"]) == set(keys["scenes"]) == set(ALL)
    assert set(keys["scene_embeddings"]) == {*YT1B, "kinetics", "ssv2", "coin", "epic_kitchens"}
    assert keys["curated_scenes"] == YT1B
    assert set(keys["clip_shards"]) == set(CUT)
    assert keys["droid_episodes"] == keys["episode_shards"] == keys["frame_features"] == LABS
    assert keys["probe_report"] == ("ssv2", "kinetics")
    whole = ("clusters", "near_duplicates", "leakage_guard", "curation_report", "duplicates",
             "videomix22m", "encoder", "cooled_encoder", "world_model", "planning_report",
             "planner_bundle")  # fmt: skip
    assert all(keys[asset] == (None,) for asset in (*whole, *STUDIES))
    assert all(keys[asset] == CONTROLS for asset in CONTROL_ASSETS)
    assert set(keys["benchmark_videos"]) == set(BENCHMARKS)
    assert keys["released_weights"] == (None,)
    of_benchmarks = [node for node in NODES if node.group == "benchmarks"]
    assert len(keys) == 20 + len(STUDIES) + len(CONTROL_ASSETS) + len(of_benchmarks)


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_no_profile_has_more_than_four_thousand_partitions(name: str) -> None:
    for node in NODES:
        keys = node.keys(PROFILES[name])
        assert len(set(keys)) == len(keys) <= 4000


@pytest.mark.parametrize(
    ("partition", "source"),
    [("yt1b-00", "yt1b"), ("yt1b-1023", "yt1b"), ("epic_kitchens", "epic_kitchens"),
     ("ssv2", "ssv2"), ("howto100m-07", "howto100m")],
)  # fmt: skip
def test_the_source_of_a_partition(partition: str, source: str) -> None:
    assert source_of(partition) == source


def test_bucket_names_sort_like_their_numbers() -> None:
    keys = GRAPH["curated_scenes"].keys(PROFILES["paper"])
    assert len(keys) == 1024
    assert keys[7] == "yt1b-0007"
    assert list(keys) == sorted(str(key) for key in keys)


def test_what_only_the_generator_has_is_no_part_of_the_papers() -> None:
    paper = PROFILES["paper"]
    [only] = [source.name for source in SOURCES if source.only_generated]
    assert only == "robot_videos"
    assert DEMO.videomix22m.weights[only] > 0
    lines = leaves(plain(paper), spec_of(type(paper)))
    assert [line.path for line in lines if only in line.path] == []
    assert all(only not in map(str, node.keys(paper)) for node in NODES)
    assert only not in DEMO.curated_scenes.weights


def parts(asset: str, *partitions: str) -> set[Key]:
    return {(asset, partition) for partition in partitions}


EMBEDDED = (*YT1B, "kinetics", "ssv2", "coin", "epic_kitchens")
EXPECTED: dict[Key, set[Key]] = {
    ("raw_videos", "ssv2"): set(),
    ("scenes", "yt1b-01"): {("raw_videos", "yt1b-01")},
    ("scenes", "coin"): {("raw_videos", "coin")},
    ("scene_embeddings", "yt1b-01"): {("raw_videos", "yt1b-01"), ("scenes", "yt1b-01")},
    ("clusters", None): parts("scene_embeddings", *EMBEDDED),
    ("near_duplicates", None): {("clusters", None), *parts("scene_embeddings", *YT1B)},
    ("leakage_guard", None): {
        ("clusters", None), ("near_duplicates", None), *parts("scene_embeddings", *EMBEDDED)
    },
    ("curated_scenes", "yt1b-02"): {
        ("scenes", "yt1b-02"), ("clusters", None), ("near_duplicates", None),
        ("leakage_guard", None),
    },
    ("curation_report", None): {
        *parts("raw_videos", *YT1B), *parts("scenes", *YT1B), *parts("curated_scenes", *YT1B),
        ("clusters", None), ("near_duplicates", None), ("leakage_guard", None),
    },
    ("clip_shards", "yt1b-02"): {("raw_videos", "yt1b-02"), ("curated_scenes", "yt1b-02")},
    ("clip_shards", "ssv2"): {("raw_videos", "ssv2"), ("scenes", "ssv2")},
    ("clip_shards", "imagenet"): {("raw_videos", "imagenet"), ("scenes", "imagenet")},
    ("duplicates", None): parts("raw_videos", *CUT),
    ("videomix22m", None): {("duplicates", None), *parts("clip_shards", *CUT)},
    ("droid_episodes", "lab-000"): set(),
    ("episode_shards", "lab-001"): {("droid_episodes", "lab-001")},
    ("encoder", None): {("videomix22m", None), *parts("clip_shards", *CUT)},
    ("cooled_encoder", None): {
        ("encoder", None), ("videomix22m", None), *parts("clip_shards", *CUT)
    },
    ("frame_features", "lab-001"): {("cooled_encoder", None), ("episode_shards", "lab-001")},
    ("world_model", None): {
        ("cooled_encoder", None), *parts("episode_shards", *LABS), *parts("frame_features", *LABS)
    },
    ("probe_report", "ssv2"): {("cooled_encoder", None), ("clip_shards", "ssv2")},
    ("probe_report", "kinetics"): {("cooled_encoder", None), ("clip_shards", "kinetics")},
    ("planning_report", None): {("cooled_encoder", None), ("world_model", None)},
    ("released_weights", None): {("cooled_encoder", None)},
    ("benchmark_videos", "ssv2"): set(),
    ("kitchen_films", None): set(),
    ("video_qa_report", "mvp"): set(),
    ("anticipation_report", None): {("released_weights", None), ("kitchen_films", None)},
    ("benchmark_features", "ssv2"): {("released_weights", None), ("benchmark_videos", "ssv2")},
    ("benchmark_report", "k400"): {
        ("released_weights", None), ("benchmark_videos", "k400"), ("benchmark_features", "k400"),
    },
    ("planner_bundle", None): {
        ("cooled_encoder", None), ("world_model", None), ("planning_report", None),
        *parts("probe_report", "ssv2", "kinetics"),
    },
    ("mask_study", None): {("videomix22m", None), *parts("clip_shards", *CUT)},
    ("feature_study", None): {("videomix22m", None), *parts("clip_shards", *CUT)},
    ("learning_curve", None): {("encoder", None), *parts("clip_shards", "ssv2", "kinetics")},
    ("control_encoder", "raw-2"): {("videomix22m", None), *parts("clip_shards", *CUT)},
    ("control_cooled_encoder", "stills-1"): {
        ("control_encoder", "stills-1"), ("videomix22m", None), *parts("clip_shards", *CUT)
    },
    ("control_frame_features", "random-0"): {
        ("control_cooled_encoder", "random-0"), *parts("episode_shards", *LABS)
    },
    ("control_world_model", "random-0"): {
        ("control_cooled_encoder", "random-0"), ("control_frame_features", "random-0"),
        *parts("episode_shards", *LABS),
    },
    ("control_planning", "pretrained-0"): {
        ("control_cooled_encoder", "pretrained-0"), ("control_world_model", "pretrained-0")
    },
    ("robot_study", None): parts("control_planning", *CONTROLS),
}  # fmt: skip


@pytest.mark.parametrize("key", EXPECTED, ids=key_name)
def test_every_node_is_made_from_what_it_should_be_made_from(key: Key) -> None:
    above = upstream_keys(GRAPH, GRAPH[key[0]], key[1], DEMO)
    assert len(set(above)) == len(above)
    assert set(above) == EXPECTED[key]


def test_the_table_above_speaks_of_every_node_and_upstreams_come_first() -> None:
    assert {asset for asset, _ in EXPECTED} == set(GRAPH.by_name)
    seen: set[Key] = set()
    for node in NODES:
        keys = [(node.asset, partition) for partition in node.keys(DEMO)]
        for _, partition in keys:
            assert set(upstream_keys(GRAPH, node, partition, DEMO)) <= seen
        seen |= set(keys)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.asset)
def test_every_stage_exists_and_takes_its_section_of_the_profile(node: Node) -> None:
    assert node.stage.version >= 1
    for profile in PROFILES.values():
        assert isinstance(getattr(profile, node.asset), node.stage.config)


def test_two_nodes_of_one_name_or_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="two nodes are called raw_videos"):
        Graph((*NODES, NODES[0]))
    with pytest.raises(ValueError, match="encoder reads videomix22m, which is not declared"):
        Graph((GRAPH["encoder"],))


def test_a_scale_that_is_none_and_two_thresholds_of_one_gate_are_refused() -> None:
    raw, cut = GRAPH["raw_videos"], GRAPH["scenes"]
    with pytest.raises(ValueError, match="raw_videos has a config for 'lapto', which is no scale"):
        Graph((replace(raw, scales={"lapto": raw.config("demo")}),))
    stricter = (replace(cut.gates[0], threshold=0.1),)
    with pytest.raises(ValueError, match="two gates called quarantine_small have other thresholds"):
        Graph((raw, replace(cut, gates=stricter)))


def probing(*sources: str, **changed: Any) -> Profile:
    section = replace(DEMO.probe_report, sources=sources, must_beat_random=(), **changed)
    return replace(DEMO, probe_report=section)


def test_a_probe_of_a_source_without_clips_is_refused_with_the_nearest() -> None:
    odd = probing("kinetic")
    with pytest.raises(SettingError, match=r"sources names 'kinetic', .* did you mean kinetics"):
        upstream_keys(GRAPH, GRAPH["probe_report"], "kinetic", odd)


def test_a_bucketed_source_is_probed_as_one() -> None:
    paper = PROFILES["paper"]
    above = upstream_keys(GRAPH, GRAPH["probe_report"], "ssv2", paper)
    assert set(above) == {("cooled_encoder", None), *parts("clip_shards", *(
        f"ssv2-{bucket:02d}" for bucket in range(4)
    ))}  # fmt: skip


def test_whether_a_source_must_beat_random_and_who_else_is_probed_make_nothing_stale(walk) -> None:
    assert walk.not_fresh(probing("ssv2", "kinetics")) == set()
    assert walk.not_fresh(probing("ssv2")) == {("planner_bundle", None)}


def test_a_lab_is_called_seen_only_where_it_is_recorded() -> None:
    def above(profile: Profile) -> tuple[Key, ...]:
        return upstream_keys(GRAPH, GRAPH["planning_report"], None, profile)

    def planned(profile: Profile, *labs: str) -> Profile:
        return replace(profile, planning_report=replace(profile.planning_report, seen_labs=labs))

    assert above(planned(DEMO, "lab-007")) == above(planned(DEMO)) == above(DEMO)
    with pytest.raises(
        SettingError,
        match=r"planning_report\.seen_labs names 'lab-024', which is not in droid_episodes\.labs: "
        r"recorded are lab-000, .*lab-023; give \(\) for none$",
    ):
        above(planned(DEMO, "lab-000", "lab-024"))
    paper = PROFILES["paper"]
    assert paper.planning_report.seen_labs == ()  # a real robot's labs are not the simulator's
    with pytest.raises(SettingError, match="no lab of the simulator is recorded"):
        above(planned(paper, "lab-000"))


# ------------------------------------------------------------------ what is stale


class Walk:
    """The real graph, recipes and store, with stages that make a few bytes."""

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store
        self.ran: list[Key] = []
        self.says: dict[str, Callable[[Any], str]] = {}
        """Asset -> what its artifact depends on; by default all of its config."""
        self.graph = Graph(tuple(replace(node, stage=self.stage(node)) for node in NODES))

    def stage(self, node: Node) -> Stage:
        def run(config: Any, inputs: Inputs, out: Workspace) -> dict[str, Any]:
            self.ran.append((node.asset, out.partition))
            said = self.says.get(node.asset, lambda c: json.dumps(asdict(c), default=str))(config)
            eaten = {name: artifact.content for name, artifact in inputs.items()}
            text = json.dumps({"by": node.asset, "part": out.partition, "said": said, "of": eaten})
            (out.payload / "answer.json").write_text(text)
            return {}

        return replace(node.stage, run=run, observe=None)

    def make(self, asset: str, partition: str | None, profile: Profile) -> None:
        build(self.graph, asset, partition, profile, self.store)

    def up(self, profile: Profile) -> list[Key]:
        """Materialize everything that is not fresh, upstream first; returns what was computed."""
        self.ran.clear()
        for node in self.graph.nodes:
            for partition in node.keys(profile):
                self.make(node.asset, partition, profile)
        return list(self.ran)

    def states(self, profile: Profile) -> dict[Key, tuple[str, str]]:
        states = statuses(self.graph, profile, self.store)
        return {(s.asset, s.partition): (s.state, s.reason) for s in states}

    def not_fresh(self, profile: Profile) -> set[Key]:
        return {key for key, (state, _) in self.states(profile).items() if state != "fresh"}


@pytest.fixture
def empty(tmp_path: Path) -> Walk:
    """A walk over an empty store."""
    return Walk(ArtifactStore(str(tmp_path / "store")))


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which all of DEMO was made once, by the fakes; each test takes a copy."""
    folder = tmp_path_factory.mktemp("walked") / "store"
    Walk(ArtifactStore(str(folder))).up(DEMO)
    return folder


@pytest.fixture
def walk(walked: Path, tmp_path: Path) -> Walk:
    """A walk over a store in which everything is fresh."""
    shutil.copytree(walked, tmp_path / "store")
    return Walk(ArtifactStore(str(tmp_path / "store")))


def below(*roots: Key) -> set[Key]:
    """Some keys and everything that is made from them, by the declared graph alone."""
    found = set(roots)
    for node in NODES:
        for partition in node.keys(DEMO):
            if found & set(upstream_keys(GRAPH, node, partition, DEMO)):
                found.add((node.asset, partition))
    return found


def test_everything_is_missing_then_fresh_then_found_again(empty: Walk) -> None:
    before = empty.states(DEMO)
    assert {state for (asset, _), state in before.items() if not GRAPH[asset].on_request} == {
        ("missing", "never materialized")
    }
    asked = {state for (asset, _), state in before.items() if GRAPH[asset].on_request}
    assert asked == {("missing", "never materialized; made only when it is named")}
    made = empty.up(DEMO)
    assert set(made) == set(before)
    assert set(empty.states(DEMO).values()) == {("fresh", "")}
    assert empty.up(DEMO) == [], "a second walk computes nothing"


def reweighted(profile: Profile) -> Profile:
    weights = {**profile.curated_scenes.weights, "ssv2": 0.2}
    return replace(profile, curated_scenes=replace(profile.curated_scenes, weights=weights))


def test_one_retrieval_weight_makes_exactly_what_depends_on_it_stale(walk: Walk) -> None:
    changed = reweighted(DEMO)
    expected = below(*parts("curated_scenes", *YT1B))
    assert expected == {
        *parts("curated_scenes", *YT1B), *parts("clip_shards", *YT1B),
        *parts("probe_report", "ssv2", "kinetics"), *parts("frame_features", *LABS),
        *((asset, None) for asset in ("curation_report", "videomix22m", "encoder", "cooled_encoder",
                                      "world_model", "planning_report", "planner_bundle",
                                      *STUDIES)),
        *(key for asset in CONTROL_ASSETS for key in parts(asset, *CONTROLS)),
        *parts("benchmark_features", *BENCHMARKS), *parts("benchmark_report", *BENCHMARKS),
        ("released_weights", None), ("anticipation_report", None),
    }  # fmt: skip
    states = walk.states(changed)
    assert walk.not_fresh(changed) == expected
    assert states["curated_scenes", "yt1b-00"] == (
        "stale",
        "config.weights.ssv2: 0.125 -> 0.2",
    )
    reason = "upstream curated_scenes/yt1b-00 is stale"
    assert states["clip_shards", "yt1b-00"] == ("stale", reason)
    assert states["videomix22m", None] == (
        "stale",
        "upstream clip_shards/yt1b-00 is stale and 3 more",
    )
    assert set(walk.up(changed)) == expected
    assert walk.up(DEMO) == [], "the old weights' answers are still there"


def test_an_upstream_that_comes_out_the_same_wakes_nobody(walk: Walk) -> None:
    drawn = json.dumps(asdict(DEMO.curated_scenes))
    walk.says["curated_scenes"] = lambda _: drawn  # the same scenes, whatever the weights
    changed = reweighted(DEMO)
    assert set(walk.up(changed)) == set(parts("curated_scenes", *YT1B))
    assert walk.not_fresh(changed) == set()


def test_one_source_that_moves_concerns_its_own_partitions(walk: Walk) -> None:
    moved = {**DEMO.raw_videos.sources, "coin": SourceConfig(location="elsewhere")}
    changed = replace(DEMO, raw_videos=replace(DEMO.raw_videos, sources=moved))
    assert walk.not_fresh(changed) == below(("raw_videos", "coin"))
    assert ("raw_videos", "yt1b-00") not in below(("raw_videos", "coin"))
    state, reason = walk.states(changed)["raw_videos", "coin"]
    assert state == "stale"
    assert "elsewhere" in reason


def test_a_new_version_of_a_stage_is_a_reason(walk: Walk) -> None:
    stage = walk.graph["planning_report"].stage
    newer = replace(stage, version=stage.version + 1)
    walk.graph = Graph(
        tuple(
            replace(node, stage=newer) if node.asset == "planning_report" else node
            for node in walk.graph.nodes
        )
    )
    assert walk.not_fresh(DEMO) == {("planning_report", None), ("planner_bundle", None)}
    old, new = newer.version - 1, newer.version
    assert walk.states(DEMO)["planning_report", None] == ("stale", f"version: {old} -> {new}")


def test_an_upstream_rebuilt_by_hand_is_a_reason(walk: Walk) -> None:
    walk.says["scenes"] = lambda _: "cut differently"
    changed = replace(DEMO, scenes=replace(DEMO.scenes, min_seconds=3.0))
    walk.make("scenes", "coin", changed)
    state, reason = walk.states(changed)["scene_embeddings", "coin"]
    assert state == "stale"
    assert reason.startswith("inputs.scenes/coin: ")


def test_many_differences_are_counted_not_listed(walk: Walk) -> None:
    weights = {**DEMO.curated_scenes.weights, "kinetics": 0.5, "ssv2": 0.1}
    section = replace(DEMO.curated_scenes, budget=7, seed=9, weights=weights)
    changed = replace(DEMO, curated_scenes=section)
    _, reason = walk.states(changed)["curated_scenes", "yt1b-03"]
    assert reason == (
        f"config.budget: {DEMO.curated_scenes.budget} -> 7; config.seed: 0 -> 9; "
        "config.weights.kinetics: 0.7 -> 0.5 (and 1 more)"
    )


def executed(**changed: Any) -> Profile:
    return replace(DEMO, execution=replace(DEMO.execution, **changed))


def test_how_it_is_run_makes_nothing_stale(walk: Walk) -> None:
    assert walk.not_fresh(executed(workers=16, loader_threads=8, loader_depth=4)) == set()
    assert walk.not_fresh(executed(activation_checkpointing="full")) == set()


def test_another_type_of_device_is_another_recipe_where_it_gives_other_bits(walk: Walk) -> None:
    devices = {node.asset for node in walk.graph.nodes if node.stage.on_device}
    assert devices == {
        "scene_embeddings", "clusters", "near_duplicates", "leakage_guard", "encoder",
        "cooled_encoder", "frame_features", "world_model", "probe_report", "planning_report",
        *CONTROL_ASSETS,
        "benchmark_features", "benchmark_report", "anticipation_report",
    }  # fmt: skip
    on_gpu = walk.states(executed(device="cuda"))
    assert on_gpu["scene_embeddings", "coin"] == ("stale", "device: cpu -> cuda")
    assert on_gpu["episode_shards", "lab-000"][0] == "fresh"
    assert {key for key, (state, _) in on_gpu.items() if state == "stale"} == below(
        *((asset, key) for asset in devices for key in GRAPH[asset].keys(DEMO))
    )


def test_the_recipe_says_the_precision_that_is_computed_in() -> None:
    node = GRAPH["encoder"]
    assert PROFILES["paper"].encoder.precision == "bfloat16"
    for device, precision in (("cpu", "float32"), ("cuda", "bfloat16")):
        how = ExecutionConfig(device=device)
        asked = recipe_inputs(node.stage, PROFILES["paper"].encoder, {}, None, how)
        assert (asked["device"], asked["config"]["precision"]) == (device, precision)
        assert "checkpointing" not in json.dumps(asked)


def test_what_was_never_made_is_asked_for_by_name(empty: Walk) -> None:
    with pytest.raises(ArtifactError) as caught:
        open_inputs(GRAPH, GRAPH["clusters"], None, DEMO, empty.store)
    assert "clusters is made from scene_embeddings/" in str(caught.value)
    assert "run `vjepa2 run clusters`" in str(caught.value)


def test_other_sources_under_one_version_are_noted_on_what_is_fresh(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.stage.source_digest", lambda _: "0" * 64)
    states: Mapping[Key, tuple[str, str]] = walk.states(DEMO)
    assert {state for state, _ in states.values()} == {"fresh"}
    assert "was made by other sources of stage" in states["clusters", None][1]
