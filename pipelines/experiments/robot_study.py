"""Which encoder does a planner reach with, in labs that nothing was trained in?

The same world-model recipe on four kinds of encoder (`controls`), several seeds each, the same
trials for all. What is compared is the share of trials that end at the goal; its interval is over
seeds (Student's t), and gains over the random encoder are taken seed by seed.

Inputs: every `control_planning`. Payload:
    report.json   arm -> "reached" and "passed": rate of each seed, mean, low, high, gain over the
                  random encoder, and counts over all seeds with their Wilson interval
"""

from __future__ import annotations

import json
from typing import Any

from pipelines.evaluation.metrics import Rate, seed_interval
from pipelines.experiments.controls import ARMS, arm_of, final_rates
from pipelines.settings import settings
from pipelines.stage import Inputs, Stage, Workspace

REFERENCE = "random"


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
    """Arm -> kind -> numbers, from arm -> seed -> kind -> counts."""
    told: dict[str, Any] = {}
    for arm, by_seed in found.items():
        for kind in ("reached", "passed"):
            counts = [by_seed[seed][kind] for seed in sorted(by_seed)]
            rates = [count["rate"] for count in counts]
            before = [found[REFERENCE][seed][kind]["rate"] for seed in sorted(by_seed)]
            gains = [rate - other for rate, other in zip(rates, before, strict=True)]
            together = Rate(*(sum(c[n] for c in counts) for n in ("successes", "trials")))
            told.setdefault(arm, {})[kind] = {
                "seeds": rates,
                **seed_interval(rates),
                "gain": seed_interval(gains),
                "together": together.as_json(),
            }
    return told


STAGE = Stage("robot_study", version=1, config=RobotStudyConfig, run=run)
