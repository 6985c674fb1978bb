"""Workers that share nothing with the process that started them but an S3 store: the artifacts have
the bytes of a walk on one disk. Here they have another cache and working folder; the long proof
gives each of two nodes a network and a file system of its own, and trains on both."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.absent import skip_at_home

ROOT = Path(__file__).resolve().parents[2]


def walked(*words: str, **environment: str) -> dict[str, Any]:
    """What `tests.pipelines.spread` prints, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipelines.spread", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=400, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_workers_with_another_cache_give_the_bytes_of_one_disk(
    s3_store: str, tmp_path: Path
) -> None:
    there = str(tmp_path / "workers")
    far = walked(s3_store, str(tmp_path / "driver"), "2", there)
    near = walked(str(tmp_path / "store"), str(tmp_path / "cache"), "1")
    assert far["contents"] == near["contents"]
    assert set(far["contents"]) == {
        "raw_videos/ssv2", "scenes/ssv2", "clip_shards/ssv2", "duplicates", "videomix22m",
    }  # fmt: skip
    assert [look["folder"] for look in far["looks"]] == [there]
    # Tasks fetched what they read into their own cache, never through the driver's.
    fetched = {path.suffix for path in (tmp_path / "workers").rglob("objects/*/media/*")}
    assert fetched, "no task read a video through its own cache"
    assert not list((tmp_path / "driver").rglob("objects/*/media/*.mp4"))


# ------------------------------------------------------------------ two nodes

NET = "10.203.7"
S3 = {
    "AWS_ENDPOINT_URL": f"http://{NET}.1:5000", "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip
# A machine: its own name, processes, network, temporary files, shared memory, home.
NODE = """
set -e
hostname {name}
mount --bind '{root}' /mnt
mount -t tmpfs tmpfs /tmp
[ -e '{root}' ] || {{ mkdir -p '{root}'; mount --bind /mnt '{root}'; }}  # a checkout below /tmp
mount -t tmpfs tmpfs /dev/shm
mkdir -p /tmp/home /tmp/here
export HOME=/tmp/home TMPDIR=/tmp GLOO_SOCKET_IFNAME=eth0
cd /tmp/here
{run}
"""


class Nodes:
    """Network namespaces `hub` (the S3 server), `a` and `b`, and the processes in them."""

    def __init__(self, log: Path) -> None:
        self.mark = f"vj{os.getpid()}"
        self.log = log
        self.processes: list[subprocess.Popen[str]] = []

    def ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    def name(self, node: str) -> str:
        return f"{self.mark}{node}"

    def connect(self) -> None:
        hub = self.name("hub")
        for node in ("hub", "a", "b"):
            self.ip("netns", "add", self.name(node))
            self.ip("-n", self.name(node), "link", "set", "lo", "up")
        self.ip("-n", hub, "link", "add", "br0", "type", "bridge")
        self.ip("-n", hub, "addr", "add", f"{NET}.1/24", "dev", "br0")
        self.ip("-n", hub, "link", "set", "br0", "up")
        for number, node in ((2, "a"), (3, "b")):
            here = self.name(node)
            self.ip("-n", here, "link", "add", "eth0", "type", "veth", "peer", "name",
                    f"to-{node}", "netns", hub)  # fmt: skip
            self.ip("-n", hub, "link", "set", "dev", f"to-{node}", "master", "br0", "up")
            self.ip("-n", here, "addr", "add", f"{NET}.{number}/24", "dev", "eth0")
            self.ip("-n", here, "link", "set", "eth0", "up")

    def start(self, node: str, run: str, **environment: str) -> subprocess.Popen[str]:
        alone = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
                 "--mount-proc", "--propagation", "private"]  # fmt: skip
        script = NODE.format(name=f"node-{node}", root=ROOT, run=run)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "VJEPA2_"))}
        with open(self.log / node, "w") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name(node), *alone, "bash", "-c", script],
                env={**kept, **S3, "PYTHONPATH": str(ROOT), **environment}, text=True,
                stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for node in ("hub", "a", "b"):
            subprocess.run(["ip", "netns", "del", self.name(node)], check=False)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    able = subprocess.run(["unshare", "--mount", "--net", "true"], check=False).returncode == 0
    if not able or os.geteuid() != 0:
        skip_at_home("namespaces of networks and mounts are made by root alone: run as root")
    made = Nodes(tmp_path)
    try:
        made.connect()
        yield made
    finally:
        made.end()


@pytest.mark.heavy(small="test_workers_with_another_cache_give_the_bytes_of_one_disk")
def test_two_nodes_that_share_a_bucket_alone_give_the_bytes_of_one_disk(
    nodes: Nodes, tmp_path: Path
) -> None:
    python, cluster = sys.executable, f"{NET}.2:6379"
    ray = f"{python} -m ray.scripts.scripts start --block --num-cpus=1"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    token |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
    nodes.start("hub", f"{python} -m moto.server -H {NET}.1 -p 5000")
    driver = nodes.start(
        "a",
        f"{python} -c 'import time, urllib.request as r\n"
        f"for _ in range(300):\n"
        f'  try: r.urlopen(r.Request("http://{NET}.1:5000/house", method="PUT")); break\n'
        f"  except OSError: time.sleep(0.2)'\n"
        f"{ray} --head --node-ip-address={NET}.2 --port=6379 --include-dashboard=false >&2 &\n"
        f"sleep 8\n"
        f"RAY_ADDRESS={cluster} SPREAD_NODES=2 "
        f"{python} -m tests.pipelines.spread s3://house/walk /tmp/cache 2 '' train",
        **token,
    )
    nodes.start(
        "b",
        f"sleep 12; {ray} --address={cluster} --node-ip-address={NET}.3 >&2",
        VJEPA2_CACHE="/tmp/other-cache", **token,
    )  # fmt: skip
    told, _ = driver.communicate(timeout=500)
    logs = "\n".join((tmp_path / node).read_text() for node in ("a", "b"))
    assert driver.returncode == 0, logs
    far = json.loads(told.splitlines()[-1])
    near = walked(str(tmp_path / "store"), str(tmp_path / "cache"), "1", "", "train")
    assert far["contents"] == near["contents"] and "encoder" in far["contents"]
    # One worker of the training a node: each has one CPU. Node b sees no file of node a.
    looks = {look["host"]: look["seen"] for look in far["looks"]}
    assert set(looks) == {"node-a", "node-b"}
    assert far["files"] > 10 and len(looks["node-a"]) == far["files"]
    assert looks["node-b"] == []
