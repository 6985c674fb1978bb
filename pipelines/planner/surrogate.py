"""A search by a quadratic model of what motions lead to: few evaluations of the world model.

What is predicted changes smoothly with the motion, much more smoothly than its L1 distance to a
goal does. So the predicted tokens themselves are regressed on (1, a, a a^T) around the best motion
so far, nearer ones weighing more; the distance of the model's tokens to the goal's is searched,
which asks the world model nothing; and its minimum is asked for truly, with points around it, half
as far away each round. Every energy that counts is a true evaluation: a model that misleads costs
evaluations and never the plan.

Shapes: S motions as search vectors [S, V], V = H * 3 or H * 4, in units of the bound; tokens
[S, M], M = HW * D; Q columns of the quadratic design.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor

from pipelines.planner.cem import (
    Energy,
    Plan,
    PlannerConfig,
    as_actions,
    bounded,
    conclude,
    generator,
)

_RIDGE = 1e-4
_COLUMNS = 16_384  # numbers of the tokens at most that the model explains, evenly chosen
_INNER_SAMPLES, _INNER_ROUNDS, _INNER_ELITES = 192, 6, 16
_GAIN = 1e-3  # of the energy of staying: a round of polish that gains less is the last


class Imagined(Protocol):
    """An energy that can also say what each candidate leads to."""

    goal: Tensor

    def __call__(self, candidates: Tensor) -> Tensor:
        """Energies [S] of candidates [S, H, 7]."""
        ...

    def imagined(self, candidates: Tensor) -> Tensor:
        """Tokens [S, M] of the last frame."""
        ...


def design(vectors: Tensor) -> Tensor:
    """(1, a, a a^T) of vectors [S, V]: [S, Q], Q = 1 + V + V (V + 1) / 2."""
    rows, columns = torch.triu_indices(vectors.shape[1], vectors.shape[1])
    ones = torch.ones(len(vectors), 1, dtype=vectors.dtype)
    return torch.cat([ones, vectors, vectors[:, rows] * vectors[:, columns]], 1)


def fitted(vectors: Tensor, tokens: Tensor, radius: float) -> Tensor:
    """Coefficients [Q, M] of the tokens around the origin, weighted by distance over `radius`."""
    columns = design(vectors / radius).double()
    weight = torch.exp(-0.5 * (vectors / radius).square().mean(1)).double()[:, None]
    gram = columns.T @ (weight * columns)
    ridge = _RIDGE * weight.sum() * torch.eye(len(gram), dtype=torch.float64)
    return torch.linalg.solve(gram + ridge, columns.T @ (weight * tokens.double())).float()


@dataclass
class _Asked:
    """Everything that was truly evaluated."""

    energy: Imagined
    config: PlannerConfig
    inside: Callable[[Tensor], Tensor]
    chosen: Tensor
    """Which of the tokens' numbers the model explains."""
    vectors: Tensor
    tokens: Tensor
    energies: list[float] = field(default_factory=list)

    def ask(self, vectors: Tensor) -> None:
        vectors = self.inside(vectors)
        found = self.energy.imagined(as_actions(_metres(vectors, self.config), self.config))
        distance = (found - self.energy.goal.flatten()).abs().mean(1)
        if not bool(torch.isfinite(distance).all()):
            raise ValueError(
                "a candidate's energy is not finite: the world model's weights or the frame it was "
                "shown are broken"
            )
        self.vectors = torch.cat([self.vectors, vectors])
        self.tokens = torch.cat([self.tokens, found[:, self.chosen].cpu()])
        self.energies += distance.tolist()

    @property
    def best(self) -> int:
        return min(range(len(self.energies)), key=self.energies.__getitem__)

    def minimum(self, radius: float, random: torch.Generator) -> Tensor:
        """Where the model around the best motion is lowest, within `radius` of it: [V]."""
        centre = self.vectors[self.best]
        model = fitted(self.vectors - centre, self.tokens, radius)
        goal = self.energy.goal.flatten()[self.chosen].cpu()
        mean, std = torch.zeros_like(centre), torch.full_like(centre, 0.5 * radius)
        for _ in range(_INNER_ROUNDS):
            noise = torch.randn(_INNER_SAMPLES, len(centre), generator=random)
            steps = (mean + std * noise).clamp(-radius, radius)
            steps = self.inside(centre + steps) - centre
            away = (design(steps / radius) @ model - goal).abs().mean(1)
            elites = steps[torch.argsort(away, stable=True)[:_INNER_ELITES]]
            mean, std = elites.mean(0), elites.std(0)
        return centre + mean


