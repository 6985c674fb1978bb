"""Settings: frozen dataclasses whose ranges stand in their annotations, and how text sets them.

    @settings
    class HeadConfig:
        lr: Positive = 1e-3
        heads: Count = 16

One declaration serves all: building one in Python, `--set encoder.lr=1e-4`, the launchpad and
`vjepa2 settings`. pydantic checks types and ranges; a `__post_init__` is for rules between fields.
Dataclasses of the standard library may be nested (those of `models` and of the planner, which run
where there is no pydantic): they are checked in the same way, and by themselves.

A setting is named by its dotted path from the profile down (`raw_videos.sources.yt1b.location`).
"""

from __future__ import annotations

import functools
import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, TypeVar

import pydantic
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from pipelines.schemas import (
    Spec,
    choices,
    expected,
    inside_of,
    is_group,
    members,
    must,
    nearest,
    resolved,
)
from storage.errors import UserError

T = TypeVar("T")

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
"""From 0 to 1, both allowed."""
Momentum = Annotated[float, Field(ge=0, lt=1)]
"""From 0, which is allowed, to 1, which is not."""
Part = Annotated[float, Field(gt=0, lt=1)]
"""Between 0 and 1, neither allowed."""
EVEN, NOT_EMPTY = Field(multiple_of=2), Field(min_length=1)


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("want (from, to), the smaller number first")
    return pair


