"""Pictures of the group `experiments`: arms beside each other, a point a seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from assets.previews import figures, scores
from pipelines.stage import Inputs
from storage.artifacts import Artifact


def mask_study(report: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """The accuracy of every mask, world by world."""
    return _study(report, "Masks")


def feature_study(report: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """The accuracy of every choice, world by world."""
    return _study(report, "Choices of the recipe")


def learning_curve(curve: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Accuracy by step, a panel for each world and readout, a curve for each number of labels."""
    rows = curve.table("curve.parquet")
    steps = np.array(sorted({row["step"] for row in rows}))
    panels: dict[str, dict[str, np.ndarray]] = {}
    for row in rows:
        panel = panels.setdefault(f"{row['source']}, {row['readout']} (accuracy)", {})
        values = panel.setdefault(f"{row['labels']} labels", np.full(len(steps), np.nan))
        values[np.searchsorted(steps, row["step"])] = row["successes"] / row["trials"]
    return {"curve": figures.training_curves(steps, panels, "What the encoder knows, by step")}


def robot_study(report: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """The share of goals reached with every encoder in unseen labs, and how far off it was."""
    told = report.json("report.json")
    trials = told["arms"][told["reference"]]["reached"]["together"]["trials"]
    title = f"Reaching in unseen labs: {trials} trials an encoder, a point a training seed"

    def drawn(kinds: Mapping[str, str], unit: str) -> bytes:
        panels = {
            name: {arm: told["arms"][arm][kind]["seeds"] for arm in told["order"]}
            for kind, name in kinds.items()
        }
        return scores.arms_by_seed(panels, None, unit, title)

    return {
        "reached": drawn(
            {"reached": "ended within the limit", "passed": "passed within the limit"},
            "share of trials",
        ),
        "distances": drawn(
            {"final_cm": "left at the end, median", "motion_error_cm": "best motion from true one"},
            "cm",
        ),
    }


def _study(report: Artifact, title: str) -> Mapping[str, bytes]:
    """A picture for each readout and number of labels: arms down, worlds across."""
    told = report.json("report.json")
    arms, order = told["arms"], told["order"]
    drawn = {}
    for readout, by_labels in next(iter(arms[order[0]].values())).items():
        for labels in sorted(by_labels, key=int):
            panels = {
                source: {arm: arms[arm][source][readout][labels]["seeds"] for arm in order}
                for source in arms[order[0]]
            }
            seeds = len(next(iter(panels.values()))[order[0]])
            drawn[f"{readout}, {labels} labels"] = scores.arms_by_seed(
                panels,
                told["chance"],
                "accuracy",
                f"{title}: {readout}, {labels} labels, {seeds} seeds",
            )
    return drawn
