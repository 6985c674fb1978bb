"""Serving a planner with Ray Serve, on the loopback interface.

    python -m pipelines.serving <bundle> --port 8100 --token-file planner.token

The token is made anew and left in a file that its owner alone can read; it is in no log. Ray's own
ports are loopback, too (see `pipelines.compute`). Whoever wants the planner on a network puts a
proxy with TLS before it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

# Read by Ray Serve when it is imported: a busy machine is given a minute to open the port.
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")

from pipelines import compute
from pipelines.execution import ExecutionConfig
from pipelines.planner.bundle import check_digests
from pipelines.planner.service import Guard, PlannerApp
from storage.errors import UserError

from ray import serve  # isort: skip  (after compute: it says how Ray is to be imported)


def leave_token(path: Path) -> str:
    """Make a token, leave it in a file of mode 600 and return its SHA-256."""
    token = secrets.token_urlsafe(32)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{token}\n")
    return hashlib.sha256(token.encode()).hexdigest()


def start(bundle: Path, port: int, token_digest: str) -> None:
    """Serve a whole bundle at a port of the loopback interface; returns when it answers."""
    compute.start(ExecutionConfig(workers=1))
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    app = serve.ingress(lambda: Guard(PlannerApp(bundle.resolve()), token_digest))()
    # Who waits has been asked for no token yet, and Ray's proxy holds what was sent: few may.
    served = serve.deployment(
        app, name="planner", num_replicas=1, max_ongoing_requests=4, max_queued_requests=4
    )
    serve.run(served.bind(), name="planner", route_prefix="/")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; a bundle that is not whole is refused before anything is begun."""
    parser = argparse.ArgumentParser(prog="pipelines.serving", description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path, help="the folder of a planner_bundle")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--token-file", type=Path, default=Path("planner.token"))
    asked = parser.parse_args(arguments)
    try:
        check_digests(asked.bundle)
    except UserError as refused:
        print(refused, file=sys.stderr)
        return 2
    done = threading.Event()
    for sort in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sort, lambda *_: done.set())
    start(asked.bundle, asked.port, leave_token(asked.token_file))
    print(f"http://127.0.0.1:{asked.port}/plan, token in {asked.token_file}", flush=True)
    done.wait()
    serve.shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
