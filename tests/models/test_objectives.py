"""What is fed to the losses.

- The target encoder gets no gradient, the encoder and predictor do; masks count alike.
- The context loss is off by default; turned on it adds weight times a distance-weighted L1.
- Distance to the nearest masked token is measured on the grid.
- The rollout's first frame is teacher forcing's first prediction, and gradients flow through it.
- A rollout longer than the clip is refused.
(That both losses equal the official ones is proved in test_parity_official.py.)
"""

from __future__ import annotations

import pytest
import torch

from models.encoder import Encoder, EncoderConfig
from models.isotropy import random_directions
from models.losses import centred, jepa_loss, normalise
from models.objectives import distances, pretraining_loss, world_model_loss
from models.predictor import Predictor, PredictorConfig
from models.tokens import pick
from tests.models.test_world_model import tiny

GRID = (2, 4, 4)
SIZES = {"depth": 1, "heads": 2, "mlp_hidden": 48}


def parts() -> tuple[Encoder, Encoder, Predictor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = EncoderConfig(width=24, patch=8, frames=4, size=32, **SIZES)
        predictor = PredictorConfig(encoder_width=24, width=24, context_head=True, **SIZES)
        return Encoder(config), Encoder(config), Predictor(predictor)


VIDEO = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
MASKS = [
    (torch.tensor([[0, 1, 2], [4, 5, 6]]), torch.tensor([[8, 9], [20, 31]])),
    (torch.tensor([[7], [8]]), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 9]])),
]


def test_pretraining_loss() -> None:
    encoder, target, predictor = parts()
    loss = pretraining_loss(encoder, target, predictor, VIDEO, MASKS, GRID)
    loss.total.backward()
    assert loss.context is None
    assert all(p.grad is None for p in target.parameters())
    assert all(p.grad is not None for p in encoder.parameters())
    with torch.no_grad():
        features = normalise(target(VIDEO))
        terms = [
            jepa_loss(predictor(encoder(VIDEO, c), c, t, GRID), pick(features, t)) for c, t in MASKS
        ]
    assert loss.total.item() == pytest.approx((terms[0].item() + terms[1].item()) / 2, rel=1e-6)


def test_context_weight() -> None:
    encoder, target, predictor = parts()
    plain = pretraining_loss(encoder, target, predictor, VIDEO, MASKS, GRID)
    both = pretraining_loss(encoder, target, predictor, VIDEO, MASKS, GRID, context_weight=0.5)
    assert both.masked.item() == pytest.approx(plain.total.item(), rel=1e-6)
    assert both.context is not None
    assert both.total.item() == pytest.approx(both.masked.item() + 0.5 * both.context.item())
    both.total.backward()
    assert predictor.predictor_proj_context.weight.grad.abs().max() > 0


def test_masks_by_weight_and_centred_targets() -> None:
    encoder, target, predictor = parts()
    with torch.no_grad():
        features = normalise(centred(target(VIDEO), GRID[0], "time"))
        terms = [
            jepa_loss(predictor(encoder(VIDEO, c), c, t, GRID), pick(features, t)) for c, t in MASKS
        ]
    loss = pretraining_loss(
        encoder, target, predictor, VIDEO, MASKS, GRID, weights=(3.0, 1.0), centre="time"
    )
    expected = (3 * terms[0].item() + terms[1].item()) / 4
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)


def test_isotropy_beside_the_loss() -> None:
    encoder, target, predictor = parts()
    along = random_directions(24, 8, 0, torch.device("cpu"))
    plain = pretraining_loss(encoder, target, predictor, VIDEO, MASKS, GRID)
    both = pretraining_loss(
        encoder, target, predictor, VIDEO, MASKS, GRID, isotropy_weight=0.5, directions=along
    )
    assert plain.isotropy is None and both.isotropy is not None
    assert both.total.item() == pytest.approx(
        plain.total.item() + 0.5 * both.isotropy.item(), rel=1e-5
    )
    with pytest.raises(ValueError, match="go together"):
        pretraining_loss(encoder, target, predictor, VIDEO, MASKS, GRID, isotropy_weight=0.5)


def test_distances() -> None:
    # Grid 2 x 4 x 4: token 0 is (0,0,0); 5 is (0,1,1); 18 is (1,0,2).
    found = distances(torch.tensor([[0, 5]]), torch.tensor([[18, 31]]), GRID)
    assert found.flatten().tolist() == pytest.approx([5**0.5, 3**0.5])


def test_world_model_rollout_gradient() -> None:
    source = torch.Generator().manual_seed(1)
    features = normalise(torch.randn(2, 48, 24, generator=source))
    actions, states = torch.randn(2, 2, 3, 7, generator=source)
    model = tiny()
    loss = world_model_loss(model, features, actions[:, :2], states, (4, 4))
    loss.total.backward()
    assert loss.total.item() == pytest.approx((loss.teacher_forcing + loss.rollout).item())
    first = normalise(model(features[:, :16], actions[:, :1], states[:, :1]))
    one = world_model_loss(model, features, actions[:, :2], states, (4, 4), rollout_steps=1)
    expected = (first - features[:, 16:32]).abs().mean().item()
    assert one.rollout.item() == pytest.approx(expected, rel=1e-5)


def test_change_weight_counts_moving_tokens_more() -> None:
    still = normalise(torch.randn(1, 16, 24, generator=torch.Generator().manual_seed(2)))
    moved = still.clone()
    moved[:, 3] = -moved[:, 3]
    features, zeros = torch.cat([still, moved], dim=1), torch.zeros(1, 2, 7)
    model = tiny(residual=True)
    with torch.no_grad():
        model.predictor_proj.weight.zero_()
        model.predictor_proj.bias.zero_()
    plain = world_model_loss(model, features, zeros, zeros, (4, 4), rollout_steps=1)
    weighted = world_model_loss(
        model, features, zeros, zeros, (4, 4), rollout_steps=1, change_weight=1.0
    )
    # A copy is wrong in one token of sixteen, which then counts sixteenfold.
    assert weighted.teacher_forcing.item() == pytest.approx(
        16 * plain.teacher_forcing.item(), rel=1e-3
    )


@pytest.mark.parametrize("steps", [0, 3])
def test_rollout_longer_than_the_clip(steps: int) -> None:
    zeros = torch.zeros(1, 3, 7)
    with pytest.raises(ValueError, match=r"3 frames allow 1 … 2"):
        world_model_loss(tiny(), torch.zeros(1, 48, 24), zeros, zeros, (4, 4), rollout_steps=steps)
