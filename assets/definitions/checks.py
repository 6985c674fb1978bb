"""Checks: the gates of an artifact, whether its stage is deterministic, and whether it is fresh.

All of them are Dagster asset checks, one verdict a partition. They are made with the artifact, and
can be run alone. `fresh` says what `vjepa2 status` says: Dagster's own staleness knows neither
settings nor files outside the store, nor partitions beyond the page of one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from assets.deployment import Deployment
from pipelines.gates import Others, refusals
from pipelines.graph import State, others_of_source, statuses
from pipelines.node import Node, Profile
from storage.artifacts import Artifact, ArtifactStore
from storage.errors import UserError

DETERMINISTIC, FRESH = "deterministic", "fresh"


class GateError(UserError):
    """Artifacts do not pass their gates, so nothing may be made from them."""

    exit_code = 1

    def __init__(self, refused: Sequence[str]) -> None:
        advice = "change a threshold with --set gates.…, or what it was made from"
        super().__init__(f"{'; '.join(refused)}; {advice}")


def check_specs(
    node: Node, partitions: dg.StaticPartitionsDefinition | None, profile: Profile
) -> list[dg.AssetCheckSpec]:
    """Every check of an asset, under one name each."""
    # A check blocks in all partitions or in none: where a gate only reports, its result warns.
    claims = [
        (gate.name, gate.claim, any(gate.blocks(key, profile) for key in node.keys(profile)))
        for gate in node.gates
    ]
    claims.append((DETERMINISTIC, "one recipe has one content, however often it is made", False))
    claims.append((FRESH, "it is what today's settings, files and upstreams ask for", False))
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


def verdicts(
    artifact: Artifact,
    node: Node,
    store: ArtifactStore,
    deployment: Deployment,
    *,
    fresh: bool = False,
) -> Iterator[dg.AssetCheckResult]:
    """What the checks say of the artifact that a deployment shows for an asset (partition).

    `fresh`: it is known to be.
    """
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
    key = (node.asset, artifact.manifest.partition)
    if fresh:
        yield freshness(State(*key, "fresh"))
    else:
        *_, state = statuses(deployment.graph, deployment.profile, store, [key])
        yield freshness(state)


def freshness(state: State) -> dg.AssetCheckResult:
    """The verdict of `vjepa2 status`, with its reason."""
    return dg.AssetCheckResult(
        check_name=FRESH,
        passed=state.state == "fresh",
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{state.state}{f': {state.reason}' if state.reason else ''}",
    )


def evaluation(
    instance: dg.DagsterInstance,
    asset: str,
    partition: str | None,
    result: dg.AssetCheckResult,
    *,
    blocking: bool = False,
) -> dg.AssetCheckEvaluation:
    """A verdict as Dagster files it, on the newest materialization of one asset (partition)."""
    key = dg.AssetKey(asset)
    asked = dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition])
    newest = instance.fetch_materializations(asked, limit=1).records
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=str(result.check_name),
        passed=result.passed,
        metadata=result.metadata,
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=newest[0].storage_id,
            run_id=newest[0].run_id,
            timestamp=newest[0].timestamp,
        )
        if newest
        else None,
        severity=result.severity,
        description=result.description,
        blocking=blocking,
        partition=partition,
    )  # fmt: skip
