"""Claims: readouts find what is planted in pooled features and nothing where there is nothing; what
they choose they choose without the test clips; a channel's scale does not matter; pooling keeps
time and averages space and views."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.evaluation.features import encoded, pooled, pooled_features
from pipelines.evaluation.readouts import READOUTS, accuracies, read_out, standardised

CLASSES, TRAIN, TEST = 4, 160, 200
LABELS = np.arange(TRAIN + TEST) % CLASSES
KNOWN, ASKED = range(TRAIN), range(TRAIN, TRAIN + TEST)


def planted(strength: float) -> np.ndarray:
    """[clips, 3 steps, 8] noise with a class's pattern in the change from step to step."""
    random = np.random.default_rng(0)
    patterns = np.random.default_rng(1).normal(size=(CLASSES, 3, 8))
    return random.normal(size=(len(LABELS), 3, 8)) + strength * patterns[LABELS]


@pytest.mark.parametrize("readout", READOUTS)
def test_planted_classes_are_found_and_more_labels_find_more(readout):
    budgets = {16: range(16), TRAIN: KNOWN}
    rates = accuracies(planted(0.6), LABELS, budgets, ASKED)[readout]
    assert rates[TRAIN].value > 0.8 and rates[TRAIN].trials == TEST
    assert rates[16].value < rates[TRAIN].value
    nothing = accuracies(planted(0.0), LABELS, budgets, ASKED)[readout]
    assert abs(nothing[TRAIN].value - 1 / CLASSES) < 0.15  # five deviations


def test_a_faint_class_below_loud_features_is_not_given_up():
    """As random encoders show motion. By squared error ridge finds it no better than chance."""
    random = np.random.default_rng(0)
    patterns, labels = random.normal(size=(4, 3, 100)), np.arange(560) % 4
    loud = (random.normal(size=(560, 20)) @ random.normal(size=(20, 300))).reshape(560, 3, 100)
    faint = random.normal(size=(560, 3, 100)) + 0.08 * patterns[labels] + 3 * loud
    rate = accuracies(faint, labels, {160: range(160)}, range(160, 560))["linear"][160]
    assert rate.value > 0.32


@pytest.mark.parametrize("readout", READOUTS)
def test_neither_test_labels_nor_scales_of_channels_matter(readout):
    features, other = planted(0.5), LABELS.copy()
    other[TRAIN:] = 0
    first = read_out(features, LABELS, KNOWN, ASKED)[readout]
    scales = np.random.default_rng(2).uniform(0.01, 100, size=features.shape[1:])
    second = read_out(features * scales + 7, other, KNOWN, ASKED)[readout]
    assert first.chosen == second.chosen
    assert (first.predicted == second.predicted).mean() > 0.99
    assert set(first.predicted) <= set(range(CLASSES))


def test_a_channel_that_never_changes_is_left_at_zero():
    features = np.random.default_rng(0).normal(size=(6, 2, 3))
    features[:4, 1, 2] = 5.0
    flat = standardised(features, range(4))
    assert flat.shape == (6, 6) and not flat[:4, 5].any() and np.isfinite(flat).all()
    assert flat[:4, 0].mean() == pytest.approx(0) and flat[:4, 0].std() == pytest.approx(1)


def test_so_few_labels_that_no_neighbourhood_fits_still_have_an_answer():
    answer = read_out(planted(3.0), LABELS, range(4), ASKED)["knn"]
    assert answer.chosen == {"neighbours": 1} or answer.chosen == {"neighbours": 3}
    assert len(answer.predicted) == TEST


def test_pooling_keeps_time_and_averages_space_and_views():
    tokens = torch.randn(2, 3, 2, 4 * 6, 5)  # clips, views, segments, 4 steps of 6 places
    steps = pooled(tokens, 4)
    assert steps.shape == (2, 8, 5)
    by_hand = tokens[1, :, 1, 2 * 6 : 3 * 6].mean((0, 1)).numpy()
    assert np.allclose(steps[1, 4 + 2], by_hand, atol=1e-6)


def test_a_network_in_memory_is_read_like_an_artifacts():
    views = torch.randn(5, 2, 1, 3, 4, 64, 64)

    def network(video: torch.Tensor) -> torch.Tensor:
        places = video.unfold(3, 32, 32).unfold(4, 32, 32).mean((-1, -2))
        return places.permute(0, 2, 3, 4, 1).flatten(1, 3)

    assert encoded(network, views).shape == (5, 2, 1, 16, 3)
    steps = pooled_features(network, views, 4)
    assert np.allclose(steps, views.mean((1, 2, 5, 6)).permute(0, 2, 1).numpy(), atol=1e-5)
