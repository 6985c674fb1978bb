"""What every test may ask for: real clips, an S3 server, a bucket in it, one Ray cluster."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.absent import skip_at_home

# The same examples wherever the suite runs, and none that a busy machine is too slow for.
settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")

ROOT = Path(__file__).resolve().parent.parent
_PREFIXES = itertools.count()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips (`VJEPA_REAL_DATA`); absent, a skip at home and a failure in CI."""
    folder = Path(os.environ.get("VJEPA_REAL_DATA", ROOT.parent / "shared" / "data"))
    if (folder / "videos").is_dir():
        return folder
    skip_at_home(f"no real clips at {folder}: set VJEPA_REAL_DATA to the folder that has videos/")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster with two CPUs for the whole session."""
    # Ray comes through its door, which says before the import that ports stay on the loopback.
    from pipelines import compute
    from pipelines.execution import ExecutionConfig

    compute.start(ExecutionConfig(workers=2))
    yield
    compute.ray.shutdown()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real S3 server process on the loopback interface, with a bucket `house`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("s3") / "server.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with open(log, "wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        _make_bucket(server, f"{address}/house", log)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def _make_bucket(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5).close()
            return
        except (urllib.error.URLError, OSError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no S3 server: {error}\n{log.read_text()}") from None
            time.sleep(0.1)


@pytest.fixture
def s3_store(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://house/<a fresh prefix>` on the server process; the environment leads boto3 to it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return f"s3://house/prefix-{next(_PREFIXES)}"
