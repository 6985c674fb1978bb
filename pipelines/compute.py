"""Compute: stages spread over a Ray cluster. The only module that imports ray.

One cluster serves a whole process: it starts on first use and ends with the process. Set
`RAY_ADDRESS` to use a cluster that is already there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

# Read by Ray when it is imported: no usage reports, no start-up noise, quick polls of Ray Train.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if not os.environ.get("RAY_ADDRESS"):
    # Ray's own name for "this machine alone": every port is opened on the loopback interface only.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray

from pipelines.cluster import reach
from pipelines.execution import ExecutionConfig
from pipelines.journal import journal_line, read_journal
from pipelines.progress import progress
from pipelines.stage import Workspace
from storage.errors import InputError, UserError
from storage.work import KeptFile, noting_kept

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
_ADVICE = (
    "if the machine ran out of memory, set fewer execution.workers or give it more; "
    "then run again: what is done is kept"
)
_STOP_WITHIN = 10.0  # seconds
_LOOK_EVERY = 2.0  # seconds between two looks at what is running


class WorkersDiedError(UserError, RuntimeError):
    """Processes of Ray ended without an error of their own, again and again."""

    may_pass = True


def start(execution: ExecutionConfig) -> None:
    """Have a Ray cluster: the one at RAY_ADDRESS, or a local one with a CPU per worker and core.

    The local one listens on the loopback interface only, has no dashboard, and ends with this
    process, whatever ends it; after a kill -9 Ray's last two helpers take a minute to notice.

    Raises:
        InputError: nobody answers at RAY_ADDRESS, or the cluster there asks for another token.
    """
    if ray.is_initialized():
        return
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address := os.environ.get("RAY_ADDRESS"):
        resolve = ray._private.services.canonicalize_bootstrap_address
        reach(address, resolve, lambda at: ray._raylet.GcsClient(address=at))
    else:
        settings |= {
            "address": "local",
            "num_cpus": max(execution.workers, os.cpu_count() or 1),
            "include_dashboard": False,
            "object_store_memory": 256 << 20,  # items and results are small: paths, rows, spans
        }
    on_terminate = signal.getsignal(signal.SIGTERM)
    ray.init(**settings)
    if threading.current_thread() is threading.main_thread():
        # Ray would answer SIGTERM with a stack trace and an abort. What was there before stays in
        # charge, so that a run that is terminated ends the way its owner means it to.
        signal.signal(signal.SIGTERM, on_terminate)


def map_items(
    function: Callable[[Item], Any], items: Mapping[str, Item], out: Workspace, *, noun: str
) -> dict[str, Any]:
    """Apply a function to every item on Ray, `out.execution.workers` at a time.

    Every finished result is appended to a journal in scratch, with the files that the function kept
    (see `storage.work`), so that a killed stage continues where it was. An item is computed again
    when a file of it is gone.

    Args:
        function: a top-level function of one item; returns what JSON can hold.
        items: key -> item; keys are unique and stable from run to run.
        out: the stage's workspace.
        noun: what the items are, in the plural, for the progress line and the journal's name.

    Returns:
        key -> result, in the order of the items.

    Raises:
        InputError: the function raised an error that a person can cure.
        ArtifactError: the journal cannot be read.
        WorkersDiedError: the worker of an item died again and again, for want of memory say.
        RuntimeError: the function raised another error. These messages name the item.
        TypeError: the function returned what JSON cannot hold.
    """
    journal = out.scratch / f"{noun.replace(' ', '-')}.jsonl"
    done, kept = read_journal(journal)
    gone = out.work.lost(file for files in kept.values() for file in files)
    for key in [key for key, files in kept.items() if gone & {file.name for file in files}]:
        del done[key], kept[key]
    todo = {key: item for key, item in items.items() if key not in done}
    if todo:
        start(out.execution)
        with (
            open(journal, "a") as stream,
            progress(noun, len(items), len(items) - len(todo)) as bar,
        ):
            for key, (result, files) in _run(function, todo, out.execution.workers, bar.watch):
                line = journal_line(function, key, result, files)
                stream.write(line)
                stream.flush()
                done[key] = json.loads(line)["result"]  # what a resumed run will see, too
                kept[key] = files
                bar.update()
    out.note_kept(file for key in items for file in kept[key])
    return {key: done[key] for key in items}


def _run(
    function: Callable[[Item], Any],
    items: Mapping[str, Item],
    workers: int,
    watch: Callable[[Mapping[str, float]], None],
) -> Iterator[tuple[str, Any]]:
    """(key, result) of every item as they finish, `workers` at a time.

    `watch` is told, every few seconds, what is running: key -> when it was handed out.
    """
    remote = ray.remote(num_cpus=1, max_retries=2)(_one_thread(function))
    waiting = iter(items.items())
    running: dict[Any, str] = {}
    began: dict[str, float] = {}
    try:
        while True:
            while len(running) < workers and (entry := next(waiting, None)) is not None:
                running[remote.remote(entry[1])] = entry[0]
                began[entry[0]] = time.monotonic()
            if not running:
                return
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_EVERY)
            watch(began)
            if not ready:
                continue
            key = running.pop(ready[0])
            del began[key]
            try:
                result = ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                raise _failure(f"{function.__name__} failed on {key}", error) from error
            except (
                ray.exceptions.WorkerCrashedError,
                ray.exceptions.OutOfMemoryError,
                ray.exceptions.NodeDiedError,
            ) as error:
                raise WorkersDiedError(
                    f"{function.__name__} died on {key} ({type(error).__name__}); {_ADVICE}"
                ) from error
            except ray.exceptions.RayError as error:
                raise RuntimeError(f"{function.__name__} died on {key}: {error}") from error
            yield key, result
    finally:
        _stop(list(running))


def _failure(what: str, error: Any) -> Exception:
    """What a person can cure stays that; of a bug the task's own traceback is told, too."""
    if isinstance(error.cause, UserError):
        return InputError(f"{what}: {error.cause}")
    return RuntimeError(f"{what}: {error.cause}")


