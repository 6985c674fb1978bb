"""Claims: the search is the paper's (refit, momentum, bounds, gripper, checked by hand), it finds
the minimum of known energies, it depends on (seed, step) alone, and it may decline to move."""

from __future__ import annotations

import math

import pytest
import torch

from pipelines.planner.cem import PlannerConfig, as_actions, bounded, lowest, plan, refit

QUICK = PlannerConfig(samples=64, iterations=6, gripper=False)


def bowl(target: list[float]):
    """The L1 distance of the first motion's x, y, z to a target: its minimum is known."""
    aim = torch.tensor(target)
    return lambda actions: (actions[:, 0, :3] - aim).abs().sum(-1)


def test_defaults_are_the_papers_robot_runs():
    config = PlannerConfig()
    assert (config.samples, config.iterations, config.elites, config.horizon) == (800, 10, 10, 1)
    assert config.max_translation == 0.075 and config.bound == "box"
    corner = bounded(torch.full((1, 1, 4), 9.0), config)
    assert math.isclose(float(corner[0, 0, :3].norm()), 0.13, abs_tol=1e-3)  # the text's 13 cm


def test_refit_by_hand():
    config = PlannerConfig(
        momentum_mean=0.25,
        momentum_std=0.5,
        momentum_mean_gripper=0.0,
        momentum_std_gripper=0.75,
    )
    elites = torch.tensor([[[0.0, 1.0, 2.0, 4.0]], [[2.0, 1.0, 4.0, 8.0]]])
    old_mean, old_std = torch.tensor([[4.0, 4, 4, 4]]), torch.tensor([[1.0, 1, 1, 1]])
    mean, std = refit(elites, old_mean, old_std, config)
    assert mean.tolist() == [[0.75 * 1 + 1, 0.75 * 1 + 1, 0.75 * 3 + 1, 6.0]]
    deviation = math.sqrt(2)  # of {0, 2}, unbiased
    expected = [0.5 * deviation + 0.5, 0.5, 0.5 * deviation + 0.5, 0.25 * 2 * deviation + 0.75]
    assert torch.allclose(std, torch.tensor([expected]))


def test_bounds_box_ball_room_and_gripper():
    far = torch.tensor([[[0.3, -0.2, 0.01, 2.0], [0.3, 0.0, 0.0, -2.0]]])
    box = bounded(far, PlannerConfig(horizon=2))
    assert torch.allclose(box, torch.tensor([[[0.075, -0.075, 0.01, 0.75], [0.075, 0, 0, -0.75]]]))
    ball = bounded(far, PlannerConfig(horizon=2, bound="l1"))
    assert torch.allclose(ball[..., :3].abs().sum(-1), torch.tensor([[0.075, 0.075]]))
    assert torch.allclose(ball[0, 0, :2] / ball[0, 0, 2], far[0, 0, :2] / far[0, 0, 2])
    inside = torch.tensor([[[0.01, 0.0, -0.02, 0.1], [0.0, 0.0, 0.03, 0.0]]])
    assert torch.equal(bounded(inside, PlannerConfig(horizon=2, bound="l1")), inside)
    room = torch.tensor([[-0.05, -0.05, -0.05], [0.02, 0.05, 0.05]])
    walled = bounded(far, PlannerConfig(horizon=2), room)
    assert torch.allclose(walled[0, :, 0], torch.tensor([0.02, 0.075]))  # first step only
    assert torch.allclose(walled[0, 0, 1], torch.tensor(-0.05))


def test_actions_never_turn_and_the_gripper_is_the_seventh():
    actions = as_actions(torch.tensor([[[1.0, 2, 3, 4]]]), PlannerConfig())
    assert actions.tolist() == [[[1, 2, 3, 0, 0, 0, 4]]]
    closing = PlannerConfig(horizon=2, close_gripper_from=1)
    forced = as_actions(torch.zeros(1, 2, 4), closing)
    assert forced[0, :, 6].tolist() == [0.0, 1.0]


def test_lowest_keeps_the_order_of_equals_and_refuses_nan():
    assert lowest(torch.tensor([3.0, 1.0, 1.0, 0.5]), 3).tolist() == [3, 1, 2]
    with pytest.raises(ValueError, match="1 of 2 candidate energies are not finite"):
        lowest(torch.tensor([1.0, float("nan")]), 1)


