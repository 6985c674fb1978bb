"""How an encoder learned: its checkpoints, read out one after another in every labelled world.

Step 0 is the encoder before its first step. Rates before the last step are of a learning rate that
had not fallen yet: what they show is when motion is found.

Inputs: `encoder`, `clip_shards`. Payload:
    curve.parquet   step, source, readout, labels, successes, trials
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from models.seeds import seeded_encoder
from pipelines.experiments.worlds import ReadoutConfig, load_encoder, read_out_worlds, split_of
from pipelines.settings import from_plain, settings
from pipelines.stage import Inputs, Stage, Workspace
from pipelines.training.checkpoints import published_checkpoints
from pipelines.training.clips import ClipConfig
from pipelines.training.jepa import Networks
from pipelines.training.loop import one_thread_on
from storage.artifacts import Artifact
from storage.tables import write_table

CURVE = {
    "step": "int64", "source": "string", "readout": "string", "labels": "int32",
    "successes": "int32", "trials": "int32",
}  # fmt: skip


@settings
class LearningCurveConfig:
    """How checkpoints are read out."""

    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    """On what."""


@dataclass(frozen=True)
class PointTask:
    """One checkpoint to read out; pickles."""

    checkpoint: str | None
    """Its path in the encoder's artifact; None: before the first step."""
    clip: ClipConfig
    """Of the training."""
    seed: int
    """Of the training."""
    inputs: Mapping[str, Artifact]
    readout: ReadoutConfig


def read_out_checkpoint(task: PointTask) -> list[dict[str, Any]]:
    """Rows as `worlds.read_out_worlds` gives them."""
    trained = Inputs(task.inputs)["encoder"]
    networks = Networks.read(trained.json("model.json")["architecture"])
    with one_thread_on(torch.device("cpu")):
        if task.checkpoint is None:
            encoder = seeded_encoder(networks.encoder, task.seed, networks.initialisation)
            encoder.eval().requires_grad_(False)
        else:
            weights = trained.file(f"{task.checkpoint}/target_encoder.safetensors")
            encoder = load_encoder(weights, networks.encoder)
        return read_out_worlds(encoder, task.clip, task.inputs, task.readout)


def run(config: LearningCurveConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Read out every checkpoint, resuming after a kill."""
    for source in config.readout.sources:  # what cannot be read out is told first
        split_of(inputs, config.readout, source)
    checkpoints = {0: None, **published_checkpoints(inputs["encoder"])}
    # Handles that travel to tasks leave the recipe behind.
    asked = inputs["encoder"].manifest.recipe_inputs["config"]
    clip, seed = from_plain(ClipConfig, asked["clip"]), int(asked["seed"])
    tasks = {
        f"{step:06d}": PointTask(path, clip, seed, dict(inputs), config.readout)
        for step, path in checkpoints.items()
    }
    found = out.map(read_out_checkpoint, tasks, noun="checkpoints")
    rows = [{"step": step, **row} for step in checkpoints for row in found[f"{step:06d}"]]
    write_table(out.payload / "curve.parquet", rows, CURVE)
    most = max(config.readout.labels)
    return {
        f"{row['source']}, {row['readout']}, {most} labels, step {row['step']}": (
            row["successes"] / row["trials"]
        )
        for row in rows
        if row["labels"] == most and row["step"] in (0, max(checkpoints))
    }


STAGE = Stage("learning_curve", version=1, config=LearningCurveConfig, run=run)
