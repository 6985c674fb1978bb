"""Claims: work on a file may take so much time and memory, and no more, whatever library it is in;
what crashes is told; the process is kept from call to call and ends with the one that asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines import isolation
from pipelines.isolation import LimitError, Limits, isolated
from storage.media import MediaError

SHORT = Limits(seconds=0.5, memory_mb=1024)


def process_of(_: object) -> int:
    print("not among the answers")
    return os.getpid()


def compute_forever(_: object) -> None:
    while True:
        np.arange(1000).sum()


def sleep_forever(_: object) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.2)  # what is allowed would be long for a test
    time.sleep(60)


def hoard(mebibytes: int) -> int:
    return int(np.ones(mebibytes << 20, np.uint8).sum())


def crash(_: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def refuse(name: str) -> None:
    raise MediaError(f"{name} is missing")


def tell_and_wait(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.parametrize(
    ("function", "item", "told"),
    [
        (compute_forever, 0, r"^takes more than 0.5 s of CPU \(limits\.seconds\)$"),
        (sleep_forever, 0, r"^takes more than 65 s by the clock \(limits\.seconds\)$"),
        (hoard, 1100, r"^takes more than 1024 MiB of memory \(limits\.memory_mb\)$"),
        (crash, 0, r"^crashes what reads it \(SIGSEGV\)$"),
    ],
)
def test_what_takes_too_much_is_ended_and_the_next_call_works(
    function: Callable, item: int, told: str
) -> None:
    with pytest.raises(LimitError, match=told):
        isolated(function, item, SHORT)
    assert isolated(hoard, 10, SHORT) == 10 << 20


def test_one_process_serves_many_calls_whatever_they_print_or_raise() -> None:
    first = isolated(process_of, 0, SHORT)
    assert first != os.getpid()
    with pytest.raises(MediaError, match=r"^a\.mp4 is missing$"):
        isolated(refuse, "a.mp4", SHORT)
    assert isolated(process_of, 0, Limits()) == first
    isolation._CHILDREN[0].end()
    assert isolated(process_of, 0, SHORT) != first


def test_a_call_that_is_interrupted_leaves_no_answer_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(isolation, "_receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            isolated(hoard, 3, SHORT)
    assert isolated(hoard, 1, SHORT) == 1 << 20


def test_the_process_ends_with_the_one_that_asks(tmp_path: Path) -> None:
    code = (
        "from tests.pipelines.test_isolation import *; "
        f"isolated(tell_and_wait, {str(tmp_path / 'pid')!r}, Limits())"
    )
    asker = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    child = int(text_of(tmp_path / "pid"))
    asker.kill()
    asker.wait()
    deadline = time.monotonic() + 20
    while alive(child):
        assert time.monotonic() < deadline, "it would decode for hours, for nobody"
        time.sleep(0.1)


def text_of(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, "it never began"
        time.sleep(0.01)
    return path.read_text()


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_limits_have_a_range() -> None:
    with pytest.raises(ValueError, match=r"Limits.seconds = 0.0: must be above 0"):
        Limits(seconds=0.0)
    with pytest.raises(ValueError, match=r"Limits.memory_mb = 100: must be at least 512"):
        Limits(memory_mb=100)
