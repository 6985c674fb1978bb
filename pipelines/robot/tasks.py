"""The tasks of the paper's robot table: what the expert does, what is shown of it, what success is.

Each task is stages of a scripted expert; the picture after a stage is a goal (the last) or a
sub-goal (those before), shown to the planner for a fixed number of motions (V-JEPA 2, section 4.2:
4, 10 and 4 for pick-and-place). The paper states 4 cm for reaching and no other criterion, so these
are ours: `Task.success` says each in words, `TaskEnvironment.succeeded` in numbers.

Lengths in metres. A state is [7]: xyz, Euler angles, gripper 0 open to 1 closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.furniture import GRASPABLE, Lot, graspable
from pipelines.robot.labs import Lab
from pipelines.robot.poses import euler_to_matrix, matrix_to_euler
from pipelines.robot.simulator import Simulator
from storage.errors import InputError

Array = NDArray[np.float64]
Observation = tuple[NDArray[np.uint8], Array]

NEAR = 0.04
"""What has to be somewhere is within this distance of it, metres."""
LIFT = 0.12
"""How high above where it stood a thing is carried, metres."""
_APART = (0.12, 0.24)  # how far a thing's target is from where it stands
_ZONE = np.array([[0.38, -0.20], [0.58, 0.20]])  # where a thing may be put down
_LIMIT, _TURN = 0.075, 0.2  # of one motion, metres and radians
_PATIENCE = 40  # motions towards one waypoint, at most: an arm that is in the way never gets there
_THERE = 0.012  # a waypoint is reached within this distance


@dataclass(frozen=True)
class Task:
    """One row of the table."""

    name: str
    stages: tuple[str, ...]
    """What the expert does, stage by stage; the picture after each is shown."""
    timers: tuple[int, ...]
    """For how many motions each picture is shown."""
    success: str
    prepared: tuple[str, ...] = ()
    """What the expert does before the trial begins."""

    @property
    def steps(self) -> int:
        """Motions of a trial."""
        return sum(self.timers)


TASKS = {
    task.name: task
    for task in (
        Task("grasp", ("grasp",), (10,), "the closed fingers hold the thing"),
        Task("reach_with_object", ("carry",), (10,),
             "the thing, still held, is within 4 cm of where the goal picture has it",
             prepared=("grasp", "lift")),
        Task("pick_and_place", ("grasp", "carry", "place"), (4, 10, 4),
             "the thing, let go of, is within 4 cm of where the goal picture has it"),
    )
}  # fmt: skip
THINGS = ("cup", "box")


def furnished(lab: Lab, kind: str) -> Lab:
    """The lab with a thing of that kind on its table: its own, or one in the first one's place."""
    if kind not in GRASPABLE:
        raise InputError(f"no thing is called {kind!r}: choose from {', '.join(GRASPABLE)}")
    if any(thing.name == kind for thing in lab.things):
        return lab
    first = next(at for at, thing in enumerate(lab.things) if thing.mass > 0)
    things = list(lab.things)
    things[first] = graspable(kind, Lot((lab.name, kind)))
    return replace(lab, things=tuple(things))


