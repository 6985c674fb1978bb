"""A tiny graph, from files to an encoder, as a program that runs against any store (not a test).

`python -m tests.pipelines.spread STORE CACHE WORKERS [WORKER_CACHE]` prints JSON: the content of
every artifact, and what tasks found when they looked for files of the process that started them.
With WORKER_CACHE, Ray's workers have that cache and another working folder.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from pipelines import compute
from pipelines.curation import clip_shards, duplicates, ingest, mixture, scenes
from pipelines.curation.themes import StyleConfig, Theme
from pipelines.execution import ExecutionConfig
from pipelines.stage import Stage, materialize
from pipelines.training import pretrain
from storage.artifacts import Artifact, ArtifactStore
from tests.pipelines.training.material import pretrain_config

RAW = ingest.RawVideosConfig(
    sources={"ssv2": ingest.SourceConfig()},
    internet=ingest.InternetConfig(
        counts={"ssv2": 8},
        broken=1,
        themes={"ssv2": Theme(backdrops=("paper",), labels="motion", broken=True)},
        style=StyleConfig(sides=(48, 64), clip_seconds=(1.0, 1.2)),
    ),
)
ENCODER = pretrain_config(warmup_steps=4, constant_steps=6, checkpoint_every=4)


def walk(store: ArtifactStore, execution: ExecutionConfig, *, train: bool) -> dict[str, str]:
    """Make everything; asset -> content."""
    made: dict[str, Artifact] = {}

    def make(asset: str, stage: Stage, config: Any, *above: str) -> None:
        partition = "ssv2" if asset in ("raw_videos", "scenes", "clip_shards") else None
        name = f"{asset}/{partition}" if partition else asset
        made[name] = materialize(
            store, stage, config, {n: made[n] for n in above},
            asset=asset, partition=partition, execution=execution,
        ).artifact  # fmt: skip

    make("raw_videos", ingest.STAGE, RAW)
    make("scenes", scenes.STAGE, scenes.ScenesConfig(), "raw_videos/ssv2")
    shards = clip_shards.ClipShardsConfig(short_side=48, shard_samples=3)
    make("clip_shards", clip_shards.STAGE, shards, "raw_videos/ssv2", "scenes/ssv2")
    make("duplicates", duplicates.STAGE, duplicates.DuplicatesConfig(), "raw_videos/ssv2")
    make("videomix22m", mixture.STAGE, mixture.MixtureConfig(weights={"ssv2": 1.0}),
         "clip_shards/ssv2", "duplicates")  # fmt: skip
    if train:
        make("encoder", pretrain.ENCODER, ENCODER, "videomix22m", "clip_shards/ssv2")
        assert made["encoder"].metrics["steps"] == 10
        if execution.workers > 1:
            assert made["encoder"].metrics["workers"] == execution.workers
    return {name: artifact.content for name, artifact in made.items()}


def look_around(paths: list[str]) -> dict[str, Any]:
    """Which of some paths a task can see, and where it runs."""
    return {
        "host": socket.gethostname(),
        "folder": str(Path.cwd()),
        "seen": [path for path in paths if Path(path).exists()],
    }


def move_away() -> None:
    """What a worker does first: leave for a working folder of its own."""
    Path(os.environ["VJEPA2_CACHE"]).mkdir(parents=True, exist_ok=True)
    os.chdir(os.environ["VJEPA2_CACHE"])


def wait_for_nodes(count: int) -> None:
    """Wait until so many nodes have joined the cluster."""
    deadline = time.monotonic() + 180
    while len([node for node in compute.ray.nodes() if node["Alive"]]) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} nodes wanted: {compute.ray.nodes()}")
        time.sleep(0.2)


def main(store_at: str, cache: str, workers: str, worker_cache: str = "", *more: str) -> None:
    """Walk and tell."""
    execution = ExecutionConfig(workers=int(workers), cache=Path(cache))
    if worker_cache:
        compute.ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            runtime_env={"env_vars": {"VJEPA2_CACHE": worker_cache, "PYTHONPATH": os.getcwd()},
                         "worker_process_setup_hook": move_away},
        )  # fmt: skip
    else:
        compute.start(execution)
        wait_for_nodes(int(os.environ.get("SPREAD_NODES", "1")))
    contents = walk(ArtifactStore(store_at, Path(cache)), execution, train="train" in more)
    mine = sorted(str(path) for path in Path(cache).rglob("*"))
    looks = []
    for node in compute.ray.nodes():
        there = compute.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            node["NodeID"], soft=False
        )
        remote = compute.ray.remote(num_cpus=0, scheduling_strategy=there)(look_around)
        looks.append(compute.ray.get(remote.remote(mine)))
    print(json.dumps({"contents": contents, "files": len(mine), "looks": looks}))
    compute.ray.shutdown()


if __name__ == "__main__":
    from tests.pipelines import spread  # by its name, so that workers can import it

    spread.main(*sys.argv[1:])
