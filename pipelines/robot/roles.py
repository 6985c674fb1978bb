"""Which laboratories there are, and what each may be used for: `lab-000` to `lab-999`, by number.

What a network is trained in and what it is tried out in never overlap, so no setting can put one
lab on both sides by accident.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Role = Literal["recording", "tuning", "evaluation", "pretraining"]

ROLES: dict[Role, range] = {
    "recording": range(400),  # robot episodes, on which world models are trained
    "tuning": range(400, 500),  # trials by which a planner's settings are chosen
    "evaluation": range(500, 600),  # trials that are reported
    "pretraining": range(600, 1000),  # films without states, in the encoder's mixture
}
_NUMBERS = {f"lab-{number:03d}": number for labs in ROLES.values() for number in labs}


def number_of(lab: str) -> int:
    """The number in a lab's name. Raises ValueError that says which labs there are."""
    if lab not in _NUMBERS:
        raise ValueError(f"lab {lab!r} is not known: there are {span_of(*ROLES)}")
    return _NUMBERS[lab]


def labs_of(role: Role, count: int | None = None) -> tuple[str, ...]:
    """The first `count` labs of a role, or all of them."""
    return tuple(f"lab-{number:03d}" for number in ROLES[role][:count])


def role_of(lab: str) -> Role:
    """What a lab is for. Raises ValueError if there is no such lab."""
    number = number_of(lab)
    return next(role for role, labs in ROLES.items() if number in labs)


def span_of(*roles: Role) -> str:
    """`lab-400 to lab-599` of roles whose numbers follow one another."""
    return f"lab-{ROLES[roles[0]][0]:03d} to lab-{ROLES[roles[-1]][-1]:03d}"


def check_labs(setting: str, labs: Iterable[str], *roles: Role) -> None:
    """Refuse labs that are none, have another role, or are named twice.

    Raises:
        ValueError: one line that begins with the setting and says which labs it may name.
    """
    allowed = f"choose from {span_of(*roles)}"
    seen: set[str] = set()
    for lab in labs:
        if lab not in _NUMBERS:
            raise ValueError(f"{setting} names {lab!r}, which is no lab: {allowed}")
        if (role := role_of(lab)) not in roles:
            raise ValueError(f"{setting} names {lab!r}, a lab for {role}: {allowed}")
        if lab in seen:
            raise ValueError(f"{setting} names {lab!r} twice: {allowed}")
        seen.add(lab)