def test_finds_the_minimum_inside_and_the_nearest_corner_outside():
    target = [0.03, -0.05, 0.01]
    found = plan(bowl(target), QUICK, seed=1, step=0)
    assert torch.allclose(found.actions[0, :3], torch.tensor(target), atol=0.004)
    paper = plan(bowl(target), PlannerConfig(), seed=1, step=0)
    assert torch.allclose(paper.actions[0, :3], torch.tensor(target), atol=2e-4)
    outside = plan(bowl([0.5, -0.5, 0.02]), QUICK, seed=1, step=0)
    assert torch.allclose(outside.actions[0, :3], torch.tensor([0.075, -0.075, 0.02]), atol=0.004)
    assert outside.trace[-1] < outside.trace[0]


def test_plans_two_steps_whose_sum_reaches_what_one_cannot():
    aim = torch.tensor([0.14, 0.0, -0.14])

    def energy(actions: torch.Tensor) -> torch.Tensor:
        return (actions[:, :, :3].sum(1) - aim).abs().sum(-1)

    config = PlannerConfig(samples=200, iterations=8, horizon=2, gripper=False)
    found = plan(energy, config, seed=0, step=0)
    assert found.actions.shape == (2, 7)
    assert torch.allclose(found.actions[:, :3].sum(0), aim, atol=0.01)


def test_same_seed_and_step_same_plan_other_step_another():
    target = [0.02, 0.02, 0.02]
    first = plan(bowl(target), QUICK, seed=3, step=7)
    torch.manual_seed(99)  # the global generator must not matter
    again = plan(bowl(target), QUICK, seed=3, step=7)
    assert torch.equal(first.actions, again.actions)
    assert not torch.equal(first.actions, plan(bowl(target), QUICK, seed=3, step=8).actions)
    assert not torch.equal(first.actions, plan(bowl(target), QUICK, seed=4, step=7).actions)


def test_the_best_candidate_seen_is_never_worse_than_any_that_was_tried():
    seen = []

    def energy(actions: torch.Tensor) -> torch.Tensor:
        found = bowl([0.07, -0.07, 0.07])(actions)
        seen.append(float(found.min()))
        return found

    few = {"samples": 64, "iterations": 3, "gripper": False}
    best = plan(energy, PlannerConfig(solution="best", **few), 0, 0)
    assert best.energy == pytest.approx(min(seen[:3]), abs=1e-6)
    assert best.energy < plan(energy, PlannerConfig(**few), 0, 0).energy


def test_small_gripper_motions_are_dropped_and_large_ones_kept():
    def wants(grip: float):
        return lambda actions: (actions[:, 0, 6] - grip).abs()

    config = PlannerConfig(samples=200, iterations=8)
    assert plan(wants(0.1), config, 0, 0).actions[0, 6] == 0
    assert math.isclose(float(plan(wants(0.6), config, 0, 0).actions[0, 6]), 0.6, abs_tol=0.02)


def test_stop_rule_stays_only_when_moving_does_not_pay():
    rule = PlannerConfig(samples=64, iterations=6, gripper=False, stop_margin=0.5)
    there = plan(bowl([0.0, 0.0, 0.0]), rule, 0, 0)
    assert there.stayed and not there.actions.any() and there.staying == 0
    away = plan(bowl([0.05, 0.05, 0.05]), rule, 0, 0)
    assert not away.stayed and away.energy < 0.5 * away.staying

    def shallow(actions: torch.Tensor) -> torch.Tensor:
        return 1.0 + bowl([0.05, 0.0, 0.0])(actions)

    assert plan(shallow, rule, 0, 0).stayed  # 0.05 of 1.05 is less than the margin
    assert not plan(shallow, QUICK, 0, 0).stayed  # the paper's planner always moves


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"elites": 900}, "between 2 and samples"),
        ({"iterations": 0}, "1 or more"),
        ({"bound": "sphere"}, "'box' or 'l1'"),
        ({"momentum_mean": 1.0}, "in \\[0, 1\\)"),
        ({"max_translation": 0.0}, "above 0"),
        ({"solution": "median"}, "'mean' or 'best'"),
        ({"stop_margin": 1.5}, "stop_margin"),
    ],
)
def test_bad_settings_say_what_is_allowed(wrong, said):
    with pytest.raises(ValueError, match=said):
        PlannerConfig(**wrong)
