"""Clips per second of the demo's pretraining: the bare step, one worker, two workers under Ray.

    python -m tests.benchmarks.bench_training [--steps 150] [--rounds 3]

The bare step is the same update of the same networks on clips that lie ready in memory: no loader,
no checkpoints, no Ray. One worker and two workers train from real shards, each clip cut out of its
own file, by the product's own loop. Two bare steps at once, each in a process of its own, are what
the machine has to give. Rounds alternate, the best of each counts, and what is told are ratios of
one run. Start-up is from asking for two workers to their first step. Wants idle cores.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from pipelines.curation.camera import MOVES
from pipelines.curation.mixture import write_mapped
from pipelines.curation.shots import Shot, draw
from pipelines.nodes import PROFILES
from pipelines.stage import Inputs
from pipelines.training.clips import COLUMNS
from pipelines.training.distributed import Workers
from pipelines.training.jepa import JepaTask, loop_settings
from pipelines.training.loop import Trainer, one_thread_on, run_folder, run_training
from pipelines.training.pretrain import PretrainConfig, build_main
from pipelines.training.progress import PROGRESS
from storage.artifacts import Artifact
from storage.shards import ShardWriter
from storage.tables import write_table
from storage.video import encode
from tests.pipelines.builders import artifact, workspace

CLIPS, SECONDS, STORED_FPS, SIDE = 400, 1.6, 8.0, 64
CPU = torch.device("cpu")


def build(folder: Path) -> dict[str, Artifact]:
    """A mixture of short films of a moving camera, stored as the demo stores them."""
    rows: list[dict[str, Any]] = []
    with ShardWriter(folder / "part" / "shards") as writer:
        for number in range(CLIPS):
            shot = Shot(("bench", number), "noise", MOVES[number % len(MOVES)], SECONDS)
            clip = encode(draw(shot, SIDE, SIDE, STORED_FPS), STORED_FPS, keyframes=1.0)
            span = writer.write(f"c{number:04d}", {"mp4": clip.data, "json": {}})["mp4"]
            rows.append({
                "key": f"c{number:04d}", "source": "ssv2", "partition": "ssv2",
                "shard": span.shard, "offset": span.offset, "size": span.size,
                "digest": span.digest, "kind": "video",
                "fps": clip.fps, "frames": clip.frames, "width": clip.width,
                "height": clip.height, "weight": 1.0,
            })  # fmt: skip
    kinds = {"fps": "float64", "weight": "float64"} | dict.fromkeys(
        ("offset", "size", "digest", "frames", "width", "height"), "int64"
    )
    schema = {name: kinds.get(name, "string") for name in COLUMNS}
    write_table(folder / "mix" / "index.parquet", rows, schema)
    write_mapped(folder / "mix" / "index.arrow", folder / "mix" / "index.parquet")
    (folder / "mix" / "mixture.json").write_text(json.dumps({"weights": {"ssv2": 1.0}}))
    return {
        "videomix22m": artifact(folder / "mix", "videomix22m"),
        "clip_shards/ssv2": artifact(folder / "part", "clip_shards/ssv2"),
    }


class Ready:
    """Clips that lie in memory, in the place of the loader."""

    replacements = ()

    def __init__(self, config: PretrainConfig) -> None:
        shape = (config.batch, 3, config.clip.frames, config.clip.crop, config.clip.crop)
        self._clips = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def batch(self, _: int, slots: range) -> torch.Tensor:
        """Some clips, the same at every step."""
        return self._clips[slots.start : slots.stop]


def bare(config: PretrainConfig, steps: int) -> float:
    """Clips per second of the bare step on one thread."""
    clips: Any = Ready(config)
    with one_thread_on(CPU):
        task = JepaTask(config.networks, config, clips, config.rate, config.steps, CPU)
        trainer = Trainer(task, loop_settings("bare", config, steps), Workers(), CPU)
        trainer.step(0)
        started = time.perf_counter()
        for step in range(1, steps):
            trainer.step(step)
        return (steps - 1) * config.batch / (time.perf_counter() - started)


def bare_twice(config: PretrainConfig, steps: int) -> float:
    """Clips per second of two bare steps at once."""
    with ProcessPoolExecutor(2, get_context("spawn")) as both:
        return sum(both.map(bare, [config] * 2, [steps] * 2))


def trained(
    config: PretrainConfig, inputs: Inputs, folder: Path, workers: int, steps: int
) -> tuple[float, float]:
    """Clips per second, and seconds before the first step, of the product's loop."""
    out = workspace(folder, workers=workers)
    build_task = functools.partial(build_main, config, inputs)
    started = time.time()
    told = run_training(build_task, loop_settings("encoder", config, steps), out)
    # The last look is written at the last step.
    ended = (run_folder(out) / PROGRESS).stat().st_mtime
    return told["samples_per_second"], ended - told["training_seconds"] - started


def main() -> None:
    """Measure and tell the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    base = PROFILES["demo"].encoder
    config = replace(
        base, precision="float32", decay_steps=asked.steps - base.warmup_steps % asked.steps,
        warmup_steps=base.warmup_steps % asked.steps, checkpoint_every=asked.steps,
        diagnose_every=asked.steps,
    )  # fmt: skip
    kinds = ("bare step", "two bare steps at once", "one worker", "two workers")
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    starts: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        inputs = Inputs(build(Path(name)))
        for number in range(asked.rounds):
            rates["bare step"].append(bare(config, asked.steps))
            rates["two bare steps at once"].append(bare_twice(config, asked.steps))
            for kind, workers in (("one worker", 1), ("two workers", 2)):
                folder = Path(name) / f"{number}-{workers}"
                rate, start = trained(config, inputs, folder, workers, asked.steps)
                rates[kind].append(rate)
                if workers == 2:
                    starts.append(start)
    best = {kind: max(found) for kind, found in rates.items()}
    for kind, rate in best.items():
        print(f"{kind:<29} {rate:7.1f} clips/s")
    alone, both = best["one worker"] / best["bare step"], best["two workers"] / best["one worker"]
    print(f"one worker over the bare step {alone:7.2f} (bar 0.8)")
    print(f"two workers over one {both:16.2f} (bar 1.7)")
    given = best["two bare steps at once"] / best["bare step"]
    print(f"two bare steps over one {given:13.2f} (what the machine has)")
    told = ", ".join(f"{seconds:.1f}" for seconds in starts)
    print(f"start-up under Ray {told} s (the first starts Ray too; bar 8 s)")


if __name__ == "__main__":
    main()
