"""Materialize one asset of a graph without Dagster, for tests that need what a stage makes."""

from __future__ import annotations

from typing import Any

from pipelines.graph import open_inputs
from pipelines.node import Graph
from pipelines.stage import Materialized, materialize
from storage.artifacts import ArtifactStore


def build(
    graph: Graph, asset: str, partition: str | None, profile: Any, store: ArtifactStore
) -> Materialized:
    """Make one asset (partition), or find that its recipe was made before."""
    node = graph[asset]
    return materialize(
        store,
        node.stage,
        getattr(profile, asset),
        open_inputs(graph, node, partition, profile, store),
        asset=asset,
        partition=partition,
        execution=profile.execution,
    )
