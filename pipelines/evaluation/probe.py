"""What frozen features know about motion: an attentive probe on the labelled source.

The same probe is trained on the encoder's features, on those of a randomly initialised encoder, and
on the encoder's features of clips that stand still (every frame the middle one): the second says
what training added, the third what a class gives away by its looks. Learning rate and weight decay
are chosen on a held-out part of the TRAINING clips, and the probe is then trained on all of them.
The paper takes the best of 20 heads on the validation set itself; `selection="validation"` does
that, and the report says so, for the number is then optimistic.

Inputs: `cooled_encoder`, `clip_shards`. Payload:
    report.json           accuracy with 95 % Wilson intervals per variant, chance, confusion
    predictions.parquet   key, label, and the predicted class of each variant
    log.parquet           variant, epoch, loss of the final probes
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from pipelines.evaluation.features import (
    VARIANTS,
    LabelledClip,
    ViewConfig,
    encode_clips,
    labelled_clips,
)
from pipelines.evaluation.metrics import Rate, confusion, held_out, mean_class_recall, sign_test
from pipelines.evaluation.probing import (
    HeadConfig,
    ProbeTask,
    labels_of,
    share_right,
    train_probe,
)
from pipelines.planner.weights import read_model
from pipelines.settings import NOT_EMPTY, NotNegative, Part, Positive, plain, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.tables import write_table
from storage.work import KeptFile, Work

SELECTIONS = {
    "held_out": "a held-out part of the training clips",
    "validation": "the validation clips themselves, as in the paper: optimistic",
}


@settings
class ProbeConfig:
    """The probe of frozen features; the defaults are the paper's SSv2 protocol for ViT-L."""

    source: str = "ssv2"
    """The labelled source."""
    views: ViewConfig = field(default_factory=ViewConfig)
    """How clips are shown to the encoder."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The probe and how it learns."""
    lrs: Annotated[tuple[Positive, ...], NOT_EMPTY] = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
    """Learning rates to choose from."""
    weight_decays: Annotated[tuple[NotNegative, ...], NOT_EMPTY] = (0.01, 0.1, 0.4, 0.8)
    """Weight decays to choose from."""
    selection: Literal["held_out", "validation"] = "held_out"
    """Where they are chosen: "held_out" (part of train), or "validation" (the paper's way)."""
    held_out: Part = 0.2
    """Share of the training clips, class by class, that is held out to choose on."""
    still: bool = True
    """Whether to probe clips without motion too."""

    @property
    def grid(self) -> tuple[tuple[float, float], ...]:
        """(learning rate, weight decay) of every head that is tried."""
        return tuple((lr, decay) for lr in self.lrs for decay in self.weight_decays)

    @property
    def variants(self) -> tuple[str, ...]:
        """Who is probed."""
        return VARIANTS if self.still else VARIANTS[:-1]


@dataclass(frozen=True)
class Clips:
    """The clips of both sides of the split, in the order of the feature files."""

    train: tuple[LabelledClip, ...]
    validation: tuple[LabelledClip, ...]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, clips: Sequence[LabelledClip]) -> Clips:
        """Sort clips into their sides."""
        train = tuple(clip for clip in clips if clip.split == "train")
        rest = tuple(clip for clip in clips if clip.split == "validation")
        return cls(train, rest, tuple(sorted({clip.label for clip in train})))

    def labels(self, side: str, rows: Sequence[int] | None = None) -> tuple[int, ...]:
        """Class numbers of a side's clips, or of some of them."""
        clips: tuple[LabelledClip, ...] = getattr(self, side)
        rows = range(len(clips)) if rows is None else rows
        return labels_of([clips[row].label for row in rows], self.classes)


def task_of(
    config: ProbeConfig, clips: Clips, work: Work, files: Mapping[str, tuple[KeptFile, ...]],
    grid: tuple[int, int, int], device: str,
) -> ProbeTask:  # fmt: skip
    """The first head's task on all training clips, asked about the validation clips."""
    everything = tuple(range(len(clips.train)))
    lr, decay = config.grid[0]
    return ProbeTask(
        config=config.head,
        lr=lr,
        weight_decay=decay,
        classes=len(clips.classes),
        grid=grid,
        work=work,
        fit=files["train"],
        fit_clips=everything,
        fit_labels=clips.labels("train"),
        fit_views=config.views.train_views,
        asked=files["validation"],
        asked_clips=tuple(range(len(clips.validation))),
        asked_views=config.views.views,
        device=device,
    )


def on_held_out(task: ProbeTask, config: ProbeConfig, clips: Clips) -> ProbeTask:
    """The same task on a part of the training clips, asked about the rest of them."""
    labels = {clip.key: clip.label for clip in clips.train}
    taken = held_out(labels, config.held_out, config.head.seed)
    sides: dict[bool, list[int]] = {False: [], True: []}
    for row, clip in enumerate(clips.train):
        sides[clip.key in taken].append(row)
    return replace(
        task,
        fit_clips=tuple(sides[False]),
        fit_labels=clips.labels("train", sides[False]),
        asked=task.fit,
        asked_clips=tuple(sides[True]),
        asked_views=task.fit_views,
    )


