"""Claims: schedules, aggregation and accuracies are the released code's where its name stands
beside them, by cases worked out by hand; heads that learn side by side are the heads that learn
apart; head and epoch are chosen on what was held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.encoder import PUBLISHED
from pipelines.evaluation.benchmarks.heads import (
    Side,
    _preparation,
    aggregated,
    learn,
    official_rate,
)
from pipelines.evaluation.benchmarks.judging import (
    accuracy_by_batches,
    chosen,
    optimistic,
    per_class_recall,
    published_size,
)
from pipelines.evaluation.benchmarks.protocol import BenchmarkReportConfig, HeadsConfig
from pipelines.evaluation.benchmarks.report import _readout
from pipelines.evaluation.features import PRETRAINED
from pipelines.evaluation.probing import HeadConfig, grid_positions

HEADS = HeadsConfig(
    head=HeadConfig(depth=2, heads=2, epochs=3, batch=8, initial="fan_in", standardise=True),
    lrs=(3e-3, 1e-3), weight_decays=(0.1,),
)  # fmt: skip


def test_the_rate_moves_before_each_step() -> None:
    told = [official_rate(step, 10, 1e-3) for step in range(1, 11)]
    want = [9.75528e-4, 9.04508e-4, 7.93893e-4, 6.54508e-4, 5e-4, 3.45492e-4, 2.06107e-4,
            9.5492e-5, 2.4472e-5, 0]  # fmt: skip
    assert told == pytest.approx(want, rel=1e-4, abs=1e-12)
    rise = [official_rate(step, 100, 1e-3, 25, 2e-4) for step in (1, 24, 25, 100)]
    assert rise == pytest.approx([2.32e-4, 9.68e-4, 1e-3, 0], rel=1e-6, abs=1e-12)


def test_views_are_averaged_as_each_mode_says() -> None:
    logits = torch.tensor([[6.0, 0.0], [-2.0, 0.0], [-2.0, 0.0]])
    found = aggregated(logits, views=3)
    assert (found["official"].tolist(), found["fixed"].tolist()) == ([1], [0])
    assert float(logits.softmax(-1)[:, 0].mean()) == pytest.approx(0.4120, abs=1e-4)


def test_accuracy_over_batches_is_no_accuracy_over_films() -> None:
    right = np.array([True] * 4 + [False] * 2)
    assert accuracy_by_batches(right, 4) == 0.5 and right.mean() == pytest.approx(2 / 3)
    assert accuracy_by_batches(right, 4, drop_last=True) == 1.0
    assert accuracy_by_batches(right, 8, drop_last=True) == pytest.approx(2 / 3)
    found = {PRETRAINED: {"predicted": (~right).astype(int).tolist()}}
    for name, counted in (("ssv2", 1.0), ("in1k", 0.5)):  # of films alone a part of a batch is lost
        config = BenchmarkReportConfig(heads={name: HeadsConfig(head=HeadConfig(batch=4))})
        told = _readout(found, np.zeros(6, np.int64), 0, 2, config)["variants"][PRETRAINED]
        assert told["by_batches"] == counted and told["accuracy"]["rate"] == pytest.approx(2 / 3)


def test_choice_is_by_what_was_held_out_and_the_released_figure_is_optimistic() -> None:
    labels = np.array([0, 1])
    held = np.array([[[0, 0], [1, 0]], [[0, 1], [0, 0]]])  # [E, H, Q]
    assert chosen(held, labels) == (1, 0)
    asked = np.array([[[0, 1], [1, 1]], [[1, 0], [0, 0]]])
    assert optimistic(asked, labels, 2, drop_last=True) == {"last_epoch": 0.5, "best_epoch": 1.0}
    assert per_class_recall(np.array([[3, 1, 0], [0, 0, 0], [1, 0, 1]])) == [0.75, None, 0.5]


def test_an_encoder_has_its_column_in_the_papers_tables() -> None:
    def size(name: str) -> str | None:
        config = PUBLISHED[name]
        parts = ("width", "depth", "heads", "mlp_hidden", "size")
        return published_size({part: getattr(config, part) for part in parts})

    assert [size(n) for n in ("vit_large", "vit_giant_xformers", "vit_giant_xformers_384")] == [
        "vit_large", "vit_giant", "vit_giant_384",
    ]  # fmt: skip
    assert size("vit_giant") is size("vit_tiny") is None, "16 heads are not the released ViT-g"


@pytest.fixture(scope="module")
def sides() -> tuple[Side, Side]:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 3
    tokens = torch.randn(24, 4, 12, generator=random) + 2 * torch.eye(12)[labels][:, None]

    def train(films, epoch):
        return tokens[list(films)]

    def crops(films, epoch):
        return tokens[list(films)].repeat_interleave(2, 0)

    told = tuple(labels.tolist())
    return Side(tuple(range(24)), told, train), Side(tuple(range(24)), told, crops, views=2)


def test_heads_side_by_side_are_the_heads_apart(sides: tuple[Side, Side]) -> None:
    fit, asked = sides
    together = learn(HEADS, 3, (1, 2, 2), fit, {"asked": asked}, "cpu")
    assert together.answers["asked"]["official"].shape == (3, 2, 24)
    for place, lr in enumerate(HEADS.lrs):
        alone = learn(replace(HEADS, lrs=(lr,)), 3, (1, 2, 2), fit, {"asked": asked}, "cpu")
        assert np.array_equal(together.losses[:, place], alone.losses[:, 0])
        for rule in ("official", "fixed"):
            one = alone.answers["asked"][rule][:, 0]
            assert np.array_equal(together.answers["asked"][rule][:, place], one)
    longer = replace(HEADS, head=replace(HEADS.head, epochs=20))
    learned = learn(longer, 3, (1, 2, 2), fit, {"asked": asked}, "cpu")
    right = learned.answers["asked"]["official"][-1] == np.array(asked.labels)
    assert right.mean() > 0.9, "three classes that lie far apart are learned"
    assert learned.losses[-1].max() < learned.losses[0].min()


def test_tokens_of_every_layer_and_segment_stand_where_their_patch_is() -> None:
    """Two segments of one time step, three layers, two patches: segment, layer, patch in turn."""
    some = Side((0,), (0,), lambda films, epoch: torch.zeros(1, 2 * 3 * 2, 12))
    prepare, _ = _preparation(HeadConfig(positions=True), (2, 1, 2), 2, some)
    found = prepare(torch.zeros(1, 12, 12)).reshape(2, 3, 2, 12)
    where = grid_positions((2, 1, 2), 12).reshape(2, 2, 12)
    assert (found == where[:, None]).all() and not torch.equal(where[0], where[1])


def test_a_batch_is_read_once_for_all_heads(sides: tuple[Side, Side]) -> None:
    fit, _ = sides
    read: list[int] = []

    def counting(films, epoch):
        read.append(len(films))
        return fit.tokens(films, epoch)

    learn(HEADS, 3, (1, 2, 2), replace(fit, tokens=counting), {}, "cpu")
    assert sum(read) == 1 + 24 + 3 * 24, "to look, for the moments, and once an epoch"