def _metres(vectors: Tensor, config: PlannerConfig) -> Tensor:
    """Search vectors [S, V] in units of the bound as [S, H, 3 or 4] in metres."""
    samples = vectors.reshape(len(vectors), config.horizon, -1).clone()
    samples[..., :3] *= config.max_translation
    samples[..., 3:] *= config.max_gripper_change
    return samples


def _units(samples: Tensor, config: PlannerConfig) -> Tensor:
    """The inverse of `_metres`."""
    vectors = samples.clone()
    vectors[..., :3] /= config.max_translation
    vectors[..., 3:] /= config.max_gripper_change
    return vectors.flatten(1)


def plan(
    energy: Energy, config: PlannerConfig, seed: int, step: int, room: Tensor | None = None
) -> Plan:
    """Search for motions of low energy; arguments as of `cem.plan`.

    Raises:
        ValueError: an energy is not finite, or this energy cannot say what motions lead to.
    """
    if not hasattr(energy, "imagined"):
        raise ValueError("method 'surrogate' needs an energy that says what motions lead to")
    random = generator(seed, step)
    asked = _first_round(cast(Imagined, energy), config, random, room)
    trace, radius = [asked.energies[asked.best]], 1.0
    for count in config.surrogate_samples[1:]:
        radius /= 2
        _round(asked, radius, count, random)
        trace.append(asked.energies[asked.best])
    for _ in range(config.polish):
        radius = max(radius / 2, 1 / 32)
        _round(asked, radius, config.surrogate_samples[-1], random)
        trace.append(asked.energies[asked.best])
        if trace[-2] - trace[-1] < _GAIN * asked.energies[0]:
            break
    found = _metres(asked.vectors[asked.best][None], config)[0]
    return conclude(energy, config, found, tuple(trace), len(asked.energies))


def _first_round(
    energy: Imagined, config: PlannerConfig, random: torch.Generator, room: Tensor | None
) -> _Asked:
    """Staying, and points spread over all that is allowed."""
    wide = config.horizon * (4 if config.gripper else 3)

    def inside(vectors: Tensor) -> Tensor:
        return _units(bounded(_metres(vectors, config), config, room), config)

    size = energy.goal.numel()
    chosen = torch.arange(0, size, max(1, -(-size // _COLUMNS)))
    asked = _Asked(
        energy, config, inside, chosen, torch.empty(0, wide), torch.empty(0, len(chosen))
    )
    scramble = int(torch.randint(1 << 31, (1,), generator=random))
    sobol = torch.quasirandom.SobolEngine(wide, scramble=True, seed=scramble)
    spread = 2 * sobol.draw(config.surrogate_samples[0] - 1) - 1
    if config.horizon > 1:
        # Half of them make the same motion in every step: far goals want that, and in so many
        # dimensions points that go far one way are rare.
        alike = spread[::2].unflatten(1, (config.horizon, -1))
        spread[::2] = alike[:, :1].expand_as(alike).flatten(1)
    asked.ask(torch.cat([torch.zeros(1, wide), spread]))
    return asked


def _round(asked: _Asked, radius: float, count: int, random: torch.Generator) -> None:
    """Ask at the model's minimum, and around it."""
    centre = asked.minimum(2 * radius, random)
    around = (2 * torch.rand(count - 1, len(centre), generator=random) - 1) * radius
    asked.ask(torch.cat([centre[None], centre + around]))
