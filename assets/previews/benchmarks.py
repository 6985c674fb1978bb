"""Pictures of the group `benchmarks`: scores beside the paper's, confusion, films by answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from assets.previews import figures, scores
from assets.previews.curation import SHEET, SIDE, evenly
from pipelines.curation.ingest import read_media
from pipelines.stage import Inputs
from storage.artifacts import Artifact
from storage.frames import middle_frame

MOST_CLASSES = 30
"""Of a confusion that can be read; of more classes the worst are drawn."""


def benchmark_videos(listed: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Middle frames of items from all over the list, with their classes."""
    rows = evenly(listed.table("items.parquet"), SHEET)
    frames = [_frame(listed, row) for row in rows]
    captions = [f"{row['split'][:5]}: {row['label'][:26]}" for row in rows]
    return {"items": figures.contact_sheet(frames, captions, f"{listed.manifest.name}: its items")}


def benchmark_report(report: Artifact, inputs: Inputs) -> Mapping[str, bytes]:
    """Scores of each mode beside the paper's, confusion or recall, films right and wrong."""
    told = report.json("report.json")
    drawn: dict[str, bytes] = {}
    for mode, readouts in told["modes"].items():
        rates = {
            f"{readout}\n{variant}": _interval(found["variants"][variant]["accuracy"])
            for readout, found in readouts.items()
            for variant in found["variants"]
        }
        title = f"{told['title']} ({told['data']}), {mode}: {told['asked']} films, 95 % intervals"
        drawn[f"accuracy, {mode}"] = scores.benchmark_bars(
            rates, told["chance"], _paper(told["paper"]), title
        )
    mode, readouts = next(iter(told["modes"].items()))
    drawn |= _confused(told, readouts["attentive"], mode)
    return drawn | _answers(report, inputs["benchmark_videos"], mode)


def _paper(paper: Mapping[str, Any]) -> tuple[str, float] | None:
    """The label and height of the reference line: the paper's number of the model's own size."""
    if not paper["accuracy"]:
        return None
    size = paper["size"] or "vit_large"
    of = size.replace("_", " ").replace("vit ", "ViT-")
    said = f"paper, {of}" if paper["size"] else f"paper, {of} (other weights, other films)"
    return said, paper["accuracy"][size] / 100


def _confused(told: Mapping[str, Any], found: Mapping[str, Any], mode: str) -> dict[str, bytes]:
    counts, classes = np.asarray(found["confusion"]), told["classes"]
    if len(classes) <= MOST_CLASSES:
        title = f"Attentive, {mode}: what is taken for what"
        return {"confusion": scores.confusion(counts, classes, title)}
    recall = [
        (r, c) for r, c in zip(found["per_class_recall"], classes, strict=True) if r is not None
    ]
    worst = {name: share for share, name in sorted(recall)[:MOST_CLASSES]}
    title = f"Attentive, {mode}: classes that are found least often"
    return {"recall": figures.table_bars({"recall": worst}, title)}


def _answers(report: Artifact, videos: Artifact, mode: str) -> dict[str, bytes]:
    """Middle frames of films that the attentive head named right, and wrong."""
    rows = {row["key"]: row for row in videos.table("items.parquet") if row["split"] != "train"}
    told = [
        row for row in report.table("predictions.parquet")
        if (row["mode"], row["readout"], row["variant"]) == (mode, "attentive", "pretrained")
    ]  # fmt: skip
    drawn = {}
    for name, right in (("right", True), ("wrong", False)):
        some = evenly([r for r in told if (r["label"] == r["predicted"]) is right], SHEET // 2)
        if some:
            frames = [_frame(videos, rows[row["key"]]) for row in some]
            captions = [
                row["label"][:28] if right else f"{row['label'][:15]} → {row['predicted'][:15]}"
                for row in some
            ]
            title = f"Named {name} by the attentive head, {mode}"
            drawn[f"named {name}"] = figures.contact_sheet(frames, captions, title)
    return drawn


def _frame(videos: Artifact, row: Mapping[str, Any]) -> np.ndarray:
    return middle_frame(read_media(videos, row), 0.0, row["seconds"], SIDE)


def _interval(rate: Mapping[str, float]) -> tuple[float, float, float]:
    return rate["rate"], rate["low"], rate["high"]
