"""The attentive heads of one variant in one mode, as one task: tokens in, judged answers out."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.official import load_official_probe
from models.tokens import Grid
from pipelines.evaluation.benchmarks.features import SIDES, Kept, films_of
from pipelines.evaluation.benchmarks.heads import Side, ask, learn
from pipelines.evaluation.benchmarks.judging import chosen, optimistic
from pipelines.evaluation.benchmarks.protocol import FeaturesConfig, HeadsConfig, ProtocolConfig
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.evaluation.benchmarks.sampling import Mode
from pipelines.evaluation.benchmarks.showing import Show, network_of, tokens_of
from pipelines.evaluation.features import STILL, open_variant
from pipelines.evaluation.views import stilled
from pipelines.planner.weights import read_model
from storage.artifacts import Artifact
from storage.errors import InputError, curable


@dataclass(frozen=True)
class HeadsTask:
    """All heads on the features of one variant in one mode."""

    benchmark: str
    heads: HeadsConfig
    features: Artifact
    videos: Artifact
    weights: Artifact
    asked: FeaturesConfig
    """What the features were made with."""
    mode: Mode
    variant: str
    held_out: tuple[bool, ...]
    """Of each training film, whether it is held out."""
    labels: Mapping[str, tuple[int, ...]]
    """Side -> class numbers of its films."""
    classes: int
    device: str

    @property
    def protocol(self) -> ProtocolConfig:
        """How the films are shown."""
        return self.asked.protocols[self.benchmark]


def learn_heads(task: HeadsTask) -> dict[str, Any]:
    """Train and ask all heads.

    Returns:
        predicted (of validation, by the head that was chosen), chosen, held_out_accuracy,
        optimistic and losses.
    """
    train, test = (np.array(task.labels[side]) for side in SIDES)
    apart = np.array(task.held_out)
    shown = {side: functools.partial(_tokens, task, side) for side in SIDES}
    fit, held = (
        Side(tuple(np.flatnonzero(which).tolist()), tuple(train[which].tolist()), shown["train"])
        for which in (~apart, apart)
    )
    asked = Side(
        tuple(range(len(test))), tuple(test.tolist()), shown[SIDES[1]], task.protocol.views
    )
    found = learn(
        task.heads, task.classes, _grid(task), fit, {"held_out": held, "asked": asked}, task.device,
        task.protocol.segments,
    )  # fmt: skip
    held_answers = found.answers["held_out"][task.mode]
    epoch, head = chosen(held_answers, train[apart])
    lr, decay = task.heads.grid[head]
    return {
        "predicted": found.answers["asked"][task.mode][epoch, head].tolist(),
        "chosen": {"epoch": epoch + 1, "lr": lr, "weight_decay": decay},
        "held_out_accuracy": float((held_answers[epoch, head] == train[apart]).mean()),
        "optimistic": optimistic(
            found.answers["asked"]["official"], test, task.heads.head.batch,
            drop_last=not BENCHMARKS[task.benchmark].images,
        ),
        "losses": found.losses[:, head].tolist(),
    }  # fmt: skip


def ask_released(task: HeadsTask) -> dict[str, Any]:
    """Ask a released probe, which learns nothing here.

    Returns:
        predicted, of validation; chosen, which is nothing.

    Raises:
        InputError: the file is no probe, or one of another width or number of classes.
    """
    assert task.heads.released is not None
    where = f"benchmark_report.heads.{task.benchmark}.released"
    with curable(where):
        probe = load_official_probe(task.heads.released)
    width = read_model(task.weights)[0]["encoder"]["width"]
    found, wanted = (probe.linear.in_features, probe.linear.out_features), (width, task.classes)
    if found != wanted:
        raise InputError(
            f"{where} {task.heads.released}: it takes tokens {found[0]} wide and knows {found[1]} "
            f"classes; these weights give {wanted[0]}, and the files list {wanted[1]}"
        )
    probe = probe.eval().requires_grad_(False).to(torch.device(task.device))
    test = task.labels[SIDES[1]]
    shown = functools.partial(_tokens, task, SIDES[1])
    asked = Side(tuple(range(len(test))), tuple(test), shown, task.protocol.views)
    answers = ask([probe], asked, lambda tokens: tokens, task.heads.head.batch, task.device)
    return {"predicted": answers[task.mode][0].tolist(), "chosen": {}}


def _grid(task: HeadsTask) -> Grid:
    encoder, protocol = read_model(task.weights)[0]["encoder"], task.protocol
    side = protocol.size // encoder["patch"]
    return protocol.segments * protocol.frames // encoder["tubelet"], side, side


def _tokens(task: HeadsTask, side: str, films: Sequence[int], epoch: int) -> Tensor:
    """[B * V, S * N, D]: of train one random view a film, else its crops."""
    views = 1 if side == "train" else task.protocol.views
    if task.asked.keep_tokens:
        kept = task.asked.train_views
        rows = [
            film * kept + (film + epoch) % kept if side == "train" else film * views + view
            for film in films
            for view in range(views)
        ]
        return _kept(task.features, task.mode).tokens(task.variant, side, rows)
    show = Show(task.videos, task.protocol, task.mode, task.asked.seed)
    rows_of = _rows(task.videos)[side]
    pictures = torch.stack([show.views(rows_of[film], (epoch,)) for film in films]).to(task.device)
    encoder = open_variant(task.variant, task.weights, task.asked.seed, task.device)
    network = network_of(encoder, task.protocol.layers)
    tokens = tokens_of(network, stilled(pictures) if task.variant == STILL else pictures)
    return tokens.flatten(2, 3).flatten(0, 1)


@functools.cache
def _kept(features: Artifact, mode: Mode) -> Kept:
    return Kept(features, mode)


@functools.cache
def _rows(videos: Artifact) -> dict[str, list[Mapping[str, Any]]]:
    return films_of(videos)
