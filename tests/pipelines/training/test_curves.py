"""Claims: the curves of a training are read back by TensorBoard's and MLflow's own readers, step by
step, with the numbers of the log; a resumed training goes on in the same run, and what it trains
again replaces what was written beyond its checkpoint; draws are counted by source; a server that is
away ends no training; a password in the address is refused.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.execution import ExecutionConfig
from pipelines.settings import SettingError
from pipelines.training import curves
from pipelines.training.checkpoints import list_checkpoints
from pipelines.training.distributed import Workers
from pipelines.training.loop import train
from pipelines.training.runs import Run
from storage.errors import InputError
from storage.work import LocalWork
from tests.pipelines.training import toy

CPU = torch.device("cpu")


class SourcedTask(toy.ToyTask):
    """Every shard brings a sample of one source and two of another."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.drawn = {"ssv2": 0, "coin": 0}

    def loss(self, batch: torch.Tensor, step: int, shard: int):  # type: ignore[no-untyped-def]
        self.drawn["ssv2"] += 1
        self.drawn["coin"] += 2
        return super().loss(batch, step, shard)


def run_in(folder: Path) -> Run:
    return Run(LocalWork(folder / "abc123" / "payload", folder / "abc123" / "scratch"))


def logged(run: Run) -> dict[int, dict[str, float]]:
    return {
        row["step"]: row
        for folder in list_checkpoints(run.folder).values()
        for row in json.loads((folder / "rows.json").read_text())
    }


def test_both_have_the_curves_of_the_log_also_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    run = run_in(tmp_path)
    asked = replace(toy.settings(6, every=4), tensorboard=tmp_path / "board", mlflow=uri)

    class Killed(SourcedTask):
        def schedule(self, step: int) -> dict[str, float]:
            if step == 5:
                raise KeyboardInterrupt
            return super().schedule(step)

    with pytest.raises(KeyboardInterrupt):  # after step 5, and the checkpoint after step 4
        train(Killed, asked, run, Workers(), CPU)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("vjepa2")
    [broken] = client.search_runs([experiment.experiment_id])
    assert broken.info.status == "FAILED", "it did not come to its end"
    train(SourcedTask, asked, run, Workers(), CPU)
    rows = logged(run)
    assert sorted(rows) == [1, 2, 3, 4, 5, 6]

    board = EventAccumulator(str(tmp_path / "board" / "toy-abc123"))
    board.Reload()
    for name in ("loss", "lr", "gradient_norm"):
        seen = {event.step: event.value for event in board.Scalars(name)}
        assert seen == pytest.approx({step: row[name] for step, row in rows.items()}, rel=1e-6)
    assert [event.step for event in board.Scalars("size")] == [1, 2, 4, 6]
    assert board.Scalars("drawn/coin")[-1].value == 2 * 4 * 2  # two steps of four shards
    assert {"samples_per_second", "waiting_for_data"} <= set(board.Tags()["scalars"])

    [found] = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "toy-abc123" and found.info.status == "FINISHED"
    history = client.get_metric_history(found.info.run_id, "loss")
    assert {m.step: m.value for m in history} == pytest.approx(
        {s: r["loss"] for s, r in rows.items()}
    )


def test_a_server_that_is_away_is_told_once_and_ends_no_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = replace(toy.settings(2), mlflow="nowhere://")
    run = run_in(tmp_path)
    train(toy.ToyTask, asked, run, Workers(), CPU)
    assert list(list_checkpoints(run.folder)) == [2]
    told = capsys.readouterr().err
    assert told.count("MLflow has no curves of this run") == 1


def test_what_cannot_be_is_said_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SettingError, match="MLFLOW_TRACKING_PASSWORD"):
        ExecutionConfig(mlflow="https://me:secret@host/")
    monkeypatch.setitem(curves.EXTRAS, "tensorboard", "no_such_package")
    with pytest.raises(InputError, match="install this project with the extra tensorboard"):
        curves.check_packages(Path("x"), None)
    curves.check_packages(None, None)
