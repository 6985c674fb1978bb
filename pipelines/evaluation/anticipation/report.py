"""Action anticipation on EPIC-KITCHENS-100, in three lines that always stand together.

    official      the released code: frame columns taken for frames of the film, clips that end a
                  second before the action's STOP, validation without the actions that training
                  lacks; its mean-class recall at 5
    leaderboard   the same clips, all segments, the leaderboard's nine numbers
    before_start  clips by clock time that end a second before the action's START, all segments, the
                  leaderboard's nine numbers: what the task asks for

Beside each the same for an encoder that was never trained and for clips that stand still, and what
the most frequent classes of training give. Segments without a clip (no film, or one that ends
before) are counted, and wrong in the two lines that count all segments.

Inputs: `released_weights`, `kitchen_films`. Payload:
    report.json       the three lines of every variant
    submission.json   the leaderboard's file of `before_start`, checked
    classes.json      the classes of the heads: verbs, nouns, pairs
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from models.tokens import Grid
from pipelines.evaluation.anticipation.encoding import Group, encode_group
from pipelines.evaluation.anticipation.learning import KINDS, HeadsTask, learn
from pipelines.evaluation.anticipation.lines import Asked, lines_of, submitted
from pipelines.evaluation.anticipation.protocol import MODES, AnticipationConfig
from pipelines.evaluation.features import PRETRAINED
from pipelines.evaluation.metrics import held_out
from pipelines.planner.weights import read_model
from pipelines.settings import plain
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.errors import InputError

SIDES = ("train", "validation")
PAPER = {
    "vit_large": {"verb": 57.8, "noun": 53.8, "action": 32.7},
    "vit_huge": {"verb": 59.2, "noun": 54.6, "action": 36.5},
    "vit_giant": {"verb": 61.2, "noun": 55.7, "action": 38.0},
    "vit_giant_384": {"verb": 63.6, "noun": 57.1, "action": 39.7},
}
"""Published mean-class recall at 5, percent (V-JEPA 2, table 5 and 19)."""
_CLIPS = 16


def run(config: AnticipationConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Encode what was seen, learn, and write the three lines."""
    films, weights = inputs["kitchen_films"], inputs["released_weights"]
    rows = {side: [r for r in films.table("segments.parquet") if r["split"] == side]
            for side in SIDES}  # fmt: skip
    if empty := [side for side in SIDES if not rows[side]]:
        raise InputError(f"{films.manifest.name} has no action of {empty[0]}; it needs both sides")
    asked = Asked.of(rows)
    groups = _groups(config, films, weights, rows, out)
    seen = out.map(encode_group, groups, noun="groups of actions")
    tasks = {
        (mode, variant): _task(config, mode, variant, asked, groups, seen, weights, out)
        for mode in MODES
        for variant in config.variants
    }
    found = out.map(
        learn, {f"{mode}, {variant}": t for (mode, variant), t in tasks.items()}, noun="heads"
    )
    shown = {mode: _shown(mode, "validation", groups, seen) for mode in MODES}
    report = lines_of(config, asked, films, shown, found)
    beyond = {
        mode: {n: why for k, s in seen.items() if k.startswith(mode) for n, why in
               sorted(s["beyond"].items())}
        for mode in MODES
    }  # fmt: skip
    report |= {"beyond": beyond, "paper": PAPER, "settings": plain(config)}
    told = submitted(asked, films, shown["fixed"], found[f"fixed, {PRETRAINED}"]["scores"])
    for name, content in (
        ("report", report), ("submission", told), ("classes", asked.as_json()),
    ):  # fmt: skip
        text = json.dumps(content, indent=None if name == "submission" else 1, sort_keys=True)
        (out.payload / f"{name}.json").write_text(f"{text}\n")
    return {"lines": {v: some["action"] for v, some in report["headline"].items()},
            "asked": report["asked"], "dropped": report["dropped"]}  # fmt: skip


def _groups(
    config: AnticipationConfig, films: Artifact, weights: Artifact,
    rows: Mapping[str, Sequence[Mapping[str, Any]]], out: Workspace,
) -> dict[str, Group]:  # fmt: skip
    return {
        f"{mode} {side}-{start // _CLIPS:06d}": Group(
            films, weights, tuple(some[start : start + _CLIPS]), config, mode,
            out.execution.device, out.work, f"{side}-{start // _CLIPS:06d}",
        )
        for mode in MODES
        for side, some in rows.items()
        for start in range(0, len(some), _CLIPS)
    }  # fmt: skip


def _shown(mode: str, side: str, groups: Mapping[str, Group], seen: Mapping[str, Any]) -> list[str]:
    """Names of the actions of a side whose clips there are, in the order of their tokens."""
    return [name for key in groups if key.startswith(f"{mode} {side}-")
            for name in seen[key]["shown"]]  # fmt: skip


def _task(
    config: AnticipationConfig, mode: str, variant: str, asked: Asked, groups: Mapping[str, Group],
    seen: Mapping[str, Any], weights: Artifact, out: Workspace,
) -> HeadsTask:  # fmt: skip
    names = {side: _shown(mode, side, groups, seen) for side in SIDES}
    if empty := [side for side in SIDES if not names[side]]:
        reasons = Counter(why for s in seen.values() for why in s["beyond"].values())
        raise InputError(f"no action of {empty[0]} has a clip in {mode} mode: {reasons}")
    video_of = {name: asked.rows[name]["video"] for name in names["train"]}
    apart = held_out(dict.fromkeys(video_of.values(), "film"), config.held_out, config.seed)
    encoder = read_model(weights)[0]["encoder"]
    side = config.size // encoder["patch"]
    grid: Grid = (config.frames // encoder["tubelet"], side, side)
    return HeadsTask(
        config, out.work,
        {
            which: tuple(
                out.kept[group.target(variant)] for key, group in groups.items()
                if key.startswith(f"{mode} {which}-") and seen[key]["shown"]
            )
            for which in SIDES
        },
        {which: {kind: tuple(asked.numbers(names[which], kind).tolist()) for kind in KINDS}
         for which in SIDES},
        tuple(video in apart for video in video_of.values()), asked.sizes, grid,
        out.execution.device,
    )  # fmt: skip


STAGE = Stage("anticipation_report", version=1, config=AnticipationConfig, run=run, on_device=True)
