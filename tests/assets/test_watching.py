"""What a running training tells its page: loss and speed now, the features' rank lately."""

from __future__ import annotations

import json
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
    """A training's folder after 20 of 100 steps, with two checkpoints."""
    run = Run(LocalWork(tmp_path / "payload", tmp_path))
    for step, rank in ((10, 50.0), (20, 40.0)):
        folder = run.folder / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        rows = [
            {"step": step - 1, "loss": 1.0, "effective_rank": rank, "feature_std": 0.9},
            {"step": step, "loss": 1.0},
        ]
        (folder / "rows.json").write_text(json.dumps(rows))
    ProgressWriter(run, "encoder", 100, 8).step(20, 0.75)
    return run.folder


def test_it_tells_loss_and_speed_now_and_the_newest_diagnosis(training):
    told = measured(training)
    assert told.pop("training/samples a second") > 0
    assert told == {
        "training/step": 20, "training/steps": 100, "training/loss": 0.75,
        "training/effective_rank": 40.0, "training/feature_std": 0.9,
    }  # fmt: skip


def test_before_the_first_step_and_after_sealing_there_is_nothing_to_tell(tmp_path):
    assert measured(tmp_path) == {}
    assert measured(tmp_path / "gone") == {}


def test_what_it_sees_becomes_observations_of_the_asset(training, monkeypatch):
    monkeypatch.setattr(watching, "EVERY", 0.02)
    key, stop = dg.AssetKey("encoder"), threading.Event()
    with dg.DagsterInstance.ephemeral() as instance:
        arguments = (instance, key, None, training, stop)
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


def test_a_storage_that_fails_is_told_once_and_asked_again(training, monkeypatch, capsys):
    monkeypatch.setattr(watching, "EVERY", 0.02)
    asked, stop = [], threading.Event()

    class Locked:
        def report_runless_asset_event(self, event):
            asked.append(event)
            if len(asked) == 3:
                stop.set()
            raise OSError("database is locked")

    watching._report_until(Locked(), dg.AssetKey("encoder"), None, training, stop)
    assert len(asked) == 3
    assert capsys.readouterr().err == "    the page is not kept current: database is locked\n"
