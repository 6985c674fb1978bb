"""Compute: stages spread over a Ray cluster. The one door to Ray.

One cluster serves a whole process: it starts on first use and ends with the process. Set
`RAY_ADDRESS` to use a cluster that is already there.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

# Read by Ray when it is imported: no usage reports, no start-up noise, quick polls of Ray Train.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import ray

from pipelines.stage import How, Workspace

Item = TypeVar("Item")
_PRINT_EVERY = 2.0  # seconds


def start(how: How) -> None:
    """Have a Ray cluster: the one at RAY_ADDRESS, or a local one with a CPU per worker."""
    if ray.is_initialized():
        return
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if "RAY_ADDRESS" not in os.environ:
        settings |= {
            "num_cpus": max(how.workers, os.cpu_count() or 1),
            "include_dashboard": False,
            "object_store_memory": 256 << 20,
            "_node_ip_address": "127.0.0.1",
        }
    ray.init(**settings)
    atexit.register(ray.shutdown)


def map_items(
    function: Callable[[Item], Any], items: Mapping[str, Item], out: Workspace, *, noun: str
) -> dict[str, Any]:
    """Apply a function to every item on Ray, `out.how.workers` at a time.

    Every finished result is appended to a journal in scratch, so that a killed stage continues
    where it was. A function that writes files must have them whole before it returns.

    Args:
        function: a top-level function of one item; returns what JSON can hold.
        items: key -> item; keys are unique and stable from run to run.
        out: the stage's workspace.
        noun: what the items are, in the plural, for the progress line and the journal's name.

    Returns:
        key -> result, in the order of the items.

    Raises:
        RuntimeError: the function raised on an item; the message names it.
    """
    journal = out.scratch / f"{noun.replace(' ', '-')}.jsonl"
    done = _read_journal(journal)
    todo = [key for key in items if key not in done]
    if todo:
        start(out.how)
        progress = Progress(noun, len(items), len(items) - len(todo))
        with open(journal, "a") as stream:
            for key, result in _run(function, {k: items[k] for k in todo}, out.how.workers):
                stream.write(json.dumps({"key": key, "result": result}) + "\n")
                stream.flush()
                done[key] = result
                progress.step()
    # Through JSON for all, so that a resumed run sees exactly what an undisturbed one sees.
    return {key: json.loads(json.dumps(done[key])) for key in items}


def _run(
    function: Callable[[Item], Any], items: Mapping[str, Item], workers: int
) -> Iterator[tuple[str, Any]]:
    remote = ray.remote(num_cpus=1, max_retries=2)(_one_thread(function))
    waiting = iter(items.items())
    running: dict[Any, str] = {}
    while True:
        # One more in the queue than workers, so that no worker waits for the driver.
        while len(running) <= workers and (entry := next(waiting, None)) is not None:
            running[remote.remote(entry[1])] = entry[0]
        if not running:
            return
        ready, _ = ray.wait(list(running), num_returns=1)
        key = running.pop(ready[0])
        try:
            yield key, ray.get(ready[0])
        except ray.exceptions.RayTaskError as error:
            raise RuntimeError(f"{function.__name__} failed on {key}: {error.cause}") from error


def _one_thread(function: Callable[[Item], Any]) -> Callable[[Item], Any]:
    """Run with one torch thread: results do not depend on the cores of a machine."""

    def call(item: Item) -> Any:
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)
        return function(item)

    return call


def _read_journal(path: Path) -> dict[str, Any]:
    """Finished results. A line that a kill cut short is taken off the file."""
    if not path.exists():
        return {}
    lines = path.read_text().split("\n")
    whole = lines[:-1]  # what follows the last newline was cut short
    if lines[-1]:
        path.write_text("".join(line + "\n" for line in whole))
    entries = (json.loads(line) for line in whole)
    return {entry["key"]: entry["result"] for entry in entries}


class Progress:
    """Prints `scenes 40/64, 12.1/s, ends 14:05:10`, at most every two seconds and at the end."""

    def __init__(self, noun: str, total: int, done: int = 0) -> None:
        self._noun, self._total, self._done, self._before = noun, total, done, done
        self._started = self._printed = time.monotonic()

    def step(self) -> None:
        """Note that one more is done."""
        self._done += 1
        now = time.monotonic()
        if self._done < self._total and now - self._printed < _PRINT_EVERY:
            return
        self._printed = now
        rate = (self._done - self._before) / max(now - self._started, 1e-9)
        end = time.strftime("%H:%M:%S", time.localtime(time.time() + (self._total - self._done) / rate))
        text = f"    {self._noun} {self._done}/{self._total}, {rate:.1f}/s, ends {end}"
        print(text, file=sys.stderr, flush=True)
