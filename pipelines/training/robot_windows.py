"""Windows of robot episodes: which frames stand at (seed, step, slot) of post-training.

As with clips, the order is a function: a counter-based generator keyed by the seed is read at
(slot, step), so that no window needs the ones before it.

Shapes: T frames of an episode, F frames of a window; states [T, 7] in metres, radians and gripper
opening; actions [F-1, 7], the change of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.robot.poses import actions_between
from pipelines.training.counters import first_uniforms
from storage.artifacts import Artifact
from storage.digests import unit_interval
from storage.errors import InputError

Array = NDArray[np.float64]
# Sets these draws apart from others that use the same seed.
_STREAM = 0x77696E646F7773


@dataclass(frozen=True)
class Episode:
    """One recording. Its frames are numbered from `first` among those of all episodes."""

    key: str
    lab: str
    artifact: Artifact
    """The `episode_shards` that hold it."""
    row: Mapping[str, Any]
    """Its row of their index."""
    states: Array
    """[T, 7]"""
    first: int

    def __len__(self) -> int:
        return len(self.states)


def read_episodes(shards: Mapping[str, Artifact]) -> list[Episode]:
    """All episodes of some `episode_shards` artifacts (lab -> artifact), lab by lab.

    Raises:
        InputError: there is none, or the bytes of one are not those that were written.
    """
    from pipelines.robot.episode_shards import load_states  # who only counts windows needs no torch

    episodes: list[Episode] = []
    first = 0
    for lab, artifact in sorted(shards.items()):
        for row in artifact.table("index.parquet"):
            states = load_states(artifact, row)
            episodes.append(Episode(row["key"], lab, artifact, row, states, first))
            first += len(states)
    if not episodes:
        raise InputError(f"no robot episode in {', '.join(shards) or 'episode_shards'}")
    return episodes


def split_held_out(
    episodes: Sequence[Episode], share: float, seed: int
) -> tuple[list[Episode], list[Episode]]:
    """(training, held-out) episodes. Each one's side depends on its key alone.

    Raises:
        ValueError: one side is empty.
    """
    training: list[Episode] = []
    held_out: list[Episode] = []
    for episode in episodes:
        held = unit_interval("held-out episode", seed, episode.key) < share
        (held_out if held else training).append(episode)
    if not training or not held_out:
        raise InputError(
            f"held_out = {share} leaves {len(training)} of {len(episodes)} episodes for training "
            f"and {len(held_out)} for evaluation: record more episodes, or change held_out"
        )
    return training, held_out


@dataclass(frozen=True)
class Window:
    """Frames of one episode, evenly `stride` apart."""

    episode: Episode
    numbers: NDArray[np.int64]
    """[F] frame numbers inside the episode."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """[F] frame numbers among the frames of all episodes."""
        return self.episode.first + self.numbers

    @property
    def states(self) -> Array:
        """[F, 7]"""
        return np.asarray(self.episode.states[self.numbers])

    @property
    def actions(self) -> Array:
        """[F-1, 7]: from each frame to the next, whatever happened between them."""
        return actions_between(self.states)


class WindowSampler:
    """(step, slot) -> a window: stride, then episode, then start, each drawn evenly."""

    def __init__(
        self, episodes: Sequence[Episode], frames: int, strides: Sequence[int], seed: int
    ) -> None:
        """Prepare to draw windows of `frames` frames.

        Raises:
            ValueError: no episode is long enough for a stride.
        """
        self.frames, self.strides, self.seed = frames, tuple(strides), seed
        self._fitting = {}
        for stride in self.strides:
            span = (frames - 1) * stride + 1
            fitting = [episode for episode in episodes if len(episode) >= span]
            if not fitting:
                longest = max(map(len, episodes), default=0)
                raise InputError(
                    f"windows of {frames} frames, {stride} apart, need {span} frames; the longest "
                    f"of {len(episodes)} episodes has {longest}"
                )
            self._fitting[stride] = fitting

    def window(self, step: int, slot: int) -> Window:
        """The window at a place of the order."""
        words = np.random.Philox(
            key=np.array([self.seed, _STREAM], dtype=np.uint64),
            counter=np.array([0, slot, step, 0], dtype=np.uint64),
        ).random_raw(3)
        stride_at, episode_at, start_at = (float(w >> np.uint64(11)) * 2.0**-53 for w in words)
        stride = self.strides[int(stride_at * len(self.strides))]
        fitting = self._fitting[stride]
        episode = fitting[int(episode_at * len(fitting))]
        room = len(episode) - (self.frames - 1) * stride
        numbers = int(start_at * room) + stride * np.arange(self.frames)
        return Window(episode, numbers)

    def episodes(self, steps: range, slots: int) -> Iterator[Episode]:
        """The episodes of the windows at the first slots of some steps, as `window` gives one."""
        places = np.arange(steps.start, steps.stop)[:, None], np.arange(slots)[None]
        numbers = first_uniforms(self.seed, _STREAM, *places).reshape(-1, 4)
        for stride_at, episode_at in numbers[:, :2].tolist():
            fitting = self._fitting[self.strides[int(stride_at * len(self.strides))]]
            yield fitting[int(episode_at * len(fitting))]


def never_drawn(episodes: Sequence[Episode], frames: int, strides: Sequence[int]) -> int:
    """How many episodes are shorter than a window of the smallest stride."""
    return sum(len(episode) < (frames - 1) * min(strides) + 1 for episode in episodes)


def all_actions(episodes: Sequence[Episode], strides: Sequence[int]) -> Array:
    """[N, 7] every action that a window of some stride can hold."""
    actions = [
        actions_between(episode.states[start::stride])
        for episode in episodes
        for stride in strides
        for start in range(stride)
    ]
    return np.concatenate(actions)
