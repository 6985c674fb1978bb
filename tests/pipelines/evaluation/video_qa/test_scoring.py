"""Claims: replies are read and counted as lmms-eval does (its ratings of 2,938 recorded replies,
and its averages over them), and strictly beside it; an oracle gets 100 and a guess the chance that
is told; a model that does not look gets no minimal pair; what does not belong is one line.

`recorded.json` holds what lmms-eval 0.7.3 gave for documents and replies that were made for it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation.annotations.documents import Document
from pipelines.evaluation.video_qa.parsing import LMMS, strict
from pipelines.evaluation.video_qa.questions import LETTERS, Question
from pipelines.evaluation.video_qa.schemas import questions_of
from pipelines.evaluation.video_qa.scoring import (
    MODES,
    Judged,
    chance,
    judge,
    odd_units,
    scores,
)
from storage.errors import InputError
from storage.media import MediaError

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())


def document(name: str, content: Any) -> Document:
    return Document("/there", name, json.dumps(content).encode())


def whole(benchmark: str, file: str, doc: dict[str, Any]) -> Question:
    """The question of one recorded document, out of a file of the benchmark's own schema."""
    content: Any = [doc]
    if benchmark == "perceptiontest":
        content = {"v": {"metadata": {}, "mc_question": [doc]}}
    elif benchmark == "tempcompass":
        content = {"v": {"direction": [doc]}}
    elif benchmark == "tomato":
        content = {"0": doc}
    [found] = questions_of(benchmark, [document(file, content)])
    return found


def recorded(benchmark: str) -> Iterator[tuple[Question, str, int]]:
    for entry in RECORDED["ratings"]:
        if entry["benchmark"] == benchmark:
            question = whole(benchmark, entry["file"], entry["doc"])
            for reply, score in entry["replies"]:
                yield question, reply, score


@pytest.mark.parametrize("benchmark", sorted(LMMS))
def test_replies_are_read_as_lmms_eval_reads_them(benchmark: str) -> None:
    rated = list(recorded(benchmark))
    assert len(rated) > 100 and 0 < sum(score for *_, score in rated) < len(rated)
    parse = LMMS[benchmark]
    wrong = [
        (reply, question.options, question.answer, score)
        for question, reply, score in rated
        if (parse(reply, question) == question.answer) != bool(score)
    ]
    assert wrong == []


@pytest.mark.parametrize("benchmark", sorted(LMMS))
def test_averages_are_those_of_lmms_eval(benchmark: str) -> None:
    judged = [
        Judged(question, reply, LMMS[benchmark](reply, question))
        for question, reply, _ in recorded(benchmark)
    ]
    found, told = scores(benchmark, judged, "lmms"), RECORDED["aggregates"][benchmark]
    if benchmark == "mvp":
        pairs = {name: pair for name, (_, pair) in told.items()}
        assert {n: found[f"group:{n}"] for n in pairs} == pytest.approx(pairs)
        assert found["score"] == pytest.approx(sum(pairs.values()) / len(pairs))
        for name, (single, _) in told.items():
            some = [j for j in judged if j.question.group == name]
            assert scores(benchmark, some, "lmms")["accuracy"] == pytest.approx(single)
    elif benchmark == "temporalbench":
        assert [found["accuracy"], found["units"]] == pytest.approx(told)
    elif isinstance(told, dict):
        assert {n: found[f"group:{n}"] for n in told} == pytest.approx(told)
    else:
        assert found["accuracy"] == pytest.approx(told)


def question(
    key: str = "q", answer: int = 0, options: tuple[str, ...] = ("left", "right"), unit: str = "v",
    group: str = "g", form: Any = "choice",
) -> Question:  # fmt: skip
    return Question(key, "v.mp4", group, unit, "Which?", options, answer, form)


@pytest.mark.parametrize(
    ("benchmark", "reply", "named"),
    [
        ("mvp", "camera", "A"), ("mvp", "The robot moves a ball", "A"), ("mvp", "No idea", "A"),
        ("mvp", "Answer: A. It will grab", "B"), ("perceptiontest", "A man walks", "A"),
        ("perceptiontest", "b. left", None), ("tvbench", "It is a left move", "A"),
        ("tomato", "Clockwise.", "C"), ("tomato", "no", "A"), ("tempcompass", "B) y", "B"),
        ("tempcompass", "The answer is B", None), ("temporalbench", "", None),
    ],
)  # fmt: skip
def test_what_lmms_eval_reads_into_a_reply(benchmark: str, reply: str, named: str | None) -> None:
    asked = question(options=("up", "down", "aside", "nowhere"))
    found = LMMS[benchmark](reply, asked)
    assert (None if found is None else LETTERS[found]) == named


