"""A cluster that somebody else started: it is used with its token, and one that does not answer, or
asks for another token, is one line within fifteen seconds."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cluster import reach
from storage.errors import InputError
from tests.pipelines.counting import ITEMS

ROOT = Path(__file__).resolve().parents[2]
START = """
import time
from pipelines.compute import ray, start
from pipelines.execution import ExecutionConfig
from storage.errors import InputError
began = time.monotonic()
try:
    start(ExecutionConfig())
    print("sum", ray.get(ray.remote(lambda: 1 + 2).remote()))
except InputError as error:
    print(error)
print("seconds", time.monotonic() - began)
"""


def started(address: str, **environment: str) -> tuple[str, float]:
    """What a process says that starts on the cluster at an address, and how long that took."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", START], cwd=ROOT, capture_output=True, text=True,
        timeout=400, env={**os.environ, "RAY_ADDRESS": address, **environment}, check=True,
    )  # fmt: skip
    *lines, last = done.stdout.strip().splitlines()
    assert len(lines) == 1, done.stdout + done.stderr
    return lines[0], float(last.split()[1])


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_address_where_nobody_listens_is_one_line_within_fifteen_seconds(port: int) -> None:
    told, seconds = started(f"127.0.0.1:{port}")
    assert told.startswith(f"RAY_ADDRESS=127.0.0.1:{port}: nobody answers there (")
    assert "unset RAY_ADDRESS" in told
    assert seconds < 15


def test_one_that_listens_and_says_nothing_is_told_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(InputError, match=r"no cluster of Ray answers \(silence for 5 s\)"):
            reach(at, str, lambda _: time.sleep(60))
        assert time.monotonic() - began < 15


@pytest.mark.parametrize("address", ["nowhere", "host:port", "127.0.0.1:99999"])
def test_what_is_no_address_is_one_line(address: str) -> None:
    with pytest.raises(InputError, match=f"RAY_ADDRESS={address}: nobody answers there"):
        reach(address, str, lambda _: None)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A head as the README starts one: (address, environment of everybody who may use it)."""
    token = {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray = str(Path(sys.executable).parent / "ray")
    log = tmp_path_factory.mktemp("head") / "log"
    token["DIARY"] = str(log.with_name("diary"))  # of the counting stage: workers have its name
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [ray, "start", "--head", "--port", str(port), "--block", "--num-cpus", "2",
             "--include-dashboard", "false", "--object-store-memory", "100000000"],
            env={**os.environ, **token}, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.5)
        yield f"127.0.0.1:{port}", token
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_a_head_with_a_token_is_used_by_who_has_it_and_by_nobody_else(head) -> None:
    address, token = head
    assert started(address, **token)[0] == "sum 3"
    told, seconds = started(address, **{**token, "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    assert told.startswith(f"RAY_ADDRESS={address}: the cluster asks for another token; give")
    assert token["RAY_AUTH_TOKEN"] not in told
    assert seconds < 15


def walked(head, *command: str) -> str:
    """What a module of the tests prints that runs on the head."""
    address, token = head
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=800,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": address, **token}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_stage_spreads_its_items_on_a_head_with_a_token(head, tmp_path: Path) -> None:
    walked(head, "tests.pipelines.counting", str(tmp_path / "store"), "0")
    assert sorted(Path(head[1]["DIARY"]).read_text().split()) == sorted(ITEMS)


@pytest.mark.heavy(small="test_a_stage_spreads_its_items_on_a_head_with_a_token")
def test_the_graph_is_walked_on_a_head_with_a_token(head, tmp_path: Path) -> None:
    told = walked(
        head, "tests.pipelines.spread", str(tmp_path / "store"), str(tmp_path / "cache"), "1"
    )
    assert "videomix22m" in told.splitlines()[-1]
