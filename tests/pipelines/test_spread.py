"""Workers that share nothing with the process that started them but an S3 store: the artifacts have
the bytes of a walk on one disk. Here they have another cache and working folder; the long proof
gives each of two nodes a network and a file system of its own, and trains on both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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
        "raw_videos/ssv2", "scenes/ssv2", "clip_shards/ssv2", "videomix22m",
    }  # fmt: skip
    assert [look["folder"] for look in far["looks"]] == [there]
    # Tasks fetched what they read into their own cache, never through the driver's.
    fetched = {path.suffix for path in (tmp_path / "workers").rglob("objects/*/media/*")}
    assert fetched, "no task read a video through its own cache"
    assert not list((tmp_path / "driver").rglob("objects/*/media/*.mp4"))
