"""Claims: `get_cost` is the planner's energy, for several questions at once and however a solver
repeats them; `encode` and `rollout` give the same; candidates are held within the bounds; a solver
that knows nothing but the cost finds what the planner finds."""

from __future__ import annotations

import pytest
import torch

from pipelines.planner.adapters import SolverModel
from pipelines.planner.cem import PlannerConfig, plan

CONFIG = PlannerConfig(gripper=False, horizon=2)
SOURCE = torch.Generator().manual_seed(3)
PIXELS, GOAL = torch.randint(0, 256, (2, 2, 32, 32, 3), dtype=torch.uint8, generator=SOURCE)
STATE = torch.tensor([[0.5, 0.0, 0.3, 3.1, 0.0, 0.2, 0.0], [0.4, 0.1, 0.2, 3.1, 0.0, 0.1, 0.4]])
INFO = {"pixels": PIXELS, "goal": GOAL, "state": STATE}


def test_the_cost_is_the_planners_energy(tiny_world):
    world = tiny_world()
    model = SolverModel(world, CONFIG)
    candidates = (torch.rand(2, 5, 2, 3, generator=SOURCE) - 0.5) * 0.1
    cost = model.get_cost(INFO, candidates)
    for at in range(2):
        now, goal = (world.encode(frames[at : at + 1]) for frames in (PIXELS, GOAL))
        actions = torch.zeros(5, 2, 7)
        actions[..., :3] = candidates[at]
        assert torch.allclose(cost[at], world.energy(now, STATE[at], goal)(actions), atol=1e-6)
    repeated = {k: v[:, None].expand(-1, 5, *v.shape[1:]) for k, v in INFO.items()}
    assert torch.equal(model.get_cost(repeated, candidates), cost)
    tokens = model.encode(PIXELS)
    found = model.rollout(tokens, STATE, candidates)
    assert found.shape == (2, 5, *tokens.shape[1:])
    assert torch.allclose((found - model.encode(GOAL)[:, None]).abs().mean((2, 3)), cost)


def test_candidates_are_held_within_the_bounds(tiny_world):
    model = SolverModel(tiny_world(), CONFIG)
    far = torch.full((2, 1, 2, 3), 9.0)
    assert torch.equal(model.get_cost(INFO, far), model.get_cost(INFO, torch.full_like(far, 0.075)))
    whole = model.inside(torch.full((1, 1, 2, 7), -9.0))
    assert whole[0, 0, 0].tolist() == pytest.approx([-0.075] * 3 + [0.0] * 3 + [-0.75])
    with pytest.raises(ValueError, match=r"candidates are \[1, 2, 5\]"):
        model.inside(torch.zeros(1, 2, 5))
    with pytest.raises(ValueError, match="a candidate is not finite"):
        model.inside(torch.full((1, 1, 2, 3), float("nan")))


def test_a_solver_that_knows_the_cost_alone_finds_what_the_planner_finds(tiny_world):
    """The loop of a stock CEM: batched, never clipped, elites by topk."""
    world = tiny_world()
    model, config = SolverModel(world, CONFIG), PlannerConfig(gripper=False, samples=96, horizon=2)
    mean, std = torch.zeros(2, 2, 3), torch.full((2, 2, 3), 0.075)
    for _ in range(12):
        noise = torch.randn(2, 96, 2, 3, generator=SOURCE)
        candidates = mean[:, None] + std[:, None] * noise
        best = model.get_cost(INFO, candidates).topk(10, largest=False).indices
        elites = candidates[torch.arange(2)[:, None], best]
        mean, std = elites.mean(1), elites.std(1)
    cost = model.get_cost(INFO, mean[:, None])[:, 0]
    for at in range(2):
        now, goal = (world.encode(frames[at : at + 1]) for frames in (PIXELS, GOAL))
        found = plan(world.energy(now, STATE[at], goal), config, 0, 0)
        assert float(cost[at]) <= found.energy + 0.01 * found.staying
