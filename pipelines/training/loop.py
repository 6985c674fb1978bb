"""The training loop of this project: every network here is trained by `run_training`.

A `Task` says what is trained, on which batch, with which loss and schedule. The loop does the rest:
gradients in a fixed number of shards (so the bits do not depend on the number of workers), AdamW,
checkpoints from which a killed run goes on to the same bytes, the log, and a clear error when a
loss is no longer finite. It never chooses "the latest" of anything but its own checkpoints. Equal
bytes are promised for the same device type and CPU capability.

    step t:  lr, decay = schedules(t);  gradient = tree sum over shards s of d loss(t, s) / shards;
             AdamW;  task.after_step(t);  every checkpoint_every steps: write, then report
"""

from __future__ import annotations

import functools
import json
import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.optimizer import adamw, set_rates, shorten
from pipelines.stage import Workspace
from pipelines.training.batches import Batches
from pipelines.training.checkpoints import (
    Row,
    list_checkpoints,
    load_networks,
    load_optimizer,
    optimizer_tensors,
    write_checkpoint,
)
from pipelines.training.curves import check_packages
from pipelines.training.distributed import WorkerLostError, Workers, usable_workers
from pipelines.training.progress import StepTeller, read_progress, shown
from pipelines.training.reductions import reduction
from pipelines.training.runs import Run
from pipelines.training.tasks import Build, LoopSettings, Task
from storage.errors import InputError, UserError
from storage.places import PlaceError

FAILURE = "failure.json"


class TrainingDivergedError(UserError, RuntimeError):
    """The loss or its gradient is no longer finite."""


class TrainingFailedError(RuntimeError):
    """A worker stopped with an error that trying again would not cure."""


def run_training(build: Build, settings: LoopSettings, out: Workspace) -> dict[str, Any]:
    """Train to the end on out.execution.workers workers; go on from the newest checkpoint there is.

    Afterwards `Run(out.work)` has the checkpoints (see checkpoints.publish). Returns speed for the
    record: never part of an artifact, and absent when nothing was left to train.

    Raises:
        TrainingDivergedError, TrainingFailedError: with step, learning rate and what to do.
    """
    check_packages(out.execution.tensorboard, out.execution.mlflow)
    run = Run(out.work)
    run.folder.mkdir(parents=True, exist_ok=True)
    run.remove_note(FAILURE)
    world = usable_workers(out.execution.workers, settings.gradient_shards)
    settings = settings.run_by(out.execution)
    with shown(run, run_folder(out)):
        if world == 1:
            train(build, settings, run, Workers(), torch.device(out.execution.device))
        else:
            out.train(functools.partial(train_or_note, build, settings, run), world=world)
            _raise_noted(run.read_note(FAILURE))
    look = read_progress(run_folder(out))
    if look is None:
        return {}
    return {
        "samples_per_second": round(look.samples_per_second, 2),
        "training_seconds": round(look.seconds, 1),
        "trained_steps": look.trained_steps,
        "workers": world,
    }


def run_folder(out: Workspace) -> Path:
    """Where the machine that runs a stage sees its training: the progress, and the checkpoints too
    where all workers share the folder.
    """
    return out.scratch / "training"


Report = Callable[[Mapping[str, Any], Path | None], None]
"""Tells whoever started the workers: metrics so far, and the checkpoint that this one wrote."""


def train_or_note(
    build: Build,
    settings: LoopSettings,
    run: Run,
    rank: int,
    world: int,
    device: torch.device,
    report: Report,
) -> None:
    """`train` for a worker that is started again whenever it dies.

    Another try may cure dying, or a bucket that fails (WorkerLostError), but no error in the data
    and no diverged loss: that is noted in failure.json, and who finds a note leaves at once.
    """
    if run.read_note(FAILURE) is not None:
        return
    try:
        train(build, settings, run, Workers(rank, world), device, report)
    except WorkerLostError:
        raise
    except PlaceError as error:  # the bucket may answer the next try
        raise WorkerLostError(str(error)) from error
    except Exception as error:
        told = {
            "kind": type(error).__name__,
            "message": str(error),
            "curable": isinstance(error, UserError),
            "trace": traceback.format_exc(),
        }
        run.note(FAILURE, json.dumps(told).encode())
        if not isinstance(error, TrainingDivergedError):
            raise
        # Every worker computed the same number and leaves here, so nobody waits for another.


def _raise_noted(note: bytes | None) -> None:
    if note is None:
        return
    failure = json.loads(note)
    if failure["kind"] == TrainingDivergedError.__name__:
        raise TrainingDivergedError(failure["message"])
    if failure["curable"]:
        raise InputError(failure["message"])
    broken = TrainingFailedError(f"{failure['kind']}: {failure['message']}")
    broken.add_note(f"In the worker:\n{failure['trace']}")
    raise broken


