"""Pictures of the groups `evaluation` and `planner`: scores, energies, rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from assets.previews import figures, scores
from assets.previews.curation import evenly
from assets.previews.robot import FILM
from pipelines.stage import Inputs
from storage.artifacts import Artifact


def probe_report(report: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Accuracy by number of labels, that of the largest number, and what is taken for what."""
    told = _report(report)
    asked = f"{told['test_clips']} unseen clips of {told['source']}, 95 % intervals"
    curves = {
        (readout, variant): [
            (at["labels"], *_interval(at["variants"][variant]["accuracy"])) for at in curve
        ]
        for readout, curve in told["readouts"].items()
        for variant in curve[0]["variants"]
    }
    last = told["readouts"]["linear"][-1]
    rates = {name: _interval(found["accuracy"]) for name, found in last["variants"].items()}
    named = f"Linear, {last['labels']} labels"
    return {
        "accuracy by labels": scores.label_curves(
            curves, told["chance"], f"Frozen features: {asked}"
        ),
        "accuracy": scores.score_bars(rates, told["chance"], "accuracy", f"{named}: {asked}"),
        "confusion": scores.confusion(
            np.asarray(last["confusion"]), told["classes"], f"{named}: what is taken for what"
        ),
    }


def planning_report(report: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Shares of goals reached in unseen and seen labs, energies, films of the first trials."""
    told = _report(report)
    near = f"within {100 * told['settings']['success']:g} cm"
    drawn = {}
    for labs, name in (("unseen", "pooled"), ("seen", "seen")):
        found = {policy: by[name] for policy, by in told["policies"].items() if name in by}
        for when, which in (("ended", "reached"), ("passed", "passed")):
            if found:
                drawn[f"{when} {near}, {labs} labs"] = _shares(found, which, f"{when} {near}", labs)
    for path in report.files("landscape-"):
        lab = path.removeprefix("landscape-").removesuffix(".npz")
        drawn[f"energy, {lab}"] = _landscape(np.load(report.file(path)))
    for path in report.files("films/"):
        name = path.removeprefix("films/").removesuffix(".npz")
        if name.endswith("-000"):  # the first trial of each lab
            drawn[f"rollout {name}"] = _rollout(np.load(report.file(path)), name)
    return drawn


def _shares(found: Mapping[str, Mapping[str, Any]], which: str, what: str, labs: str) -> bytes:
    """Bars of the policies' rates, `which` of them, in labs of one kind."""
    rates = {policy: summary[which] for policy, summary in found.items()}
    trials = next(iter(rates.values()))["trials"]
    return scores.score_bars(
        {policy: _interval(rate) for policy, rate in rates.items()},
        None,
        f"share that {what}",
        f"Reaching in {labs} labs: {trials} trials a policy, 95 % intervals",
    )


def planner_bundle(bundle: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """What is in the folder."""
    sizes = {entry.path: entry.size / 1e6 for entry in bundle.manifest.files}
    return {"files": figures.table_bars({"size (MB)": sizes}, "The planner, ready to take away")}


def _report(artifact: Artifact) -> Any:
    return artifact.json("report.json")


def _interval(rate: Mapping[str, float]) -> tuple[float, float, float]:
    return rate["rate"], rate["low"], rate["high"]


def _landscape(arrays: Mapping[str, np.ndarray]) -> bytes:
    axis, truth = arrays["axis_cm"], arrays["truth_cm"]
    return scores.energy_landscape(
        arrays["energy_xy"], (axis, axis), (float(truth[0]), float(truth[1]))
    )


def _rollout(film: Mapping[str, np.ndarray], name: str) -> bytes:
    frames, left = film["frames"], film["distances_cm"]
    steps = evenly(range(len(frames)), FILM)
    return figures.film_strip(
        [*(frames[step] for step in steps), film["goal"]],
        [*(f"step {step}" for step in steps), "goal"],
        {"distance to the goal": left},
        ("step", "cm"),
        f"Reach {name}: from {left[0]:.1f} to {left[-1]:.1f} cm",
    )
