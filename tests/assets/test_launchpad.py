"""What the launchpad promises.

- it offers exactly the fields of the stage's dataclass, typed, with the profile's values as
  defaults and each field's own note;
- what it sends back is the same dataclass, for every stage of every profile;
- a value that the dataclass refuses is refused with its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import dagster as dg
import pytest

from assets.definitions.launchpad import field_notes, parsed, schema
from pipelines.nodes import GRAPH, PROFILES
from pipelines.overrides import OverrideError, plain


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    """A rate,
    told in two lines."""


@dataclass(frozen=True, kw_only=True)
class Base:
    seed: int = 7
    """Where all randomness comes from."""


@dataclass(frozen=True, kw_only=True)
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


def launched(values: dict[str, object]) -> Config:
    """Send values through Dagster's own checks, as a launchpad does, into an op."""
    seen: list[Config] = []

    @dg.op(config_schema=schema(Config()))
    def take(context):
        seen.append(parsed(Config, context.op_config))

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


def test_what_dagsters_types_cannot_see_the_dataclass_refuses():
    with pytest.raises(OverrideError, match=r"blocks\.0: expected 2 values"):
        launched({"blocks": [[1, 2, 3]]})


def test_each_field_carries_its_own_note_also_an_inherited_one():
    notes = field_notes(Config)
    assert notes["seed"] == "Where all randomness comes from."
    assert notes["steps"] == "Steps, or all of them."
    assert "lr" not in notes
    assert field_notes(Inner)["rate"] == "A rate, told in two lines."
    assert schema(Config())["seed"].description == notes["seed"]


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
