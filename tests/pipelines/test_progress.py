"""Claims: progress names what has been running for a while, in a log every half minute and no more
often, and the expected end moves on while nothing is finished."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import tqdm.std

from pipelines import compute
from pipelines import progress as module
from pipelines.compute import map_items
from pipelines.progress import progress
from tests.pipelines.builders import workspace


def slowly(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


class Clock:
    """Time that passes when it is told to, from the beginning of 1970 on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    monkeypatch.setattr(tqdm.std, "time", clock)
    return clock


def ends(told: str) -> str:
    [found] = re.findall(r"ends (\d\d:\d\d:\d\d)$", told, re.MULTILINE)
    return found


def test_what_runs_for_long_is_named_and_the_end_moves_on(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("yt1b files", 10) as bar:
        clock.now = 10.0
        bar.update()
        first = capsys.readouterr().err
        assert "yt1b files 1/10,  0.10/s, ends " in first and "runs" not in first
        bar.watch({"a/8k.mp4": 9.0})  # a second is no while
        assert capsys.readouterr().err == ""
        clock.now = 50.0
        bar.watch({"a/8k.mp4": 9.0, "b\n.mp4": 15.0, "c.mp4": 49.0})
        told = capsys.readouterr().err
        assert r"yt1b files 1/10, a/8k.mp4 runs for 00:41 and 1 more, " in told
        assert ends(told) != ends(first), "as much later as nothing was done for"
        clock.now = 52.0  # not at every look
        bar.watch({"a/8k.mp4": 9.0, "b\n.mp4": 15.0})
        assert capsys.readouterr().err == ""
        clock.now = 369.0
        bar.watch({"b\n.mp4": 15.0})
        later = capsys.readouterr().err
        assert r"1/10, b\x0a.mp4 runs for 05:54, " in later
        bar.watch({})
        clock.now = 370.0
        bar.update()
        assert "runs for" not in capsys.readouterr().err


def test_of_a_long_name_the_end_is_shown() -> None:
    told = module._waiting({"f/" * 100 + "end.mp4": 61.0})
    assert told.startswith("…") and told.endswith("f/end.mp4 runs for 01:01") and len(told) < 80


def test_a_walk_over_items_names_the_one_it_waits_for(
    tmp_path: Path,
    ray_cluster: None,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_SLOW", 0.3)
    monkeypatch.setattr(compute, "_LOOK_EVERY", 0.1)
    map_items(slowly, {"quick.mp4": 0.0, "slow.mp4": 1.5}, workspace(tmp_path), noun="files")
    assert "files 1/2, slow.mp4 runs for 00:0" in capfd.readouterr().err
