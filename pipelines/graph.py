"""The graph: which asset is made by which stage from which others, and what is fresh.

raw_videos → scenes → scene_embeddings → clusters → curated_scenes → clip_shards → videomix22m
videomix22m → encoder → cooled_encoder → world_model ← episode_shards ← droid_episodes
cooled_encoder → probe_report;  world_model → planning_report;  all → planner_bundle
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.profiles import Profile
from pipelines.stage import (
    ExecutionConfig,
    Materialized,
    Stage,
    differences,
    drift,
    materialize,
    recipe_inputs,
)
from storage.artifacts import Artifact, ArtifactError, ArtifactStore, Manifest

CURATED = "yt1b"
TRAINED = ("ssv2", "kinetics", "howto100m", "yt1b", "imagenet")
TARGETS = ("kinetics", "ssv2", "coin", "epic_kitchens")

Partitions = Callable[[Profile], tuple[str, ...]]
Key = tuple[str, str | None]


def source_of(partition: str) -> str:
    """`yt1b-03` -> `yt1b`."""
    return partition.rsplit("-", 1)[0] if partition[-2:].isdigit() else partition


def source_partitions(profile: Profile, sources: tuple[str, ...]) -> tuple[str, ...]:
    """Partition keys of some sources: the source, or its hash buckets `source-00`, `source-01`…"""
    keys: list[str] = []
    for source in sources:
        buckets = getattr(profile.raw_videos.sources, source).buckets
        width = max(2, len(str(buckets - 1)))
        keys += (
            [source]
            if buckets == 1 and source != CURATED
            else [f"{source}-{bucket:0{width}d}" for bucket in range(buckets)]
        )
    return tuple(keys)


def _of(*sources: str) -> Partitions:
    ordered = tuple(dict.fromkeys(sources))
    return lambda profile: source_partitions(profile, ordered)


def _labs(profile: Profile) -> tuple[str, ...]:
    return tuple(f"lab-{lab}" for lab in profile.episodes.labs)


@dataclass(frozen=True)
class Node:
    """One asset: where it stands, what makes it, what it is made from."""

    asset: str
    group: str
    stage_at: str
    """`module:NAME` of the stage, imported when needed: stages bring heavy libraries."""
    section: str
    """The field of the profile that configures it."""
    upstream: tuple[str, ...] = ()
    partitions: Partitions | None = None
    skips: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Upstream -> sources whose partitions do not read it."""

    @property
    def stage(self) -> Stage:
        """The stage itself."""
        module, _, name = self.stage_at.partition(":")
        stage = getattr(importlib.import_module(module), name)
        assert isinstance(stage, Stage)
        return stage

    def keys(self, profile: Profile) -> tuple[str | None, ...]:
        """Partition keys, or (None,) for an asset without partitions."""
        return self.partitions(profile) if self.partitions else (None,)


_ALL_SOURCES = tuple(dict.fromkeys((*TRAINED, *TARGETS)))

NODES = (
    Node("raw_videos", "curation", "pipelines.curation.ingest:STAGE", "raw_videos",
         partitions=_of(*_ALL_SOURCES)),
    Node("scenes", "curation", "pipelines.curation.scenes:STAGE", "scenes", ("raw_videos",),
         partitions=_of(*_ALL_SOURCES)),
    Node("scene_embeddings", "curation", "pipelines.curation.embeddings:STAGE", "embeddings",
         ("raw_videos", "scenes"), partitions=_of(CURATED, *TARGETS)),
    Node("clusters", "curation", "pipelines.curation.clusters:STAGE", "clusters",
         ("scene_embeddings",)),
    Node("curated_scenes", "curation", "pipelines.curation.retrieval:STAGE", "retrieval",
         ("scenes", "clusters"), partitions=_of(CURATED)),
    Node("clip_shards", "curation", "pipelines.curation.clip_shards:STAGE", "shards",
         ("raw_videos", "scenes", "curated_scenes"), partitions=_of(*TRAINED),
         skips={"scenes": (CURATED,)}),
    Node("videomix22m", "curation", "pipelines.curation.mixture:STAGE", "mixture",
         ("clip_shards",)),
    Node("droid_episodes", "robot", "pipelines.robot.episodes:STAGE", "episodes",
         partitions=_labs),
    Node("episode_shards", "robot", "pipelines.robot.episode_shards:STAGE", "episode_shards",
         ("droid_episodes",), partitions=_labs),
    Node("encoder", "training", "pipelines.training.pretrain:ENCODER", "pretrain",
         ("videomix22m", "clip_shards")),
    Node("cooled_encoder", "training", "pipelines.training.pretrain:COOLED_ENCODER", "cooldown",
         ("encoder", "videomix22m", "clip_shards")),
    Node("world_model", "training", "pipelines.training.posttrain:STAGE", "posttrain",
         ("cooled_encoder", "episode_shards")),
    Node("probe_report", "evaluation", "pipelines.evaluation.probe:STAGE", "probe",
         ("cooled_encoder", "clip_shards")),
    Node("planning_report", "evaluation", "pipelines.evaluation.planning:STAGE", "planning",
         ("cooled_encoder", "world_model")),
    Node("planner_bundle", "planner", "pipelines.planner.bundle:STAGE", "planner",
         ("cooled_encoder", "world_model", "probe_report", "planning_report")),
)  # fmt: skip
GRAPH: Mapping[str, Node] = {node.asset: node for node in NODES}


