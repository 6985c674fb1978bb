"""The DEMO profile made tiny: every stage is real, every number small. For walks inside tests."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.experiments.nodes import FEATURE_ARMS, MASK_ARMS

ROOT = Path(__file__).resolve().parent.parent

TINY = (
    "raw_videos.internet.counts.ssv2=32",
    "raw_videos.internet.counts.kinetics=24",
    "raw_videos.internet.counts.howto100m=2",
    "raw_videos.internet.counts.yt1b=12",
    "raw_videos.internet.counts.imagenet=4",
    "raw_videos.internet.counts.coin=4",
    "raw_videos.internet.counts.epic_kitchens=4",
    "raw_videos.internet.counts.robot_videos=4",
    "raw_videos.internet.broken=2",
    "raw_videos.sources.yt1b.buckets=2",
    "clusters.clusters=6",
    "curated_scenes.budget=16",
    "droid_episodes.labs=lab-000,lab-001",
    "droid_episodes.episodes=12",
    "droid_episodes.faulty=2",
    "encoder.batch=4",
    "encoder.warmup_steps=2",
    "encoder.decay_steps=6",
    "encoder.checkpoint_every=4",
    "encoder.diagnose_every=4",
    "encoder.diagnose_clips=8",
    "cooled_encoder.batch=2",
    "cooled_encoder.steps=3",
    "cooled_encoder.checkpoint_every=2",
    "cooled_encoder.diagnose_every=3",
    "cooled_encoder.diagnose_clips=8",
    "world_model.batch=4",
    "world_model.warmup_steps=2",
    "world_model.constant_steps=8",
    "world_model.decay_steps=2",
    "world_model.rollout_from=4",
    "world_model.checkpoint_every=6",
    "world_model.diagnose_every=6",
    "world_model.ranking.pairs=8",
    "probe_report.labels=(16,)",
    "probe_report.random_encoders=2",
    "probe_report.head.epochs=1",
    "probe_report.lrs=(1e-3,)",
    "benchmark_videos.generated.train=16",
    "benchmark_videos.generated.validation=8",
    "benchmark_features.modes=(fixed,)",
    "benchmark_report.heads.ssv2.head.epochs=1",
    "kitchen_films.train=5",
    "kitchen_films.validation=2",
    "anticipation_report.train_views=1",
    "anticipation_report.head.epochs=1",
    "video_qa_report.films=4",
    "planning_report.labs=lab-500",
    "planning_report.trials=1",
    "planning_report.steps=2",
    "planning_report.films=1",
    "planning_report.landscape_points=5",
    "planning_report.landscape_volume=3",
    "planning_report.tasks.things=box",
    "planning_report.search.samples=8",
    "planning_report.search.iterations=2",
    "planning_report.search.elites=4",
    *(
        f"{study}.{setting}"
        for study in ("mask_study", "feature_study")
        for setting in ("seeds=(0,)", "base.batch=4", "readout.labels=(16,)", "readout.test=8")
    ),
    *(f"mask_study.arms.{arm}.steps=2" for arm, made in MASK_ARMS.items() if made.steps),
    *(f"feature_study.arms.{arm}.steps=2" for arm, made in FEATURE_ARMS.items() if made.steps),
    "learning_curve.readout.labels=(16,)",
    "learning_curve.readout.test=8",
    "control_encoder.seeds=(0,)",
    "control_encoder.main.batch=4",
    "control_encoder.main.warmup_steps=2",
    "control_encoder.main.decay_steps=2",
    "control_encoder.main.diagnose_clips=8",
    "control_cooled_encoder.batch=2",
    "control_cooled_encoder.steps=2",
    "control_cooled_encoder.diagnose_clips=8",
    "control_world_model.batch=4",
    "control_world_model.warmup_steps=2",
    "control_world_model.constant_steps=2",
    "control_world_model.decay_steps=2",
    "control_world_model.rollout_from=2",
    "control_world_model.ranking.pairs=8",
    "control_planning.labs=lab-500",
    "control_planning.trials=1",
    "control_planning.steps=2",
    "control_planning.search.samples=8",
    "control_planning.search.iterations=2",
    "control_planning.search.elites=4",
    # So little training teaches nothing: the gates that ask for it are opened wide.
    "gates.ranks_true_action=3",
    "gates.needs_true_actions=0",
    "gates.features_not_collapsed=0.0",
    "gates.pretrained_beats_random=-1",
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
    *words: str,
    home: Path,
    settings: Sequence[str] = TINY,
    expect: int = 0,
    timeout: float = 840,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run the command line in a process of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "assets.cli", *words],
        cwd=ROOT,
        env=environment(home, settings) | dict(variables or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    told = done.stdout + done.stderr
    assert done.returncode == expect, f"vjepa2 {shlex.join(words)} left {done.returncode}:\n{told}"
    return told
