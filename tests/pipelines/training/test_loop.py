"""Claims: training four steps is training two and resuming two, to the byte; a checkpoint half
written is as good as none; the batch's gradient is the mean over its shards; the log has the
schedule's values; AdamW and the moving average do what they should by hand; a loss that is not
finite stops with step and rate; threads that prepare batches change nothing.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoints import load_weights
from pipelines.compute import Worker
from pipelines.execution import ExecutionConfig
from pipelines.stage import Workspace
from pipelines.training.batches import Batches
from pipelines.training.checkpoints import list_checkpoints, logged_rows, publish
from pipelines.training.distributed import WorkerLostError, Workers
from pipelines.training.loop import (
    FAILURE,
    Trainer,
    TrainingDivergedError,
    run_folder,
    run_training,
    train_or_note,
)
from pipelines.training.runs import Run
from pipelines.training.tasks import Task
from storage.places import PlaceError
from tests.pipelines.builders import workspace
from tests.pipelines.training import toy
from tests.pipelines.training.material import digests

CPU = torch.device("cpu")
COLUMNS = {"step": "int64", "loss": "float64", "lr": "float64", "size": "float64"}


def train(folder: Path, steps: int, task: type[toy.ToyTask] = toy.ToyTask) -> Workspace:
    out = workspace(folder)
    run_training(task, toy.settings(steps), out)
    return out


def test_two_and_two_are_four(tmp_path: Path) -> None:
    whole, halves = train(tmp_path / "whole", 4), train(tmp_path / "halves", 2)
    # A kill in the middle of writing leaves a folder aside, which nobody takes for a checkpoint.
    aside = run_folder(halves) / "checkpoints" / ".step-000004.1.aside"
    aside.mkdir()
    (aside / "network.safetensors").write_bytes(b"half")
    train(tmp_path / "halves", 4)
    for out in (whole, halves):
        publish(Run(out.work).checkpoints(), out, COLUMNS)
    assert digests(whole.payload) == digests(halves.payload)
    assert "checkpoints/step-000002/optimizer.safetensors" in digests(whole.payload)


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    out = train(tmp_path, 4)
    before = digests(run_folder(out) / "checkpoints")
    assert run_training(toy.ToyTask, toy.settings(4), out) == {}
    assert digests(run_folder(out) / "checkpoints") == before


def test_publishing_twice_is_publishing_once(tmp_path: Path) -> None:
    out = train(tmp_path, 4)
    publish(Run(out.work).checkpoints(), out, COLUMNS)
    once = digests(out.payload)
    publish(Run(out.work).checkpoints(), out, COLUMNS)
    assert digests(out.payload) == once


def test_log_has_every_step_and_its_rate(tmp_path: Path) -> None:
    out = train(tmp_path, 5)
    rows = logged_rows(Run(out.work).checkpoints().values())
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["lr"] for row in rows] == [0.01 / n for n in (1, 2, 3, 4, 5)]
    assert [row["step"] for row in rows if "size" in row] == [1, 2, 4, 5]
    assert all(row["twice"] == pytest.approx(2 * row["loss"]) for row in rows)
    assert sorted(list_checkpoints(run_folder(out))) == [2, 4, 5]


def test_one_step_by_hand() -> None:
    settings = toy.settings(1)
    trainer = Trainer(toy.ToyTask(CPU), settings, Workers(), CPU)
    twin = toy.ToyTask(CPU)
    losses = [twin.loss(twin.batch(0, shard), 0, shard)[0] for shard in range(4)]
    loss = torch.stack(losses).mean()
    loss.backward()
    row = trainer.step(0)
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-6)
    grads = [p.grad for p in twin.network.parameters() if p.grad is not None]
    norm = torch.cat([g.flatten() for g in grads]).norm().item()
    assert row["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    moved = dict(trainer.task.networks["network"].named_parameters())
    average = dict(trainer.task.networks["average"].named_parameters())
    for name, before in twin.network.named_parameters():
        assert before.grad is not None
        # The first step of AdamW is lr * sign(g), after a decay of matrices by lr * 0.1.
        decay = 1 - 0.01 * 0.1 if before.ndim > 1 else 1.0
        expected = before.detach() * decay - 0.01 * before.grad / (before.grad.abs() + 1e-8)
        torch.testing.assert_close(moved[name].detach(), expected, rtol=1e-5, atol=1e-6)
        old = dict(twin.average.named_parameters())[name].detach()
        mean = old + 0.1 * (moved[name].detach() - old)
        torch.testing.assert_close(average[name].detach(), mean)


def test_diverging_loss_says_where(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingDivergedError, match=r"toy: loss is inf at step 4 of 8, learning rate 0\.0025"
    ):
        train(tmp_path, 8, toy.DivergingTask)
    # The weights before it are safe.
    path = run_folder(workspace(tmp_path)) / "checkpoints" / "step-000002" / "network.safetensors"
    assert all(torch.isfinite(value).all() for value in load_weights(path).values())


def test_workers_that_diverge_are_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Ray: a worker notes that it diverged and leaves; the next try ends at once."""
    reported: list[int] = []

    def tried_twice(worker: Worker, **_: object) -> None:
        for _ in range(2):
            worker(0, 1, CPU, lambda metrics, _: reported.append(metrics["step"]))

    monkeypatch.setattr("pipelines.compute.train_on_ray", tried_twice)
    with pytest.raises(TrainingDivergedError, match="loss is inf at step 4 of 8"):
        run_training(toy.DivergingTask, toy.settings(8), workspace(tmp_path, workers=2))
    assert reported == [2]
    # The note of a failure does not outlive the next try.
    monkeypatch.undo()
    train(tmp_path, 8)
    assert max(list_checkpoints(run_folder(workspace(tmp_path)))) == 8


