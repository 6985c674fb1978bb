"""Assets: how a node of the graph becomes a Dagster asset.

Name, text, upstreams, partitions, launchpad and checks follow from the node's declaration. What it
does when it is materialized is in `assets.definitions.body`.
"""

# No postponed annotations here: Dagster reads those of an asset's function when it is defined.
from collections.abc import Mapping
from dataclasses import replace

import dagster as dg

from assets.definitions.body import carried_out
from assets.definitions.checks import check_specs
from assets.definitions.launchpad import schema
from assets.definitions.outside import files_of
from assets.deployment import Deployment
from assets.runs import POOL
from pipelines.execution import ExecutionConfig
from pipelines.graph import upstream_keys
from pipelines.node import Graph, Node, Profile

OWNERS = {
    "curation": "data",
    "robot": "data",
    "training": "ml",
    "evaluation": "ml",
    "planner": "ml",
    "experiments": "ml",
    "benchmarks": "ml",
}
"""Group -> the team that answers for its assets; another group answers for itself."""
KINDS = {
    "curation": {"parquet", "video"},
    "robot": {"parquet", "video"},
    "training": {"pytorch", "ray"},
    "evaluation": {"parquet", "pytorch"},
    "planner": {"pytorch"},
    "experiments": {"pytorch"},
    "benchmarks": {"pytorch", "video"},
}
"""Group -> what its artifacts are, as the page's icons have it."""


def asset_definition(node: Node, deployment: Deployment) -> dg.AssetsDefinition:
    """The Dagster asset of a node under a deployment."""
    profile, stage = deployment.profile, node.stage
    if not node.description:
        raise TypeError(f"asset {node.asset} has no description: people read it on its page")

    def compute(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]
        yield from carried_out(context, node, deployment)

    partitions = static_partitions(node, profile)
    spec = dg.AssetSpec(
        node.asset,
        description=node.description,
        group_name=node.group,
        deps=[
            *dependencies(deployment.graph, node, profile),
            *([files] if (files := files_of(node)) else []),
        ],
        partitions_def=partitions,
        code_version=str(stage.version),
        owners=[f"team:{OWNERS.get(node.group, node.group)}"],
        kinds=KINDS.get(node.group, set()),
        tags={"scale": deployment.profile_name, "study": str(node.on_request).lower()},
        # Off until its sensor is switched on (Automation, on the page). Studies never make
        # themselves.
        automation_condition=None if node.on_request else dg.AutomationCondition.eager(),
        metadata={"stage": f"{stage.name} (version {stage.version})", "code": stage.run.__module__},
    )
    return dg.multi_asset(
        name=node.asset,
        specs=[spec],
        check_specs=check_specs(node, partitions, profile),
        can_subset=True,  # the checks can be run alone
        config_schema=schema(getattr(profile, node.asset)),
        required_resource_keys={"execution"},
        pool=POOL,
        # A run starts a process and Ray, whose seconds would be paid for each partition again.
        backfill_policy=dg.BackfillPolicy.single_run() if partitions else None,
    )(compute)


def execution_resource(profile: Profile) -> dg.ResourceDefinition:
    """How stages are run, as the launchpad may change it: a resource that gives an ExecutionConfig.

    It is recorded with every artifact and is no part of its recipe.
    """

    def execution(context: dg.InitResourceContext) -> ExecutionConfig:
        return replace(profile.execution, **context.resource_config)

    # These belong to the deployment; no run chooses them.
    kept, fields = ("cache", "takedowns", "ledger", "unsigned"), schema(profile.execution)
    settable = {name: field for name, field in fields.items() if name not in kept}
    return dg.ResourceDefinition(execution, settable, "How stages are run; never part of a recipe.")


def static_partitions(node: Node, profile: Profile) -> dg.StaticPartitionsDefinition | None:
    """One partition per source, hash bucket or lab; None for an asset that is whole."""
    keys = [key for key in node.keys(profile) if key is not None]
    return dg.StaticPartitionsDefinition(keys) if keys else None


def dependencies(graph: Graph, node: Node, profile: Profile) -> list[dg.AssetDep]:
    """The upstreams of a node, with exactly those partitions that each partition reads."""
    deps = []
    for name in node.upstream:
        above, below = graph.keys(name, profile), graph.keys(node.asset, profile)
        reads: dict[str, set[str]] = {}
        for partition in below:
            for asset, key in upstream_keys(graph, node, partition, profile):
                if asset == name:
                    reads.setdefault(str(key), set()).add(str(partition))
        deps.append(dg.AssetDep(name, partition_mapping=_mapping(above, below, reads)))
    return deps


def _mapping(
    above: tuple[str | None, ...], below: tuple[str | None, ...], reads: Mapping[str, set[str]]
) -> dg.PartitionMapping | None:
    """How partitions below map to those above; None where Dagster's default is what is read."""
    if None in above:
        return None
    if None in below:
        named = [str(key) for key in above if str(key) in reads]
        return None if len(named) == len(above) else dg.SpecificPartitionsPartitionMapping(named)
    if above == below and all(to == {key} for key, to in reads.items()):
        return None
    return dg.StaticPartitionMapping({key: sorted(to) for key, to in reads.items()})
