"""The DEMO profile made tiny: every stage is real, every number small. For walks inside tests."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

TINY = (
    "raw_videos.internet.counts.ssv2=32",
    "raw_videos.internet.counts.kinetics=4",
    "raw_videos.internet.counts.howto100m=2",
    "raw_videos.internet.counts.yt1b=12",
    "raw_videos.internet.counts.imagenet=4",
    "raw_videos.internet.counts.coin=4",
    "raw_videos.internet.counts.epic_kitchens=4",
    "raw_videos.internet.counts.broken=2",
    "raw_videos.sources.yt1b.buckets=2",
    "clusters.clusters=6",
    "retrieval.budget=16",
    "episodes.episodes=12",
    "episodes.faulty=2",
    "pretrain.batch=4",
    "pretrain.warmup_steps=2",
    "pretrain.constant_steps=6",
    "pretrain.checkpoint_every=4",
    "pretrain.diagnose_every=4",
    "pretrain.diagnose_clips=8",
    "cooldown.batch=2",
    "cooldown.steps=3",
    "cooldown.checkpoint_every=2",
    "cooldown.diagnose_every=3",
    "cooldown.diagnose_clips=8",
    "posttrain.batch=4",
    "posttrain.warmup_steps=2",
    "posttrain.constant_steps=8",
    "posttrain.decay_steps=2",
    "posttrain.rollout_from=4",
    "posttrain.checkpoint_every=6",
    "posttrain.diagnose_every=6",
    "posttrain.ranking.pairs=8",
    "probe.head.epochs=1",
    "probe.views.train_views=1",
    "probe.lrs=(1e-3,)",
    "planning.trials=1",
    "planning.steps=2",
    "planning.films=1",
    "planning.landscape_points=5",
    "planning.search.samples=8",
    "planning.search.iterations=2",
    "planning.search.elites=4",
    # So little training teaches nothing: the gates that ask for it are opened wide.
    "gates.action_rank=3",
    "gates.shuffled_loss=0",
    "gates.effective_rank=0.0",
)


def environment(home: Path, settings: Sequence[str] = TINY) -> dict[str, str]:
    """What leads `vjepa2` and the UI to a tiny house in a folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("VJEPA2_", "DAGSTER"))}
    return kept | {
        "VJEPA2_HOME": str(home),
        "VJEPA2_PROFILE": "demo",
        "VJEPA2_SET": shlex.join([*settings, f"execution.cache={home / 'cache'}"]),
        "OMP_NUM_THREADS": "1",
    }


def vjepa2(
    *words: str, home: Path, settings: Sequence[str] = TINY, expect: int = 0, timeout: float = 540
) -> str:
    """Run the command line in a process of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "assets.cli", *words],
        cwd=ROOT,
        env=environment(home, settings),
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    told = done.stdout + done.stderr
    assert done.returncode == expect, f"vjepa2 {shlex.join(words)} left {done.returncode}:\n{told}"
    return told
