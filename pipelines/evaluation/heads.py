"""Attentive heads: one for every variant and budget of labels, its learning rate and weight decay
chosen inside the budget.

They are chosen on a held-out part of the labelled clips, and the head is then trained on all of
them. The paper takes the best of 20 heads on the validation set itself; `selection="validation"`
does that, and the report says so, for the number is then optimistic. Clips that stand still are
probed with the head that was best on those that move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from models.tokens import Grid
from pipelines.evaluation.features import PRETRAINED, STILL, Files
from pipelines.evaluation.metrics import held_out
from pipelines.evaluation.probing import ProbeTask, share_right, train_probe
from pipelines.evaluation.protocol import ProbeConfig
from pipelines.evaluation.splits import Split
from pipelines.stage import Workspace
from storage.work import Work

Wanted = tuple[str, int]
"""Variant and number of labels."""
Head = tuple[float, float]
"""Learning rate and weight decay."""


def task_of(
    config: ProbeConfig, split: Split, labels: int, work: Work, files: Files, grid: Grid,
    device: str,
) -> ProbeTask:  # fmt: skip
    """The first head's task on the first `labels` training clips, asked about the test clips."""
    lr, decay = config.grid[0]
    return ProbeTask(
        config=config.head,
        lr=lr,
        weight_decay=decay,
        classes=len(split.classes),
        grid=grid,
        work=work,
        fit=files["train"],
        fit_clips=tuple(range(labels)),
        fit_labels=split.train_labels[:labels],
        fit_views=config.views.train_views,
        asked=files["validation"],
        asked_clips=tuple(range(len(split.test))),
        asked_labels=split.test_labels,
        asked_views=config.views.views,
        device=device,
    )


def on_held_out(task: ProbeTask, config: ProbeConfig, split: Split) -> ProbeTask:
    """The same task on a part of its labelled clips, asked about the rest of them."""
    labels = {split.train[row].key: split.train[row].label for row in task.fit_clips}
    taken = held_out(labels, config.held_out, config.head.seed)
    fit = tuple(row for row in task.fit_clips if split.train[row].key not in taken)
    asked = tuple(row for row in task.fit_clips if split.train[row].key in taken)
    return replace(
        task,
        fit_clips=fit,
        fit_labels=tuple(split.train_labels[row] for row in fit),
        asked=task.fit,
        asked_clips=asked,
        asked_labels=tuple(split.train_labels[row] for row in asked),
        asked_views=task.fit_views,
    )


def choose(
    config: ProbeConfig, split: Split, tasks: Mapping[Wanted, ProbeTask], out: Workspace
) -> dict[Wanted, Head]:
    """The best head of each task; one head alone needs no choosing."""
    if len(config.grid) == 1:
        return dict.fromkeys(tasks, config.grid[0])
    tries: dict[tuple[Wanted, Head], ProbeTask] = {}
    for wanted, task in tasks.items():
        if wanted[0] != STILL:
            asked = task if config.selection == "validation" else on_held_out(task, config, split)
            for lr, decay in config.grid:
                tries[wanted, (lr, decay)] = replace(asked, lr=lr, weight_decay=decay)
    names = {try_: f"{_name(try_[0])}, lr {try_[1][0]:g}, decay {try_[1][1]:g}" for try_ in tries}
    found = out.map(train_probe, {names[try_]: task for try_, task in tries.items()}, noun="heads")

    def score(wanted: Wanted, head: Head) -> tuple[float, float]:
        tried, result = tries[wanted, head], found[names[wanted, head]]
        return share_right(result["predicted"], tried.asked_labels), -result["losses"][-1]

    def best(variant: str, labels: int) -> Head:
        moving = PRETRAINED if variant == STILL else variant
        return max(config.grid, key=lambda head: score((moving, labels), head))

    return {wanted: best(*wanted) for wanted in tasks}


def attentive(
    config: ProbeConfig, split: Split, tokens: Mapping[str, Files], grid: Grid, out: Workspace
) -> list[dict[str, Any]]:
    """variant, labels, predicted, chosen, train_accuracy and losses of every head."""
    tasks = {
        (variant, labels): task_of(
            config, split, labels, out.work, tokens[variant], grid, out.execution.device
        )
        for variant in config.attended
        for labels in split.budgets
    }
    heads = choose(config, split, tasks, out)
    final = {
        _name(wanted): replace(task, lr=heads[wanted][0], weight_decay=heads[wanted][1])
        for wanted, task in tasks.items()
    }
    found = out.map(train_probe, final, noun="probes")
    return [
        {
            "readout": "attentive",
            "variant": variant,
            "labels": labels,
            "predicted": found[_name((variant, labels))]["predicted"],
            "chosen": dict(zip(("lr", "weight_decay"), heads[variant, labels], strict=True)),
            "train_accuracy": share_right(
                found[_name((variant, labels))]["fitted"], task.fit_labels
            ),
            "losses": found[_name((variant, labels))]["losses"],
        }
        for (variant, labels), task in tasks.items()
    ]


def _name(wanted: Wanted) -> str:
    return f"{wanted[0]}, {wanted[1]} labels"
