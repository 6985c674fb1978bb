"""Claims: frames, losses and recalls of anticipation are those of the released code and of the
leaderboard, by cases worked out by hand; the real tables parse whole, with the published counts; a
submission is what the leaderboard's program takes, or one line says why not."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.curation.annotations.sheets import Sheets
from pipelines.evaluation.anticipation.metrics import (
    class_mean_recall,
    focal_loss,
    hits,
    leaderboard,
    top,
)
from pipelines.evaluation.anticipation.sampling import (
    fixed_frames,
    frames_of,
    official_frames,
    steps_ahead,
)
from pipelines.evaluation.anticipation.submission import (
    action_scores,
    check_submission,
    submission,
)
from pipelines.evaluation.anticipation.tables import COLUMNS, Segment, read_tables
from storage.errors import InputError
from storage.media import MediaError

FPS = 60000 / 1001


def test_frames_are_those_of_the_released_code() -> None:
    found = official_frames(8, 202, FPS, 1.0)
    assert found.tolist() == [0] * 12 + list(range(3, 137, 7)) and len(found) == 32
    at_the_start = official_frames(93, 999, FPS, 1.0, point=1.0)
    assert at_the_start.tolist() == [0] * 28 + [6, 13, 20, 27]
    assert [steps_ahead(span) for span in (0.25, 0.99, 1.0, 1.75)] == [1, 3, 4, 7]
    assert int(59.94 / 8) == 7 and int(50 / 8) == 6


def test_fixed_frames_are_by_the_clock_at_the_films_own_rate() -> None:
    for fps in (60.0, FPS, 50.0, 30.0):
        found = fixed_frames(10.0, fps, 1.0)
        assert len(found) == 32 and found[-1] / fps == pytest.approx(8.875, abs=0.51 / fps)
        assert found[0] / fps == pytest.approx(5.0, abs=0.51 / fps)
    segment = Segment("a", "P01", "P01_01", 10.0, 12.0, 600, 720, 0, 0, "validation")
    assert frames_of(segment, 30.0, 400, "fixed", 1.0)[-1] == 266
    with pytest.raises(ValueError, match=r"ends at frame 687, and the film has 400 \(official"):
        frames_of(segment, 30.0, 400, "official", 1.0)  # 720 is no frame of a film of 30 a second


def test_focal_loss_by_hand() -> None:
    even = focal_loss(torch.zeros(1, 2), torch.tensor([0]))
    assert float(even) == pytest.approx(0.25 * math.log(2), abs=1e-6)
    three = focal_loss(torch.tensor([[2.0, -1.0, 0.0]]), torch.tensor([0]))
    assert float(three) == pytest.approx(0.147410, abs=1e-6)
    twice = focal_loss(torch.zeros(2, 2), torch.tensor([0, 1]))
    assert float(twice) == pytest.approx(2 * float(even)), "a sum, not a mean"


def test_recall_is_of_classes_and_accuracy_of_segments() -> None:
    right = np.array([True, True, True, False])
    assert class_mean_recall([0, 0, 0, 1], right) == 0.5 and right.mean() == 0.75
    with_unseen = np.append(right, False)
    assert class_mean_recall([0, 0, 0, 1, 2], with_unseen) == pytest.approx(1 / 3)
    scores = np.array([[0.5, 0.5, 0.1, 0.5, 0.5, 0.5, 0.5]])
    assert top(scores, 5).tolist() == [[0, 1, 3, 4, 5]], "of equals the smaller number"
    assert hits(scores, np.array([6])).tolist() == [False]
    assert hits(scores, np.array([-1])).tolist() == [False], "a class that no head has"


def test_the_leaderboard_has_nine_numbers() -> None:
    verbs, nouns = np.array([0, 0, 1, 5]), np.array([1, 1, 2, 2])
    rights = {
        "verb": np.array([True, False, True, False]), "noun": np.ones(4, bool),
        "action": np.array([True, False, False, False]),
    }  # fmt: skip
    found = leaderboard(rights, verbs, nouns, np.array([True, False, True, False]), [5], [1])
    assert len(found) == 9
    assert found["overall_verb_mt5r"] == pytest.approx(100 * (0.5 + 1 + 0) / 3)
    assert found["unseen_verb_mt5r"] == 100.0 and found["tail_verb_mt5r"] == 0.0
    assert found["tail_action_mt5r"] == pytest.approx(25.0), "by the verb or by the noun"
    none = leaderboard(rights, verbs, nouns, np.zeros(4, bool), [], [])
    assert none["unseen_noun_mt5r"] is None and none["tail_noun_mt5r"] is None


def test_the_real_tables_have_the_published_counts(real_data: Path) -> None:
    folder = real_data / "annotations" / "epic_kitchens_100"
    tables = read_tables(Sheets("epic-kitchens-100", "", str(folder)).documents())
    train, asked = tables.side("train"), tables.side("validation")
    assert (len(train), len(asked)) == (67_217, 9_668)
    assert len({s.verb for s in train}) == 97 and len({s.noun for s in train}) == 289
    known = {s.action for s in train}
    kept = [s for s in asked if s.action in known]
    assert len(known) == 3_568
    assert (len(kept), len({s.action for s in kept})) == (9_296, 1_114)
    assert (len({s.verb for s in kept}), len({s.noun for s in kept})) == (73, 201)
    assert len({s.action for s in asked}) == 1_352
    assert (len({s.verb for s in asked}), len({s.noun for s in asked})) == (78, 211)
    assert sum(s.participant in tables.unseen for s in asked) == 1_065
    tail = [s for s in asked if s.verb in tables.tail_verbs or s.noun in tables.tail_nouns]
    assert (len(tables.tail_verbs), len(tables.tail_nouns), len(tail)) == (86, 228, 3_105)


def test_what_is_wrong_in_a_table_is_one_line(tmp_path: Path) -> None:
    for name, key in (("verb_classes", "take"), ("noun_classes_v2", "tap")):
        text = f"id,key,instances,category\n0,{key},x,y\n"
        (tmp_path / f"EPIC_100_{name}.csv").write_text(text)
    row = "a_0,P01,a,0:0:0,0:00:01,0:00:02,60,120,take tap,take,{verb},tap,0,[],[]\n"

    def told(columns: tuple[str, ...], verb: str) -> None:
        head = ",".join(columns) + "\n"
        for name in ("train", "validation"):
            extra = "" if len(columns) == len(COLUMNS) else ",x"
            line = row.format(verb=verb).replace("\n", f"{extra}\n")
            (tmp_path / f"EPIC_100_{name}.csv").write_text(head + line)
        read_tables(Sheets("epic-kitchens-100", str(tmp_path), str(tmp_path)).documents())

    told(COLUMNS, "0")
    with pytest.raises(
        MediaError, match=r"EPIC_100_train.csv line 2: verb_class is '1'; give a who"
    ):
        told(COLUMNS, "1")
    with pytest.raises(MediaError, match=r"EPIC_100_train.csv line 2: column 'mood' is none of 15"):
        told((*COLUMNS, "mood"), "0")
    told(COLUMNS, "0")
    (tmp_path / "EPIC_100_validation.csv").unlink()
    with pytest.raises(MediaError, match=r"EPIC_100_validation.csv is missing"):
        read_tables(Sheets("epic-kitchens-100", str(tmp_path), str(tmp_path)).documents())


def test_actions_that_are_not_told_are_products() -> None:
    found = action_scores(np.log([0.6, 0.4]), np.log([0.7, 0.3]))
    assert [pair for pair, _ in found] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [score for _, score in found] == pytest.approx([0.42, 0.28, 0.18, 0.12])


def test_a_submission_is_checked() -> None:
    random = np.random.default_rng(0)
    names = ["P01_11_0", "P01_11_1"]
    verbs, nouns = random.random((2, 97)), random.random((2, 300))
    whole = submission(names, verbs, nouns)
    check_submission(whole, names)
    assert len(whole["results"]["P01_11_0"]["action"]) == 100
    pairs = [(n % 97, n) for n in range(200)]
    check_submission(submission(names, verbs, nouns, random.random((2, 200)), pairs), names)
    for spoil, line in (
        (lambda t: t.update(version="0.1"), "version is '0.1'; it must be '0.2'"),
        (lambda t: t.update(sls_pt=6), "sls_pt is 6; give 0 to 5"),
        (lambda t: t["results"].pop("P01_11_1"), "segment P01_11_1 is not in it; all 2 must be"),
        (lambda t: t["results"].update(x={}), "segment x is none of the 2 asked about"),
        (lambda t: t["results"]["P01_11_0"]["verb"].pop("96"), "P01_11_0 has 96 verbs; .* 0 to 96"),
        (lambda t: t["results"]["P01_11_0"]["action"].popitem(), "has 99 actions; give exactly"),
    ):  # fmt: skip
        wrong = copy.deepcopy(whole)
        spoil(wrong)
        with pytest.raises(InputError, match=line):
            check_submission(wrong, names)
