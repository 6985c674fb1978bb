"""Reports of studies that nobody ran: made-up counts through the studies' own words (no tests)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pipelines.experiments import robot_study, study
from pipelines.experiments.learning_curve import CURVE
from pipelines.nodes import PROFILES
from storage.artifacts import Artifact
from storage.tables import write_table
from tests.pipelines.builders import artifact

WORLDS, READOUTS, LABELS = ("ssv2", "kinetics"), ("linear", "knn"), (240, 1000)


def study_of(folder: Path, name: str) -> Artifact:
    """A study of the demo's arms with two seeds: 10 of 20 and 12 of 20, half that untrained."""
    config = replace(getattr(PROFILES["demo"], name), seeds=(0, 1))
    rows = [
        {"arm": arm, "seed": seed, "source": world, "readout": readout, "labels": labels,
         "successes": (10 + 2 * seed) // (1 if config.arms[arm].steps else 2), "trials": 20}
        for arm in config.arms
        for seed in config.seeds
        for world in WORLDS
        for readout in READOUTS
        for labels in LABELS
    ]  # fmt: skip
    return _reported(folder, name, study.describe(config, rows) | {"chance": 0.125})


def robots(folder: Path) -> Artifact:
    """A robot study of two seeds: the pretrained encoder reaches twice as often as the others."""
    found = {
        arm: {
            seed: {
                kind: {"successes": 4 * tenths, "trials": 40, "rate": tenths / 10}
                for kind in ("reached", "passed")
            }
            | {"final_cm": 6.0 - tenths / 2, "motion_error_cm": 5.0}
            for seed, tenths in enumerate((6, 8) if arm == "pretrained" else (3, 4))
        }
        for arm in robot_study.ARMS
    }
    arms = {"arms": robot_study.describe(found), "order": list(found)}
    return _reported(folder, "robot_study", arms | {"reference": robot_study.REFERENCE})


def curve(folder: Path) -> Artifact:
    """A learning curve of two steps."""
    rows = [
        {"step": step, "source": world, "readout": readout, "labels": labels,
         "successes": 3 + step // 10, "trials": 20}
        for step in (0, 50)
        for world in WORLDS
        for readout in READOUTS
        for labels in LABELS
    ]  # fmt: skip
    write_table(folder / "curve.parquet", rows, CURVE)
    return artifact(folder, "learning_curve")


def _reported(folder: Path, name: str, told: dict[str, object]) -> Artifact:
    (folder / "report.json").write_text(json.dumps(told))
    return artifact(folder, name)
