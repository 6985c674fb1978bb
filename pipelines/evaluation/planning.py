"""Closed-loop reaching: does the planner bring the arm where a goal picture shows it?

Each trial lays out a lab anew, puts a goal 20 to 30 cm from the hand, renders the goal picture with
the arm truly there, and lets a policy make `steps` motions. It succeeds if the hand ends within
4 cm of the goal, the paper's criterion for reaching (section 4.2). The same trials are run without
motion, with random motions, and with motions straight to the goal by someone who knows where it is:
the first two say what success is worth, the last that it was possible.

What counts is reaching in labs that neither recordings nor pretraining have seen; labs of the
recordings are reported apart.

The tasks with a thing (`manipulation`) are tried in the unseen labs, too: task by thing by lab.

Inputs: `cooled_encoder`, `world_model`. Payload:
    report.json            policies: policy -> "pooled" over the unseen labs, each lab, and "seen"
                           over the recorded ones, if any: success counts with 95 % Wilson
                           intervals, distances; landscapes: lab -> error_cm; settings
                           tasks: `task thing` -> policy -> "pooled" and each lab -> reached (the
                           criterion holds at the end), passed (at any time), final_cm
    tasks.parquet          the same trials, step by step
    trials.parquet         lab, policy, trial, step, distance (m), stayed
    films/<name>.npz       frames uint8 [T+1, H, W, 3], goal uint8 [H, W, 3], distances_cm [T+1]
    landscape-<lab>.npz    energy_xz [Z, X], energy_xy [Y, X], axis_cm [G], truth_cm [3],
                           least_cm [3]: the motion of least energy over all three axes
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from itertools import product
from typing import Annotated, Any

import numpy as np

from pipelines.evaluation.manipulation import COLUMNS, TaskConfig, TaskTrial, judged, run_task_trial
from pipelines.evaluation.manipulation import POLICIES as TASK_POLICIES
from pipelines.evaluation.manipulation import rows_of as task_rows
from pipelines.evaluation.metrics import Rate, distances
from pipelines.evaluation.reaching import (
    POLICIES,
    ReachConfig,
    Trial,
    energy_landscape,
    run_trial,
)
from pipelines.robot.roles import check_labs, labs_of
from pipelines.robot.scene import WORKSPACE
from pipelines.settings import NOT_EMPTY, Count, Natural, Positive, plain, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.tables import write_table

TRIALS = {
    "lab": "string",
    "policy": "string",
    "trial": "int32",
    "step": "int32",
    "distance": "float64",
    "stayed": "bool",
}


@settings
class PlanningConfig(ReachConfig):
    """How the planner is tried out."""

    labs: Annotated[tuple[str, ...], NOT_EMPTY] = labs_of("evaluation", 2)
    """Labs to reach in that nothing was trained in: lab-500 to lab-599; settings are found in
    lab-400 to lab-499."""
    seen_labs: tuple[str, ...] = ()
    """Labs of the recordings to reach in, reported apart."""
    trials: Count = 10
    """Trials in each lab (the paper: 10 a task)."""
    success: Positive = 0.04
    """A trial succeeds if the hand ends within this distance of the goal, metres."""
    films: Natural = 2
    """Trials of each lab whose frames are kept; of each task and thing one, if any."""
    tasks: TaskConfig = field(default_factory=TaskConfig)
    """Grasping, reaching with a thing, picking and placing it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_labs("labs", self.labs, "tuning", "evaluation")
        check_labs("seen_labs", self.seen_labs, "recording")
        if (box := self.search.workspace) is not None and not within_reach(box):
            raise ValueError(
                f"search.workspace is {box}, where the simulator stops the hand at "
                f"{(*WORKSPACE[0].tolist(), *WORKSPACE[1].tolist())}: stay within"
            )
        if self.success >= self.nearest:
            raise ValueError(
                f"success is {self.success}, nearest {self.nearest}: want 0 < success < nearest "
                "(a goal that counts as reached from the start proves nothing)"
            )


def within_reach(box: tuple[float, ...]) -> bool:
    """Whether a workspace (lowest x, y, z, then highest, metres) lies within the simulator's."""
    inner = np.reshape(box, (2, 3))
    return bool((inner[0] >= WORKSPACE[0]).all() and (inner[1] <= WORKSPACE[1]).all())


def summarise(results: Iterable[Mapping[str, Any]], success: float) -> dict[str, Any]:
    """Counts and distances of some trials of one policy.

    Args:
        results: what `run_trial` returns.
        success: largest distance that counts as reached, metres.

    Returns:
        reached: at the end, with interval; passed: at any time; final_cm; start_cm; closed: share
        of the distance that was closed, averaged over the trials; stayed: share of motions.
    """
    tracks = [np.array(result["distances"]) for result in results]
    stays = [stay for result in results for stay in result["stayed"]]
    final = [float(track[-1]) for track in tracks]
    return {
        "reached": Rate(sum(left < success for left in final), len(tracks)).as_json(),
        "passed": Rate(sum(bool(t.min() < success) for t in tracks), len(tracks)).as_json(),
        "final_cm": distances([100 * left for left in final]),
        "start_cm": distances([100 * float(track[0]) for track in tracks]),
        "closed": float(np.mean([1 - track[-1] / track[0] for track in tracks])),
        "stayed": float(np.mean(stays)),
    }


