"""Does the world model know what an action does? Its rank test on episodes held out of training.

For a frame and a later one, the true action between them stands among candidates that move the hand
elsewhere (same rotation, same gripper). A candidate's energy is the L1 distance between the frame
predicted from it and the frame that came. The rank of the true action is the number of candidates
of lower energy, ties counting half: 0 is best, (K-1)/2 is chance. A loss beside that of copying the
last frame says little: most of a picture stands still, and ignoring actions comes close to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.imagination import energies
from models.losses import normalise
from models.world_model import WorldModel
from pipelines.settings import Positive, at_least, settings
from pipelines.training.frame_features import FrameFeatures
from pipelines.training.robot_windows import Episode, Window, WindowSampler

Array = NDArray[np.float64]
_STREAM = 0x72616E6B
_RESAMPLES = 1000


@settings
class RankingConfig:
    """The rank test."""

    pairs: Annotated[int, at_least(2)] = 256
    """Pairs of frames, drawn from held-out episodes."""
    candidates: Annotated[int, at_least(2)] = 48
    """Actions to rank, the true one among them."""
    max_translation: Positive = 0.075
    """The others move the hand evenly within this many metres per axis and frame of stride."""


@dataclass(frozen=True)
class Pair:
    """One question of the test and its answers."""

    episode: str
    lab: str
    stride: int
    rank: float
    """Candidates of lower energy than the true action; one of equal energy counts half."""
    error: float
    """Metres between the true displacement and that of the candidate of lowest energy."""
    nearest_error: float
    """As error, but choosing among the other candidates only."""
    chance_error: float
    """Mean distance of the other candidates from the true displacement."""
    loss: float
    """Energy of the true action."""
    shuffled_loss: float
    """Energy of the action of another pair."""
    copy_loss: float
    """Energy of predicting that nothing changes."""


def candidate_actions(true: Array, stride: int, config: RankingConfig, number: int) -> Array:
    """[K, 7] the true action first, then others that depend on the pair's number alone."""
    words = np.random.Philox(
        key=np.array([number, _STREAM], dtype=np.uint64), counter=np.zeros(4, dtype=np.uint64)
    ).random_raw(3 * (config.candidates - 1))
    spread = 2 * ((words >> np.uint64(11)) * 2.0**-53) - 1
    actions = np.repeat(true[None], config.candidates, axis=0)
    actions[1:, :3] = config.max_translation * stride * spread.reshape(-1, 3)
    return actions


@torch.no_grad()
def rank_pairs(
    world_model: WorldModel,
    features: FrameFeatures,
    held_out: Sequence[Episode],
    strides: Sequence[int],
    config: RankingConfig,
    device: torch.device,
) -> list[Pair]:
    """Ask the whole test, pair by pair; the answers depend on the model and the episodes alone."""
    sampler = WindowSampler(held_out, 2, strides, seed=0)
    windows = [sampler.window(0, number) for number in range(config.pairs)]
    return [
        _ask(world_model, features, window, windows, number, config, device)
        for number, window in enumerate(windows)
    ]


def _ask(
    world_model: WorldModel,
    features: FrameFeatures,
    window: Window,
    windows: Sequence[Window],
    number: int,
    config: RankingConfig,
    device: torch.device,
) -> Pair:
    before, after = features[window.rows].to(device).unsqueeze(1)
    true, stride = window.actions[0], int(np.diff(window.numbers)[0])
    other = next(
        (w for w in (*windows[number + 1 :], *windows[:number]) if np.diff(w.numbers)[0] == stride),
        windows[number - 1],
    )
    actions = candidate_actions(true, stride, config, number)
    asked = torch.from_numpy(np.concatenate([actions, other.actions[:1]])).float().to(device)
    state = torch.from_numpy(window.states[0]).float().to(device)
    energy = energies(
        world_model, before, asked[:, None], state.expand(len(asked), 1, -1), after
    ).tolist()
    shuffled = energy.pop()
    away = np.linalg.norm(actions[:, :3] - true[:3], axis=1)
    return Pair(
        episode=window.episode.key,
        lab=window.episode.lab,
        stride=stride,
        rank=sum(0.5 * (e < energy[0]) + 0.5 * (e <= energy[0]) for e in energy[1:]),
        error=float(away[int(np.argmin(energy))]),
        nearest_error=float(away[1 + int(np.argmin(energy[1:]))]),
        chance_error=float(away[1:].mean()),
        loss=energy[0],
        shuffled_loss=shuffled,
        copy_loss=float((normalise(before) - after).abs().mean()),
    )


def summary(pairs: Sequence[Pair], config: RankingConfig) -> dict[str, Any]:
    """The test's result as JSON-able numbers; each with the 95 % interval of `interval`."""

    def mean_of(value: Callable[[Pair], float], chosen: Sequence[Pair] = pairs) -> dict[str, float]:
        return interval([(pair.episode, value(pair)) for pair in chosen])

    ratio = interval([(p.episode, p.shuffled_loss, p.loss) for p in pairs])
    labs, strides = (sorted({getattr(p, name) for p in pairs}) for name in ("lab", "stride"))
    return {
        "pairs": len(pairs),
        "episodes": len({pair.episode for pair in pairs}),
        "candidates": config.candidates,
        "rank": mean_of(lambda p: p.rank),
        "chance_rank": (config.candidates - 1) / 2,
        "rank_by_lab": {
            lab: mean_of(lambda p: p.rank, [p for p in pairs if p.lab == lab]) for lab in labs
        },
        "rank_by_stride": {
            str(s): mean_of(lambda p: p.rank, [p for p in pairs if p.stride == s]) for s in strides
        },
        "best_candidate_error_cm": mean_of(lambda p: 100 * p.error),
        "nearest_candidate_error_cm": mean_of(lambda p: 100 * p.nearest_error),
        "chance_error_cm": mean_of(lambda p: 100 * p.chance_error),
        "loss": mean_of(lambda p: p.loss),
        "shuffled_loss": mean_of(lambda p: p.shuffled_loss),
        "shuffled_over_true": ratio,
        "copy_ratio": interval([(p.episode, p.loss, p.copy_loss) for p in pairs]),
    }


def interval(values: Sequence[tuple[Any, ...]]) -> dict[str, float]:
    """Mean (or ratio of means) and the 2.5 and 97.5 percentiles of its bootstrap over episodes.

    Args:
        values: (episode, value), or (episode, numerator, denominator). Pairs of one episode are
            not independent, so whole episodes are drawn, 1000 times, from a fixed seed.
    """
    keys = sorted({value[0] for value in values})
    sums = np.zeros((len(keys), 2))
    for key, top, *bottom in values:
        sums[keys.index(key)] += (top, bottom[0] if bottom else 1.0)
    source = np.random.Generator(np.random.PCG64(0))
    drawn = sums[source.integers(0, len(keys), (_RESAMPLES, len(keys)))].sum(axis=1)
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    total = sums.sum(axis=0)
    return {"mean": float(total[0] / total[1]), "low": float(low), "high": float(high)}
