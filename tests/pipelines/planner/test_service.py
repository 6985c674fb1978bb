"""Claims: over HTTP a planner gives the plan that it gives in the process; a wrong token, a request
of a gigabyte and whatever cannot be read are refused with one line before anything is read or
moved; one arm is asked one question at a time. Under Ray Serve a client in another process drives
the simulated arm, on the loopback interface alone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.planner.bundle import BundleError, load_planner
from pipelines.planner.client import PlannerClient, _refusal
from pipelines.planner.requests import (
    MAX_BYTES,
    Question,
    RequestError,
    read_question,
    write_question,
)
from pipelines.planner.service import Guard, PlannerApp
from pipelines.provenance import ROOT
from tests.pipelines.planner.test_bundle import STATE, exported, pictures, upstream

__all__ = ["upstream"]
TOKEN = "a-secret"
KEY = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def bundle(upstream, tmp_path) -> Path:
    return exported(upstream, tmp_path / "bundle")


@pytest.fixture
def app(bundle) -> Guard:
    return Guard(PlannerApp(bundle), hashlib.sha256(TOKEN.encode()).hexdigest())


def asked(app, method: str, path: str, body: bytes = b"", headers=KEY, pieces: int = 1):
    """Status and answer; the third value is how many times the body was asked for."""
    told: list[dict[str, Any]] = []
    size = max(1, -(-len(body) // pieces))
    parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": parts[taken - 1], "more_body": taken < len(parts)}

    async def send(message) -> None:
        told.append(message)

    named = {"content-length": str(len(body))} | headers
    raw = [(name.encode(), value.encode()) for name, value in named.items() if value is not None]
    asyncio.run(
        app({"type": "http", "method": method, "path": path, "headers": raw}, receive, send)
    )
    return told[0]["status"], json.loads(told[1]["body"]), taken


def question(**changed: Any) -> bytes:
    frame, goal = pictures()
    told = json.loads(write_question(Question(frame, goal, STATE, 2)))
    return json.dumps({k: v for k, v in (told | changed).items() if v is not None}).encode()


def test_the_answer_is_the_planners(app, bundle):
    frame, goal = pictures()
    here = load_planner(bundle).search(frame, STATE, goal, 2)
    status, told, _ = asked(app, "POST", "/plan", question(), pieces=7)
    assert status == 200 and told["action"] == here.actions[0].double().tolist()
    assert (told["energy"], told["staying"]) == (here.energy, here.staying)
    status, about, _ = asked(app, "GET", "/about")
    assert status == 200 and about["rate_hz"] == 4.0 and about["max_bytes"] == MAX_BYTES


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        (KEY | {"content-length": str(1 << 30)}, 413),
        (KEY | {"content-length": "9" * 40}, 413),
        (KEY | {"content-length": None}, 411),
        (KEY | {"content-length": "-5"}, 411),
    ],
)
def test_what_is_not_let_in_is_not_read(app, headers, status):
    found, told, taken = asked(app, "POST", "/plan", question(), headers)
    assert (found, taken) == (status, 0)
    assert "\n" not in told["error"] and TOKEN not in told["error"]


def test_who_lies_about_the_length_is_stopped(app):
    status, told, taken = asked(
        app, "POST", "/plan", b" " * (MAX_BYTES + (1 << 20)), KEY | {"content-length": "10"}, 16
    )
    assert status == 413 and taken <= 16 and f"at most {MAX_BYTES}" in told["error"]


def picture(shape: list[Any], data: str | bytes = b"") -> dict[str, Any]:
    return {
        "shape": shape,
        "data": data if isinstance(data, str) else base64.b64encode(data).decode(),
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"goal_frame": picture([2, 2, 3], bytes(12))}, "goal_frame is [2, 2, 3], frame [48, 40"),
        ({"state": [float("nan")] * 7}, "state must be 7 finite numbers"),
        ({"state": [10**400] * 7}, "state must be 7 finite numbers"),
        ({"state": [0.0] * 6}, "state must be 7 finite numbers"),
        ({"state": None}, "the request must be an object of"),
        ({"pickle": "x"}, "the request must be an object of"),
        ({"step": -1}, "step is '-1'"),
        ({"step": True}, "step is 'True'"),
        ({"frame": picture([10**9, 1, 3])}, "frame.shape must be [H, W, 3]"),
        ({"frame": picture([2, 2, 3], bytes(11))}, "frame.data holds 11 bytes, its shape says 12"),
        ({"frame": picture([2, 2, 3], "é%")}, "frame.data is no base64"),
        ({"frame": [1, 2]}, "frame must be an object of shape and data"),
    ],
)
def test_what_cannot_be_planned_for_is_told(app, changed, said):
    status, told, _ = asked(app, "POST", "/plan", question(**changed))
    assert status == 400 and told["error"].startswith(said)


def test_other_places_and_no_json(app):
    assert asked(app, "POST", "/plan", b"[" * 100_000)[:2] == (
        400,
        {"error": "the request is no JSON"},
    )
    assert asked(app, "GET", "/plan")[0] == 405
    assert asked(app, "POST", "/shell", b"{}")[0] == 404
    again = read_question(question())
    assert again.step == 2 and (again.frame == pictures()[0]).all()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_damaged_bundle_is_not_served(bundle, tmp_path, capsys):
    data = bytearray((bundle / "encoder.safetensors").read_bytes())
    data[-1] ^= 1
    (bundle / "encoder.safetensors").write_bytes(data)
    with pytest.raises(BundleError, match=r"encoder\.safetensors is not what was exported"):
        PlannerApp(bundle)
    from pipelines.serving import main

    assert main([str(bundle), "--token-file", str(tmp_path / "token")]) == 2
    assert "is not what was exported" in capsys.readouterr().err
    assert not (tmp_path / "token").exists()  # that of who serves already is left alone


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (b'{"error": "no token"}', "no token"),
        (b"Request dropped due to backpressure\nmore", "Request dropped due to backpressure"),
        (b"[]", "[]"),
        (b"", "no reason is given"),
    ],
)
def test_a_refusal_is_one_line_whoever_refuses(told, said):
    assert _refusal(told) == said


@pytest.mark.heavy(small="test_the_answer_is_the_planners")
def test_a_client_in_another_process_drives_the_simulated_arm(bundle, tmp_path):
    from pipelines.robot.environment import ReachEnvironment

    port, token = free_port(), tmp_path / "token"
    words = [
        "-m",
        "pipelines.serving",
        str(bundle),
        "--port",
        str(port),
        "--token-file",
        str(token),
    ]
    served = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert served.stdout is not None and f":{port}/plan" in served.stdout.readline()
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        client, here = PlannerClient(port, token), load_planner(bundle)
        environment = ReachEnvironment("lab-500", 3, 48)
        seen, goal = environment.reset(), environment.goal(environment.random_goal(0.2, 1))
        seconds = []
        for step in range(100):
            begin = time.perf_counter()
            action = client.plan(seen[0], seen[1], goal[0], step)
            seconds.append(time.perf_counter() - begin)
            if step < 5:
                assert (action == here.plan(seen[0], seen[1], goal[0], step)).all()
                seen = environment.step(action)
        p50, p99 = np.quantile(seconds, [0.5, 0.99])
        print(f"p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms")
        with pytest.raises(RequestError, match="state must be 7 finite numbers"):
            client.plan(seen[0], np.full(7, np.nan), goal[0])
        (tmp_path / "wrong").write_text("wrong")
        with pytest.raises(RequestError, match="no token, or a wrong one"):
            PlannerClient(port, tmp_path / "wrong").plan(seen[0], seen[1], goal[0])
        assert gigabyte_is_refused(port, token.read_text().strip())
        assert listening(port) == {"0100007F"}  # 127.0.0.1, as the kernel writes it
    finally:
        served.terminate()
        served.wait(60)


def listening(port: int) -> set[str]:
    """The addresses at which somebody listens on a port, as in /proc/net/tcp."""
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    places = (row[1].split(":") for row in rows if row[3] == "0A")
    return {address for address, at in places if int(at, 16) == port}


def gigabyte_is_refused(port: int, token: str) -> bool:
    """Whether a request that claims a gigabyte is answered 413 before it was sent."""
    head = f"POST /plan HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: "
    with socket.create_connection(("127.0.0.1", port), 30) as line:
        line.sendall(f"{head}{1 << 30}\r\n\r\n".encode())
        return line.recv(20).startswith(b"HTTP/1.1 413")
