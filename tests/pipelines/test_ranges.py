"""Every number of every config has a range.

- a config of a stage says it in the field's annotation, where the launchpad and lists read it;
- a config that has to work without pydantic (networks, the exported planner) refuses by itself what
  no value can be;
- what is left without a range is listed here, each with a reason.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.curation.ingest import PartitionConfig
from pipelines.nodes import GRAPH
from pipelines.schemas import Spec
from pipelines.settings import spec_of
from pipelines.training.tasks import LoopSettings

ANY_NUMBER = {
    ("Preprocessing", "mean"): "a channel's mean may lie on either side of 0",
    ("PlannerConfig", "workspace"): "coordinates; that low is below high is a rule between them",
}
STEP = -(10**6)
"""Far below what any setting can be."""


def classes(kind: Any) -> Iterator[type]:
    """A config class and all that are nested in it, also in mappings, tuples and options."""
    if dataclasses.is_dataclass(kind):
        yield typing.cast(type, kind)
        for hint in typing.get_type_hints(kind).values():
            yield from classes(hint)
    for inside in typing.get_args(kind):
        yield from classes(inside)


CONFIGS = sorted(
    {*classes(GRAPH.profile_class), *classes(PartitionConfig), LoopSettings}
    - {GRAPH.profile_class},
    key=lambda kind: kind.__name__,
)


def numbers(spec: Spec) -> Iterator[Spec]:
    """The schema of a number itself, and of each that is in a tuple or a mapping."""
    if spec.get("type") in ("integer", "number"):
        yield spec
    for inside in (
        *spec.get("prefixItems", ()),
        spec.get("items"),
        spec.get("additionalProperties"),
    ):
        if isinstance(inside, dict):
            yield from numbers(inside)


def below(value: Any) -> Any:
    """A value of the same shape, every number of it absurd."""
    return tuple(map(below, value)) if isinstance(value, tuple) else type(value)(STEP)


def refuses(kind: type, name: str, spec: Spec) -> bool:
    """Whether a dataclass refuses a field whose numbers are made absurd, and names it."""
    default = next(f.default for f in dataclasses.fields(kind) if f.name == name)
    if default is None:
        default = 1 if spec["type"] == "integer" else 1.0
    try:
        kind(**{name: below(default)})
    except ValueError as refused:
        return name in str(refused)
    return False


def test_the_walk_sees_them_all() -> None:
    seen = {kind.__name__ for kind in CONFIGS}
    assert {"PretrainConfig", "ClipConfig", "EncoderConfig", "PlannerConfig", "Theme"} <= seen
    assert {"Gates", "ExecutionConfig", "HeadConfig", "SourceConfig", "LoopSettings"} <= seen
    assert len(CONFIGS) > 25


def has_range(spec: Spec) -> bool:
    """Whether a number has a lower limit: none of ours grows without one by accident."""
    return "minimum" in spec or "exclusiveMinimum" in spec


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_every_number_has_a_range_or_a_reason(kind: type) -> None:
    by_annotation = hasattr(kind, "__pydantic_validator__")
    without = []
    for name, spec in spec_of(kind).get("properties", {}).items():
        found = list(numbers(spec))
        if found and (kind.__name__, name) not in ANY_NUMBER:
            ranged = all(map(has_range, found)) if by_annotation else refuses(kind, name, spec)
            without += [] if ranged else [name]
    assert without == []


def test_what_is_listed_is_there() -> None:
    names = {(kind.__name__, field.name) for kind in CONFIGS for field in dataclasses.fields(kind)}
    assert set(ANY_NUMBER) <= names
