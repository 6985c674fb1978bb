"""The predictor.

- The published sizes have their published parameter counts (on the meta device).
- Tokens may come in any order; a target's prediction does depend on where it is.
- Mask tokens are chosen modulo their number; training touches the first alone.
- The context head is an option that changes neither the other parameters nor the predictions.
- Shapes that do not fit are refused by name.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.predictor import Predictor, PredictorConfig

GRID = (2, 4, 4)
TINY = PredictorConfig(encoder_width=40, width=48, depth=2, heads=2, mlp_hidden=96, mask_tokens=3)


def tiny(**changes: object) -> Predictor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        predictor = Predictor(replace(TINY, **changes))
        with torch.no_grad():
            for mask in predictor.mask_tokens:
                mask.normal_()
            for block in predictor.predictor_blocks:
                block.attn.qkv.weight.mul_(20)
        return predictor


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(1))
    context = torch.tensor([[0, 3, 9, 21, 30], [31, 2, 8, 5, 16]])
    target = torch.tensor([[1, 2, 25], [0, 1, 30]])
    return tokens, context, target


@pytest.mark.parametrize(
    ("width", "count"), [(1024, 22_086_016), (1280, 22_282_880), (1408, 22_381_312)]
)
def test_parameter_count(width: int, count: int) -> None:
    with torch.device("meta"):
        predictor = Predictor(PredictorConfig(encoder_width=width))
    assert sum(p.numel() for p in predictor.parameters()) == count


@torch.no_grad()
def test_order_is_free() -> None:
    predictor, (tokens, context, target) = tiny(), batch()
    expected = predictor(tokens, context, target, GRID)
    assert expected.shape == (2, 3, 40)
    moved = torch.tensor([4, 1, 0, 3, 2])
    turned = torch.tensor([2, 0, 1])
    found = predictor(tokens[:, moved], context[:, moved], target[:, turned], GRID)
    assert torch.allclose(found, expected[:, turned], atol=1e-5)


@torch.no_grad()
def test_positions_matter() -> None:
    predictor, (tokens, context, target) = tiny(), batch()
    expected = predictor(tokens, context, target, GRID)
    assert (predictor(tokens, context, target + 1, GRID) - expected).abs().max() > 1e-3
    assert (predictor(tokens, context, target, (2, 2, 8)) - expected).abs().max() > 1e-3


@torch.no_grad()
def test_mask_tokens_are_chosen_modulo() -> None:
    predictor, inputs = tiny(), batch()
    first, second = (predictor(*inputs, GRID, number) for number in (0, 1))
    assert (first - second).abs().max() > 1e-3
    assert torch.equal(predictor(*inputs, GRID, 3), first)
    assert torch.equal(predictor(*inputs, GRID), first)


def test_training_touches_the_first_mask_token() -> None:
    predictor = tiny()
    predictor(*batch(), GRID).square().mean().backward()
    assert predictor.mask_tokens[0].grad.abs().max() > 0
    assert predictor.mask_tokens[1].grad is None


@torch.no_grad()
def test_context_head() -> None:
    plain, headed = tiny(), tiny(context_head=True)
    headed.load_state_dict(plain.state_dict(), strict=False)
    extra = set(headed.state_dict()) - set(plain.state_dict())
    assert extra == {"predictor_proj_context.weight", "predictor_proj_context.bias"}
    predicted, restored = headed(*batch(), GRID, return_context=True)
    assert torch.allclose(predicted, plain(*batch(), GRID), atol=1e-5)
    assert restored.shape == (2, 5, 40)
    with pytest.raises(ValueError, match="no context head"):
        plain(*batch(), GRID, return_context=True)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, torch.zeros(2, 5, 41), r"context must be \[B, 5, 40\]; found \[2, 5, 41\]"),
        (0, torch.zeros(2, 4, 40), r"context must be \[B, 5, 40\]; found \[2, 4, 40\]"),
        (1, torch.full((2, 5), 32), r"context_index must lie in 0 … 31"),
        (2, torch.full((1, 3), 3), r"target_index must be int64 of shape \[2, K\]"),
        (2, torch.full((2, 3), -4), r"found -4 … -4"),
        (1, torch.zeros(2, dtype=torch.int64), r"context_index must be int64 of shape \[2, K\]"),
        (2, torch.tensor(3), r"target_index must be int64 of shape \[2, K\]; found .* \[\]"),
        (3, (4, 8), r"a token grid is \(t, h, w\), each at least 1; found \(4, 8\)"),
        (3, (2, -4, 4), r"found \(2, -4, 4\)"),
    ],
)
def test_bad_shapes(place: int, value: object, words: str) -> None:
    inputs = [*batch(), GRID]
    inputs[place] = value
    with pytest.raises(ValueError, match=words):
        tiny()(*inputs)
