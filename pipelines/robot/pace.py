"""How fast recorded frames follow each other, and by whose clock.

DROID's containers claim 60 frames a second of recordings that were made at 15 steps a second, so
"4 a second" is one thing by the container's clock and another by the robot's. Whoever trains on
frames, or moves an arm at their pace, is told which clock was taken, and that only one was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from storage.errors import InputError

SPREAD = 0.1
"""Labs whose rates differ by more than this share of the median have no pace in common."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The pace of some episodes."""

    clock: str
    """"control": by the robot's time stamps; "nominal": by the rate the containers claim."""
    rate_hz: float
    """Frames a second by that clock."""
    control_rate_hz: float | None
    """Frames a second by the robot's own time stamps, or None where there are none."""

    @property
    def real_hz(self) -> float:
        """Frames a second on the robot, as far as it is known."""
        return self.control_rate_hz or self.rate_hz


def pace_of(rows: Iterable[Mapping[str, Any]]) -> Pace:
    """The pace that rows of `episode_shards` have in common; medians, as single ones may stall.

    Raises:
        InputError: they go by different clocks, or by rates too far apart.
    """
    labs: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        labs.setdefault(row["lab"], []).append(row)
    clocks = {row["clock"]: lab for lab, found in labs.items() for row in found}
    if len(clocks) != 1:
        told = " and ".join(f"{lab} by the {clock} clock" for clock, lab in sorted(clocks.items()))
        raise InputError(
            f"frames of {told or 'no lab'}: make the episode_shards of all labs with one "
            "episode_shards.clock"
        )
    rates = {lab: median(row["fps"] for row in found) for lab, found in labs.items()}
    middle = median(rates.values())
    far = max(rates, key=lambda lab: abs(rates[lab] - middle))
    if abs(rates[far] - middle) > SPREAD * middle:
        raise InputError(
            f"frames of {far} are {rates[far]:.3g} a second, those of the labs {middle:.3g}: leave "
            "it out of droid_episodes.labs, or train on it alone"
        )
    own = [row["control_fps"] for found in labs.values() for row in found]
    known = [rate for rate in own if rate is not None]
    return Pace(
        clock=next(iter(clocks)),
        rate_hz=round(middle, 4),
        control_rate_hz=round(median(known), 4) if known else None,
    )
