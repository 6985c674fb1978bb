"""Watching: while a training runs, its loss, speed and collapse metrics appear beside the asset.

A training keeps a small progress file in the work folder of its recipe. A side thread reads it and
reports it to Dagster: as observations of the asset, so that the plots on its page move before there
is anything to materialize, and as lines of the run's log.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from pipelines.execution import ExecutionConfig
from pipelines.node import Node
from pipelines.stage import recipe_inputs
from pipelines.training.progress import read_progress
from storage.artifacts import Artifact, ArtifactStore
from storage.digests import digest_json

EVERY = 5.0  # seconds, at first; later a hundredth of the time since the start
_SHOWN = {
    "done": "step",
    "steps": "steps",
    "loss": "loss",
    "lr": "lr",
    "samples_per_second": "samples a second",
    "waiting": "share of time waiting for data",
}


@contextmanager
def watched(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    node: Node,
    config: Any,
    inputs: Mapping[str, Artifact],
    partition: str | None,
    execution: ExecutionConfig,
) -> Iterator[None]:
    """Report a stage's training progress to Dagster every few seconds while the block runs."""
    contents = {name: artifact.content for name, artifact in inputs.items()}
    recipe = digest_json(recipe_inputs(node.stage, config, contents, partition, execution))
    folder = store.local / "work" / recipe / "scratch" / "training"
    stop = threading.Event()
    arguments = (context.instance, dg.AssetKey(node.asset), partition, folder, stop, context.log)
    thread = threading.Thread(target=_report_until, args=arguments, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _report_until(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    partition: str | None,
    folder: Path,
    stop: threading.Event,
    log: logging.Logger,
) -> None:
    last: dict[str, Any] = {}
    told = False
    started = time.monotonic()
    # Some hundred points however long the training takes: each is a row in Dagster's records.
    while not stop.wait(max(EVERY, (time.monotonic() - started) / 100)):
        seen = measured(folder)
        if seen and seen != last:
            event = dg.AssetObservation(asset_key=key, partition=partition, metadata=seen)
            try:
                instance.report_runless_asset_event(event)
                if look := read_progress(folder):
                    log.info(look.line())
                last = seen
            except Exception as error:  # Dagster's storage, whichever it is; tried again later
                if not told:
                    print(f"    the page is not kept current: {error}", file=sys.stderr, flush=True)
                told = True


def measured(folder: Path) -> dict[str, Any]:
    """What a training in `folder` says of itself, and what was last measured of its networks."""
    progress = read_progress(folder)
    if progress is None:
        return {}
    seen = {told: getattr(progress, name) for name, told in _SHOWN.items()}
    drawn = {f"drawn from {source}": count for source, count in progress.drawn.items()}
    return {f"training/{name}": v for name, v in {**seen, **progress.diagnosed, **drawn}.items()}
