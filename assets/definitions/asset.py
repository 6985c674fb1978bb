"""Assets: how a node of the graph becomes a Dagster asset.

Name, text, upstreams, partitions, launchpad and checks follow from the node's declaration; the
pictures beside its numbers from its preview. The body materializes one partition through its stage.
"""

# No postponed annotations here: Dagster reads those of an asset's function when it is defined.
import base64
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import dagster as dg

from assets.definitions.launchpad import parsed, schema
from assets.definitions.watching import watched
from assets.deployment import Deployment
from pipelines.execution import ExecutionConfig
from pipelines.gates import Others, refusals
from pipelines.graph import open_inputs, others_of_source, upstream_keys
from pipelines.node import Graph, Node, Profile
from pipelines.stage import Inputs, Materialized, differences, materialize
from storage.artifacts import Artifact, ArtifactError, ArtifactStore, Manifest
from storage.errors import UserError
from storage.media import listings_kept

DETERMINISTIC = "deterministic"
MOVED = "moved/"
"""How the names begin under which a page says what is another than before."""


class GateError(UserError):
    """Artifacts do not pass their gates, so nothing may be made from them."""

    exit_code = 1

    def __init__(self, refused: Sequence[str]) -> None:
        advice = "change a threshold with --set gates.…, or what it was made from"
        super().__init__(f"{'; '.join(refused)}; {advice}")


def asset_definition(node: Node, deployment: Deployment) -> dg.AssetsDefinition:
    """The Dagster asset of a node under a deployment."""
    profile, stage = deployment.profile, node.stage
    if not node.description:
        raise TypeError(f"asset {node.asset} has no description: people read it on its page")

    def compute(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        partition = context.partition_key if context.has_partition_key else None
        try:
            with listings_kept():
                return _materialized(context, node, deployment, partition)
        except UserError as refused:
            # A line for whoever can cure it, and no retry: it would end the same way.
            raise dg.Failure(str(refused), allow_retries=False) from refused

    partitions = static_partitions(node, profile)
    return dg.asset(
        name=node.asset,
        description=node.description,
        group_name=node.group,
        deps=dependencies(deployment.graph, node, profile),
        partitions_def=partitions,
        config_schema=schema(getattr(profile, node.asset)),
        required_resource_keys={"execution"},
        code_version=str(stage.version),
        check_specs=_check_specs(node, partitions, profile),
        metadata={"stage": f"{stage.name} (version {stage.version})", "code": stage.run.__module__},
    )(compute)


def execution_resource(profile: Profile) -> dg.ResourceDefinition:
    """How stages are run, as the launchpad may change it: a resource that gives an ExecutionConfig.

    It is recorded with every artifact and is no part of its recipe.
    """

    def execution(context: dg.InitResourceContext) -> ExecutionConfig:
        return replace(profile.execution, **context.resource_config)

    # These belong to the deployment; no run chooses them.
    kept, fields = ("cache", "takedowns", "unsigned"), schema(profile.execution)
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


def _check_specs(
    node: Node, partitions: dg.StaticPartitionsDefinition | None, profile: Profile
) -> list[dg.AssetCheckSpec]:
    # A check blocks in all partitions or in none: where a gate only reports, its result warns.
    claims = [
        (gate.name, gate.claim, any(gate.blocks(key, profile) for key in node.keys(profile)))
        for gate in node.gates
    ]
    claims.append((DETERMINISTIC, "one recipe has one content, however often it is made", False))
    with warnings.catch_warnings():
        # Checks per partition are a preview in Dagster 1.13; without them a check of a partitioned
        # asset would show the verdict on whichever partition came last.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                name, asset=node.asset, description=claim, blocking=gates, partitions_def=partitions
            )
            for name, claim, gates in claims
        ]


def _materialized(
    context: dg.AssetExecutionContext, node: Node, deployment: Deployment, partition: str | None
) -> dg.MaterializeResult[None]:
    config: Any = parsed(node.stage.config, context.op_execution_context.op_config)
    store = deployment.open_store()
    # What is read may depend on what the launchpad says.
    profile = replace(deployment.profile, **{node.asset: config})
    inputs = open_inputs(deployment.graph, node, partition, profile, store)
    if refused := not_passed(inputs, deployment, store):
        raise GateError(refused)
    execution: ExecutionConfig = context.resources.execution
    before = store.legible_ref(node.asset, partition)
    with watched(context, store, node, config, inputs, partition, execution):
        made = materialize(
            store, node.stage, config, inputs, asset=node.asset, partition=partition,
            execution=execution,
        )  # fmt: skip
    context.log.info(told(made))
    from assets.previews import PREVIEWS  # matplotlib takes a while, and what is fresh needs none

    preview = PREVIEWS.get(node.asset)
    pictures = preview(made.artifact, Inputs(inputs)) if preview else {}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(made.artifact.content),
        metadata={
            # In the page's order: what to look at, what was counted, what it is filed under.
            **{
                f"picture/{title}": dg.MetadataValue.md(markdown(title, picture))
                for title, picture in pictures.items()
            },
            **{f"metrics/{name}": value for name, value in numbers(made.artifact.manifest)},
            **dict(moved(node, before, made.artifact, store)),
            **described(made, store),
        },
        check_results=list(_verdicts(made.artifact, node, store, deployment)),
    )