def _stop(running: list[Any]) -> None:
    """End tasks that nobody waits for any more, so that a rerun has the workspace to itself."""
    if not running:
        return
    _, unfinished = ray.wait(running, num_returns=len(running), timeout=0)
    for task in unfinished:
        ray.cancel(task, force=True)
    ray.wait(running, num_returns=len(running), timeout=_STOP_WITHIN)


def _one_thread(function: Callable[[Item], Any]) -> Callable[[Item], Any]:
    """Run with one torch thread: results do not depend on the cores of a machine.

    What comes back is the result and the files that were kept.
    """

    def call(item: Item) -> tuple[Any, list[KeptFile]]:
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)
        with noting_kept() as files:
            return function(item), files

    return call


Report = Callable[[Mapping[str, Any], Path | None], None]
"""Hands Ray Train the metrics so far and the newest checkpoint (None but on the first worker)."""
Worker = Callable[[int, int, "torch.device", Report], None]
"""One worker's whole training, given rank, world size, device and the report to call."""


def train_on_ray(
    worker: Worker, *, execution: ExecutionConfig, world: int, notes: str, restarts: int = 3
) -> None:
    """Run `world` workers of a training under Ray Train, joined by torch.distributed.

    When a worker dies, all are started again, at most `restarts` times; continuing from the newest
    checkpoint is the worker's own affair, so that a run that died as a whole continues the same
    way. Workers must all call report equally often.

    Args:
        worker: what each worker does; a functools.partial of a top-level function (it is pickled).
        execution: its device says where: cuda with nccl, or cpu with gloo and one thread each.
        world: number of workers.
        notes: where Ray Train keeps its own notes: a folder that all workers share, or an
            s3:// prefix.
        restarts: how often all workers may be started again.

    Raises:
        InputError: there are fewer GPUs than workers.
        WorkersDiedError: workers went on dying.
        RuntimeError: workers went on raising an error of their own.
    """
    import torch
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    start(execution)
    gpu = torch.device(execution.device).type == "cuda"
    if gpu and (found := int(ray.cluster_resources().get("GPU", 0))) < world:
        raise InputError(
            f"{world} workers on cuda need a GPU each and there are {found}: "
            f"set execution.workers={max(1, found)}, or execution.device=cpu"
        )
    location, _, name = notes.rpartition("/")
    trainer = TorchTrainer(
        _run_worker,
        train_loop_config={"worker": worker},
        scaling_config=ScalingConfig(num_workers=world, use_gpu=gpu),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        run_config=RunConfig(
            name=name,
            storage_path=location,
            failure_config=FailureConfig(max_failures=restarts),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        if any(map(_is_bug, getattr(error, "worker_failures", {}).values())):
            raise RuntimeError(f"training gave up after {restarts} restarts: {error}") from error
        reason = str(error).strip().splitlines()[-1]  # those before are Ray's and the traceback
        raise WorkersDiedError(
            f"training gave up after {restarts} restarts of its workers ({reason}); {_ADVICE}"
        ) from error


def _is_bug(failure: Exception) -> bool:
    """Whether a worker ended by neither its death, nor a lost exchange, nor a silent bucket."""
    told = isinstance(failure, ray.exceptions.RayError | UserError | RuntimeError)
    return not told and not type(failure).__module__.startswith("ray.")


def _run_worker(config: dict[str, Any]) -> None:
    import ray.train
    from ray.train import Checkpoint, CheckpointUploadMode
    from ray.train.torch import get_device

    def report(metrics: Mapping[str, Any], checkpoint: Path | None) -> None:
        held = None if checkpoint is None else Checkpoint.from_directory(str(checkpoint))
        # The checkpoint is complete, and where it belongs: there is nothing to upload.
        ray.train.report(dict(metrics), held, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)

    context = ray.train.get_context()
    config["worker"](context.get_world_rank(), context.get_world_size(), get_device(), report)