def test_strict_takes_a_letter_alone() -> None:
    asked = question(options=("up", "down", "aside"))
    read = {reply: strict(reply, asked) for reply in (
        "B", "b", "(B)", "B.", "B)", " B ", "A man walks", "D", "", "Answer: B", "Clockwise",
    )}  # fmt: skip
    assert [read[r] for r in ("B", "b", "(B)", "B.", "B)", " B ")] == [1] * 6
    assert [read[r] for r in ("A man walks", "D", "", "Answer: B", "Clockwise")] == [None] * 5
    either = question(options=("yes", "no"), form="yes_no")
    assert [strict(r, either) for r in ("No.", "yes", "Yes, it does")] == [1, 0, None]


def answered(benchmark: str, pairs: list[tuple[Question, str]], mode: Any) -> dict[str, float]:
    questions = [q for q, _ in pairs]
    return scores(benchmark, judge(benchmark, questions, {q.key: r for q, r in pairs}, mode), mode)


def test_pairs_count_when_both_are_right() -> None:
    told = ((True, True), (True, False), (False, False))
    pairs = [
        (question(f"p{n}_{k}", k, unit=f"p{n}"), "AB"[k if right else 1 - k])
        for n, rights in enumerate(told) for k, right in enumerate(rights)
    ]  # fmt: skip
    found = answered("mvp", pairs, "strict")
    assert (found["accuracy"], found["pair"]) == (50.0, pytest.approx(100 / 3))
    blind = [(question(f"p{n}_{k}", k, unit=f"p{n}"), "A") for n in range(10) for k in (0, 1)]
    found = answered("mvp", blind, "lmms")
    assert (found["accuracy"], found["pair"]) == (50.0, 0.0), "text alone tells no pair apart"
    three = [(question(f"p_{k}", 0, unit="p"), "A") for k in range(3)]
    assert answered("mvp", three, "strict")["pair"] == 0.0
    assert odd_units("mvp", [q for q, _ in three]) == ["p"]


