"""Order: which sample of the mixture stands at (seed, step, slot) of training.

The order is a function, not a state. A counter-based generator (Philox) keyed by the seed is read
at the counter (slot, step, attempt), so the sample at any place is found without the ones before
it: resuming, or going on with another number of workers, is arithmetic. At every place

    source by its weight -> sample of that source by its own weight -> numbers that cut the clip

A sample that cannot be read is replaced by the next attempt at the same place, which draws from the
same source, so that the mixture holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.training.counters import first_uniforms
from storage.errors import InputError
from storage.tables import MappedColumn, MappedIndex

Uniforms = NDArray[np.float64]

# Tries at a crop that fits, before the largest centred one is taken, as in the released code.
CROP_TRIES = 10
# Sets these numbers apart from others that a stage may draw with the same seed.
_STREAM = 0x636C697073
# The first uniforms of a draw, in order; crops follow, four a try.
SOURCE, SAMPLE, START, FLIP, CROP = range(5)
_UNIFORMS = CROP + 4 * CROP_TRIES


def uniforms(seed: int, step: int, slot: int, attempt: int = 0) -> Uniforms:
    """[44] numbers in [0, 1) that depend on (seed, step, slot, attempt) alone.

    Raw Philox words are turned into numbers here, so that no library's idea of a distribution can
    change the order of training.
    """
    words = np.random.Philox(
        key=np.array([seed, _STREAM], dtype=np.uint64),
        counter=np.array([0, slot, step, attempt], dtype=np.uint64),
    ).random_raw(_UNIFORMS)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Draw:
    """One place of the order: `row` of the mixture's index, and the numbers that cut the clip."""

    row: int
    numbers: Uniforms


class ClipSampler:
    """The mixture as a function: (step, slot) -> a sample of the index."""

    def __init__(
        self,
        index: Mapping[str, NDArray[Any]] | MappedIndex,
        weights: Mapping[str, float],
        seed: int,
    ) -> None:
        """Prepare to draw.

        Args:
            index: columns of the mixture's index; here `source` and `weight` are used. Samples
                of weight 0 (held out for evaluation) are never drawn.
            weights: probability of each source; divided by their sum.
            seed: of the whole order.

        Raises:
            ValueError: a weight below 0, or a weighted source without a sample to draw.
        """
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"seed = {seed}: must be from 0 to 2^64 - 1")
        if not weights or min(weights.values()) < 0 or not sum(weights.values()):
            raise InputError(f"mixture weights {dict(weights)}: want 0 or more, and one above 0")
        self.seed = seed
        self.sources = sorted(source for source, weight in weights.items() if weight > 0)
        self._edges = _edges(np.array([weights[source] for source in self.sources]))
        self._rows: list[NDArray[np.int64] | range] = []
        self._row_edges: list[Uniforms] = []
        for source in self.sources:
            rows = _rows(index["source"], source)
            weight = np.asarray(index["weight"], np.float64)[rows]
            if not weight.any():
                raise InputError(f"mixture: source {source} has a weight but no sample to draw")
            # A sample of weight 0 is no wide: no number falls on it.
            self._row_edges.append(_edges(weight))
            # The mixture's rows are sorted by source: their numbers need no memory.
            one = len(rows) == rows[-1] + 1 - rows[0]
            self._rows.append(range(rows[0], rows[-1] + 1) if one else rows)

    def source(self, step: int, slot: int) -> str:
        """The source at a place; every attempt at the place draws from it."""
        return self.sources[self._source(step, slot)]

    def draw(self, step: int, slot: int, attempt: int = 0) -> Draw:
        """The sample at a place. Attempt 0 is the order; the others replace what cannot be read."""
        numbers = uniforms(self.seed, step, slot, attempt)
        first = numbers if attempt == 0 else uniforms(self.seed, step, slot)
        source = _pick(self._edges, first[SOURCE])
        sample = _pick(self._row_edges[source], numbers[SAMPLE])
        return Draw(int(self._rows[source][sample]), numbers)

    def rows(self, steps: range, slots: int) -> NDArray[np.int64]:
        """[steps * slots] the rows at the first slots of some steps, as `draw` gives one."""
        places = np.arange(steps.start, steps.stop)[:, None], np.arange(slots)[None]
        numbers = first_uniforms(self.seed, _STREAM, *places).reshape(-1, 4)
        sources = np.searchsorted(self._edges, numbers[:, SOURCE], side="right")
        rows = np.empty(len(numbers), np.int64)
        for source, (own, edges) in enumerate(zip(self._rows, self._row_edges, strict=True)):
            here = sources == source
            rows[here] = np.asarray(own)[
                np.searchsorted(edges, numbers[here, SAMPLE], side="right")
            ]
        return rows

    def _source(self, step: int, slot: int) -> int:
        return _pick(self._edges, uniforms(self.seed, step, slot)[SOURCE])


def _rows(sources: NDArray[Any] | MappedColumn, source: str) -> NDArray[np.int64]:
    """Numbers of the rows of a source."""
    if isinstance(sources, MappedColumn):
        return sources.rows_of(source)
    return np.flatnonzero(sources == source)


def _edges(weights: Uniforms) -> Uniforms:
    """Upper edges of [0, 1) cut in proportion to the weights."""
    total = np.cumsum(weights)
    return total / total[-1]


def _pick(edges: Uniforms, number: float) -> int:
    return int(np.searchsorted(edges, number, side="right"))
