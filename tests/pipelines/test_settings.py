"""What settings, `--set` and the launchpad promise.

- a config class refuses what its annotations exclude, in one line with place, value and what is
  valid, also when it is built or replaced in Python; it is a frozen dataclass in all else;
- a value is read as its field's type, at any depth, into optional groups and tuples of groups;
- all new values of one dataclass reach its `__post_init__` together;
- whatever cannot be applied is one line with the name, the value, and what to write instead.
"""

from __future__ import annotations

import functools
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Annotated, Literal

import pytest

from pipelines.assignments import override
from pipelines.schemas import expected
from pipelines.settings import (
    EVEN,
    NOT_EMPTY,
    Count,
    Positive,
    PositiveRange,
    SettingError,
    Share,
    at_least,
    from_plain,
    leaves,
    plain,
    settings,
    spec_of,
)
from storage.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Source:
    name: str
    location: str | None = None
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Train:
    lr: float = 1e-3
    steps: int = 10
    warmup: int = 2
    resume: bool = True
    sizes: tuple[int, ...] = (1, 2)
    blocks: tuple[tuple[int, float], ...] = ((8, 0.15), (2, 0.7))
    numerics: Literal["corrected", "official"] = "corrected"

    def __post_init__(self) -> None:
        if self.warmup > self.steps:
            raise ValueError(f"warmup = {self.warmup}: at most steps ({self.steps})")


@settings
class Head:
    """A config as the stages have it."""

    lr: Positive = 1e-3
    """Learning rate."""
    heads: Count = 4
    share: Share | None = None
    side: Annotated[int, at_least(8), EVEN] = 16
    scale: PositiveRange = (0.5, 1.0)
    names: Annotated[tuple[str, ...], NOT_EMPTY] = ("a",)
    mode: Literal["fast", "slow"] = "fast"
    weights: dict[str, Share] = field(default_factory=lambda: {"ssv2": 0.5, "coin": 0.5})
    old: Source = field(default_factory=lambda: Source(name="x"))

    def __post_init__(self) -> None:
        if self.heads > self.side:
            raise ValueError(f"heads = {self.heads}: at most side = {self.side}")


@settings
class Wider(Head):
    depth: Count = 2
    sources: dict[str, Source] = field(default_factory=lambda: {"yt1b": Source(name="yt1b")})


@dataclass(frozen=True, kw_only=True)
class Profile:
    sources: tuple[Source, ...] = (Source(name="ssv2"), Source(name="yt1b"))
    train: Train = field(default_factory=Train)
    cooldown: Train | None = None
    head: Wider = field(default_factory=Wider)
    seed: int = 0


@pytest.mark.parametrize(
    ("assignment", "read"),
    [
        ("train.lr=1e-4", lambda p: p.train.lr == 1e-4),
        ("train.steps=1_000", lambda p: p.train.steps == 1000),
        ("train.resume=no", lambda p: p.train.resume is False),
        ("train.sizes=3,4,5", lambda p: p.train.sizes == (3, 4, 5)),
        ("train.sizes=", lambda p: p.train.sizes == ()),
        ("train.blocks=[(4,0.5),(1,0.9)]", lambda p: p.train.blocks == ((4, 0.5), (1, 0.9))),
        ("train.blocks=(4,0.5),(1,0.9)", lambda p: p.train.blocks == ((4, 0.5), (1, 0.9))),
        ("train.numerics=official", lambda p: p.train.numerics == "official"),
        ("sources.yt1b.location=/my/videos", lambda p: p.sources[1].location == "/my/videos"),
        ("sources.yt1b.location=s3://b/a=b", lambda p: p.sources[1].location == "s3://b/a=b"),
        ("sources.yt1b.location=none", lambda p: p.sources[1].location is None),
        ("cooldown.lr=2", lambda p: p.cooldown == Train(lr=2.0)),
        ("cooldown=none", lambda p: p.cooldown is None),
    ],
)
def test_a_value_is_read_as_its_fields_type(assignment, read):
    changed = override(Profile(), [assignment])
    assert read(changed)
    assert changed.sources[0] == Profile().sources[0]