class Expert:
    """Who knows where everything is. Stage by stage, one motion at a time."""

    def __init__(self, simulator: Simulator, kind: str, target: Array) -> None:
        """`target`: where the thing is put down, x and y in metres."""
        self.simulator, self.kind = simulator, kind
        self._stands = float(simulator.thing(kind)[2])
        self._over = np.array([*target, self._stands + LIFT])

    def motions(self, stage: str) -> Iterator[Array]:
        """The motions [7] of a stage, each to be carried out before the next is asked for."""
        if stage == "grasp":
            yield from self._go(lambda: self._thing(LIFT), grip=-1.0, turn=True)
            yield from self._go(lambda: self._thing(0.0), grip=-1.0, turn=True)
            yield from self._hold(1.0)
        elif stage == "lift":
            place = self.simulator.state()[:3] + np.array([0.0, 0.0, LIFT])
            yield from self._go(lambda: place, grip=1.0)
        elif stage == "carry":
            if self.simulator.state()[2] < self._stands + 0.5 * LIFT:
                yield from self.motions("lift")
            yield from self._go(lambda: self._over, grip=1.0)
        elif stage == "place":
            down = self._over - [0.0, 0.0, LIFT - 0.004]
            yield from self._go(lambda: down, grip=1.0)
            yield from self._hold(-1.0)
        else:
            raise ValueError(f"no stage is called {stage!r}")

    def play(self, stage: str) -> int:
        """Carry a stage out; returns the number of motions."""
        count = 0
        for motion in self.motions(stage):
            self.simulator.step(motion)
            count += 1
        return count

    def _thing(self, above: float) -> Array:
        return np.asarray(self.simulator.thing(self.kind)[:3] + np.array([0.0, 0.0, above]))

    def _go(self, place: Callable[[], Array], grip: float, turn: bool = False) -> Iterator[Array]:
        for _ in range(_PATIENCE):
            state = self.simulator.state()
            left = place() - state[:3]
            turned = self._level(state) if turn else np.zeros(3)
            if np.linalg.norm(left) < _THERE and np.abs(turned).max() < 0.05:
                return
            yield np.concatenate([np.clip(left, -_LIMIT, _LIMIT), turned, [grip]])

    def _hold(self, grip: float) -> Iterator[Array]:
        for _ in range(2):
            yield np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, grip])

    def _level(self, state: Array) -> Array:
        """A turn [3] that lets the hand point down, its jaws along the thing's sides."""
        yaw = (float(self.simulator.thing(self.kind)[3]) + np.pi / 4) % (np.pi / 2) - np.pi / 4
        wanted = euler_to_matrix(np.array([np.pi, 0.0, yaw]))
        turn = matrix_to_euler(wanted @ euler_to_matrix(state[3:6]).T)
        return np.clip(turn, -_TURN, _TURN)


class TaskEnvironment:
    """One task with one thing in one lab: laid out, prepared, and judged."""

    def __init__(self, task: Task, kind: str, simulator: Simulator, seed: int) -> None:
        """Prepare the task on a simulator that was just reset; `seed` draws the target.

        Raises:
            InputError: the expert does not succeed here, so that no goal can be shown.
        """
        self.task, self.kind, self.simulator = task, kind, simulator
        target = self._target(seed)
        self.expert = Expert(simulator, kind, target)
        for stage in task.prepared:
            self.expert.play(stage)
        before = simulator.snapshot()
        self.goals: list[Observation] = []
        self.expert_motions = 0
        for stage in task.stages:
            self.expert_motions += self.expert.play(stage)
            self.goals.append(simulator.observe())
        self._aim = simulator.thing(kind)[:3]
        done = self.succeeded()
        simulator.restore(before)
        if not done:
            raise InputError(f"{simulator.lab.name}: the expert's {task.name} of the {kind} failed")

    def _target(self, seed: int) -> Array:
        """Where the thing shall be put [2]: in the zone, some way off, clear of other things."""
        lab, here = self.simulator.lab, self.simulator.thing(self.kind)[:2]
        others = [
            self.simulator.thing(thing.name)[:2]
            for thing in lab.things
            if thing.mass > 0 and thing.name != self.kind
        ]
        random = np.random.default_rng([seed, 4])
        for _ in range(1000):
            place = random.uniform(*_ZONE)
            clear = all(np.linalg.norm(place - other) > 0.12 for other in others)
            if clear and _APART[0] <= np.linalg.norm(place - here) <= _APART[1]:
                return place
        raise InputError(f"{lab.name}: no place for the {self.kind} is clear of other things")

    def distance(self) -> float:
        """What is left, metres: of the thing to its goal; of a grasp, of the hand to the thing."""
        thing = self.simulator.thing(self.kind)[:3]
        aim = self.simulator.state()[:3] if self.task.name == "grasp" else self._aim
        return float(np.linalg.norm(thing - aim))

    def held(self) -> bool:
        """Whether closed fingers hold the thing: told to close, and stopped by what is there."""
        state = self.simulator.state()
        near = np.linalg.norm(self.simulator.thing(self.kind)[:3] - state[:3]) < NEAR
        return bool(near and self.simulator.command()[6] > 0.5 and state[6] < 0.9)

    def succeeded(self) -> bool:
        """Whether the task's criterion holds now."""
        if self.task.name == "grasp":
            return self.held()
        there = self.distance() < NEAR
        return there and self.held() == (self.task.name == "reach_with_object")

    def goal_at(self, step: int) -> Observation:
        """The picture and state that are shown for the motion of this number."""
        for goal, end in zip(self.goals, np.cumsum(self.task.timers), strict=True):
            if step < end:
                return goal
        return self.goals[-1]
