"""What the launchpad promises.

- it offers exactly the fields of the stage's dataclass, typed, with the profile's values as
  defaults and each field's own note;
- what it sends back is the same dataclass, for every stage of every profile;
- a value that the dataclass refuses is refused with its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import dagster as dg
import pytest
import yaml

from assets.definitions.launchpad import parsed, schema
from pipelines.nodes import GRAPH, PROFILES
from pipelines.settings import Count, Positive, SettingError, Share, plain, settings


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    """A rate,
    told in two lines."""


@settings
class Base:
    seed: int = 7
    """Where all randomness comes from."""


@settings
class Config(Base):
    lr: float = 1e-3
    steps: int | None = None
    """Steps, or all of them."""
    name: str = "x"
    on: bool = True
    inner: Inner = field(default_factory=Inner)
    sizes: tuple[int, ...] = (1, 2)
    blocks: tuple[tuple[int, float], ...] = ((8, 0.15),)
    mode: Literal["fast", "slow"] = "fast"


@settings
class Ranged:
    lr: Positive = 1e-3
    """Learning rate."""
    steps: Count = 10
    share: Share | None = None
    rates: tuple[Positive, ...] = (1e-3,)
    pairs: tuple[tuple[int, float], ...] = ((1, 2.0),)


def launched(values: dict[str, object], default: Any = Config()) -> Any:  # noqa: B008
    """Send values through Dagster's own checks, as a launchpad does, into an op."""
    seen: list[Any] = []

    @dg.op(config_schema=schema(default))
    def take(context):
        seen.append(parsed(type(default), context.op_config))

    @dg.job
    def one() -> None:
        take()

    one.execute_in_process(run_config={"ops": {"take": {"config": values}}})
    return seen[0]


def test_an_empty_launchpad_gives_the_profiles_values():
    assert launched({}) == Config()


def test_a_value_set_in_the_launchpad_reaches_the_stage():
    values = {
        "lr": 2, "steps": 9, "on": False, "mode": "slow", "inner": {"rate": 0.25},
        "sizes": [5], "blocks": [[2, 0.7]],
    }  # fmt: skip
    assert launched(values) == Config(
        lr=2.0, steps=9, on=False, mode="slow", inner=Inner(rate=0.25), sizes=(5,),
        blocks=((2, 0.7),),
    )  # fmt: skip


@pytest.mark.parametrize(
    "values", [{"lr": "fast"}, {"lrr": 1.0}, {"inner": {"rat": 1.0}}, {"mode": "medium"}]
)
def test_dagster_refuses_what_does_not_fit_before_anything_runs(values):
    with pytest.raises(dg.DagsterInvalidConfigError):
        launched(values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lr": -1}, "must be above 0"),
        ({"lr": "-1e-3"}, "must be above 0"),
        ({"steps": 0}, "must be at least 1"),
        ({"steps": 1.5}, "expected a whole number, at least 1"),
        ({"steps": "1.5e0"}, "expected a whole number, at least 1"),
        ({"share": 2}, "must be from 0 to 1"),
        ({"rates": [0.1, 0.0]}, "must be above 0"),
    ],
)
def test_a_number_out_of_its_range_is_refused_before_anything_runs(values, said):
    with pytest.raises(dg.DagsterInvalidConfigError, match=said):
        launched(values, Ranged())


def test_a_number_may_be_what_yaml_takes_for_text():
    assert yaml.safe_load("5e-4") == "5e-4"
    values = {
        "lr": "5e-4",
        "steps": "1e3",
        "share": "1E-1",
        "rates": ["2e1"],
        "pairs": [[1, "3e-1"]],
    }
    assert launched(values, Ranged()) == Ranged(
        lr=5e-4, steps=1000, share=0.1, rates=(20.0,), pairs=((1, 0.3),)
    )


def test_what_dagsters_types_cannot_see_the_dataclass_refuses():
    with pytest.raises(SettingError, match=r"blocks\.0: expected 2 values"):
        launched({"blocks": [[1, 2, 3]]})


def test_each_field_carries_its_own_note_also_an_inherited_one():
    notes = {name: field.description for name, field in schema(Config()).items()}
    assert notes["seed"] == "Where all randomness comes from."
    assert notes["steps"] == "Steps, or all of them."
    assert not notes["lr"]
    assert schema(Inner())["rate"].description == "A rate, told in two lines."
    assert schema(Ranged())["lr"].description == "Learning rate. Must be above 0."


def test_defaults_are_the_profiles_not_the_classs():
    fields = schema(replace(Config(), lr=0.25, inner=Inner(rate=0.75)))
    assert fields["lr"].default_value == 0.25
    assert fields["inner"].default_value == {"rate": 0.75}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_stage_of_every_profile_goes_through_the_launchpad_and_back(profile):
    for node in GRAPH.nodes:
        config = getattr(PROFILES[profile], node.asset)
        assert set(schema(config)) == set(plain(config))
        assert parsed(type(config), plain(config)) == config
