"""What 4,000 partitions cost the page, beside 40: the same server and browser, one after the other.

`python tests/benchmarks/bench_page.py` makes a graph of two assets with so many partitions each and
one that reads them all, serves it, and measures in headless Chromium how long the graph, an
asset's partitions and its checks take to be drawn; and how long one look of the sensor takes that
compares every partition with `vjepa2 status`.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import dagster as dg

from assets.definitions.freshness import Told
from assets.deployment import Deployment, deployment
from assets.runs import records
from pipelines.graph import open_inputs, statuses
from pipelines.node import Graph, every, same
from pipelines.stage import materialize
from tests.assets import conftest

ROOT = Path(__file__).resolve().parents[2]
FEW, MANY = 40, 4_000
KEYS = tuple(f"p-{n:04d}" for n in range(int(os.environ.get("PARTITIONS", FEW))))
WAIT = 120_000  # milliseconds


def _partitions(_: object) -> tuple[str, ...]:
    return KEYS


_counts, _, _total = conftest.GRAPH.nodes
GRAPH = Graph(
    (
        replace(_counts, partitions=_partitions, gates=()),
        replace(
            _counts, stage=replace(conftest.COUNTS, name="again"), partitions=_partitions,
            reads=(same("counts"),), gates=(),
        ),
        replace(_counts, stage=replace(conftest.COUNTS, name="last"), partitions=None,
                reads=(every("again"),), gates=()),
    ),
    execution=conftest.GRAPH.execution,
)  # fmt: skip


def filled(folder: Path) -> Deployment:
    """Every partition made, and known to the page."""
    environment = {
        "VJEPA2_STORE": str(folder / "store"), "VJEPA2_HOME": str(folder / "home"),
        "VJEPA2_GRAPH": "tests.benchmarks.bench_page:GRAPH", "VJEPA2_DEPLOYMENT": "default",
    }  # fmt: skip
    deployed = deployment("tiny", environment=environment)
    store = deployed.open_store()
    with records(deployed.home) as instance:
        for node in deployed.graph.nodes:
            for key in deployed.graph.keys(node.asset, deployed.profile):
                inputs = open_inputs(deployed.graph, node, key, deployed.profile, store)
                made = materialize(
                    store, node.stage, getattr(deployed.profile, node.asset), inputs,
                    asset=node.asset, partition=key, execution=deployed.profile.execution,
                )  # fmt: skip
                tags = {"dagster/data_version": made.artifact.content}
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(node.asset, partition=key, tags=tags)
                )
    return deployed


def looked(deployed: Deployment) -> float:
    """Seconds of one look of the sensor."""
    began = time.perf_counter()
    with records(deployed.home) as instance:
        store = deployed.open_store(read_only=True)
        states = list(statuses(deployed.graph, deployed.profile, store))
        assert {state.state for state in states} == {"fresh"}
        list(Told().news(instance, states))
    return time.perf_counter() - began


def drawn(deployed: Deployment, port: int) -> dict[str, float]:
    """Seconds until each view shows what it is for, the median of three."""
    from playwright import sync_api as playwright

    environment = os.environ | deployed.environment() | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "assets.cli", "ui", "--port", str(port), "--profile", "tiny"]
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info"):
                break
            time.sleep(0.5)
        with playwright.sync_playwright() as driver:
            chromium = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = chromium.new_page(base_url=f"http://127.0.0.1:{port}")
            page.set_default_timeout(WAIT)
            return {view: _seconds(page, view) for view in ("graph", "partitions", "checks")}
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(60)


def _seconds(page: object, view: str) -> float:
    told = []
    for _ in range(3):
        began = time.perf_counter()
        if view == "graph":
            page.goto("/locations/assets.definitions/asset-groups/first/lineage")
            page.get_by_text(f"{len(KEYS):,} partitions").first.wait_for()
        elif view == "partitions":
            page.goto("/assets/counts?view=partitions")
            page.get_by_text(KEYS[0], exact=True).first.wait_for()
        else:
            page.goto("/assets/counts?view=checks&checkDetail=fresh")
            page.get_by_text("it is what today").first.wait_for()
        told.append(time.perf_counter() - began)
    return statistics.median(told)


def main() -> None:
    """Measure with as many partitions as PARTITIONS says; without it, few and many, and compare."""
    if "PARTITIONS" in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            deployed = filled(Path(folder))
            told = {"look": looked(deployed), **drawn(deployed, 3900 + len(KEYS) % 97)}
            print(*(f"{name}={seconds:.3f}" for name, seconds in told.items()))
        return
    found = {}
    for count in (FEW, MANY):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__], check=True, text=True, cwd=ROOT,
            stdout=subprocess.PIPE,
            env={**os.environ, "PARTITIONS": str(count), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        pairs = (word.split("=") for word in done.stdout.split()[-4:])
        found[count] = {name: float(seconds) for name, seconds in pairs}
    for name, few in found[FEW].items():
        many = found[MANY][name]
        print(f"{name:<11} {FEW} partitions {few:.2f} s, {MANY} {many:.2f} s: {many / few:.1f} x")


if __name__ == "__main__":
    main()
