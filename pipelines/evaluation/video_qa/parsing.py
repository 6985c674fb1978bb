"""Which option a reply names: as lmms-eval reads it, benchmark by benchmark, and strictly.

lmms-eval 0.7.3 reads leniently, and each benchmark in its own way: "A man walks" is option A to
one, `Clockwise` option C to another, and no reply at all is A to a third. `strict` takes a letter
alone, with or without a bracket or a full stop, and nothing else. Rules that ask a model of
OpenAI's are left out: what they would be asked about counts as not understood.

None: no option is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pipelines.evaluation.video_qa.questions import LETTERS, Question

Parser = Callable[[str, Question], int | None]
_STRICT = re.compile(r"\(?([A-Za-z])[).:]?\.?")
_STRICT_YES_NO = re.compile(r"(yes|no)\.?", re.IGNORECASE)
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'


def strict(reply: str, question: Question) -> int | None:
    """A letter alone (or yes or no, or a label of a matching question)."""
    said = reply.strip()
    if question.form == "yes_no":
        found = _STRICT_YES_NO.fullmatch(said)
        return question.options.index(found[1].lower()) if found else None
    if question.form == "matching":
        short = {label.rpartition(" ")[2]: n for n, label in enumerate(question.labels)}
        said = said.rstrip(".")
        names = dict(zip(question.labels, range(len(question.labels)), strict=True)) | short
        return names.get(said)
    letter = _STRICT.fullmatch(said)
    place = LETTERS.index(letter[1].upper()) if letter else len(question.options)
    return place if place < len(question.options) else None


def perception_test(reply: str, _: Question) -> int | None:
    """The first capital A to D that stands alone."""
    found = re.search(r"\b([A-D])\b", reply.strip())
    return LETTERS.index(found[1]) if found else None


def minimal_pairs(reply: str, _: Question) -> int | None:
    """An a or b that stands alone; of several the second."""
    found = re.findall(r"(?:answer|assistant)?:?\s*([ab])\b", reply.lower())
    return "ab".index(found[1] if len(found) > 1 else found[0]) if found else None


def temp_compass(reply: str, question: Question) -> int | None:
    """The right answer in full, a letter, or a letter with a full stop or bracket at the start."""
    if question.form == "yes_no":
        said = next((word for word in ("yes", "no") if reply.lower().startswith(word)), None)
        return question.options.index(said) if said else None
    if question.form == "matching":
        return _matched(reply, question)
    if reply == f"{question.letter}. {question.options[question.answer]}":
        return question.answer
    if re.match(r"[ABCD]\Z|[ABCD][.)]", reply):
        return LETTERS.index(reply[0])
    return None


def _matched(reply: str, question: Question) -> int | None:
    """The option whose line, sentence or label is the reply; of several the last one looked at."""
    named: int | None = None
    pairs = list(enumerate(zip(question.labels, question.options, strict=True)))
    after = reply.split(") ")[1] if ") " in reply else None
    for place, (label, sentence) in pairs:
        if f"{label}: {sentence}" == reply:
            named = place
    for place, (_, sentence) in pairs:
        if sentence in (reply, after):
            named = place
    shortened = [(n, re.sub(r"(Sentence|Option|Caption) ", "", label)) for n, (label, _) in pairs]
    for place, label in [(n, label) for n, (label, _) in pairs] + shortened:
        if label in (reply, reply.replace(".", "")):
            named = place
    return named


def temporal_bench(reply: str, _: Question) -> int | None:
    """The first character, whatever follows."""
    first = reply[:1].upper()
    return LETTERS.index(first) if first and first in LETTERS else None


def tomato(reply: str, question: Question) -> int:
    """A capital letter of an option anywhere, else an option's words, else A."""
    for mark in ",.!?;:'":
        reply = reply.strip(mark)
    reply = f" {reply} "
    letters = LETTERS[: len(question.options)]
    found = [place for place, letter in enumerate(letters) if letter in reply]
    if found:
        last = [reply.rfind(f"({letters[place]})") for place in found]
    else:
        if len(reply.split()) <= 5:
            return 0
        words = [option.lower() for option in question.options]
        found = [place for place, option in enumerate(words) if option in reply.lower()]
        last = [reply.lower().rfind(words[place]) for place in found]
    # Of several the one that comes last; where none is in brackets, the first in the alphabet.
    return found[last.index(max(last))] if found else 0


def tv_bench(reply: str, question: Question) -> int | None:
    """The first letter that stands alone, else the one it begins with, else an option's words."""
    said = reply.strip()
    if not said:
        return None
    letters = LETTERS[: max(len(question.options), 2)]
    capitals = said.upper()
    for pattern in (r".*?\b([A-Z])\b", r"\s*[(\[]?([A-Z])"):
        found = re.match(pattern, capitals, re.DOTALL)
        if found and found[1] in letters:
            return letters.index(found[1])
    words = " ".join(said.lower().split())
    named = [
        place for place, option in enumerate(question.options)
        if (short := " ".join(option.strip().lower().split())) and short in words
    ]  # fmt: skip
    return named[0] if len(named) == 1 else None


def mv_bench(reply: str, _: Question) -> int | None:
    """The letter before a full stop at the start, else any A to E that stands alone, in lower case
    too: the article counts.
    """
    if found := re.match(r"([A-Ea-e])\.\s*(.+)$", reply.strip()):
        return LETTERS.index(found[1].upper())
    text = reply.replace("\n", " ").replace("\t", " ").strip()
    numbers, plain = re.search(r"\d,\d", text) is not None, text
    for mark in _PUNCTUATION:
        apart = f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if apart or numbers else " ")
    plain = re.sub(r"\.(?!\d)", "", plain, count=32).strip("'").strip('"').strip(")").strip("(")
    letter = re.search(r"\b([a-e])\b", plain.strip().lower())
    return LETTERS.index(letter[1].upper()) if letter else None


LMMS: Mapping[str, Parser] = {
    "perceptiontest": perception_test, "mvp": minimal_pairs, "tempcompass": temp_compass,
    "temporalbench": temporal_bench, "tomato": tomato, "tvbench": tv_bench, "mvbench": mv_bench,
}  # fmt: skip
"""Benchmark -> how lmms-eval reads a reply to it."""
