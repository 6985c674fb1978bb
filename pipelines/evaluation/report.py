"""What a probe reports: accuracies with intervals, what pretraining gained, and the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.features import PRETRAINED, RANDOM, STILL
from pipelines.evaluation.metrics import Rate, confusion, mean_class_recall, paired_gain
from pipelines.evaluation.protocol import OTHERS_CHOSEN, SELECTIONS, ProbeConfig
from pipelines.evaluation.splits import Split
from pipelines.settings import plain
from storage.tables import write_table

READOUTS = ("linear", "attentive", "knn")

Answers = Sequence[Mapping[str, Any]]
"""readout, variant, labels, predicted, chosen, train_accuracy (and losses) of every probe."""


def describe(config: ProbeConfig, split: Split, answers: Answers) -> dict[str, Any]:
    """The contents of report.json."""
    truth = np.array(split.test_labels)
    sides = {"train": split.train_labels, "test": split.test_labels}
    return {
        "source": split.source,
        "classes": split.classes,
        "clips": {
            side: {split.classes[number]: count for number, count in Counter(numbers).items()}
            for side, numbers in sides.items()
        },
        "chance": 1 / len(split.classes),
        "largest_class": float(np.bincount(truth).max() / len(truth)),
        "test_clips": len(split.test),
        "chosen_on": {
            "attentive": SELECTIONS[config.selection],
            "linear": OTHERS_CHOSEN,
            "knn": OTHERS_CHOSEN,
        },
        "readouts": {
            readout: [
                _at(config, split, truth, [
                    answer for answer in answers
                    if (answer["readout"], answer["labels"]) == (readout, labels)
                ])
                for labels in split.budgets
            ]
            for readout in READOUTS
        },
        "settings": plain(config),
    }  # fmt: skip


def _at(
    config: ProbeConfig, split: Split, truth: NDArray[np.int64], answers: Answers
) -> dict[str, Any]:
    """One readout with one budget: every variant, and the gain over encoders never trained."""
    right = {answer["variant"]: np.array(answer["predicted"]) == truth for answer in answers}
    judged = {answer["variant"]: _judged(truth, answer) for answer in answers}
    seeds = [variant for variant in right if variant.startswith(RANDOM)]
    others = np.stack([right[variant] for variant in seeds])
    counts = confusion(
        truth, np.array(next(a for a in answers if a["variant"] == PRETRAINED)["predicted"]),
        len(split.classes),
    )  # fmt: skip
    # Of several encoders on the same clips: the clips of one, right as often as their mean.
    mean = Rate(round(float(others.sum(1).mean())), len(truth)).as_json()
    mean["rate"] = float(others.mean())
    variants = {PRETRAINED: judged[PRETRAINED]}
    variants[RANDOM] = {"accuracy": mean, "seeds": [judged[name] for name in seeds]}
    if STILL in judged:
        variants[STILL] = judged[STILL]
    return {
        "labels": answers[0]["labels"],
        "variants": variants,
        "pretrained_minus_random": paired_gain(right[PRETRAINED], others, config.seed),
        "confusion": counts.tolist(),
        "mean_class_recall": mean_class_recall(counts),
    }


def _judged(truth: NDArray[np.int64], answer: Mapping[str, Any]) -> dict[str, Any]:
    right = int((np.array(answer["predicted"]) == truth).sum())
    return {
        "accuracy": Rate(right, len(truth)).as_json(),
        "train_accuracy": answer["train_accuracy"],
        "chosen": answer["chosen"],
    }


def write_tables(split: Split, answers: Answers, folder: Path) -> None:
    """Write predictions.parquet and log.parquet."""
    rows = [
        {
            "readout": answer["readout"],
            "labels": answer["labels"],
            "variant": answer["variant"],
            "key": clip.key,
            "label": clip.label,
            "predicted": split.classes[number],
        }
        for answer in answers
        for clip, number in zip(split.test, answer["predicted"], strict=True)
    ]
    text = dict.fromkeys(("readout", "variant", "key", "label", "predicted"), "string")
    write_table(folder / "predictions.parquet", rows, text | {"labels": "int32"})
    log = [
        {"variant": answer["variant"], "labels": answer["labels"], "epoch": epoch, "loss": loss}
        for answer in answers
        for epoch, loss in enumerate(answer.get("losses", ()))
    ]
    schema = {"variant": "string", "labels": "int32", "epoch": "int32", "loss": "float64"}
    write_table(folder / "log.parquet", log, schema)


def headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers worth showing: those of the largest budget."""
    shown: dict[str, Any] = {"chance": report["chance"], "test_clips": report["test_clips"]}
    for readout, curve in report["readouts"].items():
        last = curve[-1]
        shown["labels"] = last["labels"]
        shown[readout] = {
            **{name: found["accuracy"]["rate"] for name, found in last["variants"].items()},
            "pretrained_minus_random": last["pretrained_minus_random"],
        }
    return shown
