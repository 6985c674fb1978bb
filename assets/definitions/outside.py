"""What lies outside the store: the folders and prefixes of sources, as assets that are observed.

`raw_videos_files` stands above `raw_videos`: observing it notes the digest of what each partition's
files are now. The sensor `new_files`, which is off until somebody switches it on, makes a source's
partitions anew where files came, went or changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.deployment import Deployment
from pipelines.graph import Key, key_name, statuses
from pipelines.node import Node
from storage.digests import digest_json
from storage.errors import UserError
from storage.media import listings_kept

EVERY = 60  # seconds


def files_of(node: Node) -> str | None:
    """The asset that stands for what a node reads outside the store, if it reads nothing else."""
    return f"{node.asset}_files" if node.stage.observe and not node.reads else None


def observed(deployment: Deployment) -> Iterator[dg.AssetsDefinition]:
    """An observable asset for each node that reads files of users."""
    for node in deployment.graph.nodes:
        if name := files_of(node):
            yield _observable(name, node, deployment)


def _observable(name: str, node: Node, deployment: Deployment) -> Any:
    profile = deployment.profile
    keys = [key for key in deployment.graph.keys(node.asset, profile) if key is not None]

    def digest(partition: str | None) -> dg.DataVersion:
        assert node.stage.observe is not None
        config = getattr(profile, node.asset)
        return dg.DataVersion(digest_json(node.stage.observe(config, partition, profile.execution)))

    def observe() -> Any:
        try:
            with listings_kept():
                if not keys:
                    return digest(None)
                return dg.DataVersionsByPartition({key: digest(key) for key in keys})
        except UserError as refused:
            raise dg.Failure(str(refused), allow_retries=False) from refused

    about = f"The files that {node.asset} is made from, where their owner keeps them."
    return dg.observable_source_asset(
        name=name,
        group_name=node.group,
        description=f"{about}\n\nObserving it notes their digests; nothing is copied.",
        partitions_def=dg.StaticPartitionsDefinition(keys) if keys else None,
        kinds={"folder"},
    )(observe)


def new_files_sensor(deployment: Deployment) -> dg.SensorDefinition:
    """The sensor that makes partitions of sources anew when their files are others than before."""
    roots = [node for node in deployment.graph.nodes if files_of(node)]

    @dg.sensor(
        name="new_files",
        minimum_interval_seconds=EVERY,
        asset_selection=dg.AssetSelection.assets(*(node.asset for node in roots)),
        description="Makes a source's partitions anew where files came, went or changed.",
    )
    def look(_: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        try:
            changed = list(_changed(deployment, roots))
        except UserError as refused:
            yield dg.SkipReason(str(refused))
            return
        for (asset, partition), why in changed:
            yield dg.RunRequest(
                run_key=f"{key_name((asset, partition))} {why}",
                asset_selection=[dg.AssetKey(asset)],
                partition_key=partition,
            )

    return look


def _changed(deployment: Deployment, roots: list[Node]) -> Iterator[tuple[Key, str]]:
    """The keys of what is stale for its files' sake, each with a digest of why."""
    graph, profile = deployment.graph, deployment.profile
    wanted = [(node.asset, key) for node in roots for key in graph.keys(node.asset, profile)]
    for state in statuses(graph, profile, deployment.open_store(read_only=True), wanted):
        if state.state == "stale" and state.reason.startswith("external_inputs"):
            made_from = state.manifest.recipe if state.manifest else ""
            yield (state.asset, state.partition), digest_json([made_from, state.reason])[:16]
