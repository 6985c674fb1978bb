"""Materialize what is missing or stale, upstream first, each as a run that Dagster records."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

import dagster as dg
from dagster._core.errors import DagsterAssetCheckFailedError

from assets.definitions import build
from assets.definitions.checks import GateError, not_passed
from assets.definitions.described import MOVED
from assets.deployment import Deployment
from assets.runs import fail_orphaned_runs, ours, shown_in, waits_for
from assets.selection import chosen
from pipelines.graph import Key, State, key_name, statuses
from pipelines.settings import plain
from storage.artifacts import ArtifactStore
from storage.errors import UserError
from storage.media import listings_kept

QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}  # the run's own log has everything


class StageError(RuntimeError):
    """A stage failed; `raised` is what it raised, `run` the id of Dagster's run with the trace."""

    def __init__(self, name: str, raised: Exception, run: str) -> None:
        super().__init__(str(raised) if str(raised).startswith(name) else f"{name}: {raised}")
        self.raised, self.run = raised, run


@dataclass
class Outcome:
    """What was fresh and what was made."""

    fresh: list[Key] = field(default_factory=list)
    made: list[Key] = field(default_factory=list)


@listings_kept()
def materialize_stale(
    deployed: Deployment,
    store: ArtifactStore,
    instance: dg.DagsterInstance,
    wanted: Sequence[str],
    out: TextIO,
) -> Outcome:
    """Make what is not fresh among the wanted assets and their upstreams, one run of Dagster each.

    Raises SettingError before anything is made, if settings cannot go together; StageError and
    GateError, after which what was made before stays made.
    """
    keys = chosen(wanted, deployed.graph, deployed.profile)
    for asset in dict.fromkeys(key[0] for key in keys):
        if check := deployed.graph[asset].check:
            check(deployed.profile)
    fail_orphaned_runs(instance)
    states = {(s.asset, s.partition): s for s in statuses(deployed.graph, deployed.profile, store)}
    shown = shown_in(instance, {key[0] for key in keys})
    outcome = Outcome()
    for key in keys:
        state = states[key]
        # A variant is no asset's current state: the page does not show it as one.
        known = deployed.variant or (state.manifest and shown.get(key) == state.manifest.content)
        (outcome.fresh if state.state == "fresh" and known else outcome.made).append(key)
    _say_start(outcome, states, out)
    _warn_of_clock(states, out)
    if outcome.made:
        _run_all(outcome.made, states, deployed, store, instance, out)
    return outcome


def _say_start(outcome: Outcome, states: Mapping[Key, State], out: TextIO) -> None:
    if not outcome.made:
        print(f"all {len(outcome.fresh)} artifacts are fresh: nothing to recompute", file=out)
        return
    kept = f"{len(outcome.fresh)} fresh and left alone, " if outcome.fresh else ""
    print(f"{kept}{len(outcome.made)} to make", file=out)
    stale = [states[key] for key in outcome.made if states[key].state == "stale"]
    for state in stale[:5]:
        print(f"  {key_name((state.asset, state.partition))} is stale: {state.reason}", file=out)
    if len(stale) > 5:
        print(f"  … and {len(stale) - 5} more: `vjepa2 status` says why", file=out)


def _warn_of_clock(states: Mapping[Key, State], out: TextIO) -> None:
    """Say if something was made later than now: times decide nothing, but people read them."""
    made = [s.manifest for s in states.values() if s.manifest]
    last = max(made, key=lambda m: float(m.record.get("started", 0)), default=None)
    if last and float(last.record.get("started", 0)) > time.time() + 60:
        then = time.strftime("%Y-%m-%d %H:%M", time.localtime(last.record["started"]))
        print(
            f"this machine's clock runs backwards: {last.name} was made at {then}, later than now; "
            "set the clock (what is fresh does not depend on it)",
            file=out,
        )


