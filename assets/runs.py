"""Dagster's records of runs: which of them a command line carries out, which are dead, which hold
the machine, and what the page shows.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path

import dagster as dg

from assets.deployment import prepare_home
from pipelines.graph import Key

POOL = "machine"
"""The pool of every stage: its limit in dagster.yaml is how many run at a time, whoever asked."""
_HOST, _PROCESS = "vjepa2/host", "vjepa2/process"  # tags of a run that a command line carries out


def records(home: Path) -> dg.DagsterInstance:
    """Dagster's records in a home folder, which is made usable first; use it as a context."""
    prepare_home(home)
    return dg.DagsterInstance.from_config(str(home))


def ours() -> dict[str, str]:
    """The tags of a run that this process carries out."""
    return {_HOST: socket.gethostname(), _PROCESS: str(os.getpid())}


def is_walk(run: dg.DagsterRun) -> bool:
    """Whether a run is a step of `vjepa2 run`, or of a job that does the same: then it is this
    process that carries it out. The page gives whatever it executes again the tags it had before.
    """
    return ours().items() <= run.tags.items()


def waits_for(instance: dg.DagsterInstance) -> str:
    """Which runs hold the machine, if there is no room for another one; "" if there is.

    What ended without giving back its place gives it back here.
    """
    log = instance.event_log_storage
    if not log.supports_global_concurrency_limits or POOL not in log.get_concurrency_keys():
        return ""
    holders = {}
    for run_id in log.get_concurrency_info(POOL).active_run_ids:
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            log.free_concurrency_slots_for_run(run_id)
        else:
            assets = sorted(key.to_user_string() for key in run.asset_selection or ())
            holders[run_id] = f"run {run_id[:8]} ({', '.join(assets) or run.job_name})"
    info = log.get_concurrency_info(POOL)
    return ", ".join(holders.values()) if len(holders) >= info.slot_count else ""


def fail_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark as failed the runs of command lines that were killed; returns their ids.

    Such a run says "started" for ever otherwise: nobody was left to say that it ended.
    """
    host = socket.gethostname()
    unfinished = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED], tags={_HOST: host})
    dead = [
        run for run in instance.get_runs(unfinished)
        # What was executed again, from the page, only has the tags of the run before.
        if not run.parent_run_id and not _alive(int(run.tags[_PROCESS]))
    ]  # fmt: skip
    for run in dead:
        process = run.tags[_PROCESS]
        instance.report_run_failed(run, f"process {process} on {host} ended before its run did")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's, but there
    return True


def shown_in(instance: dg.DagsterInstance, assets: Iterable[str]) -> dict[Key, str]:
    """Which content the page shows for each key: an artifact in the store may be unknown to it."""
    shown: dict[Key, str] = {}
    for asset in assets:
        cursor: str | None = None
        while True:
            page = instance.fetch_materializations(dg.AssetKey(asset), limit=500, cursor=cursor)
            for record in page.records:  # newest first
                event = record.asset_materialization
                version = (event.tags or {}).get("dagster/data_version") if event else None
                shown.setdefault((asset, record.partition_key), str(version))
            if not page.has_more:
                break
            cursor = page.cursor
    return shown