def not_passed(
    artifacts: Mapping[str, Artifact],
    deployment: Deployment,
    store: ArtifactStore,
    *,
    blocking: bool = True,
) -> list[str]:
    """One line for each gate that one of some artifacts (name -> artifact) does not pass."""
    return [
        line
        for name, artifact in artifacts.items()
        for line in refusals(
            artifact, name, deployment.graph[artifact.manifest.asset].gates, deployment.profile,
            blocking=blocking, others=_others(artifact, store, deployment),
        )
    ]  # fmt: skip


def _others(artifact: Artifact, store: ArtifactStore, deployment: Deployment) -> Others:
    return partial(others_of_source, deployment.graph, artifact, deployment.profile, store)


def told(made: Materialized) -> str:
    """One line on an artifact, for the run's log."""
    manifest = made.artifact.manifest
    verb = "had been made before" if made.reused else f"made in {manifest.record['seconds']:.1f} s"
    return f"{manifest.name} {verb}: {len(manifest.files)} files, {manifest.size / 1e6:.2f} MB"


def moved(
    node: Node, before: Manifest | None, now: Artifact, store: ArtifactStore
) -> Iterator[tuple[str, Any]]:
    """Why an artifact has other bytes than what was shown before it, and what its node counts;
    the names begin with MOVED.
    """
    if before is None or before.content == now.content:
        return
    old, new = before.recipe_inputs, now.manifest.recipe_inputs
    why = list(differences(old, new))
    more = f" (and {len(why) - 3} more)" if len(why) > 3 else ""
    yield f"{MOVED}why", "; ".join(why[:3]) + more
    if node.moved and old["version"] == new["version"]:
        with suppress(ArtifactError):  # what was shown before may have been cleared away
            told = node.moved(store.open(before), now)
            yield from ((f"{MOVED}{name}", value) for name, value in told.items())


def described(made: Materialized, store: ArtifactStore) -> dict[str, Any]:
    """What an artifact is filed under, where it is, and what it cost."""
    manifest = made.artifact.manifest
    return {
        "recipe": manifest.recipe,
        "content": manifest.content,
        "manifest": dg.MetadataValue.path(f"{store.place.location}/{manifest.key}"),
        "payload": dg.MetadataValue.path(made.artifact.location),
        "size (MB)": round(manifest.size / 1e6, 3),
        "files": len(manifest.files),
        "seconds": float(manifest.record["seconds"]),
        "reused": made.reused,
    }


def numbers(manifest: Manifest) -> Iterator[tuple[str, int | float | str | bool]]:
    """The stage's metrics, flattened: (`sources.ssv2.samples`, 12). Lists stay in the manifest."""

    def walk(value: Any, name: str) -> Iterator[tuple[str, int | float | str | bool]]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from walk(inner, f"{name}.{key}" if name else str(key))
        elif isinstance(value, int | float | str):
            yield name, value

    return walk(manifest.record.get("metrics", {}), "")


def markdown(title: str, picture: bytes) -> str:
    """A PNG inside markdown, which is how Dagster shows a picture beside an asset."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(picture).decode()})"


def _verdicts(
    artifact: Artifact, node: Node, store: ArtifactStore, deployment: Deployment
) -> Iterator[dg.AssetCheckResult]:
    for gate in node.gates:
        others = _others(artifact, store, deployment)
        verdict = gate.verdict(artifact, deployment.profile.gates, others)
        yield dg.AssetCheckResult(
            check_name=gate.name,
            passed=verdict.passed,
            severity=(
                dg.AssetCheckSeverity.ERROR
                if gate.blocks(artifact.manifest.partition, deployment.profile)
                else dg.AssetCheckSeverity.WARN
            ),
            description=verdict.summary,
            metadata=dict(verdict.numbers),
        )
    # Equal bytes are promised for one type of device and CPU capability.
    made: dict[str, set[str]] = {}
    for manifest in store.manifests(f"{artifact.manifest.recipe}/", unread=[]):
        where = f"{manifest.record.get('device')}, {manifest.record.get('cpu_capability')}"
        made.setdefault(where, set()).add(manifest.content[:12])
    listed = "; ".join(f"{', '.join(sorted(made[where]))} on {where}" for where in sorted(made))
    yield dg.AssetCheckResult(
        check_name=DETERMINISTIC,
        passed=all(len(contents) == 1 for contents in made.values()),
        description=f"contents under one recipe: {listed}",
        metadata={"contents": sum(map(len, made.values()))},
    )
