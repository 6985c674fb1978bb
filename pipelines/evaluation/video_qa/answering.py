"""Answerers that need no model, by which a scorer is checked: one that knows, one that guesses, and
one that reads the text and sees nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pipelines.evaluation.video_qa.questions import LETTERS, Question
from storage.digests import digest_json, unit_interval

Answerer = Callable[[Question, int], str]


def _said(question: Question, place: int) -> str:
    """The reply that names an option, in the form that is asked for."""
    if question.form == "yes_no":
        return question.options[place]
    return question.labels[place] if question.form == "matching" else LETTERS[place]


def oracle(question: Question, _: int) -> str:
    """The answer."""
    return _said(question, question.answer)


def guess(question: Question, seed: int) -> str:
    """An option drawn evenly."""
    drawn = unit_interval(seed, question.key, "guess")
    return _said(question, int(drawn * len(question.options)))


def text_alone(question: Question, seed: int) -> str:
    """An option that depends on text and options alone: the same for both videos of a pair."""
    words = digest_json([seed, question.text, list(question.options)])
    return _said(question, int(words[:12], 16) % len(question.options))


ANSWERERS: Mapping[str, Answerer] = {"oracle": oracle, "guess": guess, "text_alone": text_alone}
"""Name -> answerer."""


def replies_of(name: str, questions: Sequence[Question], seed: int) -> dict[str, str]:
    """Key -> reply of one of ANSWERERS."""
    return {question.key: ANSWERERS[name](question, seed) for question in questions}