def train(
    build: Build,
    settings: LoopSettings,
    run: Run,
    workers: Workers,
    device: torch.device,
    report: Report | None = None,
) -> None:
    """One worker's whole training, from the run's newest checkpoint or from the start."""
    run.folder.mkdir(parents=True, exist_ok=True)
    run.pull()
    with one_thread_on(device):
        trainer = Trainer(build(device), settings, workers, device)
        with closing(trainer.batches):
            _train(trainer, settings, run, workers, report)


def _train(
    trainer: Trainer, settings: LoopSettings, run: Run, workers: Workers, report: Report | None
) -> None:
    done = workers.agree(trainer.restore(run.folder), trainer.device)
    told = StepTeller(trainer.task, settings, run, done) if workers.is_main else None
    rows: list[Row] = []
    with closing(told) if told else nullcontext():
        for step in range(done, settings.steps):
            row = trainer.step(step)
            done = step + 1
            last = done == settings.steps
            if told is not None:
                looked = done == 1 or last or done % settings.diagnose_every == 0
                diagnosis = trainer.task.diagnose() if looked else {}
                row |= diagnosis
                rows.append(row)
                told.step(done, row, diagnosis, trainer.batches.waited)
            if last or done % settings.checkpoint_every == 0:
                path = trainer.save(run.folder, done, rows) if workers.is_main else None
                if path is not None:
                    run.push(path)
                rows = []
                workers.wait()
                if report is not None:
                    # Ray Train is shown a checkpoint where it can reach it; it never restores one.
                    seen = path if run.work.shared else None
                    report({"step": done, "loss": row["loss"]}, seen)


class Trainer:
    """A task with its optimizer on one worker."""

    def __init__(
        self, task: Task, settings: LoopSettings, workers: Workers, device: torch.device
    ) -> None:
        self.task, self.settings, self.workers, self.device = task, settings, workers, device
        trained = {name: task.networks[name] for name in task.trained}
        for network in trained.values():
            cast(Any, network).activation_checkpointing = settings.activation_checkpointing
        self.names = parameter_names(trained)
        self.parameters = list(self.names.values())
        self.optimizer = adamw(trained.values(), lr=0.0, weight_decay=0.0, betas=settings.betas)
        self.batches = Batches(task, settings, workers)
        self.autocast = functools.partial(
            torch.autocast,
            device.type,
            dtype=torch.bfloat16,
            enabled=device.type == "cuda" and settings.precision == "bfloat16",
        )
        self.reduction = reduction(
            settings.reduction, self._loss, trained, self.parameters, workers
        )

    def step(self, step: int) -> Row:
        """Update the networks once and return the log's row, the same on every worker."""
        schedule = self.task.schedule(step)
        gradients, scalars = self.reduction.gradients(step, self.settings.gradient_shards)
        norm = float(torch.stack([g.norm() for g in gradients if g is not None]).norm())
        row = {"step": step + 1, **scalars, **schedule, "gradient_norm": norm}
        self._refuse_non_finite(row)
        shorten(gradients, norm, self.settings.max_gradient_norm)
        set_rates(self.optimizer, schedule["lr"], schedule["weight_decay"])
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.task.after_step(step)
        return row

    def restore(self, folder: Path) -> int:
        """Load the newest checkpoint of `folder`, or the task's start; returns the steps done."""
        found = list_checkpoints(folder)
        done = max(found, default=0)
        source = found[done] if found else self.task.start_from
        if source is not None:
            load_networks(source, self.task.networks)
            load_optimizer(source, self.optimizer, self.names)
        return done

    def save(self, folder: Path, done: int, rows: list[Row]) -> Path:
        """Write the checkpoint after `done` steps."""
        moments = optimizer_tensors(self.optimizer, self.names)
        architecture = self.task.architecture()
        return write_checkpoint(folder, done, self.task.networks, moments, architecture, rows)

    def _loss(self, step: int, shard: int) -> tuple[Tensor, dict[str, Tensor]]:
        batch = self.batches.take(step, shard)
        with self.autocast():
            return self.task.loss(batch, step, shard)

    def _refuse_non_finite(self, row: Row) -> None:
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(row[name]):
                raise TrainingDivergedError(
                    f"{self.settings.noun}: {name} is {row[name]} at step {row['step']} of "
                    f"{self.settings.steps}, learning rate {row['lr']:.3g}. The checkpoints before "
                    "it are sound. Lower the learning rate or lengthen the warm-up."
                )


def parameter_names(networks: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters that need gradients as `<network>.<name>` -> parameter."""
    return {
        f"{label}.{name}": parameter
        for label, network in networks.items()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }


@contextmanager
def one_thread_on(device: torch.device) -> Iterator[None]:
    """On a CPU, compute with one thread: sums then do not depend on how many cores there are."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
