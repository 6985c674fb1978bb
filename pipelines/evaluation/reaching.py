"""One attempt to reach one goal, and the energies around one motion whose effect is known.

A trial lays out a lab anew, puts a goal at a drawn distance from the hand, renders the goal picture
with the arm truly there, and lets a policy make its motions. Everything follows from the trial's
(seed, lab, number), so every policy gets the same layouts, goals and cameras.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.planner.cem import Energy, PlannerConfig
from pipelines.planner.control import Planner, as_batch, checked_state
from pipelines.planner.weights import open_world, read_pace
from pipelines.robot.blueprint import Azimuth, find_lab
from pipelines.settings import Count, Natural, NotNegative, Positive, at_least, settings
from storage.artifacts import Artifact
from storage.digests import digest_json
from storage.errors import InputError
from storage.work import Work

if TYPE_CHECKING:
    from pipelines.robot.environment import ReachEnvironment

Array = NDArray[np.float64]
Observation = tuple[NDArray[np.uint8], Array]
"""A frame [H, W, 3] and a state [7]."""

POLICIES = ("planner", "random", "still", "straight")
"""The planner; uniformly random motions; none; straight to the goal, knowing where it is."""
_GOAL_TRIES = 20


@settings
class ReachConfig:
    """What reaching is; the defaults are the paper's where it states them."""

    search: PlannerConfig = field(default_factory=PlannerConfig)
    """How the planner searches; the exported planner takes these settings."""
    steps: Count = 10
    """Motions a trial; the paper does not state a number for reaching."""
    nearest: Positive = 0.20
    """Shortest distance from the hand to the goal, metres."""
    farthest: Positive = 0.30
    """Longest distance from the hand to the goal, metres."""
    frame_size: Count = 256
    """Side of the camera's square frame, pixels."""
    camera_jitter: NotNegative = 1.0
    """Random displacement of the camera from trial to trial, as a multiple of the recordings'."""
    camera_azimuth: Azimuth | None = None
    """Where the camera stands, degrees from the x axis towards y; none: where each lab has it."""
    landscape_points: Annotated[int, at_least(3)] = 21
    """Motions along each axis of the energy landscape's pictures."""
    landscape_volume: Annotated[int, at_least(3)] = 9
    """Motions along each of three axes among which the one of least energy is sought: all of the
    box first, then as many around the best."""
    seed: Natural = 0
    """Of layouts, goals, candidates and random motions."""

    def __post_init__(self) -> None:
        if self.nearest > self.farthest:
            raise ValueError(
                f"nearest is {self.nearest}, farthest {self.farthest}: want nearest <= farthest"
            )


@dataclass(frozen=True)
class Trial:
    """One trial of one policy; it pickles, and names all that the result depends on."""

    lab: str
    policy: str
    number: int
    config: ReachConfig
    encoder: Artifact
    world_model: Artifact
    device: str
    work: Work
    film: str | None
    """Under which name of the work to keep the frames, if they are."""

    @property
    def seed(self) -> int:
        """Of layout and goal: the same for every policy, another for every trial."""
        return int(digest_json(["reach", self.config.seed, self.lab, self.number])[:12], 16)


@functools.cache
def open_planner(
    encoder: Artifact, world_model: Artifact, search: PlannerConfig, seed: int, device: str
) -> Planner:
    """The planner, loaded once in each process."""
    return Planner(open_world(encoder, world_model, device), search, seed)


def opened(trial: Trial) -> Planner:
    """The trial's planner."""
    config = trial.config
    return open_planner(trial.encoder, trial.world_model, config.search, config.seed, trial.device)


def laid_out(trial: Trial) -> ReachEnvironment:
    """The trial's lab, things and camera."""
    # Imported here: the simulator takes a while, and settings are read without it.
    from pipelines.robot.environment import ReachEnvironment

    config, looks = trial.config, trial.policy == "planner" or trial.film is not None
    return ReachEnvironment(
        find_lab(trial.lab, config.camera_azimuth),
        trial.seed,
        config.frame_size,
        hz=read_pace(trial.world_model).real_hz,
        camera_jitter=config.camera_jitter,
        renderer="rays" if looks else "none",  # a picture costs more than the motion in it
    )


def place_goal(environment: ReachEnvironment, trial: Trial) -> tuple[Array, Observation]:
    """A goal at the trial's distance that the arm can truly reach, and what it looks like there.

    Raises:
        ValueError: no goal was found in `_GOAL_TRIES` draws.
    """
    config = trial.config
    for attempt in range(_GOAL_TRIES):
        random = np.random.default_rng([trial.seed, attempt])
        distance = random.uniform(config.nearest, config.farthest)
        try:
            place = environment.random_goal(distance, int(random.integers(1 << 62)))
            return place, environment.goal(place)
        except ValueError as error:
            reason = error
    raise InputError(f"{trial.lab}, trial {trial.number}: {reason} ({_GOAL_TRIES} draws)")


