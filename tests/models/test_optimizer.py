"""Optimizer groups, rates and the moving average.

- Biases and norms are not decayed, weights and mask tokens are; frozen parameters are in no group.
- One step is AdamW's, worked out by hand, and decay alone shrinks by lr times decay.
- Gradients longer than allowed are shortened together.
- The moving average is m θ' + (1 - m) θ.
"""

from __future__ import annotations

import pytest
import torch

from models.optimizer import adamw, parameter_groups, set_rates, shorten, update_average
from models.predictor import Predictor
from models.world_model import WorldModel
from tests.models.test_predictor import TINY
from tests.models.test_world_model import TINY as TINY_WORLD


def test_groups() -> None:
    predictor = Predictor(TINY)
    decayed, undecayed = (
        {id(p) for p in group["params"]} for group in parameter_groups([predictor])
    )
    for name, parameter in predictor.named_parameters():
        kept = name.endswith("bias") or "norm" in name
        assert (id(parameter) in undecayed) == kept, name
        assert (id(parameter) in decayed) != kept, name
    assert id(predictor.mask_tokens[0]) in decayed


def test_frozen_parameters_are_left_out() -> None:
    model = WorldModel(TINY_WORLD)
    held = {id(p) for group in parameter_groups([model]) for p in group["params"]}
    assert id(model.extrinsics_encoder.weight) not in held
    assert id(model.action_encoder.weight) in held


def test_one_step_by_hand() -> None:
    layer = torch.nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(1.0)
    optimizer = adamw([layer], lr=0.1, weight_decay=0.5)
    set_rates(optimizer, 0.01, 0.25)
    layer.weight.grad, layer.bias.grad = torch.tensor([[3.0]]), torch.tensor([-4.0])
    optimizer.step()
    # The first step of Adam is one learning rate against the sign; decay comes first, weights only.
    assert layer.weight.item() == pytest.approx(2.0 * (1 - 0.01 * 0.25) - 0.01, rel=1e-6)
    assert layer.bias.item() == pytest.approx(1.0 + 0.01, rel=1e-6)


def test_average() -> None:
    target, online = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    with torch.no_grad():
        target.weight.fill_(1.0)
        online.weight.fill_(5.0)
    update_average(target, online, 0.75)
    assert target.weight.flatten().tolist() == pytest.approx([2.0, 2.0])
    assert online.weight.flatten().tolist() == [5.0, 5.0]
    with pytest.raises(ValueError, match="2 parameters and the online module 1"):
        update_average(target, torch.nn.Linear(2, 1, bias=False), 0.5)


def test_long_gradients_are_shortened_together() -> None:
    long, short = torch.full((4,), 3.0), torch.full((4,), 4.0)
    shorten([long, None, short], 10.0, None)
    shorten([long, None, short], 10.0, 20.0)
    assert long[0] == 3.0
    shorten([long, None, short], 10.0, 5.0)
    assert torch.cat([long, short]).norm().item() == pytest.approx(5.0)
    assert long[0] == 1.5
