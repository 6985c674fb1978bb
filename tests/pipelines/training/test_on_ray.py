"""Claims, with real Ray Train workers: a training of two workers killed with -9 in the middle and
gone on with by one has the bytes of an undisturbed one; a worker that dies is started again; an
error in the data stops the training with its message, once. Heavier ones: each of these alone, and
gone on with by Ray.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.compute import train_on_ray
from pipelines.execution import ExecutionConfig
from pipelines.stage import Workspace
from pipelines.training.checkpoints import list_checkpoints, logged_rows
from pipelines.training.loop import (
    TrainingDivergedError,
    TrainingFailedError,
    run_folder,
    run_training,
)
from pipelines.training.runs import Run
from pipelines.training.tasks import Build
from storage.errors import InputError
from tests.pipelines.builders import workspace
from tests.pipelines.training import toy
from tests.pipelines.training.material import digests

ROOT = Path(__file__).resolve().parents[3]
STEPS = 40

# What is killed: a process of its own, with a cluster of its own.
DRIVER = f"""
import sys
from pathlib import Path
from pipelines.training.loop import run_training
from tests.pipelines.builders import workspace
from tests.pipelines.training import toy
run_training(toy.SlowTask, toy.settings({STEPS}), workspace(Path(sys.argv[1]), workers=2))
"""


def undisturbed(folder: Path, steps: int = STEPS) -> dict[str, str]:
    out = workspace(folder)
    run_training(toy.ToyTask, toy.settings(steps), out)
    return digests(run_folder(out) / "checkpoints")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.heavy)])
def test_killed_and_started_again(workers: int, tmp_path: Path) -> None:
    out = workspace(tmp_path / "killed", workers=workers)
    with open(tmp_path / "log", "wb") as log:
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path / "killed")],
            cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 120
    while max(list_checkpoints(run_folder(out)), default=0) < 6:
        assert driver.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert max(list_checkpoints(run_folder(out))) < STEPS
    run_training(toy.ToyTask, toy.settings(STEPS), out)
    assert digests(run_folder(out) / "checkpoints") == undisturbed(tmp_path / "undisturbed")
    assert [row["step"] for row in logged_rows(Run(out.work).checkpoints().values())] == [
        *range(1, STEPS + 1)
    ]


@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_dies_is_started_again_and_one_that_raises_is_not(tmp_path: Path) -> None:
    out = workspace(tmp_path / "failing", workers=2)
    dying = functools.partial(toy.DyingThenBrokenTask, tmp_path / "mark")
    with pytest.raises(
        TrainingFailedError,
        match=r"^ValueError: clip 17 of howto100m is gone\nIn the worker:\nTraceback",
    ):
        run_training(dying, toy.settings(8), out)
    assert (tmp_path / "mark").exists()
    assert max(list_checkpoints(run_folder(out))) == 6, "gone on with after its death at step 5"
    # What is there is sound: one worker goes on from it to the bytes of an undisturbed run.
    run_training(toy.ToyTask, toy.settings(8), workspace(tmp_path / "failing"))
    assert digests(run_folder(out) / "checkpoints") == undisturbed(tmp_path / "undisturbed", 8)


@pytest.mark.heavy(small="test_a_worker_that_dies_is_started_again_and_one_that_raises_is_not")
def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    out = workspace(tmp_path / "dying", workers=2)
    run_training(functools.partial(toy.DyingTask, tmp_path / "mark"), toy.settings(8), out)
    assert (tmp_path / "mark").exists()
    assert digests(run_folder(out) / "checkpoints") == undisturbed(tmp_path / "undisturbed", 8)


@pytest.mark.usefixtures("ray_cluster")
def test_more_workers_than_gpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1024 workers on cuda need a GPU each"):
        train_on_ray(
            print, execution=ExecutionConfig(device="cuda"), world=1024, notes=str(tmp_path)
        )


@pytest.mark.heavy(small="test_a_worker_that_dies_is_started_again_and_one_that_raises_is_not")
@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        (toy.BrokenDataTask, TrainingFailedError, "ValueError: clip 17 of howto100m is gone"),
        (toy.DivergingTask, TrainingDivergedError, "loss is inf at step 4 of 8"),
    ],
)
def test_errors_come_through(
    task: Build, error: type[Exception], message: str, tmp_path: Path
) -> None:
    out: Workspace = workspace(tmp_path, workers=2)
    with pytest.raises(error, match=message):
        run_training(task, toy.settings(8), out)
    assert list_checkpoints(run_folder(out))
    # The note of a failure does not outlive the next try.
    run_training(toy.ToyTask, toy.settings(8), out)
    assert max(list_checkpoints(run_folder(out))) == 8
