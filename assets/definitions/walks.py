"""Walks of the whole graph as jobs: one click makes what is missing or stale, in order.

They do what `vjepa2 run` does, in one process: each asset (partition) is a run of its own on the
page. Studies are made only when they are named.
"""

# No postponed annotations here: Dagster reads those of an op's function when it is defined.
import io
from typing import TextIO, cast

import dagster as dg

from assets.deployment import Deployment
from assets.selection import chosen
from pipelines.graph import key_name, statuses
from storage.errors import UserError

WALKS = {
    "whole_graph": "Makes all that is missing or stale, but for the studies: `vjepa2 run`.",
    "stale": "Makes what was made before and is stale now, and what that is made from.",
}


class _Lines(io.TextIOBase):
    """Each printed line becomes a line of the run's log."""

    def __init__(self, log: dg.DagsterLogManager) -> None:
        self.log = log

    def write(self, text: str) -> int:
        for line in filter(None, text.splitlines()):
            self.log.info(line.strip())
        return len(text)


def walk(name: str, deployed: Deployment) -> dg.JobDefinition:
    """The job of that name."""

    @dg.op(name=f"walk_{name}", description=WALKS[name])
    def walk_all(context: dg.OpExecutionContext) -> None:
        from assets.materialize import materialize_stale  # which reads our definitions

        store = deployed.open_store()
        wanted = stale(deployed) if name == "stale" else []
        if name == "stale" and not wanted:
            context.log.info("nothing is stale")
            return
        try:
            out = cast(TextIO, _Lines(context.log))
            materialize_stale(deployed, store, context.instance, wanted, out)
        except UserError as refused:
            raise dg.Failure(str(refused), allow_retries=False) from refused

    @dg.job(name=name, description=WALKS[name], executor_def=dg.in_process_executor)
    def walked() -> None:
        walk_all()

    return walked


def stale(deployed: Deployment) -> list[str]:
    """The names of what was made before and is stale, studies not among them."""
    store = deployed.open_store(read_only=True)
    keys = chosen([], deployed.graph, deployed.profile)
    states = statuses(deployed.graph, deployed.profile, store, keys)
    return [key_name((state.asset, state.partition)) for state in states if state.state == "stale"]