def choose(
    config: ProbeConfig, clips: Clips, tasks: Mapping[str, ProbeTask], out: Workspace
) -> dict[str, tuple[float, float]]:
    """The best head of each encoder; one head alone needs no choosing.

    Clips that stand still are probed with the head that was best on those that move.
    """
    if len(config.grid) == 1:
        return dict.fromkeys(tasks, config.grid[0])
    tries: dict[str, ProbeTask] = {}
    moving = [variant for variant in tasks if variant != "still"]
    for variant in moving:
        task = tasks[variant]
        asked = task if config.selection == "validation" else on_held_out(task, config, clips)
        for lr, decay in config.grid:
            name = f"{variant} lr {lr:g} decay {decay:g}"
            tries[name] = replace(asked, lr=lr, weight_decay=decay)
    found = out.map(train_probe, tries, noun="heads")
    best: dict[str, tuple[float, float]] = {}
    for variant in moving:
        scores = {}
        for name, task in tries.items():
            if name.startswith(f"{variant} "):
                side = "validation" if config.selection == "validation" else "train"
                truth = clips.labels(side, task.asked_clips)
                right = share_right(found[name]["predicted"], truth)
                scores[(task.lr, task.weight_decay)] = (right, -found[name]["losses"][-1])
        best[variant] = max(scores, key=lambda head: scores[head])
    return {variant: best.get(variant, best["pretrained"]) for variant in tasks}


def judge(clips: Clips, result: Mapping[str, Any], head: tuple[float, float]) -> dict[str, Any]:
    """The numbers of one variant's probe."""
    truth, predicted = np.array(clips.labels("validation")), np.array(result["predicted"])
    return {
        "accuracy": Rate(int((truth == predicted).sum()), len(truth)).as_json(),
        "mean_class_recall": mean_class_recall(truth, predicted),
        "train_accuracy": share_right(result["fitted"], clips.labels("train")),
        "first_loss": result["losses"][0],
        "last_loss": result["losses"][-1],
        "lr": head[0],
        "weight_decay": head[1],
        "confusion": confusion(truth, predicted, len(clips.classes)).tolist(),
    }


def run(config: ProbeConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Encode, choose, train and ask, each resuming after a kill; then write the report."""
    clips = Clips.of(labelled_clips(inputs.parts("clip_shards"), config.source))
    encoder = inputs["cooled_encoder"]
    files = encode_clips(
        encoder, (*clips.train, *clips.validation), config.views, config.variants, out
    )
    grid = token_grid(config.views, read_model(encoder)[0]["encoder"])
    tasks = {
        variant: task_of(config, clips, out.work, files[variant], grid, out.execution.device)
        for variant in config.variants
    }
    heads = choose(config, clips, tasks, out)
    final = {
        variant: replace(task, lr=heads[variant][0], weight_decay=heads[variant][1])
        for variant, task in tasks.items()
    }
    results = out.map(train_probe, final, noun="probes")
    variants = {
        variant: judge(clips, results[variant], heads[variant]) for variant in config.variants
    }
    report = describe(config, clips, variants, results)
    (out.payload / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    write_tables(clips, results, out.payload)
    return headline(report)


def token_grid(views: ViewConfig, encoder: Mapping[str, Any]) -> tuple[int, int, int]:
    """Tokens of a view along time (all segments), height and width."""
    side = views.size // encoder["patch"]
    return views.segments * (views.frames // encoder["tubelet"]), side, side


def describe(
    config: ProbeConfig, clips: Clips, variants: Mapping[str, Any], results: Mapping[str, Any]
) -> dict[str, Any]:
    """The contents of report.json."""
    truth = np.array(clips.labels("validation"))
    right = {v: np.array(results[v]["predicted"]) == truth for v in ("pretrained", "random")}
    better = int((right["pretrained"] & ~right["random"]).sum())
    worse = int((right["random"] & ~right["pretrained"]).sum())
    return {
        "source": config.source,
        "classes": clips.classes,
        "chance": 1 / len(clips.classes),
        "largest_class": float(np.bincount(truth).max() / len(truth)),
        "train_clips": len(clips.train),
        "validation_clips": len(clips.validation),
        "selected_on": SELECTIONS[config.selection],
        "encoders": {name: variants[name] for name in ("pretrained", "random")},
        "controls": {name: found for name, found in variants.items() if name == "still"},
        "pretrained_against_random": {
            "only_pretrained_right": better,
            "only_random_right": worse,
            "p": sign_test(better, worse),
        },
        "settings": plain(config),
    }


def write_tables(clips: Clips, results: Mapping[str, Any], folder: Path) -> None:
    """Write predictions.parquet and log.parquet."""
    rows = [
        {"key": clip.key, "label": clip.label}
        | {variant: clips.classes[found["predicted"][row]] for variant, found in results.items()}
        for row, clip in enumerate(clips.validation)
    ]
    columns = dict.fromkeys(("key", "label", *results), "string")
    write_table(folder / "predictions.parquet", rows, columns)
    log = [
        {"variant": variant, "epoch": epoch, "loss": loss}
        for variant, found in results.items()
        for epoch, loss in enumerate(found["losses"])
    ]
    schema = {"variant": "string", "epoch": "int32", "loss": "float64"}
    write_table(folder / "log.parquet", log, schema)


def headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers worth showing."""
    shown: dict[str, Any] = {"chance": report["chance"]}
    for variant, found in {**report["encoders"], **report["controls"]}.items():
        rate = found["accuracy"]
        shown |= {
            f"{variant}_accuracy": rate["rate"],
            f"{variant}_accuracy_low": rate["low"],
            f"{variant}_accuracy_high": rate["high"],
            f"{variant}_train_accuracy": found["train_accuracy"],
        }
    shown["validation_clips"] = report["validation_clips"]
    shown["pretrained_against_random_p"] = report["pretrained_against_random"]["p"]
    return shown


STAGE = Stage("probe_report", version=1, config=ProbeConfig, run=run, on_device=True)
