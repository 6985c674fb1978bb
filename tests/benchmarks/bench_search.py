"""How few evaluations a planner's search needs, beside the official one of 800 x 10.

    python -m tests.benchmarks.bench_search <cooled_encoder payload> <world_model payload>

Half of the problems have their goal one motion away, half 20 to 30 cm, in labs that nothing was
trained in. Every search is asked the same. What counts is the energy that it ends at, above that of
the official search, as a share of the energy of staying; one that ends below has a negative excess.
The search's seed is the problem's number.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import numpy as np
import torch

from pipelines.planner.cem import PlannerConfig
from pipelines.planner.control import as_batch, checked_state
from pipelines.planner.search import search
from pipelines.planner.weights import open_world
from pipelines.planner.world import GoalEnergy, ImaginedWorld
from pipelines.robot.environment import ReachEnvironment
from pipelines.robot.roles import labs_of
from tests.pipelines.builders import artifact

OFFICIAL = PlannerConfig(gripper=False)
NEAR_ENOUGH = 0.01
"""Of the energy of staying."""
FEWER = {1: 50, 2: 20}
"""Horizon -> how many times fewer evaluations than the official search is aimed at."""
ROUNDS = {1: (32, 24, 24, 16), 2: (64, 48, 48, 32, 32)}
SEARCHES: Mapping[str, PlannerConfig] = {
    "official 100 x 10": replace(OFFICIAL, samples=100),
    "iCEM 48 x 6": replace(OFFICIAL, method="icem", samples=48, iterations=6),
    "MPPI 100 x 6": replace(OFFICIAL, method="mppi", samples=100, iterations=6),
    "surrogate": replace(OFFICIAL, method="surrogate", polish=0),
    "surrogate, polished": replace(OFFICIAL, method="surrogate", polish=12),
}


@dataclass(frozen=True)
class Ended:
    """Where a search of one problem ended."""

    energy: float
    evaluations: int
    seconds: float


def problems(world: ImaginedWorld, count: int) -> list[GoalEnergy]:
    """The energies to minimise, near goals and far ones in turn."""
    labs, made = labs_of("evaluation"), []
    for number in range(count):
        environment = ReachEnvironment(labs[number % len(labs)], number, 128, renderer="rays")
        frame, state = environment.reset()
        random = np.random.default_rng([number, 2])
        for attempt in range(100):
            away = 0.05 if number % 2 == 0 else float(random.uniform(0.2, 0.3))
            try:
                goal, _ = environment.goal(environment.random_goal(away, 100 * number + attempt))
                break
            except ValueError:
                continue
        now, then = (world.encode(as_batch(f, "frame")) for f in (frame, goal))
        made.append(world.energy(now, checked_state(state), then))
    return made


def solve(energy: GoalEnergy, config: PlannerConfig, number: int) -> Ended:
    """Ask one search one problem."""
    begin = process_time()
    with torch.inference_mode():
        found = search(energy, config, 0, number)
    return Ended(found.energy, found.evaluations, process_time() - begin)


def excess(
    ours: Sequence[Ended], official: Sequence[Ended], staying: Sequence[float]
) -> np.ndarray:
    """How far above the official energy each ended, as a share of the energy of staying."""
    return np.array(
        [(a.energy - b.energy) / s for a, b, s in zip(ours, official, staying, strict=True)]
    )


def report(name: str, ours: Sequence[Ended], off: np.ndarray, official: Sequence[Ended]) -> str:
    """One line of the table."""
    asked = np.mean([one.evaluations for one in ours])
    fewer = np.mean([one.evaluations for one in official]) / asked
    time = sum(o.seconds for o in official) / sum(o.seconds for o in ours)
    return (
        f"  {name:22} {asked:8.0f} evaluations (x {fewer:5.1f} fewer, CPU x {time:5.1f})   within "
        f"1 %: {np.mean(off <= NEAR_ENOUGH):6.1%}   excess median {np.median(off):+.4f}, "
        f"95th percentile {np.quantile(off, 0.95):+.4f}, worst {off.max():+.4f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Race the searches and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("encoder", type=Path)
    parser.add_argument("world_model", type=Path)
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--horizons", type=int, nargs="+", default=[1, 2])
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    world = open_world(
        artifact(asked.encoder, "cooled_encoder"), artifact(asked.world_model, "world_model")
    )
    energies = problems(world, asked.problems)
    for horizon in asked.horizons:
        still = torch.zeros(1, horizon, 7)
        staying = [float(energy(still)) for energy in energies]
        paper = replace(OFFICIAL, horizon=horizon)
        official = [solve(energy, paper, number) for number, energy in enumerate(energies)]
        print(f"horizon {horizon}, {len(energies)} problems; official 800 x 10; "
              f"aim: x {FEWER.get(horizon, 1)} fewer, 95 % within 1 %")  # fmt: skip
        for name, config in SEARCHES.items():
            tried = replace(
                config, horizon=horizon,
                surrogate_samples=ROUNDS.get(horizon, config.surrogate_samples),
            )  # fmt: skip
            ours = [solve(energy, tried, number) for number, energy in enumerate(energies)]
            off = excess(ours, official, staying)
            print(report(name, ours, off, official), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
