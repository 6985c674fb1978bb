"""What replies are worth: as lmms-eval counts, and strictly.

`lmms` reads and counts as lmms-eval 0.7.3 does, oddities included (of MVBench an empty reply is in
no denominator); its numbers are percent here, also where lmms-eval gives a share. `strict` takes a
letter alone and counts every question. Beside both stand how many replies could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipelines.evaluation.video_qa.parsing import LMMS, strict
from pipelines.evaluation.video_qa.questions import Question
from storage.errors import InputError

Mode = Literal["lmms", "strict"]
MODES: tuple[Mode, ...] = ("lmms", "strict")
PAIRED, UNITS = ("mvp",), ("temporalbench",)
SUBTASKS = ("mvp", "tvbench", "mvbench")
"""Benchmarks that are averages over subtasks of equal weight."""


@dataclass(frozen=True)
class Judged:
    """One reply."""

    question: Question
    reply: str
    named: int | None
    """The option that it names."""

    @property
    def right(self) -> bool:
        """Whether that is the answer."""
        return self.named == self.question.answer


def judge(
    benchmark: str, questions: Sequence[Question], replies: Mapping[str, str], mode: Mode
) -> list[Judged]:
    """Every question with its reply, read in a mode.

    Raises:
        InputError: a question has no reply, or a reply no question: nothing is scored silently.
    """
    keys = {question.key for question in questions}
    if lacking := [q.key for q in questions if q.key not in replies]:
        raise InputError(
            f"{benchmark}: question {lacking[0]} has no reply, and {len(lacking) - 1} more; give "
            "one for each of them"
        )
    if beyond := sorted(set(replies) - keys):
        raise InputError(
            f"{benchmark}: the reply {beyond[0]!r} is to none of {len(keys)} questions"
        )
    parse = LMMS[benchmark] if mode == "lmms" else strict
    return [Judged(q, replies[q.key], parse(replies[q.key].strip(), q)) for q in questions]


def scores(benchmark: str, judged: Sequence[Judged], mode: Mode) -> dict[str, float]:
    """Metric -> percent: `accuracy`, and where the benchmark has them `pair` or `units` (all
    questions of a video right) and `group:<name>`; `score` is the one that papers print.
    """
    if benchmark == "mvbench" and mode == "lmms":
        judged = [j for j in judged if j.reply.strip()]
    found = {"accuracy": _percent([j.right for j in judged])}
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        groups.setdefault(one.question.group, []).append(one)
    metric = "accuracy"
    if benchmark in (*PAIRED, *UNITS):
        metric = "pair" if benchmark in PAIRED else "units"
        found[metric] = _percent(_together(judged, 2 if benchmark in PAIRED else None))
    for name, some in sorted(groups.items()):
        rights = [j.right for j in some]
        if benchmark in PAIRED:
            rights = _together(some, 2)
        found[f"group:{name}"] = _percent(rights)
    by_group = [value for name, value in found.items() if name.startswith("group:")]
    found["macro"] = float(np.mean(by_group)) if by_group else 0.0
    found["score"] = found["macro"] if benchmark in SUBTASKS else found[metric]
    found["unread"] = _percent([j.named is None for j in judged])
    return found


def _together(judged: Sequence[Judged], size: int | None) -> list[bool]:
    """Of each unit whether all of it is right; with a size, one of another size is not."""
    units: dict[str, list[bool]] = {}
    for one in judged:
        units.setdefault(one.question.unit, []).append(one.right)
    return [all(some) and size in (None, len(some)) for some in units.values()]


def odd_units(benchmark: str, questions: Sequence[Question]) -> list[str]:
    """Units of a paired benchmark that are no pairs: they count as wrong."""
    if benchmark not in PAIRED:
        return []
    sizes: dict[str, int] = {}
    for question in questions:
        sizes[question.unit] = sizes.get(question.unit, 0) + 1
    return sorted(unit for unit, size in sizes.items() if size != 2)


def chance(benchmark: str, questions: Sequence[Question]) -> dict[str, float]:
    """Percent that an even guess among the options gives: `accuracy` and, where units count,
    `pair` or `units`.
    """
    each = [1 / len(question.options) for question in questions]
    found = {"accuracy": 100 * float(np.mean(each))}
    if benchmark in (*PAIRED, *UNITS):
        units: dict[str, float] = {}
        for question, share in zip(questions, each, strict=True):
            units[question.unit] = units.get(question.unit, 1.0) * share
        odd = set(odd_units(benchmark, questions))
        shares = [0.0 if unit in odd else share for unit, share in units.items()]
        found["pair" if benchmark in PAIRED else "units"] = 100 * float(np.mean(shares))
    return found


def _percent(rights: Sequence[bool]) -> float:
    return 100 * sum(rights) / len(rights) if rights else 0.0