def upstream_keys(node: Node, partition: str | None, profile: Profile) -> tuple[Key, ...]:
    """What one partition is made from: the same partition upstream where there is one, else all."""
    keys: list[Key] = []
    for name in node.upstream:
        if partition and source_of(partition) in node.skips.get(name, ()):
            continue
        above = GRAPH[name].keys(profile)
        if partition is None or above == (None,):
            keys += [(name, key) for key in above]
        elif partition in above:
            keys.append((name, partition))
    return tuple(keys)


def key_name(key: Key) -> str:
    """`asset` or `asset/partition`."""
    return f"{key[0]}/{key[1]}" if key[1] else key[0]


@dataclass(frozen=True)
class State:
    """Whether one asset (partition) is what today's recipe asks for."""

    asset: str
    partition: str | None
    state: str
    """fresh, stale or missing."""
    reason: str = ""
    """Why it is not fresh; of what is fresh, a warning when today's code is another."""
    manifest: Manifest | None = None


def statuses(profile: Profile, store: ArtifactStore) -> Iterator[State]:
    """The state of every asset (partition), upstream first, each with the reason why."""
    states: dict[Key, State] = {}
    for node in NODES:
        for partition in node.keys(profile):
            above = upstream_keys(node, partition, profile)
            states[node.asset, partition] = _state(node, partition, profile, store, above, states)
            yield states[node.asset, partition]


def _state(
    node: Node,
    partition: str | None,
    profile: Profile,
    store: ArtifactStore,
    above: tuple[Key, ...],
    states: Mapping[Key, State],
) -> State:
    manifest = store.ref(node.asset, partition)
    if manifest is None:
        return State(node.asset, partition, "missing", "never materialized")
    if old := [key for key in above if states[key].state != "fresh"]:
        more = f" and {len(old) - 1} more" if len(old) > 1 else ""
        reason = f"upstream {key_name(old[0])} is {states[old[0]].state}{more}"
        return State(node.asset, partition, "stale", reason, manifest)
    contents = {key_name(key): _content(states[key]) for key in above}
    config = getattr(profile, node.section)
    asked = recipe_inputs(node.stage, config, contents, partition, profile.execution)
    if changed := list(differences(manifest.recipe_inputs, asked)):
        more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
        return State(node.asset, partition, "stale", "; ".join(changed[:3]) + more, manifest)
    return State(node.asset, partition, "fresh", drift(node.stage, manifest), manifest)


def _content(state: State) -> str:
    assert state.manifest is not None
    return state.manifest.content


def open_inputs(
    node: Node, partition: str | None, profile: Profile, store: ArtifactStore
) -> dict[str, Artifact]:
    """The upstream artifacts that the deployment currently shows, payloads on this machine.

    Raises:
        ArtifactError: an upstream was never materialized; the message names it.
    """
    inputs: dict[str, Artifact] = {}
    for key in upstream_keys(node, partition, profile):
        manifest = store.ref(*key)
        if manifest is None:
            name = key_name((node.asset, partition))
            raise ArtifactError(
                f"{name} is made from {key_name(key)}, which was never materialized: "
                f"run `vjepa2 run {node.asset}`, which makes what is missing first"
            )
        inputs[key_name(key)] = store.open(manifest)
    return inputs


def materialize_node(
    node: Node,
    partition: str | None,
    profile: Profile,
    store: ArtifactStore,
    *,
    config: Any = None,
    execution: ExecutionConfig | None = None,
) -> Materialized:
    """Make one asset (partition), or find that its recipe was made before."""
    return materialize(
        store,
        node.stage,
        getattr(profile, node.section) if config is None else config,
        open_inputs(node, partition, profile, store),
        asset=node.asset,
        partition=partition,
        execution=execution or profile.execution,
    )
