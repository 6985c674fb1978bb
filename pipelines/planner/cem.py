"""The cross-entropy method over arm motions: sample, keep the elites, refit, repeat.

The search knows nothing about pictures. It is handed an energy, a function of candidate motions,
and finds motions of low energy; `pipelines.planner.world` makes the energy of the paper (section
3.2: mean L1 distance between the predicted and the goal tokens). All randomness comes from
(seed, step), so the same question gets the same answer.

Where the paper and its released code differ, the defaults are the paper's numbers with the
code's mechanics: the paper's "L1 ball of radius 0.075" is a box of 0.075 m per axis in the code,
and only a box reaches the 13 cm that the text gives; the standard deviation starts at the bound,
not at one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from storage.digests import digest_json

ACTION_WIDTH = 7
"""x, y, z in metres, extrinsic x-y-z Euler angles in radians, gripper; all of them differences."""

Energy = Callable[[Tensor], Tensor]
"""candidates [S, H, 7] -> [S]: the energy of each candidate's last predicted state."""


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """How the planner searches; the defaults are the paper's robot runs."""

    method: Literal["cem", "icem", "mppi", "surrogate"] = "cem"
    """"cem", the paper's; "icem" (fewer candidates each time, elites kept, the best one found);
    "mppi" (all candidates weighed by their energies); "surrogate" (a quadratic model of what each
    motion leads to: fifty times fewer evaluations at horizon 1, see `planner.surrogate`)."""
    samples: int = 800
    """Candidates an iteration."""
    iterations: int = 10
    """Refinements of the search distribution."""
    elites: int = 10
    """Candidates of lowest energy to which the distribution is refitted."""
    horizon: int = 1
    """Motions planned ahead; only the first is executed."""
    max_translation: float = 0.075
    """Largest translation of one motion, metres (per axis for the box)."""
    bound: Literal["box", "l1"] = "box"
    """Shape of the limit: "box", every axis within it, or "l1", the sum of the axes' magnitudes."""
    gripper: bool = True
    """Whether the gripper is searched too (False: x, y, z alone)."""
    max_gripper_change: float = 0.75
    """Largest change of the gripper in one motion (0 open, 1 closed)."""
    gripper_dead_zone: float = 0.25
    """Gripper changes smaller than this are returned as zero."""
    close_gripper_from: int | None = None
    """From this step of the horizon on the gripper closes, whatever the search says."""
    momentum_mean: float = 0.15
    """Share of the old mean kept in each refit of the translation."""
    momentum_std: float = 0.15
    """Share of the old standard deviation kept in each refit of the translation."""
    momentum_mean_gripper: float = 0.15
    """Share of the old mean kept in each refit of the gripper."""
    momentum_std_gripper: float = 0.15
    """Share of the old standard deviation kept in each refit of the gripper."""
    solution: Literal["mean", "best"] = "mean"
    """"mean": the mean of the last distribution, as in the paper; "best": the candidate of lowest
    energy that was seen, which few iterations find long before the mean gets there."""
    shrink: float = 0.8
    """iCEM: how many candidates an iteration has of those of the last one."""
    kept_elites: float = 0.3
    """iCEM: share of the elites that are candidates again."""
    temperature: float = 0.1
    """MPPI: a candidate worse by this times the spread of energies weighs e times less."""
    surrogate_samples: tuple[int, ...] = (32, 24, 24, 16)
    """Surrogate: true evaluations of each round; each round looks half as far around the best."""
    polish: int = 12
    """Surrogate: rounds more, as long as each betters the energy by over a thousandth of what
    staying costs."""
    workspace: tuple[float, float, float, float, float, float] | None = None
    """Where the hand may be planned to go: lowest x, y, z, then highest, metres. None: anywhere."""
    stop_margin: float | None = None
    """Stay where the arm is unless the plan's energy is below (1 - stop_margin) times the energy
    of staying. None, the paper's planner, always moves."""

    def __post_init__(self) -> None:
        box = self.workspace
        if box is not None and (len(box) != 6 or not all(box[i] < box[i + 3] for i in range(3))):
            raise ValueError(
                f"workspace is {box}: it must be lowest x, y, z, then highest x, y, z, in metres"
            )
        for name in ("samples", "iterations", "horizon"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 1 or more")
        if not 2 <= self.elites <= self.samples:
            raise ValueError(
                f"elites is {self.elites}: it must lie between 2 and samples ({self.samples})"
            )
        if not self.max_translation > 0 or not self.max_gripper_change > 0:
            raise ValueError(
                f"max_translation is {self.max_translation}, max_gripper_change "
                f"{self.max_gripper_change}: both must be above 0"
            )
        if self.bound not in ("box", "l1"):
            raise ValueError(f"bound is '{self.bound}': it must be 'box' or 'l1'")
        if self.solution not in ("mean", "best"):
            raise ValueError(f"solution is '{self.solution}': it must be 'mean' or 'best'")
        for name in MOMENTA:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie in [0, 1)")
        self._check_other_searches()
        if self.gripper_dead_zone < 0 or (self.close_gripper_from or 0) < 0:
            raise ValueError(
                f"gripper_dead_zone is {self.gripper_dead_zone}, close_gripper_from "
                f"{self.close_gripper_from}: neither may be negative"
            )
        if self.stop_margin is not None and not 0 <= self.stop_margin < 1:
            raise ValueError(
                f"stop_margin is {self.stop_margin}: it must lie in [0, 1), or be None"
            )

    def _check_other_searches(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is '{self.method}': it must be one of {', '.join(METHODS)}")
        if not 0 < self.shrink <= 1 or not 0 <= self.kept_elites <= 1 or not self.temperature > 0:
            raise ValueError(
                f"shrink is {self.shrink}, kept_elites {self.kept_elites}, temperature "
                f"{self.temperature}: want 0 < shrink <= 1, 0 <= kept_elites <= 1, temperature > 0"
            )
        least = min(self.surrogate_samples, default=0)
        if least < 2 or self.polish < 0:
            raise ValueError(
                f"surrogate_samples is {self.surrogate_samples}, polish {self.polish}: want one "
                "round or more of at least 2, and polish 0 or more"
            )


METHODS = ("cem", "icem", "mppi", "surrogate")
MOMENTA = (
    "momentum_mean",
    "momentum_std",
    "momentum_mean_gripper",
    "momentum_std_gripper",
)


@dataclass(frozen=True)
class Plan:
    """What a search found.

    Attributes:
        actions: [H, 7] motions to make, metres and radians; all zero where the arm shall stay.
        energy: energy of the motions that were found.
        staying: energy of not moving at all.
        stayed: whether the stop rule chose not to move.
        trace: [iterations] mean energy of the elites, iteration by iteration.
        evaluations: how often the world model was asked.
    """

    actions: Tensor
    energy: float
    staying: float
    stayed: bool
    trace: tuple[float, ...]
    evaluations: int = 0


def generator(seed: int, step: int) -> torch.Generator:
    """A CPU generator that depends on (seed, step) alone."""
    return torch.Generator().manual_seed(int(digest_json([seed, step])[:15], 16))


def bounded(samples: Tensor, config: PlannerConfig, room: Tensor | None = None) -> Tensor:
    """Candidates moved inside the bounds.

    Args:
        samples: [..., H, 3 or 4] translations in metres (and gripper changes).
        config: the bounds.
        room: [2, 3] how far the arm may go down and up each axis in its first step (metres), for
            instance up to the walls of its workspace. None: as far as `max_translation`.
    """
    move = samples[..., :3]
    if config.bound == "box":
        move = move.clamp(-config.max_translation, config.max_translation)
    else:
        length = move.abs().sum(-1, keepdim=True).clamp_min(torch.finfo(move.dtype).tiny)
        move = move * (config.max_translation / length).clamp_max(1.0)
    if room is not None:
        first = torch.minimum(torch.maximum(move[..., :1, :], room[0]), room[1])
        move = torch.cat([first, move[..., 1:, :]], dim=-2)
    grip = samples[..., 3:].clamp(-config.max_gripper_change, config.max_gripper_change)
    return torch.cat([move, grip], dim=-1)


def as_actions(samples: Tensor, config: PlannerConfig) -> Tensor:
    """[..., H, 3 or 4] search vectors -> [..., H, 7] motions without rotation."""
    actions = samples.new_zeros(*samples.shape[:-1], ACTION_WIDTH)
    actions[..., :3] = samples[..., :3]
    if samples.shape[-1] > 3:
        actions[..., 6] = samples[..., 3]
    if config.close_gripper_from is not None:
        actions[..., config.close_gripper_from :, 6] = 1.0
    return actions


def refit(
    elites: Tensor, mean: Tensor, std: Tensor, config: PlannerConfig
) -> tuple[Tensor, Tensor]:
    """The next search distribution from the elites and, by momentum, from the last one.

    Args:
        elites: [E, H, 3 or 4].
        mean: [H, 3 or 4] of the last distribution.
        std: [H, 3 or 4] of the last distribution.
        config: the momenta.

    Returns:
        new mean, new standard deviation (unbiased), both [H, 3 or 4].
    """
    keep_mean = torch.full_like(mean[0], config.momentum_mean)
    keep_std = torch.full_like(mean[0], config.momentum_std)
    keep_mean[3:] = config.momentum_mean_gripper
    keep_std[3:] = config.momentum_std_gripper
    return (
        (1 - keep_mean) * elites.mean(0) + keep_mean * mean,
        (1 - keep_std) * elites.std(0, unbiased=True) + keep_std * std,
    )


def lowest(energies: Tensor, count: int) -> Tensor:
    """Indices of the `count` lowest energies; equal energies in the order of the candidates.

    Raises:
        ValueError: an energy is not finite, so that no order exists.
    """
    if not bool(torch.isfinite(energies).all()):
        bad = int((~torch.isfinite(energies)).sum())
        raise ValueError(
            f"{bad} of {len(energies)} candidate energies are not finite: the world model's "
            "weights or the frame it was shown are broken"
        )
    return torch.argsort(energies, stable=True)[:count]


def plan(
    energy: Energy, config: PlannerConfig, seed: int, step: int, room: Tensor | None = None
) -> Plan:
    """Search for motions of low energy.

    Args:
        energy: candidates [S, H, 7] -> [S].
        config: how to search.
        seed: with `step`, all randomness comes from it.
        step: number of the motion.
        room: see `bounded`.

    Raises:
        ValueError: an energy is not finite.
    """
    random = generator(seed, step)
    mean = torch.zeros(config.horizon, 4 if config.gripper else 3)
    std = torch.full_like(mean, config.max_translation)
    std[:, 3:] = 1.0
    trace: list[float] = []
    found, least = mean, float("inf")
    for _ in range(config.iterations):
        noise = torch.randn(config.samples, *mean.shape, generator=random)
        samples = bounded(mean + std * noise, config, room)
        energies = energy(as_actions(samples, config))
        best = lowest(energies, config.elites)
        if float(energies[best[0]]) < least:
            found, least = samples[best[0]], float(energies[best[0]])
        trace.append(float(energies[best].mean()))
        mean, std = refit(samples[best], mean, std, config)
    if config.solution == "mean":
        found = bounded(mean, config, room)
    return conclude(energy, config, found, tuple(trace), config.samples * config.iterations)


def conclude(
    energy: Energy, config: PlannerConfig, vector: Tensor, trace: tuple[float, ...], asked: int
) -> Plan:
    """A search vector [H, 3 or 4] as motions, or no motion where the stop rule prefers that."""
    found = as_actions(vector, config)
    if config.close_gripper_from is None:
        small = found[:, 6].abs() < config.gripper_dead_zone
        found[:, 6] = torch.where(small, torch.zeros_like(found[:, 6]), found[:, 6])
    still = torch.zeros_like(found)
    reached, staying = (float(e) for e in energy(torch.stack([found, still])))
    stay = config.stop_margin is not None and not reached < (1 - config.stop_margin) * staying
    return Plan(still if stay else found, reached, staying, stay, trace, asked + 2)