def choose(trial: Trial, seen: Observation, goal: Observation, place: Array, step: int) -> Array:
    """The motion [7] of the trial's policy at a step."""
    limit = trial.config.search.max_translation
    if trial.policy == "planner":
        draw = trial.number * trial.config.steps + step
        return opened(trial).plan(seen[0], seen[1], goal[0], draw)
    action = np.zeros(7)
    if trial.policy == "random":
        action[:3] = np.random.default_rng([trial.seed, step, 1]).uniform(-limit, limit, 3)
    elif trial.policy == "straight":
        action[:3] = np.clip(place - seen[1][:3], -limit, limit)
    return action


def run_trial(trial: Trial) -> dict[str, Any]:
    """Let one policy try to reach one goal.

    Returns:
        distances: metres from the hand to the goal, before the first motion and after each;
        stayed: for each motion, whether the policy chose not to move.
    """
    config = trial.config
    environment = laid_out(trial)
    place, goal = place_goal(environment, trial)
    seen = environment.reset()
    environment.goal(place)
    film, left, stayed = [seen[0]], [float(np.linalg.norm(seen[1][:3] - place))], []
    for step in range(config.steps):
        action = choose(trial, seen, goal, place, step)
        seen = environment.step(action)
        film.append(seen[0])
        left.append(environment.distance())
        stayed.append(not action.any())
    if trial.film is not None:
        centimetres = 100 * np.array(left)
        save_arrays(trial, frames=np.stack(film), goal=goal[0], distances_cm=centimetres)
    return {"distances": left, "stayed": stayed}


def save_arrays(trial: Trial, **arrays: NDArray[Any]) -> None:
    """Keep arrays as the trial's film, an .npz; equal arrays give equal bytes."""
    assert trial.film is not None
    with trial.work.room() as room:
        np.savez(room / "film.npz", allow_pickle=False, **arrays)
        trial.work.keep(room / "film.npz", trial.film)


def energy_landscape(trial: Trial) -> dict[str, float]:
    """The energy of many motions where the right one is known; the grids go to `trial.film`.

    The goal picture is what the camera sees after a known motion. For the pictures the energy is
    taken over x and z at the true y, and over x and y at the true z.

    Returns:
        error_cm: from the motion of least energy, whatever its x, y and z, to the true one.
    """
    config = trial.config
    environment = laid_out(trial)
    frame, state = environment.reset()
    truth = (
        np.random.default_rng([trial.seed, 2]).uniform(-0.9, 0.9, 3) * config.search.max_translation
    )
    goal_frame, goal_state = environment.step(np.concatenate([truth, np.zeros(4)]))
    truth = goal_state[:3] - state[:3]  # what the arm truly did
    world = opened(trial).world
    now, goal = (world.encode(as_batch(f, "frame")) for f in (frame, goal_frame))
    energy = world.energy(now, checked_state(state), goal)
    axis = np.linspace(
        -config.search.max_translation, config.search.max_translation, config.landscape_points
    )
    found: dict[str, NDArray[Any]] = {"axis_cm": 100 * axis, "truth_cm": 100 * truth}
    for name, up in (("xz", 2), ("xy", 1)):
        grid = _grid(axis, truth, up)
        energies = energy(torch.from_numpy(grid.reshape(-1, 1, 7)).float()).numpy()
        found[f"energy_{name}"] = energies.reshape(len(axis), len(axis))
    best = least_motion(energy, config.search.max_translation, config.landscape_volume)
    save_arrays(trial, **found, least_cm=100 * best)
    return {"error_cm": 100 * float(np.linalg.norm(best - truth))}


def least_motion(energy: Energy, limit: float, points: int) -> Array:
    """The translation [3] of least energy within `limit` metres per axis.

    `points` along each axis over all of the box, then as many over the cells around the best.
    """
    best, reach = np.zeros(3), limit
    for _ in range(2):
        steps = np.linspace(-reach, reach, points)
        grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3) + best
        motions = np.zeros((len(grid), 1, 7))
        motions[:, 0, :3] = grid.clip(-limit, limit)
        energies = energy(torch.from_numpy(motions).float())
        best = motions[int(energies.argmin()), 0, :3]
        reach = 2 * limit / (points - 1)
    return best


def _grid(axis: Array, truth: Array, up: int) -> Array:
    """Motions [G, G, 7]: x along the columns, axis `up` along the rows, the third one the truth."""
    grid = np.zeros((len(axis), len(axis), 7))
    grid[..., :3] = truth
    grid[..., 0] = axis[None, :]
    grid[..., up] = axis[:, None]
    return grid
