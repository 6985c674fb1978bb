"""Closed-loop trials of the tasks with a thing: grasp, reach with it, pick it and place it.

Every trial lays out a lab anew, has the expert show goal and sub-goals (`pipelines.robot.tasks`,
which states each criterion), and lets a policy make the task's motions while the pictures change by
the timers. The same trials are made without motion, with random motions and by the expert.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics import Rate, distances
from pipelines.evaluation.reaching import Trial, open_planner, save_arrays
from pipelines.planner.cem import PlannerConfig
from pipelines.planner.weights import read_pace
from pipelines.robot.blueprint import find_lab
from pipelines.robot.furniture import GRASPABLE
from pipelines.settings import DIFFERENT, Natural, settings
from storage.digests import digest_json
from storage.errors import InputError

Array = NDArray[np.float64]
TaskName = Literal["grasp", "reach_with_object", "pick_and_place"]
POLICIES = ("planner", "random", "still", "expert")
_LAYOUTS = 10  # tries until the expert succeeds
COLUMNS = {
    "task": "string",
    "thing": "string",
    "lab": "string",
    "policy": "string",
    "trial": "int32",
    "step": "int32",
    "distance": "float64",
    "succeeded": "bool",
}


@settings
class TaskConfig:
    """Which tasks are tried, with what, and how the planner searches for them."""

    names: Annotated[tuple[TaskName, ...], DIFFERENT] = (
        "grasp", "reach_with_object", "pick_and_place",
    )  # fmt: skip
    """Tasks besides reaching; () for none."""
    things: Annotated[tuple[str, ...], DIFFERENT] = ("cup", "box")
    """What is grasped: cup, box, bottle, tin or tower."""
    trials: Natural = 10
    """Trials of each task and thing in each unseen lab (the paper: 10)."""
    search: PlannerConfig = field(default_factory=PlannerConfig)
    """How the planner searches; the gripper is among what it searches."""

    def __post_init__(self) -> None:
        if unknown := [thing for thing in self.things if thing not in GRASPABLE]:
            raise ValueError(f"things names {unknown[0]!r}: choose from {', '.join(GRASPABLE)}")
        if self.names and not self.search.gripper:
            raise ValueError("search.gripper is false: nothing is grasped without; set it to true")


@dataclass(frozen=True)
class TaskTrial(Trial):
    """One trial of one policy at one task with one thing."""

    task: str = ""
    thing: str = ""
    tasks: TaskConfig = field(default_factory=TaskConfig)

    @property
    def seed(self) -> int:
        """Of layout and target: the same for every policy, another for every trial."""
        words = [self.task, self.thing, self.config.seed, self.lab, self.number]
        return int(digest_json(words)[:12], 16)


def laid_out(trial: TaskTrial) -> Any:
    """The trial's `TaskEnvironment`: the first layout in which the expert succeeds."""
    # Imported here: the simulator takes a while, and settings are read without it.
    from pipelines.robot.simulator import Simulator
    from pipelines.robot.tasks import TASKS, TaskEnvironment, furnished

    config, looks = trial.config, trial.policy == "planner" or trial.film is not None
    simulator = Simulator(
        furnished(find_lab(trial.lab, config.camera_azimuth), trial.thing),
        trial.seed,
        config.frame_size,
        hz=read_pace(trial.world_model).real_hz,
        camera_jitter=config.camera_jitter,
        renderer="rays" if looks else "none",
    )
    for attempt in range(_LAYOUTS):
        simulator.reset(trial.seed + attempt)
        try:
            return TaskEnvironment(TASKS[trial.task], trial.thing, simulator, trial.seed + attempt)
        except InputError as error:
            reason = error
    raise InputError(f"{reason} ({_LAYOUTS} layouts)")


def motions(trial: TaskTrial, environment: Any) -> Iterator[Array]:
    """The motions [7] of the trial's policy, each asked for when the one before was made."""
    if trial.policy == "expert":
        for stage in environment.task.stages:
            yield from environment.expert.motions(stage)
    limit, random = trial.tasks.search.max_translation, np.random.default_rng([trial.seed, 1])
    grip = trial.tasks.search.max_gripper_change
    for step in range(environment.task.steps):
        if trial.policy == "planner":
            frame, state = environment.simulator.observe()
            planner = open_planner(
                trial.encoder, trial.world_model, trial.tasks.search, trial.config.seed,
                trial.device,
            )  # fmt: skip
            draw = trial.number * environment.task.steps + step
            yield planner.plan(frame, state, environment.goal_at(step)[0], draw)
        elif trial.policy == "random":
            turn = np.zeros(3)
            yield np.concatenate(
                [random.uniform(-limit, limit, 3), turn, random.uniform(-grip, grip, 1)]
            )
        else:
            yield np.zeros(7)


def run_task_trial(trial: TaskTrial) -> dict[str, Any]:
    """Let one policy try one task.

    Returns:
        distances: what was left (metres, `TaskEnvironment.distance`) before the first motion and
        after each; succeeded: whether the criterion held then. An expert may need fewer motions
        than the timers have, or a few more.
    """
    environment = laid_out(trial)
    simulator, asked = environment.simulator, motions(trial, environment)
    film, left, done = [], [environment.distance()], [environment.succeeded()]
    steps = environment.expert_motions if trial.policy == "expert" else environment.task.steps
    for _ in range(steps):
        if trial.film is not None:
            film.append(simulator.observe()[0])
        simulator.step(next(asked))
        left.append(environment.distance())
        done.append(environment.succeeded())
    if trial.film is not None:
        film.append(simulator.observe()[0])
        goal, cm = environment.goals[-1][0], 100 * np.array(left)
        save_arrays(trial, frames=np.stack(film), goal=goal, distances_cm=cm)
    return {"distances": left, "succeeded": done}


def judged(
    trials: Mapping[str, TaskTrial], results: Mapping[str, Any]
) -> dict[str, dict[str, dict[str, Any]]]:
    """`task thing` -> policy -> "pooled" and each lab -> reached, passed, final_cm.

    reached: the criterion holds at the end; passed: at any time; with 95 % Wilson intervals.
    """
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for key, trial in trials.items():
        for lab in ("pooled", trial.lab):
            place = (f"{trial.task} {trial.thing}", trial.policy, lab)
            groups.setdefault(place, []).append(results[key])
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for (row, policy, lab), found in groups.items():
        table.setdefault(row, {}).setdefault(policy, {})[lab] = {
            "reached": Rate(sum(r["succeeded"][-1] for r in found), len(found)).as_json(),
            "passed": Rate(sum(any(r["succeeded"]) for r in found), len(found)).as_json(),
            "final_cm": distances([100 * r["distances"][-1] for r in found]),
        }
    return table


def rows_of(
    trials: Mapping[str, TaskTrial], results: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The rows of tasks.parquet; the first step of a trial is its start."""
    for key, trial in trials.items():
        told = results[key]
        for step, (left, done) in enumerate(zip(told["distances"], told["succeeded"], strict=True)):
            yield {
                "task": trial.task, "thing": trial.thing, "lab": trial.lab,
                "policy": trial.policy, "trial": trial.number, "step": step, "distance": left,
                "succeeded": done,
            }  # fmt: skip
