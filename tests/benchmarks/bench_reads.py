"""Bytes fetched from an S3 store, with a cold cache, to make an asset or to tell of a graph.

A tiny graph is walked up to `probe_report` on an S3 server of this process, which counts what it
sends. Then, each time with an empty cache folder: `videomix22m` and `probe_report` are made anew
(their manifests are taken away first), and the summary is told of a graph that is fresh.

    python tests/benchmarks/bench_reads.py [--tree CHECKOUT] [--cache SETTING]

`--tree` measures the code of another checkout, which may have called its cache something else.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

ROOT = Path(__file__).resolve().parents[2]
ASSET = "probe_report"
CACHE = ["execution.cache"]


class Counting:
    """Counts the bytes of answers to GET, by the first folder below the store's prefix."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app, self.sent = app, Counter[str]()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        parts = environ["PATH_INFO"].split("/")
        # /house/store/objects/<content>/...; a listing has no key.
        kind = parts[3] if len(parts) > 4 else "listings"
        for block in self.app(environ, start):
            if environ["REQUEST_METHOD"] == "GET":
                self.sent[kind] += len(block)
                if kind == "objects":
                    self.sent[f"objects *{Path(parts[-1]).suffix}"] += len(block)
            yield block


def settings_of(tree: Path) -> list[str]:
    """The settings of a tiny graph in a checkout."""
    code = "import json; from tests.tiny import TINY; print(json.dumps(TINY))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return list(json.loads(done.stdout))


def vjepa2(tree: Path, folder: Path, cache: str, *words: str) -> None:
    """Run the command line of a checkout on the store, with a cache folder of that name."""
    settings = [*settings_of(tree), f"{CACHE[0]}={folder / cache}"]
    told = {
        "VJEPA2_HOME": str(folder / "home"), "VJEPA2_PROFILE": "demo",
        "VJEPA2_STORE": "s3://house/store", "VJEPA2_SET": shlex.join(settings),
        "PYTHONPATH": str(tree),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "assets.cli", *words], cwd=tree, env={**os.environ, **told},
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"vjepa2 {words}: {done.stdout}{done.stderr}")


def forget(client: Any, asset: str) -> None:
    """Take an asset's manifests out of the store: it has to be made anew."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="house"):
        for entry in page.get("Contents", ()):
            if "/manifests/" in entry["Key"]:
                held = client.get_object(Bucket="house", Key=entry["Key"])["Body"].read()
                if json.loads(held)["asset"] == asset:
                    client.delete_object(Bucket="house", Key=entry["Key"])
            elif "/refs/" in entry["Key"] and f"/{asset}" in entry["Key"]:
                client.delete_object(Bucket="house", Key=entry["Key"])


def main() -> None:
    """Walk, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tree", type=Path, default=ROOT)
    parser.add_argument("--cache", default=CACHE[0])
    asked = parser.parse_args()
    tree, CACHE[0] = asked.tree.resolve(), asked.cache
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    counting = Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, counting, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    client = boto3.client("s3")
    client.create_bucket(Bucket="house")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vjepa2(tree, folder, "warm", "run", ASSET)
        for asset in ("videomix22m", "probe_report", ""):
            if asset:
                forget(client, asset)
            counting.sent.clear()
            vjepa2(tree, folder, f"cold-{asset}", "run", asset or ASSET)
            told = ", ".join(f"{kind} {size:,}" for kind, size in sorted(counting.sent.items()))
            print(f"{asset or 'summary':<14} {told}", flush=True)
    server.shutdown()


if __name__ == "__main__":
    main()
