"""The report of a benchmark: attentive heads, a linear readout and nearest neighbours, each on the
weights, on an encoder that was never trained, and on films that stand still.

Head and epoch are chosen on films held out of train, and validation is asked once; beside it stands
the figure of the released code, the best head of every epoch on validation itself, which is called
optimistic. Both modes are named: `official` samples frames, averages softmax over views and
accuracy over batches as the released code does, `fixed` as the paper says. A film that is listed
and missing counts as wrong in `missing_as_wrong`.

Inputs: `benchmark_features` and `benchmark_videos` of the benchmark, `released_weights`. Payload:
    report.json           accuracies with intervals, by mode; confusion; what is missing
    predictions.parquet   the class that each film was given by every readout
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.benchmarks.features import SIDES, Kept, films_of
from pipelines.evaluation.benchmarks.judging import (
    accuracy_by_batches,
    per_class_recall,
    published_size,
)
from pipelines.evaluation.benchmarks.protocol import (
    BenchmarkReportConfig,
    FeaturesConfig,
    of_one,
    report_of,
)
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.evaluation.benchmarks.training import HeadsTask, ask_released, learn_heads
from pipelines.evaluation.features import PRETRAINED, RANDOM
from pipelines.evaluation.metrics import Rate, confusion, held_out, paired_gain
from pipelines.evaluation.readouts import read_out
from pipelines.execution import ExecutionConfig
from pipelines.planner.weights import read_model
from pipelines.settings import from_plain, plain
from pipelines.stage import Inputs, Stage, Workspace
from storage.errors import InputError
from storage.media import open_media
from storage.places import resolved
from storage.tables import write_table

PREDICTIONS = {
    "mode": "string", "readout": "string", "variant": "string", "key": "string",
    "label": "string", "predicted": "string",
}  # fmt: skip
Labels = Mapping[str, NDArray[np.int64]]
"""Side -> class numbers of its films."""
Answers = dict[str, dict[str, dict[str, Any]]]
"""Readout -> variant -> predicted (a class for each film of validation) and how it came."""


def run(config: BenchmarkReportConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Train the heads, read out, judge and write."""
    features, videos = inputs["benchmark_features"], inputs["benchmark_videos"]
    asked = from_plain(FeaturesConfig, features.manifest.recipe_inputs["config"])
    sides, classes = films_of(videos), videos.json("classes.json")
    labels = {side: np.array([row["number"] for row in rows]) for side, rows in sides.items()}
    tasks = _tasks(config, asked, inputs, labels, len(classes), out.execution.device)
    learned = out.map(learn_heads, tasks, noun="sets of heads")
    released = _released(config, tasks, out)
    modes: dict[str, Answers] = {}
    for mode in asked.modes:
        attentive = {t.variant: learned[key] for key, t in tasks.items() if t.mode == mode}
        pooled = _read_out(Kept(features, mode), asked, labels)
        modes[mode] = {"attentive": attentive, **pooled, **released.get(mode, {})}
    report = described(config, inputs, asked, modes, labels[SIDES[1]])
    (out.payload / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    rows = [
        {
            "mode": mode, "readout": readout, "variant": variant, "key": row["key"],
            "label": row["label"], "predicted": classes[number],
        }
        for mode, answers in modes.items()
        for readout, found in answers.items()
        for variant, told in found.items()
        for row, number in zip(sides[SIDES[1]], told["predicted"], strict=True)
    ]  # fmt: skip
    write_table(out.payload / "predictions.parquet", rows, PREDICTIONS)
    return headline(report)


def _tasks(
    config: BenchmarkReportConfig, asked: FeaturesConfig, inputs: Inputs, labels: Labels,
    classes: int, device: str,
) -> dict[str, HeadsTask]:  # fmt: skip
    [(name, heads)] = config.heads.items()
    train = films_of(inputs["benchmark_videos"])["train"]
    by_key = {str(row["key"]): str(row["label"]) for row in train}
    taken = held_out(by_key, config.held_out, config.seed)
    return {
        f"{mode}, {variant}": HeadsTask(
            name, heads, inputs["benchmark_features"], inputs["benchmark_videos"],
            inputs["released_weights"], asked, mode, variant,
            tuple(str(row["key"]) in taken for row in train),
            {side: tuple(some.tolist()) for side, some in labels.items()}, classes, device,
        )
        for mode in asked.modes
        for variant in asked.attended
    }  # fmt: skip


def _released(
    config: BenchmarkReportConfig, tasks: Mapping[str, HeadsTask], out: Workspace
) -> dict[str, Answers]:
    """Mode -> what a released probe says of the weights and of stills, where one is named."""
    [heads] = config.heads.values()
    some = {k: t for k, t in tasks.items() if heads.released and not t.variant.startswith(RANDOM)}
    said = out.map(ask_released, some, noun="released probes") if some else {}
    found: dict[str, Answers] = {}
    for key, task in some.items():
        found.setdefault(task.mode, {"released": {}})["released"][task.variant] = said[key]
    return found


def observe(
    config: BenchmarkReportConfig, partition: str | None, execution: ExecutionConfig
) -> dict[str, str]:
    """The digest of the released probe, where one is named."""
    heads = of_one(config.heads, partition, "benchmark_report.heads")[str(partition)]
    if heads.released is None:
        return {}
    file = resolved(heads.released)
    if not file.is_file():
        raise InputError(f"benchmark_report.heads.{partition}.released {file}: no such file")
    book = execution.cache / "digests" / f"released_probe-{partition}.json"
    return open_media(str(file.parent)).digests([file.name], book)


def _read_out(kept: Kept, asked: FeaturesConfig, labels: Labels) -> Answers:
    """Linear readout and nearest neighbours, of every variant."""
    found: Answers = {"linear": {}, "knn": {}}
    known = len(labels[SIDES[0]])
    numbers = np.concatenate([labels[SIDES[0]], np.full(len(labels[SIDES[1]]), -1)])
    for variant in asked.variants:
        vectors = np.concatenate([kept.pooled(variant, side) for side in SIDES])
        answers = read_out(vectors, numbers, range(known), range(known, len(vectors)))
        for readout, answer in answers.items():
            found[readout][variant] = {
                "predicted": answer.predicted.tolist(), "chosen": dict(answer.chosen),
            }  # fmt: skip
    return found


def described(
    config: BenchmarkReportConfig, inputs: Inputs, asked: FeaturesConfig,
    modes: Mapping[str, Answers], truth: NDArray[np.int64],
) -> dict[str, Any]:  # fmt: skip
    """The contents of report.json."""
    [name] = config.heads
    benchmark, videos = BENCHMARKS[name], inputs["benchmark_videos"]
    classes = videos.json("classes.json")
    absent = [row for row in videos.table("missing.parquet") if row["split"] == SIDES[1]]
    size = published_size(read_model(inputs["released_weights"])[0]["encoder"])
    return {
        "benchmark": name,
        "title": benchmark.title,
        "data": "format-faithful synthetic"
        if videos.record["media"] == "payload"
        else "the user's files, not compared with the published ones",
        "classes": classes,
        "chance": 1 / len(classes),
        "largest_class": float(np.bincount(truth).max() / len(truth)),
        "asked": len(truth),
        "missing": len(absent),
        "listed": videos.metrics.get("listed"),
        "published_sizes": dict(zip(SIDES, benchmark.listed, strict=True)),
        "shorter_than_a_clip": inputs["benchmark_features"].metrics.get("shorter_than_a_clip"),
        "paper": {"size": size, "accuracy": dict(benchmark.paper)},
        "differs": benchmark.differs,
        "modes": {
            mode: {
                readout: _readout(found, truth, len(absent), len(classes), config)
                for readout, found in answers.items()
            }
            for mode, answers in modes.items()
        },
        "settings": plain(config) | {"features": plain(asked)},
    }


def _readout(
    found: Mapping[str, Mapping[str, Any]], truth: NDArray[np.int64], missing: int, classes: int,
    config: BenchmarkReportConfig,
) -> dict[str, Any]:  # fmt: skip
    """One readout: every variant, the gain over encoders never trained, and confusion."""
    [(name, heads)] = config.heads.items()
    right = {variant: np.array(told["predicted"]) == truth for variant, told in found.items()}
    drawn = [row for variant, row in right.items() if variant.startswith(RANDOM)]
    counts = confusion(truth, np.array(found[PRETRAINED]["predicted"]), classes)
    variants = {
        variant: {
            **{part: value for part, value in told.items() if part != "predicted"},
            "accuracy": Rate(int(right[variant].sum()), len(truth)).as_json(),
            "missing_as_wrong": Rate(int(right[variant].sum()), len(truth) + missing).as_json(),
            "by_batches": accuracy_by_batches(
                right[variant], heads.head.batch, drop_last=not BENCHMARKS[name].images
            ),
        }
        for variant, told in found.items()
    }
    return {
        "variants": variants,
        "pretrained_minus_random": paired_gain(right[PRETRAINED], np.stack(drawn), config.seed)
        if drawn
        else None,
        "confusion": counts.tolist(),
        "per_class_recall": per_class_recall(counts),
    }


def headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers worth showing."""
    return {
        "benchmark": report["benchmark"], "data": report["data"], "chance": report["chance"],
        "asked": report["asked"], "missing": report["missing"],
        **{
            mode: {
                readout: {v: t["accuracy"]["rate"] for v, t in found["variants"].items()}
                for readout, found in readouts.items()
            }
            for mode, readouts in report["modes"].items()
        },
    }  # fmt: skip


STAGE = Stage(
    "benchmark_report", version=2, config=BenchmarkReportConfig, run=run, narrow=report_of,
    observe=observe, on_device=True,
)  # fmt: skip