def planned_trials(config: PlanningConfig, inputs: Inputs, out: Workspace) -> dict[str, Trial]:
    """Every trial of every policy, the planner's (the slow ones) first."""
    shared = (
        config,
        inputs["cooled_encoder"],
        inputs["world_model"],
        out.execution.device,
        out.work,
    )
    trials = {}
    for policy in POLICIES:
        for lab in (*config.labs, *config.seen_labs):
            for number in range(config.trials):
                keep = policy == "planner" and number < config.films
                film = f"payload/films/{lab}-{number:03d}.npz" if keep else None
                key = f"{policy} {lab} {number:03d}"
                trials[key] = Trial(lab, policy, number, *shared, film)
    return trials


def task_trials(config: PlanningConfig, inputs: Inputs, out: Workspace) -> dict[str, TaskTrial]:
    """Every trial of every task, thing and policy in the unseen labs, the planner's first."""
    trials = {}
    tasks = config.tasks
    for policy, task, thing, lab in product(TASK_POLICIES, tasks.names, tasks.things, config.labs):
        for number in range(tasks.trials):
            row = f"{task}-{thing}-{lab}-{number:03d}"
            keep = config.films and (policy, lab, number) == ("planner", config.labs[0], 0)
            trials[f"{policy} {row}"] = TaskTrial(
                lab, policy, number, config, inputs["cooled_encoder"], inputs["world_model"],
                out.execution.device, out.work, f"payload/films/{row}.npz" if keep else None,
                task, thing, tasks,
            )  # fmt: skip
    return trials


def rows_of(trials: Mapping[str, Trial], results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of trials.parquet; the first step of a trial is its start."""
    return [
        {
            "lab": trial.lab,
            "policy": trial.policy,
            "trial": trial.number,
            "step": step,
            "distance": left,
            "stayed": step > 0 and results[key]["stayed"][step - 1],
        }
        for key, trial in trials.items()
        for step, left in enumerate(results[key]["distances"])
    ]


def judge(
    config: PlanningConfig, trials: Mapping[str, Trial], results: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Policy -> lab, "pooled" over the unseen labs, or "seen" over the others -> summary."""

    def of(policy: str, labs: Sequence[str]) -> dict[str, Any]:
        chosen = [k for k, t in trials.items() if t.policy == policy and t.lab in labs]
        return summarise([results[key] for key in chosen], config.success)

    groups = {"pooled": config.labs, "seen": config.seen_labs}
    groups |= {lab: (lab,) for lab in (*config.labs, *config.seen_labs)}
    return {
        policy: {name: of(policy, labs) for name, labs in groups.items() if labs}
        for policy in POLICIES
    }


def run(config: PlanningConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Run all trials on Ray, resuming after a kill, and write the report."""
    trials = planned_trials(config, inputs, out)
    results = out.map(run_trial, trials, noun="trials")
    states = {
        lab: Trial(
            lab, "planner", config.trials, config, inputs["cooled_encoder"],
            inputs["world_model"], out.execution.device, out.work, f"payload/landscape-{lab}.npz",
        )
        for lab in (*config.labs, *config.seen_labs)
    }  # fmt: skip
    landscapes = out.map(energy_landscape, states, noun="landscapes")
    handled = task_trials(config, inputs, out)
    handling = out.map(run_task_trial, handled, noun="trials of tasks")
    policies, tasks = judge(config, trials, results), judged(handled, handling)
    report = {"policies": policies, "tasks": tasks, "landscapes": landscapes}
    report["settings"] = plain(config)
    (out.payload / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    write_table(out.payload / "trials.parquet", rows_of(trials, results), TRIALS)
    write_table(out.payload / "tasks.parquet", [*task_rows(handled, handling)], COLUMNS)
    return headline(policies) | {
        f"planner_{row.replace(' ', '_')}": found["planner"]["pooled"]["reached"]["rate"]
        for row, found in tasks.items()
    }


def headline(policies: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers worth showing: per policy, pooled over the unseen labs, and the seen apart."""
    shown: dict[str, Any] = {}
    for policy, by_lab in policies.items():
        pooled = by_lab["pooled"]
        shown |= {
            f"{policy}_reached": pooled["reached"]["rate"],
            f"{policy}_reached_low": pooled["reached"]["low"],
            f"{policy}_reached_high": pooled["reached"]["high"],
            f"{policy}_passed": pooled["passed"]["rate"],
            f"{policy}_final_cm_median": pooled["final_cm"]["median"],
            f"{policy}_final_cm_mean": pooled["final_cm"]["mean"],
            f"{policy}_closed": pooled["closed"],
        }
        if seen := by_lab.get("seen"):
            shown[f"{policy}_reached_in_seen_labs"] = seen["reached"]["rate"]
    trials = policies["planner"]["pooled"]["reached"]["trials"]
    return shown | {"trials_per_policy": trials}


STAGE = Stage("planning_report", version=4, config=PlanningConfig, run=run, on_device=True)
