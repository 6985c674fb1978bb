"""Claims: every search finds the minimum of known energies within the bounds, from (seed, step)
alone; the surrogate does it with a fiftieth of the paper's evaluations, its model is exact where
what is predicted is quadratic, and it counts every evaluation it makes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from pipelines.planner.cem import PlannerConfig
from pipelines.planner.control import Planner
from pipelines.planner.search import search
from pipelines.planner.surrogate import design, fitted

BASE = PlannerConfig(gripper=False)
METHODS = {
    "cem": replace(BASE, samples=64, iterations=6),
    "icem": replace(BASE, method="icem", samples=48, iterations=6),
    "mppi": replace(BASE, method="mppi", samples=100, iterations=8),
    "surrogate": replace(BASE, method="surrogate"),
}
SEEN = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))


@dataclass
class Hills:
    """A world whose tokens bend with the motions; the goal's are those of a known motion."""

    aim: torch.Tensor
    asked: int = 0
    goal: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        aim = torch.zeros(1, len(self.aim) // 3, 7)
        aim[0, :, :3] = self.aim.reshape(-1, 3)
        self.goal = self._tokens(aim)

    def _tokens(self, candidates: torch.Tensor) -> torch.Tensor:
        moved = torch.tanh(candidates[..., :3].sum(1) * 8)
        return torch.sin(moved @ SEEN + 0.3 * (moved**2) @ SEEN.flip(1))

    def imagined(self, candidates: torch.Tensor) -> torch.Tensor:
        self.asked += len(candidates)
        return self._tokens(candidates)

    def __call__(self, candidates: torch.Tensor) -> torch.Tensor:
        return (self.imagined(candidates) - self.goal).abs().mean(1)


@pytest.mark.parametrize("method", METHODS)
def test_every_search_comes_to_the_minimum(method):
    hills = Hills(torch.tensor([0.04, -0.02, 0.06]))
    found = search(hills, METHODS[method], seed=1, step=0)
    assert (found.actions[0, :3] - hills.aim).abs().max() < 0.012
    assert found.energy < 0.2 * found.staying and not found.actions[0, 3:].any()
    assert found.evaluations == hills.asked
    assert found.trace[-1] <= found.trace[0]


@pytest.mark.parametrize("method", METHODS)
def test_equal_questions_get_equal_answers_within_bounds(method):
    far = Hills(torch.tensor([0.3, -0.3, 0.3]))
    room = torch.tensor([[-0.05, -0.02, -0.05], [0.03, 0.05, 0.05]])
    config = METHODS[method]
    one, two = (search(far, config, 3, 7, room) for _ in range(2))
    assert torch.equal(one.actions, two.actions) and one.trace == two.trace
    assert search(far, config, 3, 8, room).trace != one.trace  # both may end in one corner
    low, high = room[0] - 1e-6, room[1] + 1e-6
    assert bool(((one.actions[0, :3] >= low) & (one.actions[0, :3] <= high)).all())
    ball = search(far, replace(config, bound="l1"), 3, 7)
    assert float(ball.actions[0, :3].abs().sum()) <= 0.075 + 1e-6


def test_the_model_is_exact_where_what_is_predicted_is_quadratic():
    random = torch.Generator().manual_seed(2)
    vectors = torch.rand(40, 4, generator=random) - 0.5
    truth = torch.randn(15, 30, generator=random)
    model = fitted(vectors, design(vectors) @ truth, 1.0)
    others = torch.rand(9, 4, generator=random) - 0.5
    assert design(vectors).shape == (40, 15)
    assert torch.allclose(design(others) @ model, design(others) @ truth, atol=0.06)


@pytest.mark.parametrize("horizon", [1, 2])
def test_a_fiftieth_of_the_evaluations_is_enough(horizon):
    rounds = {1: (32, 24, 24, 16), 2: (64, 48, 48, 32, 32)}[horizon]
    fast = replace(METHODS["surrogate"], horizon=horizon, surrogate_samples=rounds, polish=3)
    random = np.random.default_rng(4)
    off = []
    for number in range(10):
        aim = torch.from_numpy(random.uniform(-0.06, 0.06, 3 * horizon)).float()
        ours, paper = Hills(aim), Hills(aim)
        found = search(ours, fast, 0, number)
        best = search(paper, replace(BASE, samples=100, horizon=horizon), 0, number)
        off.append((found.energy - best.energy) / found.staying)
        assert ours.asked == found.evaluations <= 8002 / {1: 50, 2: 20}[horizon]
    assert sorted(off)[8] < 0.01


def test_a_polish_stops_when_it_gains_nothing_and_never_loses():
    hills = Hills(torch.tensor([0.05, 0.01, -0.03]))
    plain = search(hills, replace(METHODS["surrogate"], polish=0), 0, 0)
    polished = search(hills, replace(METHODS["surrogate"], polish=12), 0, 0)
    assert polished.energy <= plain.energy
    assert plain.evaluations < polished.evaluations < plain.evaluations + 12 * 16


def test_the_gripper_is_searched_too(tiny_world):
    frame, goal = (
        np.random.default_rng(n).integers(0, 256, (32, 32, 3), dtype=np.uint8) for n in (1, 2)
    )
    state = np.array([0.5, 0.0, 0.3, 3.1, 0.0, 0.2, 0.5])
    wide = replace(METHODS["surrogate"], gripper=True, gripper_dead_zone=0.0)
    found = Planner(tiny_world(), wide).search(frame, state, goal)
    paper = PlannerConfig(gripper_dead_zone=0.0, samples=200)
    best = Planner(tiny_world(), paper).search(frame, state, goal)
    assert 0 < float(found.actions[0, 6].abs()) <= 0.75
    assert found.energy <= best.energy + 0.02 * best.staying
    assert found.evaluations < best.evaluations / 10


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(ValueError, match="needs an energy that says what motions lead to"):
        search(lambda motions: motions.sum((1, 2)), METHODS["surrogate"], 0, 0)
    broken = Hills(torch.full((3,), float("nan")))
    for method in METHODS.values():
        with pytest.raises(ValueError, match=r"not finite"):
            search(broken, method, 0, 0)
    for wrong, said in (
        ({"method": "annealing"}, "one of cem, icem, mppi, surrogate"),
        ({"surrogate_samples": (1,)}, "at least 2"),
        ({"surrogate_samples": ()}, "one round or more"),
        ({"temperature": 0.0}, "temperature > 0"),
        ({"shrink": 1.5}, "0 < shrink <= 1"),
    ):
        with pytest.raises(ValueError, match=said):
            PlannerConfig(**wrong)