def _run_all(
    keys: Sequence[Key],
    states: Mapping[Key, State],
    deployed: Deployment,
    store: ArtifactStore,
    instance: dg.DagsterInstance,
    out: TextIO,
) -> None:
    job = build(deployed).resolve_implicit_global_asset_job_def()
    clock = Clock(
        {key: _seconds_before(states[key]) for key in keys},
        {node.asset: node.seconds for node in deployed.graph.nodes},
    )
    for number, key in enumerate(keys, start=1):
        asset, partition = key
        name = f"[{number}/{len(keys)}] {asset}{f' {partition}' if partition else ''} …"
        if out.isatty():
            print(name, end="\r", file=out, flush=True)
        if others := waits_for(instance):
            print(f"{name} waits for {others}", file=out, flush=True)
        moved = _carry_out(job, key, deployed, store, instance)
        print(f"{name} {clock.tick(key)}{moved}", file=out, flush=True)


def _carry_out(
    job: dg.JobDefinition,
    key: Key,
    deployed: Deployment,
    store: ArtifactStore,
    instance: dg.DagsterInstance,
) -> str:
    """One run of Dagster in this process; raises StageError or GateError when it fails.

    Returns what the asset counts of itself that is another than before, as lines below its own.
    """
    asset, run = key[0], str(uuid.uuid4())
    config = plain(getattr(deployed.profile, asset))
    try:
        done = job.execute_in_process(
            run_id=run,
            instance=instance,
            asset_selection=[dg.AssetKey(asset)],
            partition_key=key[1],
            run_config={"ops": {asset: {"config": config}}, "loggers": QUIET},
            tags={
                "vjepa2/profile": deployed.profile_name,
                **ours(),
            },
        )
    except DagsterAssetCheckFailedError:
        manifest = store.ref(*key)
        assert manifest is not None  # checks judge what was just sealed
        refused = not_passed({key_name(key): store.open(manifest)}, deployed, store)
        raise GateError(refused) from None
    except dg.Failure as refusal:
        if isinstance(refusal.__cause__, GateError):
            raise refusal.__cause__ from None
        raise StageError(key_name(key), _cause(refusal), run) from refusal
    except Exception as raised:
        raise StageError(key_name(key), raised, run) from raised
    [event] = done.get_asset_materialization_events()
    return _moved(event.step_materialization_data.materialization.metadata)


def _moved(metadata: Mapping[str, dg.MetadataValue]) -> str:
    told = {
        name.removeprefix(MOVED): value.value
        for name, value in metadata.items()
        if name.startswith(MOVED)
    }
    why = told.pop("why", "")
    counts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items() if value)
    return f"\n    {counts or 'nothing that is counted'}, for {why}" if told else ""


def _cause(refusal: dg.Failure) -> Exception:
    return refusal.__cause__ if isinstance(refusal.__cause__, UserError) else refusal


def _seconds_before(state: State) -> float | None:
    """What this artifact cost when it was last made; a fresh one is only shown again."""
    if state.state == "fresh":
        return 1.0
    return float(state.manifest.record["seconds"]) if state.manifest else None


# The pace counts as if it had gone on for a minute at the declared seconds: the first step starts
# Ray too.
_TRUSTED_SECONDS = 60.0


class Clock:
    """Times the steps of a run: `3.4 s, 12.1/min, ends 14:05`."""

    def __init__(self, expected: Mapping[Key, float | None], declared: Mapping[str, float]) -> None:
        self._left, self._declared = dict(expected), declared
        self._started = self._last = time.monotonic()
        self._done, self._effort = 0, 0.0

    def tick(self, key: Key) -> str:
        """Note that a step is done; tell its time, the rate so far, and the expected end."""
        now = time.monotonic()
        took, self._last = now - self._last, now
        self._done, self._effort = self._done + 1, self._effort + self._declared[key[0]]
        del self._left[key]
        told = f"{took:.1f} s, {60 * self._done / max(now - self._started, 1e-9):.1f}/min"
        if not self._left:
            return told
        end = time.localtime(time.time() + self._seconds_left(now - self._started))
        return f"{told}, ends {time.strftime('%H:%M', end)}"

    def _seconds_left(self, spent: float) -> float:
        """What each step took when it was last made; else its effort, at the pace of this run."""
        pace = (spent + _TRUSTED_SECONDS) / (self._effort + _TRUSTED_SECONDS)
        return sum(
            pace * self._declared[key[0]] if before is None else before
            for key, before in self._left.items()
        )
