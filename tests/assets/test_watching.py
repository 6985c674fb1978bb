"""What a running training tells its page: loss and speed now, the features' rank lately."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import watching
from assets.definitions.watching import measured
from pipelines.training.progress import ProgressWriter
from pipelines.training.runs import Run
from storage.work import LocalWork


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A training's folder after its 20 steps; the first of two was diagnosed."""
    run = Run(LocalWork(tmp_path / "payload", tmp_path))
    writer = ProgressWriter(run, "encoder", 20, 8)
    rank = {"effective_rank": 40.0, "feature_std": 0.9}
    writer.step(19, {"loss": 1.0, "lr": 0.1}, 0.0, rank)
    time.sleep(0.01)
    writer.step(20, {"loss": 0.75, "lr": 0.05}, 1e9, None, {"ssv2": 6, "coin": 10})
    return run.folder


def test_it_tells_loss_and_speed_now_and_the_newest_diagnosis(training):
    told = measured(training)
    assert told.pop("training/samples a second") > 0
    assert told.pop("training/share of time waiting for data") > 1
    assert told == {
        "training/step": 20, "training/steps": 20, "training/loss": 0.75, "training/lr": 0.05,
        "training/effective_rank": 40.0, "training/feature_std": 0.9,
        "training/drawn from ssv2": 6, "training/drawn from coin": 10,
    }  # fmt: skip


def test_before_the_first_step_and_after_sealing_there_is_nothing_to_tell(tmp_path):
    assert measured(tmp_path) == {}
    assert measured(tmp_path / "gone") == {}


LOG = logging.getLogger("the run's log")


def test_what_it_sees_becomes_observations_of_the_asset_and_lines_of_the_log(
    training, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, LOG.name)
    monkeypatch.setattr(watching, "EVERY", 0.02)
    key, stop = dg.AssetKey("encoder"), threading.Event()
    with dg.DagsterInstance.ephemeral() as instance:
        arguments = (instance, key, None, training, stop, LOG)
        thread = threading.Thread(target=watching._report_until, args=arguments)
        thread.start()
        records: list[dg.EventLogRecord] = []
        end = time.monotonic() + 30
        while not records and time.monotonic() < end:
            records = instance.fetch_observations(key, limit=9).records
        time.sleep(0.2)
        stop.set()
        thread.join()
        records = instance.fetch_observations(key, limit=9).records
    assert len(records) == 1, "the same measured is told once"
    assert records[0].asset_observation.metadata["training/loss"].value == 0.75
    [line] = caplog.messages
    assert line.startswith("encoder step 20/20, loss 0.7500, lr 0.05, ")
    assert "effective rank 40, feature std 0.9, drawn coin 62% ssv2 38%, ends " in line


def test_a_storage_that_fails_is_told_once_and_asked_again(training, monkeypatch, capsys):
    monkeypatch.setattr(watching, "EVERY", 0.02)
    asked, stop = [], threading.Event()

    class Locked:
        def report_runless_asset_event(self, event):
            asked.append(event)
            if len(asked) == 3:
                stop.set()
            raise OSError("database is locked")

    watching._report_until(Locked(), dg.AssetKey("encoder"), None, training, stop, LOG)
    assert len(asked) == 3
    assert capsys.readouterr().err == "    the page is not kept current: database is locked\n"
