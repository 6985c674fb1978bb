"""What a question about a video is, whatever benchmark it is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Form = Literal["choice", "yes_no", "matching"]
"""What is to be replied: a letter, yes or no, or one of some captions."""


@dataclass(frozen=True)
class Question:
    """One question with its options."""

    key: str
    """Unlike that of any other question of the benchmark."""
    video: str
    group: str
    """The subtask, dimension or area that it counts for."""
    unit: str
    """Questions of one unit are right together or not at all, where a benchmark counts units."""
    text: str
    options: tuple[str, ...]
    answer: int
    """Which option is right."""
    form: Form = "choice"
    labels: tuple[str, ...] = ()
    """What stands before each option of a matching question: `Option 1`, `Sentence A`."""

    @property
    def letter(self) -> str:
        """The letter of the right option."""
        return LETTERS[self.answer]
