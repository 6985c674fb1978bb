"""Which frames of a film make the clips that a probe sees.

`official` repeats the released code to the index. With L frames, f frames a clip, s frames from one
to the next and n segments: a part is L // n, a clip spans f * s.
- part > span: the window ends at a random e of [span, part), in validation too; its indices are
  evenly spaced from e - span to e, so the step is a little above s and the last index is e - 1.
- else: evenly spaced from 0 to m = min(span, L) - 1, m // s of them, then the last one held; the
  segments are shifted by (L - span) // (n - 1), or not at all where L <= span: then they are equal.

`fixed` is what the paper describes: frames exactly s apart, segments evenly spread over the film
(at random inside their parts in training), the last frame held where the film is too short.

Shapes: indices [n, f].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mode = Literal["official", "fixed"]
Indices = NDArray[np.int64]


def official_indices(
    length: int, frames: int, step: int, segments: int, draws: Sequence[float]
) -> Indices:
    """Indices [segments, frames] as the released code takes them.

    Args:
        length: frames of the film.
        frames: of a clip.
        step: frames of the film from one to the next.
        segments: clips of the film.
        draws: a number in [0, 1) for each segment, where its window is drawn.

    Raises:
        ValueError: the film has fewer than two frames: the released code asks for frame -1.
    """
    _check(length)
    span, part = frames * step, length // segments
    rows = []
    for segment in range(segments):
        if part > span:
            end = span + int(draws[segment] * (part - span))
            row = np.clip(np.linspace(end - span, end, frames), end - span, end - 1)
            rows.append(row.astype(np.int64) + segment * part)
            continue
        last = min(span, length) - 1
        row = np.linspace(0, last, last // step)
        row = np.concatenate([row, np.full(frames - len(row), last)])
        shift = (length - span) // (segments - 1) if segments > 1 and length > span else 0
        rows.append(np.clip(row, 0, last - 1).astype(np.int64) + segment * shift)
    return np.stack(rows)


def fixed_indices(
    length: int, frames: int, step: int, segments: int, draws: Sequence[float]
) -> Indices:
    """Indices [segments, frames], exactly `step` apart; `draws` of 0.5 are the middles of parts.

    Arguments and errors as above.
    """
    _check(length)
    steps = np.arange(frames) * step
    room = max(0, length - 1 - int(steps[-1]))
    starts = [
        int((segment + draws[segment]) / segments * (room + 1)) for segment in range(segments)
    ]
    return np.minimum(np.array(starts)[:, None] + steps, length - 1).astype(np.int64)


INDICES = {"official": official_indices, "fixed": fixed_indices}
"""Mode -> its rule."""


def is_short(length: int, frames: int, step: int) -> bool:
    """Whether a film has fewer frames than a clip spans, so that its last one is held."""
    return length <= (frames - 1) * step


def _check(length: int) -> None:
    if length < 2:
        raise ValueError(f"it has {length} frame; a clip needs two or more")
