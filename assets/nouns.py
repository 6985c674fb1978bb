"""Nouns: how a function with a docstring becomes a Dagster asset over a stage.

An asset of this house is a function of the sealed artifact that draws what a person would rather
look at; its name finds the node of the graph, its docstring is what people read on the page. All
else (upstreams, partitions, launchpad, checks, memory of earlier answers) follows from the node.
"""

# No postponed annotations here: Dagster reads those of an asset's function when it is defined.
import base64
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from assets.deployment import Deployment
from assets.launchpad import parsed, schema
from assets.watching import watched
from pipelines.gates import GATES, refusals
from pipelines.graph import GRAPH, Node, open_inputs, upstream_keys
from pipelines.profiles import Profile
from pipelines.stage import ExecutionConfig, Inputs, Materialized, materialize
from storage.artifacts import Artifact, ArtifactStore, Manifest

Look = Callable[[Artifact, Inputs], Mapping[str, bytes]]
"""Draws an artifact (its inputs beside it): title -> PNG."""

DETERMINISTIC = "deterministic"


@dataclass(frozen=True)
class Noun:
    """One asset before it meets a deployment: its name, its text, its pictures."""

    name: str
    text: str
    look: Look


def noun(look: Look) -> Noun:
    """Turn a documented look into an asset of the same name."""
    if not look.__doc__:
        raise TypeError(f"asset {look.__name__} has no docstring: people read it on its page")
    return Noun(look.__name__, inspect.cleandoc(look.__doc__), look)


def built(thing: Noun, deployment: Deployment) -> dg.AssetsDefinition:
    """The Dagster asset of a noun under a deployment."""
    node, profile = GRAPH[thing.name], deployment.profile
    stage = node.stage

    def compute(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        partition = context.partition_key if context.has_partition_key else None
        return _materialized(context, thing, deployment, partition)

    partitions = static_partitions(node, profile)
    return dg.asset(
        name=node.asset,
        description=thing.text,
        group_name=node.group,
        deps=dependencies(node, profile),
        partitions_def=partitions,
        config_schema=schema(getattr(profile, node.section)),
        required_resource_keys={"machine"},
        code_version=str(stage.version),
        check_specs=_check_specs(node, partitions),
        metadata={"stage": f"{stage.name} (version {stage.version})", "made by": node.stage_at},
    )(compute)


def machine(profile: Profile) -> dg.ResourceDefinition:
    """How stages are run, as the launchpad may change it: a resource that gives an ExecutionConfig.

    It is recorded with every artifact and is no part of its recipe.
    """

    def execution(context: dg.InitResourceContext) -> ExecutionConfig:
        return replace(profile.execution, **context.resource_config)

    changeable = {
        "workers": dg.Field(
            int, default_value=profile.execution.workers, description="Ray workers."
        ),
        "device": dg.Field(str, default_value=profile.execution.device, description="cpu or cuda."),
    }
    return dg.ResourceDefinition(execution, changeable, "How stages are run: workers and device.")


def static_partitions(node: Node, profile: Profile) -> dg.StaticPartitionsDefinition | None:
    """One partition per source, hash bucket or lab; None for an asset that is whole."""
    keys = [key for key in node.keys(profile) if key is not None]
    return dg.StaticPartitionsDefinition(keys) if keys else None


def dependencies(node: Node, profile: Profile) -> list[dg.AssetDep]:
    """The upstreams of a node; where partitions differ, exactly those that a partition reads."""
    deps = []
    for name in node.upstream:
        above, below = GRAPH[name].keys(profile), node.keys(profile)
        mapping = None
        if None not in above and None not in below and above != below:
            reads: dict[str, set[str]] = {}
            for partition in below:
                for asset, key in upstream_keys(node, partition, profile):
                    if asset == name:
                        reads.setdefault(str(key), set()).add(str(partition))
            mapping = dg.StaticPartitionMapping({key: sorted(to) for key, to in reads.items()})
        deps.append(dg.AssetDep(name, partition_mapping=mapping))
    return deps


def _check_specs(
    node: Node, partitions: dg.StaticPartitionsDefinition | None
) -> list[dg.AssetCheckSpec]:
    claims = [(gate.name, gate.claim, True) for gate in GATES.get(node.asset, ())]
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
    context: dg.AssetExecutionContext, thing: Noun, deployment: Deployment, partition: str | None
) -> dg.MaterializeResult[None]:
    node, profile = GRAPH[thing.name], deployment.profile
    config: Any = parsed(node.stage.config, context.op_execution_context.op_config)
    store = deployment.open_store()
    inputs = open_inputs(node, partition, profile, store)
    if refused := refusals(inputs, profile.gates):
        raise dg.Failure("\n".join(refused), allow_retries=False)
    execution: ExecutionConfig = context.resources.machine
    with watched(context, store, node, config, inputs, partition, execution):
        made = materialize(
            store,
            node.stage,
            config,
            inputs,
            asset=node.asset,
            partition=partition,
            execution=execution,
        )
    context.log.info(told(made))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(made.artifact.content),
        metadata={
            # In the page's order: what to look at, what was counted, what it is filed under.
            **{
                f"picture/{title}": dg.MetadataValue.md(markdown(title, picture))
                for title, picture in thing.look(made.artifact, Inputs(inputs)).items()
            },
            **{f"metrics/{name}": value for name, value in numbers(made.artifact.manifest)},
            **described(made, store),
        },
        check_results=list(_verdicts(made.artifact, store, deployment)),
    )


def told(made: Materialized) -> str:
    """One line on an answer, for the run's log."""
    manifest = made.artifact.manifest
    verb = "had been made before" if made.reused else f"made in {manifest.record['seconds']:.1f} s"
    return f"{manifest.name} {verb}: {len(manifest.files)} files, {manifest.size / 1e6:.2f} MB"


def described(made: Materialized, store: ArtifactStore) -> dict[str, Any]:
    """What an answer is filed under, where it is, and what it cost."""
    manifest = made.artifact.manifest
    return {
        "recipe": manifest.recipe,
        "content": manifest.content,
        "manifest": dg.MetadataValue.path(f"{store.place.location}/{manifest.key}"),
        "payload": dg.MetadataValue.path(str(made.artifact.path)),
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
    artifact: Artifact, store: ArtifactStore, deployment: Deployment
) -> Iterator[dg.AssetCheckResult]:
    for gate in GATES.get(artifact.manifest.asset, ()):
        verdict = gate.judge(artifact, deployment.profile.gates)
        yield dg.AssetCheckResult(
            check_name=gate.name,
            passed=verdict.passed,
            description=verdict.summary,
            metadata=dict(verdict.numbers),
        )
    answers = sorted(m.content[:12] for m in store.manifests(f"{artifact.manifest.recipe}/"))
    yield dg.AssetCheckResult(
        check_name=DETERMINISTIC,
        passed=len(answers) == 1,
        description=f"{len(answers)} answer(s) under one recipe: {', '.join(answers)}",
        metadata={"answers": len(answers)},
    )