def _rising(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if list(numbers) != sorted(set(numbers)):
        raise ValueError("want rising numbers, the smallest first")
    return numbers


def _different(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if twice := [item for item in items if items.count(item) > 1]:
        raise ValueError(f"names {twice[0]!r} twice; want each once")
    return items


ASCENDING = AfterValidator(_ascending)
"""Of a pair: its first number is at most its second."""
RISING = AfterValidator(_rising)
"""Of some numbers: each is larger than the one before it."""
DIFFERENT = AfterValidator(_different)
"""Of some items: none is there twice."""
PositiveRange = Annotated[tuple[Positive, Positive], ASCENDING]
_PositiveShare = Annotated[float, Field(gt=0, le=1)]
ShareRange = Annotated[tuple[_PositiveShare, _PositiveShare], ASCENDING]

_CONFIG = ConfigDict(
    extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)
_E_NOTATION = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def at_least(low: float) -> Any:
    """A lower limit, which is allowed; it stands in an `Annotated`."""
    return Field(ge=low)


def at_most(high: float) -> Any:
    """An upper limit, which is allowed."""
    return Field(le=high)


def between(low: float, high: float, about: str | None = None) -> Any:
    """A lower and an upper limit, both allowed; `about`: a note, where none can stand below."""
    return Field(ge=low, le=high, description=about)


class SettingError(UserError, ValueError):
    """A setting that cannot be: one line with what, where, and what to write instead."""


@typing.dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(kind: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only dataclass that refuses what its annotations exclude.

    It raises SettingError; so does `dataclasses.replace`. It is a dataclass of the standard library
    in all else.
    """
    made: Any = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_CONFIG)(kind)
    checked = made.__init__

    @functools.wraps(checked)
    def init(self: Any, *values: Any, **named: Any) -> None:
        try:
            checked(self, *values, **named)
        except ValidationError as refused:
            first = _refusal(refused, spec_of(type(self)))
            raise SettingError(first.line(f"{type(self).__name__}.")) from None

    made.__init__ = init
    for name, field in made.__pydantic_fields__.items():
        # Where a subclass looks for it: pydantic reads the notes of one class body alone.
        if field.description:
            made.__dataclass_fields__[name].metadata = {"description": field.description}
    return typing.cast(type[T], made)


def plain(config: Any) -> Any:
    """Return the JSON-able twin of a config: dataclasses as dicts, tuples as lists."""
    return to_jsonable_python(config)


def from_plain(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a config dataclass from its JSON-able twin: the inverse of `plain`.

    Absent fields keep their defaults; `5e-4` as text, as YAML reads it, counts as a number. Raises
    SettingError for an unknown field, a wrong type, a value out of range, or a combination that the
    dataclass refuses.
    """
    return validated(kind, values, strict=True)


def validated(
    kind: type[T], values: Any, *, strict: bool, line: Callable[[Refusal], str] | None = None
) -> T:
    """Build a config from its JSON-able twin; not strict: text counts as what it says.

    Raises SettingError with the `line` of what is refused.
    """
    text = json.dumps([_numerals(values, spec_of(kind))], default=str)
    try:
        built: tuple[T] = _adapter(typing.cast(type, kind)).validate_json(text, strict=strict)
    except ValidationError as refused:
        told = _refusal(refused, spec_of(kind), skip=1)
        raise SettingError(line(told) if line else told.line()) from None
    return built[0]


def number(value: Any, spec: Spec) -> int | float:
    """Read one number as its setting takes it, also from text like 5e-4; SettingError if not."""
    names = {
        "ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum",
        "multiple_of": "multipleOf",
    }  # fmt: skip
    limits: dict[str, Any] = {name: spec.get(key) for name, key in names.items()}
    kind = int if spec["type"] == "integer" else float
    ranged: Any = Annotated[kind, Field(**limits)]
    adapter: TypeAdapter[int | float] = TypeAdapter(ranged, config=_CONFIG)
    try:
        return adapter.validate_python(_numerals(value, spec))
    except ValidationError as refused:
        raise SettingError(_refusal(refused, spec).said) from None


def _numerals(value: Any, spec: Spec) -> Any:
    """Read text like `1e3` where a number is due: neither YAML nor Python's int take it for one."""
    if isinstance(value, dict):
        return {name: _numerals(item, inside_of(spec, name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_numerals(item, inside_of(spec, i)) for i, item in enumerate(value)]
    if isinstance(value, str) and _E_NOTATION.fullmatch(value):
        number = float(value)
        if spec.get("type") == "integer" and number.is_integer():
            return int(number)
        return number if spec.get("type") == "number" else value
    return value


def spec_of(kind: type) -> Spec:
    """The schema of a config dataclass; see `Spec`."""
    return _spec(kind)


@functools.cache
def _spec(kind: type) -> Spec:
    whole = _adapter(kind).json_schema()
    return resolved(whole["prefixItems"][0], whole.get("$defs", {}))


@functools.cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    # pydantic takes a config for a standard dataclass only through what contains it.
    return TypeAdapter(tuple[kind], config=_CONFIG)  # type: ignore[valid-type]


class Setting(NamedTuple):
    """One leaf of a config, for people."""

    path: str
    value: Any
    spec: Spec


def leaves(values: Any, spec: Spec, prefix: str = "") -> Iterator[Setting]:
    """Every setting of a config's JSON-able twin, in order of the fields."""
    for name, value in members(values, spec).items():
        inside = inside_of(spec, name)
        if is_group(inside) and value is not None:
            yield from leaves(value, inside, f"{prefix}{name}.")
        else:
            yield Setting(f"{prefix}{name}", value, inside)


class Refusal(NamedTuple):
    """What is wrong with a setting, or with a group of them as a whole."""

    place: str
    value: Any
    said: str

    def line(self, prefix: str = "") -> str:
        """Place, value, what is wrong with it."""
        if self.said.startswith("no "):
            return self.said
        if not self.place:  # a rule between fields begins with the name of one
            return f"{prefix}{self.said}"
        value = "" if self.value is WHOLE else f" = {self.value!r}"
        return f"{prefix}{self.place}{value}: {self.said}"


WHOLE: Any = object()
"""In the place of a value: a group is refused as a whole, and the words name what is wrong."""


def _refusal(refused: ValidationError, root: Spec, skip: int = 0) -> Refusal:
    """The first of pydantic's errors in our words; `skip`: how much of its place is not ours."""
    error: Any = refused.errors(include_url=False)[0]
    kind, value, loc = error["type"], error["input"], error["loc"][skip:]
    if short := kind == "missing" and loc and isinstance(loc[-1], int):  # a tuple of too few
        loc = loc[:-1]
    spec, place = functools.reduce(inside_of, loc, root), ".".join(map(str, loc))
    if kind == "value_error":
        return Refusal(place, WHOLE if is_group(spec) else value, str(error["ctx"]["error"]))
    if kind == "unexpected_keyword_argument":
        known = functools.reduce(inside_of, loc[:-1], root)["properties"]
        return Refusal(place, WHOLE, f"no setting {place}{nearest(loc[-1], known)}")
    if short or (kind == "too_long" and "prefixItems" in spec):
        return Refusal(place, WHOLE, f"expected {expected(spec)}, got {len(value)}")
    if kind.startswith("missing"):
        return Refusal(place, WHOLE, "must be given")
    if kind == "literal_error":
        return Refusal(place, value, must(spec) + nearest(str(value), choices(spec), listed=False))
    said = must(spec) if kind in _OUT_OF_RANGE else f"expected {expected(spec)}"
    return Refusal(place, value, said)


_OUT_OF_RANGE = {
    "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of",
    "too_short", "string_too_short",
}  # fmt: skip
