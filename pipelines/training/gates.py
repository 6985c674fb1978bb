"""Gates of trained networks: losses that are numbers, features that live, actions that are used."""

from __future__ import annotations

import numpy as np

from pipelines.gates import Gate, Verdict
from storage.artifacts import Artifact


def _loss_finite(artifact: Artifact) -> Verdict:
    """Every logged loss is a finite number."""
    log = artifact.columns("log.parquet", ["step", "loss"])
    bad = log["step"][~np.isfinite(log["loss"].astype(np.float64))]
    if len(log["loss"]) == 0:
        return Verdict(False, "no step was logged", {"steps": 0})
    told = f"first not finite at step {bad[0]}" if len(bad) else "all finite"
    first, last = float(log["loss"][0]), float(log["loss"][-1])
    return Verdict(
        not len(bad),
        f"loss {first:.4g} to {last:.4g} over {len(log['loss'])} logged steps, {told}",
        {"first_loss": first, "last_loss": last, "not_finite": len(bad)},
    )


def _features_not_collapsed(artifact: Artifact, share: float) -> Verdict:
    """The features of the last checkpoint still span enough directions.

    `share` is the smallest effective rank that is good enough, as a share of the encoder's width.
    Below it the features have collapsed, however low the loss: spread and loss alone do not show
    it.
    """
    log = artifact.columns("log.parquet", ["step", "effective_rank", "feature_std"])
    rank = log["effective_rank"].astype(np.float64)
    taken = np.flatnonzero(np.isfinite(rank))
    if not len(taken):
        return Verdict(False, "the effective rank was never logged", {"taken": 0})
    width = encoder_width(artifact)
    last, least = float(rank[taken[-1]]), share * width
    spread = float(log["feature_std"][taken[-1]])
    return Verdict(
        last >= least,
        f"effective rank {last:.1f} of {width} (at least {least:.1f}), spread {spread:.3f}",
        {"effective_rank": last, "least": least, "width": width, "feature_std": spread},
    )


def encoder_width(artifact: Artifact) -> int:
    """Channels of the encoder in a training artifact."""
    model = artifact.json("model.json")
    return int(model["architecture"]["encoder"]["width"])


def _ranks_true_action(artifact: Artifact, share: float) -> Verdict:
    """The true action ranks far above chance among candidates, on held-out episodes.

    `share` is the largest mean rank that is good enough, as a share of what chance gives.
    """
    ranking = artifact.json("ranking.json")
    rank, chance = ranking["rank"], float(ranking["chance_rank"])
    most = share * chance
    return Verdict(
        rank["mean"] <= most,
        f"mean rank {rank['mean']:.2f} (95 % {rank['low']:.2f} to {rank['high']:.2f}) among "
        f"{ranking['candidates']} candidates; at most {most:.1f}, chance is {chance:.1f}",
        {**rank, "most": most, "chance": chance, "candidates": int(ranking["candidates"])},
    )


def _needs_true_actions(artifact: Artifact, least: float) -> Verdict:
    """Another pair's action predicts worse, beyond the test's 95 % interval: actions are used.

    The loss with shuffled actions over that with true ones has to be above `least`.
    """
    ratio = artifact.json("ranking.json")["shuffled_over_true"]
    return Verdict(
        ratio["low"] > least,
        f"loss with shuffled actions is {ratio['mean']:.3f} times that with true ones "
        f"(95 % {ratio['low']:.3f} to {ratio['high']:.3f}; above 1 means that actions are used)",
        dict(ratio),
    )


LOSS_FINITE = Gate("loss_finite", "every logged loss is finite", _loss_finite)
FEATURES_NOT_COLLAPSED = Gate(
    "features_not_collapsed", "the features span enough directions", _features_not_collapsed, 0.1
)
RANKS_TRUE_ACTION = Gate(
    "ranks_true_action", "the true action ranks far above chance", _ranks_true_action, 0.4, most=3.0
)
NEEDS_TRUE_ACTIONS = Gate(
    "needs_true_actions", "shuffled actions predict worse", _needs_true_actions, 1.0
)
