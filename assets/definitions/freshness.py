"""Freshness: the page shows the verdicts of `vjepa2 status`, and one click makes what is stale.

A sensor compares what `status` says of every asset (partition) with what the check `fresh` last
said of it, and files what is new: after another learning rate from the launchpad, or a changed
file, all that depends on it turns yellow with its reason, however many hops below.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import dagster as dg

from assets.definitions.checks import FRESH, evaluation, freshness
from assets.deployment import Deployment
from pipelines.graph import Key, State, statuses
from storage.errors import UserError

ABOUT = "Keeps the check `fresh` of every asset (partition) at what `vjepa2 status` says."
EVERY = 30  # seconds
SHARE = 20  # times what a look took, the next one waits: at most a twentieth of a core
MOST = 500  # verdicts that one look files: each is a row in Dagster's records


class Told:
    """What the page was told of every asset (partition) by this process."""

    def __init__(self) -> None:
        self.reasons: dict[Key, str] = {}
        self.next_look = 0.0

    def news(
        self, instance: dg.DagsterInstance, states: Iterable[State]
    ) -> Iterator[dg.AssetCheckEvaluation]:
        """The verdicts that the page does not show yet, at most MOST.

        Of an asset as a whole the page shows the newest verdict on any partition: those that are
        stale come last, and one of them once more where a fresh one came after it.
        """
        made = [state for state in states if state.state != "missing"]
        shown = _shown(instance, {state.asset for state in made})
        new = [state for state in made if self._is_new(state, shown)]
        told = {state.asset for state in new if state.state != "fresh"}
        newest: dict[str, Shown] = {}
        for (asset, _), each in shown.items():
            newest[asset] = max(each, newest.get(asset, each))
        for state in made:
            if state.state != "fresh" and state.asset not in told and newest[state.asset].passed:
                told.add(state.asset)
                new.append(state)
        yield from islice(self._told(instance, new), MOST)

    def _told(
        self, instance: dg.DagsterInstance, new: Iterable[State]
    ) -> Iterator[dg.AssetCheckEvaluation]:
        for state in sorted(new, key=lambda state: state.state != "fresh"):
            event = evaluation(instance, state.asset, state.partition, freshness(state))
            if event.target_materialization_data:  # the page knows of it
                self.reasons[state.asset, state.partition] = _reason(state)
                yield event

    def _is_new(self, state: State, shown: Mapping[Key, Shown]) -> bool:
        key, fresh = (state.asset, state.partition), state.state == "fresh"
        return (
            key not in shown
            or shown[key].passed is not fresh
            or (not fresh and self.reasons.get(key) != _reason(state))
        )


class Shown(NamedTuple):
    """The newest verdict on one asset (partition), in the order in which they were filed."""

    number: int
    passed: bool


def _reason(state: State) -> str:
    return f"{state.state}: {state.reason}"


def _shown(instance: dg.DagsterInstance, assets: Iterable[str]) -> dict[Key, Shown]:
    """What the check last said of each asset (partition) that had it."""
    found: dict[Key, Shown] = {}
    keys = [dg.AssetCheckKey(dg.AssetKey(asset), FRESH) for asset in sorted(assets)]
    for info in instance.event_log_storage.get_asset_check_partition_info(keys):
        passed = info.latest_execution_status.value == "SUCCEEDED"
        key = info.check_key.asset_key.to_user_string(), info.partition_key
        found[key] = Shown(info.latest_check_event_storage_id, passed)
    return found


def freshness_job(deployment: Deployment) -> dg.JobDefinition:
    """The look as a job, for who does not want to wait for the sensor."""

    @dg.op(name="look", description=ABOUT)
    def look(context) -> None:  # type: ignore[no-untyped-def]
        events = list(Told().news(context.instance, _states(deployment)))
        _file(context.instance, context.run_id, events)
        context.log.info(f"{len(events)} verdicts are new")

    @dg.job(name="freshness", description=ABOUT, executor_def=dg.in_process_executor)
    def looking() -> None:
        look()

    return looking


def freshness_sensor(deployment: Deployment, job: dg.JobDefinition) -> dg.SensorDefinition:
    """The sensor that keeps the check `fresh` of every asset (partition) as `status` has it.

    It files its verdicts itself, as one run of the job: a run of its own would wait in the queue
    behind a training. (Dagster keeps one verdict a partition of those that belong to no run.)
    """
    told = Told()

    @dg.sensor(
        name="freshness",
        minimum_interval_seconds=EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=ABOUT,
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        began = time.monotonic()
        if began < told.next_look:
            return dg.SkipReason(f"the next look is in {told.next_look - began:.0f} s")
        try:
            events = list(told.news(context.instance, _states(deployment)))
        except UserError as refused:
            return dg.SkipReason(str(refused))
        if events:
            run = context.instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS)
            _file(context.instance, run.run_id, events)
        took = time.monotonic() - began
        told.next_look = began + SHARE * took if len(events) < MOST else 0.0
        return dg.SkipReason(f"{len(events)} verdicts were new")

    return look


def _states(deployment: Deployment) -> list[State]:
    store = deployment.open_store(read_only=True)
    return list(statuses(deployment.graph, deployment.profile, store))


def _file(
    instance: dg.DagsterInstance, run_id: str, events: Iterable[dg.AssetCheckEvaluation]
) -> None:
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION.value
    for told in events:
        event = dg.DagsterEvent(kind, job_name="freshness", event_specific_data=told)
        instance.report_dagster_event(event, run_id)
