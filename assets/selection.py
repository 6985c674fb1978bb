"""Which artifacts a person means: `asset`, `asset/partition`, or nothing, which means all but those
that are made on request.
"""

from __future__ import annotations

from collections.abc import Sequence

from assets.names import UnknownAssetError, check_known
from pipelines.graph import Key, with_upstream
from pipelines.node import Graph, Profile
from pipelines.schemas import nearest


def chosen(wanted: Sequence[str], graph: Graph, profile: Profile) -> list[Key]:
    """The (asset, partition) keys that some names ask for, with all they are made from, in order.

    Raises UnknownAssetError with the nearest valid name.
    """
    usual = [node.asset for node in graph.nodes if not node.on_request]
    asked = (key for name in wanted or usual for key in named(name, graph, profile))
    keys = with_upstream(graph, asked, profile)
    return [
        (n.asset, p)
        for n in graph.nodes
        for p in graph.keys(n.asset, profile)
        if (n.asset, p) in keys
    ]


def named(name: str, graph: Graph, profile: Profile) -> list[Key]:
    """The keys of `asset` (all its partitions) or `asset/partition`."""
    asset, slash, partition = name.partition("/")
    check_known(asset, graph.by_name)
    partitions = graph.keys(asset, profile)
    if not slash:
        return [(asset, key) for key in partitions]
    if partition not in partitions:
        known = [key for key in partitions if key]
        hint = nearest(partition, known) if known else "; it has no partitions"
        raise UnknownAssetError(f"{name}: no such partition of {asset}{hint}")
    return [(asset, partition)]