def test_groups_weigh_alike() -> None:
    sizes, shares = (1000, 100, 10, 10), (38, 19, 20, 40)
    pairs = [
        (question(f"{g}-{n}_{k}", k, unit=f"{g}-{n}", group=f"g{g}"),
         "AB"[k] if n < size * share // 100 else "A")
        for g, (size, share) in enumerate(zip(sizes, shares, strict=True))
        for n in range(size) for k in (0, 1)
    ]  # fmt: skip
    assert answered("mvp", pairs, "strict")["score"] == pytest.approx(sum(shares) / 4)


def test_videos_count_when_all_their_questions_are_right() -> None:
    told = {"v1": "TT", "v2": "TFT", "v3": "F"}
    pairs = [
        (question(f"{v}-{n}", 0, unit=v), "A" if right == "T" else "B")
        for v, rights in told.items() for n, right in enumerate(rights)
    ]  # fmt: skip
    found = answered("temporalbench", pairs, "strict")
    assert (found["accuracy"], found["units"]) == (pytest.approx(400 / 6), pytest.approx(100 / 3))
    guess = chance("temporalbench", [q for q, _ in pairs])
    assert guess["units"] == pytest.approx(100 * (0.25 + 0.125 + 0.5) / 3)


def test_an_empty_reply_leaves_mvbenchs_denominator_in_lmms_mode_alone() -> None:
    pairs = [(question("1"), "A"), (question("2"), "B"), (question("3"), "")]
    assert answered("mvbench", pairs, "lmms")["accuracy"] == 50.0
    assert answered("mvbench", pairs, "strict")["accuracy"] == pytest.approx(100 / 3)
    assert answered("mvbench", pairs, "strict")["unread"] == pytest.approx(100 / 3)


@pytest.mark.parametrize("benchmark", sorted(LMMS))
def test_an_oracle_gets_all_and_a_guess_the_chance(benchmark: str) -> None:
    drawn, size = random.Random(3), 2 if benchmark == "mvp" else 4
    asked = [
        question(f"{n}_{k}", drawn.randrange(size), ("left", "right", "up", "down")[:size],
                 unit=str(n), group=f"g{n % 2}")
        for n in range(2500) for k in range(2)
    ]  # fmt: skip
    for mode in MODES:
        right = answered(benchmark, [(q, q.letter) for q in asked], mode)
        assert right["score"] == right["accuracy"] == 100.0
        guessed = answered(benchmark, [(q, LETTERS[drawn.randrange(size)]) for q in asked], mode)
        for metric, expected in chance(benchmark, asked).items():
            count = len(asked) if metric == "accuracy" else len(asked) / 2
            sigma = 100 * (expected / 100 * (1 - expected / 100) / count) ** 0.5
            assert abs(guessed[metric] - expected) < 3 * sigma, (mode, metric)


def test_nothing_is_scored_silently() -> None:
    asked = [question("a"), question("b")]
    with pytest.raises(InputError, match="mvp: question b has no reply, and 0 more"):
        judge("mvp", asked, {"a": "A"}, "lmms")
    with pytest.raises(InputError, match="the reply 'c' is to none of 2 questions"):
        judge("mvp", asked, {"a": "A", "b": "A", "c": "A"}, "lmms")


def test_the_published_questions_of_tempcompass_parse_whole(real_data: Path) -> None:
    folder = real_data / "annotations" / "videoqa"
    counted = {}
    for name in ("multi-choice", "yes_no"):
        file = folder / f"tempcompass__{name}.json"
        found = questions_of("tempcompass", [Document(str(folder), file.name, file.read_bytes())])
        counted[name] = len(found)
        if name == "multi-choice":
            assert len({q.video for q in found}) == 410
            assert chance("tempcompass", found)["accuracy"] == pytest.approx(29.836, abs=0.001)
        else:
            assert sum(q.options[q.answer] == "no" for q in found) / len(found) == pytest.approx(
                0.5002, abs=1e-4
            )
    assert counted == {"multi-choice": 1580, "yes_no": 2453}


ROW = {"video": "x.mp4", "question": "Which?", "candidates": ["a", "b"], "answer": "a"}
PAIR = {"video_id": "p_0", "video_path": "x.mp4", "question": "?", "answer": "a", "source": "s"}
TEMPORAL = {"idx": 0, "video_name": "v", "question": "?\nA. x\nB. y", "GT": "C", "dataset": "d"}


@pytest.mark.parametrize(
    ("benchmark", "name", "content", "told"),
    [
        ("tvbench", "t.json", [ROW | {"answer": "c"}], "t.json row 1: answer 'c' is none of the"),
        ("mvbench", "t.json", [ROW | {"mood": 1}], "t.json row 1: has 'mood', which is none of"),
        ("mvp", "m.json", [PAIR], "m.json row 1: has no 'candidates'; give answer, candidates"),
        ("mvp", "m.json", [PAIR | {"candidates": "['a', 'b']"}] * 2, "question p_0: is there tw"),
        ("mvp", "m.json", [PAIR | {"candidates": "a, b"}], "row 1: candidates is 'a, b'; give a"),
        ("tvbench", "t.json", [ROW | {"question": 3}], "t.json row 1: question is 3; give its te"),
        ("temporalbench", "s.json", [TEMPORAL], "row 1: GT is 'C', and the options are AB; give"),
        ("tomato", "d.json", {"7": {"question": "?", "options": ["a", "b"], "answer": 2, "key": "k",
         "demonstration_type": "human"}}, "question 7: answer is '2'; give a whole number, 0 to 1"),
        ("perceptiontest", "p.json", {"v": {}}, "p.json video v: has no mc_question"),
        ("tempcompass", "multi-choice.json", {"v": {"order": [{"question": "?\nA. x", "answer":
         "B. y"}]}}, "video v order 1: answer 'B. y' is none of the options: A. x"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(benchmark: str, name: str, content: Any, told: str) -> None:
    with pytest.raises(MediaError) as error:
        questions_of(benchmark, [document(name, content)])
    assert told in str(error.value) and "\n" not in str(error.value)


def test_json_lines_are_rows_too() -> None:
    lines = b'{"video": 1}\n{"video"\n'
    with pytest.raises(MediaError, match=r"x.jsonl line 1: has no 'answer'"):
        questions_of("tvbench", [Document("/there", "x.jsonl", lines)])
    with pytest.raises(MediaError, match=r"x.jsonl line 1: is no JSON"):
        questions_of("tvbench", [Document("/there", "x.jsonl", b"{video}\n")])