def test_the_last_assignment_wins_and_the_original_stays():
    original = Profile()
    assert override(original, ["seed=1", "seed=2"]).seed == 2
    assert original == Profile()


def test_values_that_depend_on_each_other_are_checked_together():
    """Either order of setting them one by one would pass through a refused state."""
    assert override(Profile(), ["train.steps=1", "train.warmup=1"]).train.warmup == 1
    with pytest.raises(SettingError, match=r"--set train: warmup = 2: at most steps \(1\)"):
        override(Profile(), ["train.steps=1"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.lrr=1", "--set train.lrr: no such setting; did you mean lr?"),
        ("trian.lr=1", "--set trian: no such setting; did you mean train?"),
        ("lr=1", "--set lr: no such setting; did you mean train.lr?"),
        ("sources.ytb1.weight=1", "--set sources.ytb1: no such setting; did you mean yt1b?"),
        ("train.steps=ten", "--set train.steps=ten: expected a whole number"),
        ("train.steps=1.5", "--set train.steps=1.5: expected a whole number"),
        ("train.lr=nan", "--set train.lr=nan: expected a number"),
        ("train.lr=none", "--set train.lr=none: expected a number"),
        ("train.resume=perhaps", "--set train.resume=perhaps: expected true or false"),
        ("train.blocks=(1,2)", "train.blocks.0 = 1: expected 2 values: a whole number, a number"),
        ("train.numerics=corect", "did you mean corrected?"),
        ("train.lr.x=1", "--set train.lr.x: train.lr has no fields"),
        ("train=1", "--set train: it is a group; set one of its fields: lr, steps"),
        ("train.lr", "--set 'train.lr': write name=value"),
    ],
)
def test_what_cannot_be_applied_is_refused_in_one_line(assignment, message):
    with pytest.raises(SettingError) as refusal:
        override(Profile(), [assignment])
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_group_and_its_field_cannot_both_be_set():
    with pytest.raises(SettingError, match="another --set"):
        override(Profile(), ["cooldown=none", "cooldown.lr=1"])
    with pytest.raises(SettingError, match="another --set"):
        override(Profile(), ["cooldown.lr=1", "cooldown=none"])


def test_plain_values_come_back_as_the_same_config():
    profile = override(Profile(), ["cooldown.lr=2", "sources.ssv2.weight=0.5"])
    assert from_plain(Profile, plain(profile)) == profile
    assert from_plain(Profile, {}) == Profile()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": 1}, "no setting seeds; did you mean seed?"),
        ({"seed": "1"}, "seed = '1': expected a whole number"),
        ({"seed": True}, "seed = True: expected a whole number"),
        ({"train": {"lr": "fast"}}, "train.lr = 'fast': expected a number"),
        ({"train": {"steps": 1}}, "train: warmup = 2: at most steps (1)"),
        ({"sources": [{"name": 1}]}, "sources.0.name = 1: expected text"),
    ],
)
def test_plain_values_of_the_wrong_kind_are_refused(values, message):
    with pytest.raises(SettingError) as refusal:
        from_plain(Profile, values)
    assert message in str(refusal.value)


def test_settings_lists_every_leaf_by_its_path():
    listed = {path: value for path, value, _ in leaves(plain(Profile()), spec_of(Profile))}
    assert listed["train.lr"] == 1e-3
    assert listed["sources.yt1b.weight"] == 1.0
    assert listed["cooldown"] is None
    assert "train" not in listed


