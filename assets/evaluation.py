"""What the networks are worth, and the planner to take away: groups `evaluation` and `planner`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from assets import pictures
from assets.curation import evenly
from assets.nouns import noun
from assets.robot import FILM
from pipelines.stage import Inputs
from storage.artifacts import Artifact


@noun
def probe_report(report: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """What the frozen features know about motion: an attentive probe on labelled motion classes.

    The same probe is trained on the cooled encoder, on one with random weights (the difference is
    what pretraining gave) and on clips that stand still (what a class gives away by its looks).
    Payload: `report.json` with accuracies, counts, 95 % intervals and confusion matrices,
    `predictions.parquet`, `log.parquet`.
    """
    told = _report(report)
    variants = {**told["encoders"], **told["controls"]}
    scores = {variant: _interval(found["accuracy"]) for variant, found in variants.items()}
    first, found = next(iter(variants.items()))
    title = f"Motion probe: {told['validation_clips']} held-out clips, 95 % intervals"
    return {
        "accuracy": pictures.score_bars(scores, told["chance"], "accuracy", title),
        "confusion": pictures.confusion(
            np.asarray(found["confusion"]), told["classes"], f"Confusion of the {first} encoder"
        ),
    }


@noun
def planning_report(report: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Closed-loop reaching in the simulator: the planner against no motion and random motion.

    Each trial lays out a lab anew, renders a goal picture with the arm truly there, and counts the
    hand's final distance. "straight" knows where the goal is: it says what was possible. Payload:
    `report.json` (successes, trials, 95 % Wilson intervals, distances in cm), `trials.parquet`,
    `films/`, and the energy around one motion whose effect is known.
    """
    told = _report(report)["policies"]
    rates = {policy: labs["pooled"]["reached"] for policy, labs in told.items()}
    trials = next(iter(rates.values()))["trials"]
    drawn = {
        "reached": pictures.score_bars(
            {policy: _interval(rate) for policy, rate in rates.items()},
            None,
            "share of goals reached",
            f"Reaching within the limit: {trials} trials a policy, 95 % intervals",
        )
    }
    for path in sorted(report.path.glob("landscape-*.npz")):
        drawn[f"energy, {path.stem.removeprefix('landscape-')}"] = _landscape(np.load(path))
    for path in sorted(report.path.glob("films/*-000.npz")):  # the first trial of each lab
        drawn[f"rollout {path.stem}"] = _rollout(np.load(path), path.stem)
    return drawn


@noun
def planner_bundle(bundle: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """The planner as a folder that a robot's user takes home: weights, contract, settings, digests.

    Needs torch and this project's `models` and `pipelines` alone, no Dagster, no Ray:
    `load_planner(folder).plan(frame, state, goal_frame)`. The search settings are those that the
    planning report measured, and its README repeats the numbers.
    """
    sizes = {entry.path: entry.size / 1e6 for entry in bundle.manifest.files}
    return {"files": pictures.table_bars({"size (MB)": sizes}, "The planner, ready to take away")}


NOUNS = (probe_report, planning_report, planner_bundle)


def _report(artifact: Artifact) -> Any:
    return json.loads((artifact.path / "report.json").read_text())


def _interval(rate: Mapping[str, float]) -> tuple[float, float, float]:
    return rate["rate"], rate["low"], rate["high"]


def _landscape(arrays: Mapping[str, np.ndarray]) -> bytes:
    axis, truth = arrays["axis_cm"], arrays["truth_cm"]
    return pictures.energy_landscape(
        arrays["energy_xy"], (axis, axis), (float(truth[0]), float(truth[1]))
    )


def _rollout(film: Mapping[str, np.ndarray], name: str) -> bytes:
    frames, left = film["frames"], film["distances_cm"]
    steps = evenly(range(len(frames)), FILM)
    return pictures.film_strip(
        [*(frames[step] for step in steps), film["goal"]],
        [*(f"step {step}" for step in steps), "goal"],
        {"distance to the goal": left},
        ("step", "cm"),
        f"Reach {name}: from {left[0]:.1f} to {left[-1]:.1f} cm",
    )
