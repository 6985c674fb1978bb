"""The launchpad: a stage's config as a Dagster config schema.

What a person may set in the UI is exactly what the stage's dataclass has, from the same schema as
on the command line: the profile's values as defaults, and each field's own note, with its range, as
its description. Numbers may be written as 5e-4, which YAML takes for text, and one out of its range
is refused before a run begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import dagster as dg
from dagster._config import ConfigType, ConfigTypeKind, PostProcessingError

from pipelines.schemas import Spec, choices, expected, inside_of, members, must
from pipelines.settings import SettingError, from_plain, number, plain, spec_of

T = TypeVar("T")

_SCALARS: dict[str, Any] = {"boolean": dg.Bool, "string": dg.String}


def schema(config: Any) -> dict[str, dg.Field]:
    """Return the Dagster fields of a config dataclass, with its values as the defaults."""
    return _fields(spec_of(type(config)), plain(config))


def parsed(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build the dataclass from what the launchpad sent; SettingError says what it refuses."""
    return from_plain(kind, values)


def description(spec: Spec) -> str | None:
    """What a setting is and which values it takes; None where there is nothing to say."""
    limits = must(spec)
    told = [spec.get("description", ""), f"{limits[:1].upper()}{limits[1:]}." if limits else ""]
    return " ".join(" ".join(told).split()) or None


class Number(ConfigType):  # type: ignore[misc]  # Dagster's types are not read
    """A number within the range of its setting, also as text (5e-4)."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(expected(spec), ConfigTypeKind.ANY, given_name=expected(spec))
        self.spec = spec

    def post_process(self, value: object) -> int | float:
        """Return the number; PostProcessingError says what is wrong with it."""
        try:
            return number(value, self.spec)
        except SettingError as refused:
            raise PostProcessingError(str(refused)) from None


def _fields(spec: Spec, values: Any) -> dict[str, dg.Field]:
    """Of a group; fields without a value keep the defaults of their class."""
    made = {}
    for name, value in members(values, spec).items():
        inside = inside_of(spec, name)
        default = {} if values is None else {"default_value": value}
        kind = _kind(inside, value)
        made[name] = dg.Field(kind, is_required=False, description=description(inside), **default)
    return made


def _kind(spec: Spec, value: Any) -> Any:
    """Return the Dagster type of a setting; `value` gives groups inside it their defaults."""
    if spec.get("nullable"):
        return dg.Noneable(_kind({**spec, "nullable": False}, value))
    if spec.get("type") == "object":
        return dg.Shape(_fields(spec, value))
    if options := choices(spec):
        return dg.Enum("_".join(options), [dg.EnumValue(option) for option in options])
    if spec.get("type") == "array":
        kinds = spec.get("prefixItems", [spec.get("items")])
        alike = all(kind == kinds[0] for kind in kinds)
        return dg.Array(_kind(kinds[0], None) if alike else dg.Any)
    if spec.get("type") in ("integer", "number"):
        return Number(spec)
    return _SCALARS[spec["type"]]
