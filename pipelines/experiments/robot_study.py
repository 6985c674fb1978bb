"""Which encoder does a planner reach with, in labs that nothing was trained in?

The same world-model recipe on four kinds of encoder (`controls`), several seeds each, the same
trials for all. What is compared is the share of trials that end at the goal; its interval is over
seeds (Student's t), and gains over the random encoder are taken seed by seed.

Inputs: every `control_planning`. Payload:
    report.json   arm -> "reached" and "passed" (rates), "final_cm" and "motion_error_cm" (see
                  `controls.final_rates`): value of each seed, mean, low, high, gain over the random
                  encoder; of rates also the counts over all seeds with their Wilson interval
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipelines.evaluation.metrics import Rate, seed_interval
from pipelines.experiments.controls import ARMS, arm_of, final_rates
from pipelines.settings import settings
from pipelines.stage import Inputs, Stage, Workspace

REFERENCE = "random"
RATES, DISTANCES = ("reached", "passed"), ("final_cm", "motion_error_cm")


@settings
class RobotStudyConfig:
    """Nothing is left to set here: see `control_encoder`, `control_planning` and those between."""


def run(_: RobotStudyConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Gather the trials of every arm and seed."""
    found: dict[str, dict[int, Any]] = {arm: {} for arm in ARMS}
    for partition, trials in inputs.parts("control_planning").items():
        arm, seed = arm_of(partition)
        found[arm][seed] = final_rates(trials)
    arms = describe(found)
    report = {"arms": arms, "order": list(ARMS), "reference": REFERENCE}
    (out.payload / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    return {f"{arm}_reached": told["reached"]["mean"] for arm, told in arms.items()}


def describe(found: dict[str, dict[int, Any]]) -> dict[str, Any]:
    """Arm -> kind -> numbers, from arm -> seed -> kind -> counts or centimetres."""
    told: dict[str, Any] = {}
    for arm, by_seed in found.items():
        seeds, reference = sorted(by_seed), found[REFERENCE]
        for kind in (*RATES, *DISTANCES):
            values = [_value(by_seed[seed][kind]) for seed in seeds]
            before = [_value(reference[seed][kind]) for seed in seeds]
            gains = [value - other for value, other in zip(values, before, strict=True)]
            numbers: dict[str, Any] = {
                "seeds": values,
                **seed_interval(values),
                "gain": seed_interval(gains),
            }
            if kind in RATES:
                counts = [by_seed[seed][kind] for seed in seeds]
                together = Rate(*(sum(c[n] for c in counts) for n in ("successes", "trials")))
                numbers["together"] = together.as_json()
            told.setdefault(arm, {})[kind] = numbers
    return told


def _value(measured: Any) -> float:
    return float(measured["rate"] if isinstance(measured, Mapping) else measured)


STAGE = Stage("robot_study", version=2, config=RobotStudyConfig, run=run)
