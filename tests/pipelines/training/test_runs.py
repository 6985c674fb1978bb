"""Checkpoints through a bucket: a run that was cut off goes on, on a machine with nothing of it,
to the bytes of an undisturbed one; what one machine alone has is no checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pipelines.training import runs
from pipelines.training.checkpoints import list_checkpoints
from pipelines.training.distributed import Workers
from pipelines.training.loop import train
from pipelines.training.runs import Run
from storage.manifests import ArtifactError
from storage.work import LocalWork, S3Work
from tests.pipelines.training import toy
from tests.pipelines.training.material import digests

CPU = torch.device("cpu")


def trained(run: Run, steps: int) -> None:
    train(toy.ToyTask, toy.settings(steps), run, Workers(), CPU)


def test_another_machine_goes_on_from_the_bucket(s3_store: str, tmp_path: Path) -> None:
    here, there = (Run(S3Work(s3_store, "recipe", tmp_path / n)) for n in ("here", "there"))
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    trained(here, 4)
    assert sorted(here.checkpoints()) == [2, 4]
    assert sorted(list_checkpoints(here.folder)) == [4], "older ones are in the bucket alone"
    trained(there, 8)
    alone = Run(LocalWork(tmp_path / "payload", tmp_path / "scratch"))
    trained(alone, 8)
    fetched = {
        f"step-{step:06d}/{name}": found.file(name)
        for step, found in there.checkpoints().items()
        for name in found.files
    }
    expected = alone.folder / "checkpoints"
    assert set(fetched) == set(digests(expected))
    for name, path in fetched.items():
        assert path.read_bytes() == (expected / name).read_bytes(), name


def test_what_was_never_pushed_is_no_place_to_go_on_from(s3_store: str, tmp_path: Path) -> None:
    run = Run(S3Work(s3_store, "recipe", tmp_path))
    trained(run, 2)
    beyond = run.folder / "checkpoints" / "step-000004"
    (run.folder / "checkpoints" / "step-000002").rename(beyond)
    run.pull()
    assert sorted(list_checkpoints(run.folder)) == [2]
    run.note("failure.json", b"{}")
    assert Run(S3Work(s3_store, "recipe", tmp_path / "other")).read_note("failure.json") == b"{}"
    run.remove_note("failure.json")
    assert run.read_note("failure.json") is None


def test_workers_of_one_machine_remove_the_same_checkpoint(
    s3_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(S3Work(s3_store, "recipe", tmp_path))
    trained(run, 2)
    pushed = run.folder / "checkpoints" / "step-000002"
    shutil.copytree(pushed, pushed.with_name("step-000004"))
    listed = list_checkpoints(run.folder)
    run.pull()  # another worker was quicker than this one, which has just listed both:
    monkeypatch.setattr(runs, "list_checkpoints", lambda _: listed)
    run.pull()
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == [pushed.name]


def test_a_run_that_was_cleared_meanwhile_is_not_taken_for_whole(
    s3_store: str, tmp_path: Path
) -> None:
    run = Run(S3Work(s3_store, "recipe", tmp_path))
    trained(run, 2)
    run.remove_note("checkpoints.json")  # another machine sealed the same training
    beyond = run.folder / "checkpoints" / "step-000004"
    shutil.copytree(run.folder / "checkpoints" / "step-000002", beyond)
    with pytest.raises(ArtifactError, match="checkpoint after step 2 is no longer in the bucket"):
        run.push(beyond)
    run.pull()
    trained(run, 4)
    assert sorted(run.checkpoints()) == [2, 4], "from the start, and whole"
