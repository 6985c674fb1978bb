"""Claims: the progress file says what was done and how fast; its reader sees whole looks only; the
line names step, loss, rate and the time of the end; it is printed when the training ends.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipelines.training.progress import Progress, ProgressWriter, read_progress, shown
from pipelines.training.runs import Run
from storage.places import PlaceError
from storage.work import LocalWork


def test_line_by_hand() -> None:
    look = Progress(
        "encoder", 50, 250, 0.5, 32.0, trained_steps=10, seconds=5.0, lr=1e-3, waiting=0.25,
        diagnosed={"effective_rank": 12.5}, drawn={"ssv2": 1, "coin": 3},
    )  # fmt: skip
    # Half a second a step in this session, 200 steps to go.
    soon = time.time() + 100
    ends = [time.strftime("%H:%M:%S", time.localtime(soon + late)) for late in (0, 1)]
    told = (
        "encoder step 50/250, loss 0.5000, lr 0.001, 32.0 samples/s, 25% waiting for data, "
        "effective rank 12.5, drawn coin 75% ssv2 25%, ends"
    )
    lines = [f"{told} {end}" for end in ends]
    assert look.line() in lines


def run_in(folder: Path) -> Run:
    return Run(LocalWork(folder / "payload", folder))


def test_writer_and_reader(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    assert read_progress(run.folder) is None
    writer = ProgressWriter(run, "world_model", steps=7, samples_per_step=4)
    for done in (5, 6, 7):  # a resumed run: steps 1 to 4 were another session's
        writer.step(done, {"loss": 1.0 / done})
    look = read_progress(run.folder)
    assert look is not None
    assert (look.noun, look.done, look.steps, look.trained_steps) == ("world_model", 7, 7, 3)
    assert look.loss == 1 / 7
    assert look.samples_per_second == pytest.approx(3 * 4 / look.seconds, rel=0.1)
    assert [path.name for path in run.folder.iterdir()] == ["progress.json"]


def test_last_line_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_in(tmp_path)
    with shown(run, run.folder):
        ProgressWriter(run, "encoder", 2, 1).step(2, {"loss": 0.25})
    assert "encoder step 2/2, loss 0.2500" in capsys.readouterr().err
    # A rerun with nothing to train shows nothing of the run before.
    with shown(run, run.folder):
        pass
    assert capsys.readouterr().err == "" and read_progress(run.folder) is None


class SilentBucket(LocalWork):
    """Work whose notes cannot be left or read."""

    shared = False

    def note(self, name: str, data: bytes) -> None:
        raise PlaceError("bucket: SlowDown")

    def read_note(self, name: str) -> bytes | None:
        raise PlaceError("bucket: SlowDown")


def test_a_note_that_fails_is_told_once_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(SilentBucket(tmp_path / "payload", tmp_path))
    writer = ProgressWriter(run, "encoder", steps=1, samples_per_step=4)
    for _ in range(3):
        writer.step(1, {"loss": 0.5})
    told = "    progress is not shown: bucket: SlowDown\n"
    assert capsys.readouterr().err == told
    with shown(run, tmp_path):
        pass
    assert capsys.readouterr().err.startswith(told[:20])