def test_a_bucket_that_fails_ends_a_worker_and_not_the_training(tmp_path: Path) -> None:
    class Interrupted(toy.ToyTask):
        def batch(self, step: int, shard: int) -> Tensor:
            raise PlaceError("bucket: SlowDown")

    run = Run(workspace(tmp_path).work)
    with pytest.raises(WorkerLostError, match="SlowDown"):
        train_or_note(Interrupted, toy.settings(4), run, 0, 1, CPU, lambda *_: None)
    assert run.read_note(FAILURE) is None


def test_infinite_gradient_of_a_finite_loss_is_caught(tmp_path: Path) -> None:
    class RootAtZero(toy.ToyTask):
        def loss(self, batch: Tensor, step: int, shard: int) -> tuple[Tensor, dict[str, Tensor]]:
            return (0 * self.network(batch)).abs().sqrt().sum(), {}

    with pytest.raises(TrainingDivergedError, match="gradient_norm is nan at step 1"):
        run_training(RootAtZero, toy.settings(2), workspace(tmp_path))


def test_prepared_batches_are_the_same_batches() -> None:
    task: Task = toy.ToyTask(CPU)
    for threads, depth in ((0, 2), (1, 1), (3, 5), (8, 1)):
        settings = replace(toy.settings(3), loader_threads=threads, loader_depth=depth)
        ahead = Batches(task, settings, Workers(1, 2))
        for step in range(3):
            for shard in Workers(1, 2).shards(4):
                assert torch.equal(ahead.take(step, shard), task.batch(step, shard))
        ahead.close()


def test_threads_keep_as_many_batches_ready_as_they_may() -> None:
    class Noting(toy.ToyTask):
        def batch(self, step: int, shard: int) -> Tensor:
            asked.append((step, shard))
            return super().batch(step, shard)

    asked: list[tuple[int, int]] = []
    settings = replace(toy.settings(3), loader_threads=1, loader_depth=2)
    ahead = Batches(Noting(CPU), settings, Workers())
    ahead.take(0, 0)
    ahead.close()
    assert asked[0] == (0, 0) and set(asked) <= {(0, 0), (0, 1), (0, 2)}


def test_threads_are_two_beside_a_gpu_and_none_on_a_cpu_unless_it_is_said() -> None:
    assert (ExecutionConfig().threads, ExecutionConfig(device="cuda").threads) == (0, 2)
    assert ExecutionConfig(loader_threads=5).threads == 5
    assert ExecutionConfig(device="cuda", loader_threads=0).threads == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradient_shards": 3, "samples_per_step": 6}, "gradient_shards = 3: must be a power of"),
        ({"samples_per_step": 18}, "a batch of 18 does not divide into gradient_shards = 4"),
        ({"steps": 0}, "steps = 0: must be at least 1"),
        ({"precision": "float8"}, "precision = 'float8': must be 'float32' or 'bfloat16'"),
    ],
)
def test_bad_settings(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(toy.settings(4), **change)  # type: ignore[arg-type]


def test_a_start_from_another_training(tmp_path: Path) -> None:
    first = train(tmp_path / "first", 2)
    build = functools.partial(_started, list_checkpoints(run_folder(first))[2])
    trainer = Trainer(build(CPU), toy.settings(2), Workers(), CPU)
    assert trainer.restore(tmp_path / "empty") == 0
    moments = trainer.optimizer.state[trainer.names["network.0.weight"]]
    assert moments["step"].item() == 2 and moments["exp_avg"].abs().sum() > 0


def _started(checkpoint: Path, device: torch.device) -> toy.ToyTask:
    task = toy.ToyTask(device)
    task.start_from = checkpoint
    return task
