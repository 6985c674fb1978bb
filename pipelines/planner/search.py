"""The searches that a planner may choose from: the paper's, and cheaper ones beside it.

All are asked the same question (an energy over candidate motions within bounds), draw from (seed,
step) alone, and end with the same rules of staying and of the gripper (`cem.conclude`).

- iCEM (Pinneri et al. 2020): noise that is correlated along the horizon, a population that shrinks,
  elites that are candidates again, the best motion that was seen.
- MPPI (Williams et al. 2017): no elites; every candidate counts by exp(-energy / temperature).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.planner import cem, surrogate
from pipelines.planner.cem import (
    Energy,
    Plan,
    PlannerConfig,
    as_actions,
    bounded,
    conclude,
    generator,
    lowest,
    refit,
)

_LEAST_SPREAD = 1e-3  # of a distribution, as a share of the first one's: MPPI would freeze


def search(
    energy: Energy, config: PlannerConfig, seed: int, step: int, room: Tensor | None = None
) -> Plan:
    """Find motions of low energy by the method that `config` names; arguments as of `cem.plan`."""
    methods = {"cem": cem.plan, "icem": icem, "mppi": mppi, "surrogate": surrogate.plan}
    return methods[config.method](energy, config, seed, step, room)


def start(config: PlannerConfig) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [H, 3 or 4] of the first distribution, as the paper's code."""
    mean = torch.zeros(config.horizon, 4 if config.gripper else 3)
    std = torch.full_like(mean, config.max_translation)
    std[:, 3:] = 1.0
    return mean, std


def icem(
    energy: Energy, config: PlannerConfig, seed: int, step: int, room: Tensor | None = None
) -> Plan:
    """Improved CEM; `samples` is the population of the first iteration."""
    random, (mean, std) = generator(seed, step), start(config)
    kept = torch.empty(0, *mean.shape)
    trace: list[float] = []
    found, least, asked = mean, float("inf"), 0
    for iteration in range(config.iterations):
        drawn = max(2 * config.elites, round(config.samples * config.shrink**iteration))
        noise = _correlated(drawn, mean, random)
        samples = torch.cat([bounded(mean + std * noise, config, room), kept])
        energies = energy(as_actions(samples, config))
        asked += len(samples)
        best = lowest(energies, config.elites)
        if float(energies[best[0]]) < least:
            found, least = samples[best[0]], float(energies[best[0]])
        trace.append(float(energies[best].mean()))
        mean, std = refit(samples[best], mean, std, config)
        kept = samples[best[: round(config.kept_elites * config.elites)]]
    return conclude(energy, config, found, tuple(trace), asked)


def _correlated(count: int, mean: Tensor, random: torch.Generator) -> Tensor:
    """Noise [count, H, D] of unit variance whose neighbouring steps are alike (half each)."""
    white = torch.randn(count, *mean.shape, generator=random)
    steps = [white[:, 0]]
    for now in white[:, 1:].unbind(1):
        steps.append((steps[-1] + now) / 2**0.5)
    return torch.stack(steps, 1)


def mppi(
    energy: Energy, config: PlannerConfig, seed: int, step: int, room: Tensor | None = None
) -> Plan:
    """Model-predictive path integral control, iterated; ends at the weighted mean."""
    random, (mean, std) = generator(seed, step), start(config)
    floor, trace = _LEAST_SPREAD * std, []
    for _ in range(config.iterations):
        noise = torch.randn(config.samples, *mean.shape, generator=random)
        samples = bounded(mean + std * noise, config, room)
        energies = energy(as_actions(samples, config))
        best = lowest(energies, config.elites)
        trace.append(float(energies[best].mean()))
        spread = energies.std().clamp_min(torch.finfo(energies.dtype).tiny)
        weight = torch.softmax(-(energies - energies.min()) / (config.temperature * spread), 0)
        weight = weight[:, None, None]
        mean = (weight * samples).sum(0)
        std = ((weight * (samples - mean) ** 2).sum(0)).sqrt().maximum(floor)
    found = bounded(mean, config, room)
    return conclude(energy, config, found, tuple(trace), config.samples * config.iterations)