def test_a_config_is_a_frozen_dataclass_like_any_other():
    head = Wider(lr=1, heads=2)
    assert head == Wider(lr=1.0, heads=2) != Wider()
    assert isinstance(head.lr, float)
    assert pickle.loads(pickle.dumps(head)) == head
    assert asdict(head)["scale"] == (0.5, 1.0) and asdict(head)["old"]["name"] == "x"
    assert [f.name for f in fields(Wider)][-2:] == ["depth", "sources"]
    with pytest.raises(FrozenInstanceError):
        head.lr = 2.0
    with pytest.raises(SettingError):
        Wider(2.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": -1}, "Wider.lr = -1: must be above 0"),
        ({"lr": float("nan")}, "Wider.lr = nan: expected a number, above 0"),
        ({"lr": "1e-3"}, "Wider.lr = '1e-3': expected a number, above 0"),
        ({"heads": True}, "Wider.heads = True: expected a whole number, at least 1"),
        ({"share": 1.5}, "Wider.share = 1.5: must be from 0 to 1"),
        ({"side": 9}, "Wider.side = 9: must be even and at least 8"),
        ({"scale": (2.0, 1.0)}, "Wider.scale = (2.0, 1.0): want (from, to), the smaller number"),
        ({"scale": (1.0,)}, "Wider.scale: expected 2 values: a number (above 0), a number (above"),
        ({"names": ()}, "Wider.names = (): must name at least one"),
        ({"mode": "flow"}, "Wider.mode = 'flow': must be 'fast' or 'slow'; did you mean slow?"),
        ({"weights": {"coin": 2.0}}, "Wider.weights.coin = 2.0: must be from 0 to 1"),
        ({"old": {"name": "y"}}, "Wider.old = {'name': 'y'}: expected a group of settings"),
        ({"dept": 1}, "no setting dept; did you mean depth?"),
        ({"heads": 17}, "Wider.heads = 17: at most side = 16"),
    ],
)
def test_building_a_config_refuses_what_its_annotations_exclude(values, message):
    for build in (Wider, functools.partial(replace, Wider())):
        with pytest.raises(SettingError) as refusal:
            build(**values)
        assert str(refusal.value).startswith(message)
        assert "\n" not in str(refusal.value)
    assert issubclass(SettingError, UserError) and issubclass(SettingError, ValueError)


def test_a_mapping_is_entered_by_its_keys():
    changed = override(
        Profile(), ["head.weights.coin=1e-1", "head.sources.yt1b.location=/my/videos"]
    ).head
    assert changed.weights == {"ssv2": 0.5, "coin": 0.1}
    assert changed.sources == {"yt1b": Source(name="yt1b", location="/my/videos")}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("head.weights.conn=1", "--set head.weights.conn: no such setting; did you mean coin?"),
        ("head.weights.coin=2", "--set head.weights.coin=2: must be from 0 to 1"),
        (
            "head.sources.yt1.weight=1",
            "--set head.sources.yt1: no such setting; did you mean yt1b?",
        ),
        ("head.lr=-1", "--set head.lr=-1: must be above 0"),
        ("head.heads=0", "--set head.heads=0: must be at least 1"),
        ("head.heads=1.5e0", "--set head.heads=1.5e0: expected a whole number, at least 1"),
        ("head.heads=1e2", "--set head: heads = 100: at most side = 16"),
        ("head.scale=(2,1)", "--set head.scale=(2,1): want (from, to), the smaller number first"),
        ("head.names=", "--set head.names=: must name at least one"),
    ],
)
def test_ranges_are_told_with_the_assignment(assignment, message):
    with pytest.raises(SettingError) as refusal:
        override(Profile(), [assignment])
    assert str(refusal.value) == message


def test_a_setting_tells_its_range_and_its_note_also_an_inherited_one():
    told = {path: spec for path, _, spec in leaves(plain(Profile()), spec_of(Profile))}
    assert told["head.lr"]["description"] == "Learning rate."
    assert expected(told["head.lr"]) == "a number, above 0"
    assert expected(told["head.share"]) == "a number, from 0 to 1, or none"
    assert expected(told["head.mode"]) == "'fast' or 'slow'"
    assert expected(told["head.names"]) == "a list of text, with commas, at least one"
