"""Claims: budgets are nested, stratified and chosen by a hash of (seed, key); sources that cannot
be probed say why, each in one line."""

from __future__ import annotations

from collections import Counter

import pytest

from pipelines.evaluation.splits import (
    SIDES,
    LabelledClip,
    Split,
    check_labels,
    in_order,
    labelled_clips,
)
from storage.errors import InputError
from storage.tables import write_table
from tests.pipelines.builders import artifact
from tests.pipelines.evaluation.material import COLUMNS


def clip(key: str, label: str, split: str) -> LabelledClip:
    return LabelledClip(key, label, split, None, "shards/000000.tar", 0, 1, 0, 4.0, 12)  # type: ignore


CLIPS = [
    clip(f"{side}-{number:03d}", "abcd"[number % 4], side) for side in SIDES for number in range(80)
]


def test_budgets_are_nested_stratified_and_chosen_by_hash():
    small, large = (
        Split.of("ssv2", CLIPS, labels=labels, test=20, seed=0) for labels in ((8,), (8, 40))
    )
    assert large.train[:8] == small.train and small.test == large.test
    assert (small.budgets, large.budgets) == ((8,), (8, 40))
    for part in (large.train[:8], large.train, large.test):
        assert len(set(Counter(c.label for c in part).values())) == 1
    assert {c.split for c in large.train} == {"train"}
    assert {c.split for c in large.test} == {"validation"}
    assert large.train_labels[:8] == small.train_labels and set(large.test_labels) == {0, 1, 2, 3}
    shuffled = Split.of("ssv2", CLIPS[::-1], labels=(8, 40), test=20, seed=0)
    assert shuffled == large
    assert Split.of("ssv2", CLIPS, labels=(8, 40), test=20, seed=1).train != large.train
    assert large.train != tuple(sorted(large.train, key=lambda c: c.key))


def test_without_budgets_all_there_is_is_used():
    split = Split.of("ssv2", CLIPS, labels=None, test=None, seed=0)
    assert (split.budgets, len(split.train), len(split.test)) == ((80,), 80, 80)


def test_every_class_comes_first_once_and_then_in_its_share():
    labels = {f"a{n}": "a" for n in range(90)} | {f"b{n}": "b" for n in range(9)} | {"c": "c"}
    order = in_order(labels, 0)
    assert sorted(order) == sorted(labels)
    assert {labels[key] for key in order[:3]} == {"a", "b", "c"}
    assert Counter(labels[key] for key in order[:50])["b"] in (4, 5, 6)


@pytest.mark.parametrize(
    ("train", "test", "labels", "told"),
    [
        ("", "", None, "its videos have no labels"),
        ("aaaa", "aa", None, "1 classes in train, 1 in validation"),
        ("abab", "", None, "2 classes in train, 0 in validation"),
        ("abab", "abc", None, "class c is in validation and never in train"),
        ("abcabc", "abc", (2, 6), "asks for 2 labelled clips of mine, fewer than its 3 classes"),
        ("abcabc", "abc", (3, 7), "asks for 7 labelled clips of mine, which has 6 to train on"),
    ],
)
def test_what_cannot_be_probed_says_why(train, test, labels, told):
    with pytest.raises(InputError, match=told) as refused:
        check_labels("mine", train, test, labels)
    assert "mine" in str(refused.value) and "\n" not in str(refused.value)


def test_labels_are_read_from_the_partitions_of_one_source(tmp_path):
    row = {
        "shard": "000000.tar", "offset": 0, "size": 1, "kind": "video", "fps": 4.0, "frames": 12,
        "source": "ssv2", "label": "a", "split": "train", "digest": 0,
    }  # fmt: skip
    rows = [
        row | {"key": "2"}, row | {"key": "1", "label": None}, row | {"key": "0"},
        row | {"key": "3", "split": None}, row | {"key": "4", "kind": "image"},
    ]  # fmt: skip
    write_table(tmp_path / "index.parquet", rows, COLUMNS)
    parts = {name: artifact(tmp_path, f"clip_shards/{name}") for name in ("ssv2-00", "coin")}
    assert [c.key for c in labelled_clips(parts, "ssv2")] == ["0", "2"]
    assert labelled_clips(parts, "kinetics") == []
