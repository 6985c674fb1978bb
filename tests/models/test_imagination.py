"""Imagining what plans lead to.

- Imagined frames equal the plain rollout that runs every prefix again and norms each prediction.
- Chunks do not matter; a remembered past, computed once, equals running it for every plan.
- The energy is the mean absolute difference to the goal, lowest for the plan that made the goal.
"""

from __future__ import annotations

import pytest
import torch

from models.imagination import energies, imagine, remember
from models.losses import normalise
from tests.models.test_world_model import tiny

SAMPLES, HORIZON = 5, 3


def plans() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(4)
    options = {"generator": source, "dtype": torch.float64}
    frame = normalise(torch.randn(1, 16, 24, **options))
    return (
        frame,
        torch.randn(SAMPLES, HORIZON, 7, **options),
        torch.randn(SAMPLES, HORIZON, 7, **options),
    )


@torch.no_grad()
def plain_rollout(
    model: torch.nn.Module, tokens: torch.Tensor, actions: torch.Tensor, states: torch.Tensor
) -> torch.Tensor:
    sequence, given = tokens, actions.shape[1] - HORIZON + 1
    for step in range(given, given + HORIZON):
        out = normalise(model(sequence, actions[:, :step], states[:, :step]))
        sequence = torch.cat([sequence, out[:, -16:]], dim=1)
    return sequence[:, -16:]


@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_equals_the_plain_rollout(chunk: int) -> None:
    model, (frame, actions, states) = tiny().double(), plans()
    imagined = torch.cat(list(imagine(model, frame, actions, states, chunk=chunk)))
    expected = plain_rollout(model, frame.repeat(SAMPLES, 1, 1), actions, states)
    assert torch.allclose(imagined, expected, atol=1e-10)
    assert (imagined[0] - imagined[1]).abs().max() > 1e-2


def test_remembered_past() -> None:
    model, (frame, actions, states) = tiny(token_merge=2, residual=True).double(), plans()
    source = torch.Generator().manual_seed(8)
    options = {"generator": source, "dtype": torch.float64}
    earlier = normalise(torch.randn(1, 32, 24, **options))
    acted, posed = torch.randn(2, 1, 2, 7, **options)
    past = remember(model, earlier, acted, posed)
    imagined = torch.cat(list(imagine(model, frame, actions, states, past=past, chunk=2)))
    expected = plain_rollout(
        model,
        torch.cat([earlier, frame], dim=1).repeat(SAMPLES, 1, 1),
        torch.cat([acted.repeat(SAMPLES, 1, 1), actions], dim=1),
        torch.cat([posed.repeat(SAMPLES, 1, 1), states], dim=1),
    )
    assert torch.allclose(imagined, expected, atol=1e-10)


def test_energy() -> None:
    model, (frame, actions, states) = tiny().double(), plans()
    goal = torch.cat(list(imagine(model, frame, actions, states)))[3:4]
    found = energies(model, frame, actions, states, goal, chunk=2)
    assert found.shape == (SAMPLES,)
    assert found.argmin() == 3
    assert found[3] < 1e-12
    one = torch.cat(list(imagine(model, frame, actions, states)))[0]
    assert found[0].item() == pytest.approx((one - goal[0]).abs().mean().item(), rel=1e-5)


def test_bad_inputs() -> None:
    model, (frame, actions, states) = tiny().double(), plans()
    with pytest.raises(ValueError, match=r"tokens \[2, 16, 24\]"):
        next(imagine(model, frame.repeat(2, 1, 1), actions, states))
    with pytest.raises(ValueError, match="chunk 0"):
        next(imagine(model, frame, actions, states, chunk=0))
    with pytest.raises(ValueError, match=r"plans \[0, "):
        next(imagine(model, frame, actions[:0], states[:0]))
    with pytest.raises(
        ValueError, match=r"goal must be \[1, 16, 24\] as tokens; found \[1, 1, 24\]"
    ):
        energies(model, frame, actions, states, frame[:, :1])
