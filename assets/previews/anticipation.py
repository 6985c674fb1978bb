"""Pictures of action anticipation: the three lines, and what is seen before actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assets.previews import figures, scores
from assets.previews.curation import SHEET, SIDE, evenly
from pipelines.curation.ingest import read_media
from pipelines.stage import Inputs
from storage.artifacts import Artifact
from storage.frames import frames_at


def kitchen_films(films: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Middles of actions from all over the films, with what they are called."""
    told = films.json("classes.json")
    rows = evenly(films.table("segments.parquet"), SHEET)
    frames = [
        frames_at(read_media(films, row), [(row["start"] + row["stop"]) / 2], SIDE)[0]
        for row in rows
    ]
    captions = [f"{told['verbs'][row['verb']]} {told['nouns'][row['noun']]}" for row in rows]
    return {"actions": figures.contact_sheet(frames, captions, f"{films.manifest.name}: actions")}


def anticipation_report(report: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Each line's recall of actions by variant, beside the paper's."""
    told = report.json("report.json")
    drawn = {}
    for line in ("official", "before_start"):
        rates = {
            variant.replace("_", "\n"): _interval(found[line]) for variant, found in
            told["lines"].items()
        }  # fmt: skip
        paper = ("paper, ViT-L (other weights, other films)", told["paper"]["vit_large"]["action"])
        title = f"Actions, {line.replace('_', ' the ')}: {told['data']}, {told['asked']} asked"
        drawn[f"recall, {line}"] = scores.benchmark_bars(
            rates, None, (paper[0], paper[1] / 100), title, "mean-class recall at 5"
        )
    return drawn


def _interval(found: Mapping[str, Any]) -> tuple[float, float, float]:
    """Recall of actions and its interval, from 0 to 1, of a line."""
    told = found.get("action", found)
    value = told.get("recall", told.get("overall_action_mt5r"))
    return value / 100, min(told["low"], value) / 100, max(told["high"], value) / 100
