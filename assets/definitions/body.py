"""What an asset does when it is materialized, or when its checks are run alone.

A run makes one partition, or all those of a backfill one after another; each has its own line in
the records with its own data version, so that one of them is fresh or stale for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import dagster as dg
from dagster._core.execution.plan.execute_step import (
    _build_data_version_tags,
    _get_input_provenance_data,
)

from assets.definitions.checks import GateError, evaluation, not_passed, verdicts
from assets.definitions.described import described, markdown, moved, numbers, told
from assets.definitions.launchpad import parsed
from assets.definitions.tables import tables
from assets.definitions.watching import watched
from assets.deployment import Deployment
from assets.runs import is_walk
from pipelines.execution import ExecutionConfig
from pipelines.graph import key_name, open_inputs
from pipelines.node import Node
from pipelines.siblings import refuse_mixed
from pipelines.stage import Inputs, materialize
from storage.artifacts import Artifact
from storage.errors import UserError
from storage.media import listings_kept

RETRIES, WAIT = 2, 15  # of what may pass by itself; seconds before the first one, then twice that


@dataclass(frozen=True)
class Made:
    """One partition, made or looked at: its artifact, its metadata (none if it is only looked at)
    and what its checks say.
    """

    partition: str | None
    artifact: Artifact
    metadata: Mapping[str, Any]
    verdicts: Sequence[dg.AssetCheckResult]


def carried_out(
    context: dg.AssetExecutionContext, node: Node, deployment: Deployment
) -> Iterator[Any]:
    """Materialize what a run asks for, or check it alone; yields Dagster's events."""
    asked: Sequence[str | None] = context.partition_keys if _partitioned(context) else [None]
    work = _materialized if context.selected_asset_keys else _looked_at
    made: list[Made] = []
    refused: list[UserError] = []
    with listings_kept():
        for partition in asked:
            try:
                made.append(work(context, node, deployment, partition))
            except UserError as error:
                refused.append(error)
                if error.may_pass:
                    break
    if len(asked) == 1 and made:
        yield from _alone(context, node, made[0])
    else:
        yield from _together(context, node, made, whole=not refused)
    if refused:
        _refuse(context, refused)


def _refuse(context: dg.AssetExecutionContext, refused: Sequence[UserError]) -> NoReturn:
    """Fail with a line for whoever can cure it, without a retry: it would end the same way. What
    may pass by itself (a bucket that does not answer, a lost worker) is tried again before.
    """
    said = "; ".join(map(str, refused))
    tries = context.op_execution_context.retry_number
    if refused[-1].may_pass and tries < RETRIES:
        context.log.warning(f"{said}; tried again in {WAIT * 2**tries} s")
        raise dg.RetryRequested(RETRIES, seconds_to_wait=WAIT * 2**tries) from refused[-1]
    raise dg.Failure(said, allow_retries=False) from refused[0]


def _partitioned(context: dg.AssetExecutionContext) -> bool:
    return context.has_partition_key or context.has_partition_key_range


def _alone(context: dg.AssetExecutionContext, node: Node, made: Made) -> Iterator[Any]:
    if context.selected_asset_keys:
        version = dg.DataVersion(made.artifact.content)
        yield dg.MaterializeResult(
            asset_key=node.asset, data_version=version, metadata=made.metadata
        )
    yield from (verdict for verdict in made.verdicts if verdict.check_name in _checks(context))


def _together(
    context: dg.AssetExecutionContext, node: Node, made: Sequence[Made], *, whole: bool
) -> Iterator[Any]:
    """The events of several partitions.

    Dagster files one result of a run under every partition of it, with one data version. It comes
    first, if all were made, and each partition's own after it, where the page looks.
    """
    checks, step = _checks(context), context.get_step_execution_context()
    if context.selected_asset_keys and whole:
        yield dg.MaterializeResult(asset_key=node.asset, metadata={"made together": len(made)})
    provenance = _get_input_provenance_data(dg.AssetKey(node.asset), step)
    version = str(node.stage.version)
    for each in made if context.selected_asset_keys else ():
        content = dg.DataVersion(each.artifact.content)
        tags = _build_data_version_tags(content, version, provenance, True)
        yield dg.AssetMaterialization(
            node.asset, partition=each.partition, metadata=each.metadata, tags=tags
        )
    if whole:
        layer = context.job_def.asset_layer
        for key in context.op_execution_context.selected_asset_check_keys:
            yield dg.Output(None, output_name=str(layer.get_op_output_name(key)))
    blocking = {gate.name for gate in node.gates}
    for each in made:
        for verdict in each.verdicts:
            if verdict.check_name in checks:
                blocks = verdict.check_name in blocking
                yield evaluation(
                    context.instance, node.asset, each.partition, verdict, blocking=blocks
                )


def _checks(context: dg.AssetExecutionContext) -> set[str]:
    return {key.name for key in context.op_execution_context.selected_asset_check_keys}


def _looked_at(
    _: dg.AssetExecutionContext, node: Node, deployment: Deployment, partition: str | None
) -> Made:
    """The checks of what is shown, without making it."""
    store = deployment.open_store(read_only=True)
    manifest = store.ref(node.asset, partition)
    if manifest is None:
        name = key_name((node.asset, partition))
        raise NothingToCheckError(f"{name} was never materialized: there is nothing to check")
    artifact = store.open(manifest)
    return Made(partition, artifact, {}, list(verdicts(artifact, node, store, deployment)))


class NothingToCheckError(UserError):
    """Checks are to be run alone on what was never made."""


def _materialized(
    context: dg.AssetExecutionContext, node: Node, deployment: Deployment, partition: str | None
) -> Made:
    config: Any = parsed(node.stage.config, context.op_execution_context.op_config)
    store = deployment.open_store()
    # What is read may depend on what the launchpad says.
    profile = replace(deployment.profile, **{node.asset: config})
    inputs = open_inputs(deployment.graph, node, partition, profile, store)
    name = key_name((node.asset, partition))
    # A walk makes whatever is not fresh, upstream first: nothing above it is of other settings.
    walk = is_walk(context.run)
    if not walk:
        refuse_mixed(deployment.graph, name, inputs.values(), profile, store)
    if refused := not_passed(inputs, deployment, store):
        raise GateError(refused)
    execution: ExecutionConfig = context.resources.execution
    before = store.legible_ref(node.asset, partition)
    with watched(context, store, node, config, inputs, partition, execution):
        made = materialize(
            store, node.stage, config, inputs, asset=node.asset, partition=partition,
            execution=execution, holder=f"run {context.run_id[:8]}", tell=context.log.info,
        )  # fmt: skip
    context.log.info(told(made))
    from assets.previews import PREVIEWS  # matplotlib takes a while, and what is fresh needs none

    preview = PREVIEWS.get(node.asset)
    pictures = preview(made.artifact, Inputs(inputs)) if preview else {}
    metadata = {
        # In the page's order: what to look at, what was counted, what it is filed under.
        **{
            f"picture/{title}": dg.MetadataValue.md(markdown(title, picture))
            for title, picture in pictures.items()
        },
        **{f"metrics/{name}": value for name, value in numbers(made.artifact.manifest)},
        **dict(moved(node, before, made.artifact, store)),
        **described(made, store),
        **dict(tables(made.artifact, inputs)),
    }
    seen = list(verdicts(made.artifact, node, store, deployment, fresh=walk))
    return Made(partition, made.artifact, metadata, seen)
