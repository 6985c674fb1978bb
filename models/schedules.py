"""Learning rate, weight decay and EMA momentum, each a pure function of the step.

Steps count from 0. The official schedules advance before the first optimizer step, so at step s
they give their value number s + 1; the functions here do the same. Resuming, or branching a
cool-down off a checkpoint, is arithmetic: ask for the value at a step.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass


def linear(step: int, start: float, end: float, steps: int) -> float:
    """From start to end in so many steps, and beyond on the same line."""
    return start + (step + 1) / max(1, steps) * (end - start)


def warmup_cosine(
    step: int, *, start: float, peak: float, final: float, warmup: int, steps: int
) -> float:
    """Linear warm-up from start to peak, then half a cosine down to final at `steps`.

    With final = peak, as shipped, the rate is constant after warm-up.
    """
    if step + 1 < warmup:
        return linear(step, start, peak, warmup)
    progress = (step + 1 - warmup) / max(1, steps - warmup)
    return max(final, final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def warmup_stable_decay(
    step: int, *, start: float, peak: float, final: float, warmup: int, decay: int, steps: int
) -> float:
    """Linear warm-up, constant, linear decay over the last `decay` of `steps` steps."""
    if step + 1 < warmup:
        return linear(step, start, peak, warmup)
    if step + 1 < steps - decay:
        return peak
    return linear(step - (steps - decay), peak, final, decay)


def cosine(step: int, *, start: float, final: float, steps: int) -> float:
    """Half a cosine from start to final, never past final: the weight decay's schedule."""
    value = final + (start - final) * 0.5 * (1.0 + math.cos(math.pi * (step + 1) / steps))
    return max(final, value) if final <= start else min(final, value)


def ema_momentum(step: int, *, start: float, end: float, steps: int) -> float:
    """Momentum of the target encoder: linear; at step 0 it is start (not advanced)."""
    return start + min(step, steps) / max(1, steps) * (end - start)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of steps over which a value goes linearly from start to end."""

    name: str
    steps: int
    start: float
    end: float

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"phase {self.name!r} has {self.steps} steps; at least 1 is needed")


def phase_at(step: int, phases: tuple[Phase, ...]) -> tuple[Phase, int]:
    """The phase a step falls in, and the step's number inside it.

    Steps past the end belong to the last phase. A branch is another tuple of phases: the value at
    a step before the branch is the same if the phases before it are.
    """
    if not phases or step < 0:
        raise ValueError(f"needs at least one phase and a step of at least 0; found step {step}")
    starts = [0]
    for phase in phases:
        starts.append(starts[-1] + phase.steps)
    place = min(bisect.bisect_right(starts, step) - 1, len(phases) - 1)
    return phases[place], step - starts[place]


def by_phase(step: int, phases: tuple[Phase, ...]) -> float:
    """The value at a step of a run made of linear phases; past the end, the last value."""
    phase, inside = phase_at(step, phases)
    return linear(min(inside, phase.steps - 1), phase.start, phase.end, phase.steps)


PAPER_MAIN = (
    Phase(name="warm-up", steps=12_000, start=1e-4, end=5.25e-4),
    Phase(name="constant", steps=228_000, start=5.25e-4, end=5.25e-4),
)
"""Main phase of V-JEPA 2 pretraining: 240,000 steps.

The released configs for ViT-L and ViT-H stop after 3,000 steps, inside the warm-up (a test value
left in); only the one for ViT-g runs all 240,000.
"""

PAPER_COOLDOWN = (Phase(name="cool-down", steps=12_000, start=5.25e-4, end=1e-6),)
"""Cool-down of V-JEPA 2 pretraining. The released configs stretch the decay by 1.25 and stop
at four fifths of it, where the rate is 1.058e-4: see RELEASED_COOLDOWN."""

RELEASED_COOLDOWN = (
    Phase(name="cool-down", steps=12_000, start=5.25e-4, end=5.25e-4 + 0.8 * (1e-6 - 5.25e-4)),
)

PAPER_WORLD_MODEL = (
    Phase(name="warm-up", steps=4_500, start=7.5e-5, end=4.25e-4),
    Phase(name="constant", steps=85_500, start=4.25e-4, end=4.25e-4),
    Phase(name="cool-down", steps=4_500, start=4.25e-4, end=0.0),
)
"""Post-training of V-JEPA 2-AC: 94,500 steps."""
