"""The benchmark itself, at toy size.

- Contenders of every case agree on what they compute, and one that does not is caught.
- Ratios are peer over ours, from the least of the rounds.
- FLOPs per clip, which utilisation is measured against, are those worked out for the paper's sizes.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.benchmarks.bench_models import FULL_DEPTH, SHAPES, pretraining_flops, race, report
from tests.benchmarks.contenders import (
    Contender,
    Shape,
    encoder_contenders,
    same_gradients,
    world_model_contenders,
)
from tests.benchmarks.steps import pretraining_contenders

TOY = Shape(
    width=48, heads=2, hidden=96, depth=2, frames=4, size=128, predictor=24, predictor_heads=2
)


def test_pretraining(capsys: pytest.CaptureFixture[str]) -> None:
    contenders = pretraining_contenders(TOY)
    race(contenders, 1, "cpu", 1e-5)
    ratios = report("pretraining", "toy", contenders)
    assert set(ratios) == {"official", "official, checkpointing (as shipped)"}
    assert "bar 1.25" in capsys.readouterr().out


def test_encoder() -> None:
    contenders = encoder_contenders(TOY)
    race(contenders, 1, "cpu", 1e-5)
    assert len({contender.name for contender in contenders}) == 4


def test_world_model() -> None:
    contenders = world_model_contenders(TOY, width=32, depth=2, frames=4)
    race(contenders, 1, "cpu", 1e-5)
    assert same_gradients(contenders) < 1e-4


def test_disagreement_is_caught() -> None:
    with pytest.raises(
        SystemExit, match=r"b computes 1.001 and a 1.0: relative difference 1.0e-03"
    ):
        race([Contender("a", lambda: 1.0), Contender("b", lambda: 1.001)], 1, "cpu", 1e-6)


def test_other_gradients_are_caught() -> None:
    layers = [torch.nn.Linear(1, 1) for _ in range(2)]

    def backward(layer: torch.nn.Module, scale: float) -> float:
        layer(torch.ones(1, 1)).mul(scale).sum().backward()
        return 1.0

    contenders = [
        Contender("a", lambda: backward(layers[0], 1.0), trained=layers[0]),
        Contender("b", lambda: backward(layers[1], 1.1), trained=layers[1]),
    ]
    with pytest.raises(SystemExit, match="gradients differ by"):
        race(contenders, 1, "cpu", 1e-5)


def test_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    contenders = [
        Contender("ours", lambda: 1.0, seconds=[3.0, 2.0]),
        Contender("peer", lambda: 1.0, seconds=[9.0, 5.0]),
    ]
    assert report("x", "y", contenders) == {"peer": 2.5}
    assert "2.50" in capsys.readouterr().out


@pytest.mark.parametrize(("size", "teraflops"), [("S", 0.92), ("L", 3.58), ("g", 9.83)])
def test_flops(size: str, teraflops: float) -> None:
    shape = replace(SHAPES[size], depth=FULL_DEPTH[size], predictor_depth=12)
    assert pretraining_flops(shape) / 1e12 == pytest.approx(teraflops, rel=0.03)
