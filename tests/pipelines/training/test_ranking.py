"""Claims, by hand: the true action comes first among candidates that move the hand within reach; a
model that knows the world ranks it first, one that ignores actions by chance; means, ratios and
intervals of the summary are those of the pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from models.losses import normalise
from pipelines.training.ranking import (
    Pair,
    RankingConfig,
    candidate_actions,
    interval,
    rank_pairs,
    summary,
)
from pipelines.training.robot_windows import Episode, read_episodes
from tests.pipelines.training import material

CPU = torch.device("cpu")
CONFIG = RankingConfig(pairs=30, candidates=12, max_translation=0.075)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> list[Episode]:
    folder = tmp_path_factory.mktemp("robot")
    return read_episodes({lab: material.episodes(folder / lab, lab, 3) for lab in ("a", "b")})


def test_candidates_by_hand() -> None:
    true = np.array([0.01, -0.02, 0.03, 0.1, 0.2, 0.3, 0.5])
    found = candidate_actions(true, 2, RankingConfig(candidates=500), number=7)
    assert found.shape == (500, 7)
    np.testing.assert_array_equal(found[0], true)
    np.testing.assert_array_equal(found[:, 3:], np.tile(true[3:], (500, 1)))
    moves = found[1:, :3]
    assert np.abs(moves).max() <= 0.15 and np.abs(moves).max() > 0.148
    assert np.abs(moves.mean(axis=0)).max() < 0.02
    again = candidate_actions(true, 2, RankingConfig(candidates=500), number=7)
    np.testing.assert_array_equal(found, again)
    other = candidate_actions(true, 2, RankingConfig(candidates=500), number=8)
    assert not np.array_equal(found[1:], other[1:])


class PositionFeatures:
    """Features of a frame: a layer-normed code of where the hand is. [*, HW = 2, D = 8]"""

    def __init__(self, episodes: list[Episode]) -> None:
        self.states = torch.from_numpy(np.concatenate([e.states for e in episodes])).float()

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        return code(self.states[torch.from_numpy(rows)])


def code(states: Tensor) -> Tensor:
    waves = torch.cat([(30 * states[..., :3]).sin(), (30 * states[..., :3]).cos()], dim=-1)
    padded = torch.nn.functional.pad(waves, (0, 2))
    return normalise(torch.stack([padded, 2 * padded + 1], dim=-2))


def knowing(tokens: Tensor, actions: Tensor, states: Tensor, grid: object, **_: object) -> Tensor:
    """A world model that knows this world."""
    after = states[:, 0].clone()
    after[:, :3] += actions[:, 0, :3]
    return code(after)


def ignoring(tokens: Tensor, actions: Tensor, states: Tensor, grid: object, **_: object) -> Tensor:
    """A world model that predicts that nothing changes."""
    return tokens.expand(len(actions), -1, -1)


def ask(model: object, held_out: list[Episode]) -> list[Pair]:
    features = PositionFeatures(held_out)
    return rank_pairs(model, features, held_out, (1, 2), CONFIG, CPU)  # type: ignore[arg-type]


def test_a_model_that_knows_ranks_the_truth_first(held_out: list[Episode]) -> None:
    found = summary(ask(knowing, held_out), CONFIG)
    assert found["rank"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert found["best_candidate_error_cm"]["mean"] == 0.0
    assert found["loss"]["mean"] == pytest.approx(0.0, abs=1e-4)
    assert found["shuffled_over_true"]["mean"] > 10
    assert found["chance_rank"] == 5.5
    assert set(found["rank_by_lab"]) == {"a", "b"} and set(found["rank_by_stride"]) == {"1", "2"}


def test_a_model_that_ignores_actions_gains_nothing_by_them(held_out: list[Episode]) -> None:
    pairs = ask(ignoring, held_out)
    found = summary(pairs, CONFIG)
    assert found["shuffled_over_true"]["mean"] == pytest.approx(1.0)
    assert found["copy_ratio"]["mean"] == pytest.approx(1.0)
    # All energies tie: that is chance, not victory.
    assert found["rank"]["mean"] == found["chance_rank"] == 5.5


def test_rank_counts_the_better_candidates(held_out: list[Episode]) -> None:
    calls: Iterator[int] = iter(range(1000))

    def lying(tokens: Tensor, actions: Tensor, *rest: object, **_: object) -> Tensor:
        """Sees the truth where the hand moved by the candidate with number 3, 4 and 5."""
        pair = next(calls)
        right = PAIRS[pair]
        wrong = -right.expand(len(actions), -1, -1).clone()
        wrong[3:6] = right
        return wrong

    features = PositionFeatures(held_out)
    PAIRS: list[Tensor] = []

    class Recording(SimpleNamespace):
        def __getitem__(self, rows: np.ndarray) -> Tensor:
            found = features[rows]
            PAIRS.append(found[1:])
            return found

    pairs = rank_pairs(lying, Recording(), held_out, (1,), CONFIG, CPU)  # type: ignore[arg-type]
    # Three of the eleven others are better, and eight as bad as the true action: 3 + 8 / 2.
    assert {pair.rank for pair in pairs} == {7.0}
    for number, pair in enumerate(pairs):
        assert pair.error == pair.nearest_error > 0
        assert pair.shuffled_loss == pytest.approx(pair.loss), number


def test_interval_by_hand() -> None:
    same = interval([("a", 2.0), ("a", 4.0), ("b", 3.0), ("b", 3.0)])
    # Both episodes have the mean 3, so every resample has.
    assert same == {"mean": 3.0, "low": 3.0, "high": 3.0}
    apart = interval([("a", 0.0), ("b", 10.0)])
    assert apart == {"mean": 5.0, "low": 0.0, "high": 10.0}
    ratio = interval([("a", 1.0, 2.0), ("b", 5.0, 10.0)])
    assert ratio["mean"] == 0.5 and ratio["low"] == ratio["high"] == 0.5


def test_summary_means_by_hand() -> None:
    pair = {"stride": 1, "nearest_error": 0.05, "chance_error": 0.1, "copy_loss": 0.5}
    pairs = [
        Pair("e1", "a", rank=0, error=0.01, loss=0.2, shuffled_loss=0.3, **pair),
        Pair("e2", "b", rank=3, error=0.03, loss=0.4, shuffled_loss=0.6, **pair),
    ]
    found = summary(pairs, CONFIG)
    assert found["rank"]["mean"] == 1.5
    assert found["best_candidate_error_cm"]["mean"] == pytest.approx(2.0)
    assert found["shuffled_over_true"]["mean"] == pytest.approx(0.9 / 0.6)
    assert found["copy_ratio"]["mean"] == pytest.approx(0.6)
    assert found["rank_by_lab"]["b"]["mean"] == 3.0
    assert (found["pairs"], found["episodes"]) == (2, 2)


@pytest.mark.parametrize("change", [{"pairs": 1}, {"candidates": 1}, {"max_translation": 0.0}])
def test_bad_configs(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"RankingConfig\.{next(iter(change))} = "):
        RankingConfig(**change)  # type: ignore[arg-type]


def test_paths_are_not_in_the_pairs(held_out: list[Episode], tmp_path: Path) -> None:
    assert str(tmp_path.parent) not in repr(ask(ignoring, held_out))
