"""Claims: with torch's DistributedDataParallel a training has the losses of the tree, but for the
rounding of sums, on one worker and on several, with parameters that a step does not use; all
workers hold equal weights; which reduction it was stands in the recipe.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.checkpoints import load_weights
from pipelines.execution import ExecutionConfig
from pipelines.stage import Inputs, recipe_inputs
from pipelines.training.distributed import Workers
from pipelines.training.jepa import loop_settings
from pipelines.training.loop import Trainer, train
from pipelines.training.pretrain import ENCODER, build_main
from pipelines.training.runs import Run
from storage.work import LocalWork
from tests.pipelines.builders import artifact
from tests.pipelines.training import material, toy
from tests.pipelines.training.gloo import spawn

CPU = torch.device("cpu")
STEPS = 6
TOLERANCE = 1e-5
"""Relative, of losses: the order of a sum in single precision."""


class SpareTask(toy.ToyTask):
    """Has a layer that no step uses."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        for network in (self.network, self.average):
            network.append(nn.Linear(2, 2))

    def loss(self, batch: Tensor, step: int, shard: int) -> tuple[Tensor, dict[str, Tensor]]:
        wanted = torch.stack([batch.sum(1), batch.prod(1)], dim=1)
        found = batch
        for layer in list(self.network)[:-1]:
            found = layer(found)
        loss = (found - wanted).abs().mean()
        return loss, {"twice": 2 * loss.detach()}


def losses(folder: Path) -> list[float]:
    rows = sorted((folder / "training" / "checkpoints").glob("step-*/rows.json"))
    return [row["loss"] for path in rows for row in json.loads(path.read_text())]


def train_spare(workers: Workers, folder: Path) -> None:
    """Train by DDP; the weights that each worker ends with are saved."""
    run = Run(LocalWork(folder / "payload", folder / "run"))
    trained: list[SpareTask] = []

    def build(device: torch.device) -> SpareTask:
        trained.append(SpareTask(device))
        return trained[-1]

    train(build, replace(toy.settings(STEPS), reduction="ddp"), run, workers, CPU)
    torch.save(trained[0].network.state_dict(), folder / f"held-{workers.rank}.pt")


def test_the_curve_of_ddp_is_that_of_the_tree(tmp_path: Path) -> None:
    tree = Run(LocalWork(tmp_path / "payload", tmp_path / "tree"))
    train(SpareTask, toy.settings(STEPS), tree, Workers(), CPU)
    expected = losses(tmp_path / "tree")
    for world in (1, 2):
        folder = tmp_path / f"{world}"
        if world == 1:
            folder.mkdir()
            train_spare(Workers(), folder)
        else:
            spawn(train_spare, folder, world)
        assert losses(folder / "run") == pytest.approx(expected, rel=TOLERANCE), world
    held = [torch.load(tmp_path / "2" / f"held-{rank}.pt") for rank in (0, 1)]
    assert all(torch.equal(held[0][name], held[1][name]) for name in held[0])
    written = tmp_path / "2" / "run" / "training" / "checkpoints" / f"step-{STEPS:06d}"
    kept = load_weights(written / "network.safetensors")
    assert all(torch.equal(kept[name], held[0][name]) for name in kept)


def jepa_losses(workers: Workers, folder: Path) -> None:
    """Four steps of the encoder by both reductions; the main worker writes the losses."""
    mixed = folder.parent / "mixture"
    inputs = Inputs({
        "videomix22m": artifact(mixed / "mix", "videomix22m"),
        "clip_shards/part": artifact(mixed / "part", "clip_shards"),
    })  # fmt: skip
    told = {}
    for kind in ("tree", "ddp"):
        config = material.pretrain_config(reduction=kind, gradient_shards=4, batch=8)
        trainer = Trainer(
            build_main(config, inputs, CPU), loop_settings("encoder", config, 4), workers, CPU
        )
        told[kind] = [trainer.step(step) for step in range(4)]
    if workers.is_main:
        (folder / "told.json").write_text(json.dumps(told))


def compared(tmp_path: Path, world: int) -> None:
    material.mixture(tmp_path / "mixture")
    spawn(jepa_losses, tmp_path / "run", world)
    told = json.loads((tmp_path / "run" / "told.json").read_text())
    for name in ("loss", "gradient_norm"):
        tree, ddp = ([row[name] for row in told[kind]] for kind in ("tree", "ddp"))
        assert ddp == pytest.approx(tree, rel=1e-4), name


def test_the_encoder_learns_the_same_by_both_on_two_workers(tmp_path: Path) -> None:
    compared(tmp_path, 2)


@pytest.mark.heavy(small="test_the_encoder_learns_the_same_by_both_on_two_workers")
def test_the_encoder_learns_the_same_by_both_on_four_workers(tmp_path: Path) -> None:
    compared(tmp_path, 4)


def test_the_reduction_stands_in_the_recipe() -> None:
    asked = [
        recipe_inputs(
            ENCODER, material.pretrain_config(reduction=kind), {}, None, ExecutionConfig()
        )
        for kind in ("tree", "ddp")
    ]
    assert [recipe["config"]["reduction"] for recipe in asked] == ["tree", "ddp"]
