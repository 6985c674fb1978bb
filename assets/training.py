"""Networks, from random weights to a world model: the assets of the group `training`."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from assets import pictures
from assets.nouns import noun
from pipelines.gates import encoder_width
from pipelines.stage import Inputs
from storage.artifacts import Artifact
from storage.tables import read_columns


@noun
def encoder(trained: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """The V-JEPA 2 encoder after its main phase: masked parts of a clip predicted in feature space.

    Tubelets, 3-D rotary attention, eight small and two large multiblock masks, an EMA target
    encoder, layer-normed targets, L1 on what is masked. Set `lr`, `constant_steps` or `batch` in
    the launchpad; a killed run goes on from its last checkpoint to the same bytes, on any number of
    workers. Payload: `checkpoints/step-NNNNNN/` (encoder, target_encoder, predictor, optimizer as
    safetensors), `model.json`, `log.parquet`. Watch the effective rank: loss and spread look
    healthy while features collapse.
    """
    return {"training": _jepa_curves(trained, "Encoder, main phase")}


@noun
def cooled_encoder(trained: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """The encoder after its cool-down: more frames, higher resolution, a falling learning rate.

    Branches off any checkpoint of the main phase, optimizer included: `cooldown.from_step` names
    it, none is the last. Its target encoder is what the world model and the probes read. Payload:
    as for `encoder`, `checkpoints/step-NNNNNN/`, `model.json` and `log.parquet`.
    """
    return {"training": _jepa_curves(trained, "Encoder, cool-down")}


@noun
def world_model(trained: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """The action-conditioned world model: next frame's features from frames, states and actions.

    Block-causal attention over the frozen encoder's features, end-effector states and 7-D actions;
    teacher forcing plus a two-step rollout, L1. Payload: `checkpoints/`, `model.json`,
    `log.parquet`, `ranking.json`: where the action that was truly taken ranks among candidates on
    held-out episodes, and the loss when actions are shuffled. Both gate what follows.
    """
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
    ranking = json.loads((trained.path / "ranking.json").read_text())
    energies = {
        "true": ranking["loss"]["mean"],
        "shuffled": ranking["shuffled_loss"]["mean"],
        "copy": ranking["loss"]["mean"] / ranking["copy_ratio"]["mean"],
    }
    ranks = np.array([pair["rank"] for pair in ranking["by_pair"]])
    return {
        "training": pictures.training_curves(log["step"], panels, title),
        "ranking": pictures.ranking_histogram(ranks, ranking["candidates"], energies),
    }


NOUNS = (encoder, cooled_encoder, world_model)


def _jepa_curves(trained: Artifact, title: str) -> bytes:
    log = _log(trained, ("loss", "effective_rank", "feature_std", "lr"))
    panels = {
        "loss (L1)": {"all": log["loss"]},
        f"effective rank (of {encoder_width(trained)})": {"rank": log["effective_rank"]},
        "spread of the features (std)": {"std": log["feature_std"]},
        "learning rate": {"lr": log["lr"]},
    }
    return pictures.training_curves(log["step"], panels, f"{title}: {len(log['step'])} steps")


def _log(trained: Artifact, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Columns of a training's log by name, [steps]; NaN where a number was not taken."""
    return read_columns(trained.path / "log.parquet", ["step", *columns])
