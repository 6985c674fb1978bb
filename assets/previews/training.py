"""Pictures of the group `training`: curves by step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from assets.previews import figures, scores
from pipelines.stage import Inputs
from pipelines.training.gates import encoder_width
from storage.artifacts import Artifact


def encoder(trained: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Loss, effective rank, spread and learning rate by step."""
    return {"training": _jepa_curves(trained, "Encoder, main phase")}


def cooled_encoder(trained: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Loss, effective rank, spread and learning rate by step."""
    return {"training": _jepa_curves(trained, "Encoder, cool-down")}


def world_model(trained: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Losses and the rank test by step, and the rank test at the end."""
    columns = ("teacher_forcing", "rollout", "held_out_loss", "held_out_shuffled_loss",
               "held_out_rank", "lr")  # fmt: skip
    log = _log(trained, columns)
    panels = {
        "loss (L1)": {"teacher forcing": log["teacher_forcing"], "rollout": log["rollout"]},
        "held-out energy (L1)": {
            "true actions": log["held_out_loss"],
            "shuffled actions": log["held_out_shuffled_loss"],
        },
        "held-out rank (0 = best)": {"rank": log["held_out_rank"]},
        "learning rate": {"lr": log["lr"]},
    }
    title = f"World model: {len(log['step'])} steps"
    ranking = trained.json("ranking.json")
    energies = {
        "true": ranking["loss"]["mean"],
        "shuffled": ranking["shuffled_loss"]["mean"],
        "copy": ranking["loss"]["mean"] / ranking["copy_ratio"]["mean"],
    }
    ranks = np.array([pair["rank"] for pair in ranking["by_pair"]])
    return {
        "training": figures.training_curves(log["step"], panels, title),
        "ranking": scores.ranking_histogram(ranks, ranking["candidates"], energies),
    }


def _jepa_curves(trained: Artifact, title: str) -> bytes:
    log = _log(trained, ("loss", "effective_rank", "feature_std", "lr"))
    panels = {
        "loss (L1)": {"all": log["loss"]},
        f"effective rank (of {encoder_width(trained)})": {"rank": log["effective_rank"]},
        "spread of the features (std)": {"std": log["feature_std"]},
        "learning rate": {"lr": log["lr"]},
    }
    return figures.training_curves(log["step"], panels, f"{title}: {len(log['step'])} steps")


def _log(trained: Artifact, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Columns of a training's log by name, [steps]; NaN where a number was not taken."""
    return trained.columns("log.parquet", ["step", *columns])
