"""The launchpad: a stage's frozen dataclass as a Dagster config schema, and back again.

What a person may set in the UI is exactly what the stage's dataclass has, with the profile's
values as defaults and the field's own note as its description; what comes back is checked by the
dataclass itself.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import dagster as dg

from pipelines.overrides import from_plain, plain

T = TypeVar("T")

_SCALARS: dict[Any, Any] = {int: dg.Int, float: dg.Float, str: dg.String, bool: dg.Bool}


def schema(config: Any) -> dict[str, dg.Field]:
    """Return the Dagster fields of a config dataclass, with its values as the defaults."""
    hints, notes = typing.get_type_hints(type(config)), field_notes(type(config))
    return {
        field.name: dg.Field(
            _kind(hints[field.name], getattr(config, field.name)),
            default_value=plain(getattr(config, field.name)),
            is_required=False,
            description=notes.get(field.name),
        )
        for field in dataclasses.fields(config)
    }


def parsed(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build the dataclass from what the launchpad sent; OverrideError says what it refuses."""
    return from_plain(kind, values)


def field_notes(kind: type) -> dict[str, str]:
    """Return the string written under each field of a dataclass: its description for people."""
    notes: dict[str, str] = {}
    for owner in reversed([base for base in kind.__mro__ if dataclasses.is_dataclass(base)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    notes[name] = " ".join(text.split())
    return notes


def _kind(hint: Any, value: Any) -> Any:
    """Return the Dagster type for a field's type; `value` gives groups inside it their defaults."""
    if hint in _SCALARS:
        return _SCALARS[hint]
    if typing.get_origin(hint) is dict:
        member = typing.get_args(hint)[1]
        return dg.Shape(
            {
                name: dg.Field(_kind(member, item), default_value=plain(item), is_required=False)
                for name, item in value.items()
            }
        )
    if dataclasses.is_dataclass(hint):
        return dg.Shape(schema(value if value is not None else typing.cast(Any, hint)()))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        inner = _kind(options[0], value) if len(options) == 1 else dg.Any
        return dg.Noneable(inner) if type(None) in typing.get_args(hint) else inner
    if typing.get_origin(hint) is tuple:
        members = set(typing.get_args(hint)) - {Ellipsis}
        inner = _kind(members.pop(), value[0] if value else None) if len(members) == 1 else dg.Any
        return dg.Array(inner)
    if typing.get_origin(hint) is typing.Literal:
        return dg.Enum(
            "_".join(map(str, typing.get_args(hint))),
            [dg.EnumValue(str(option)) for option in typing.get_args(hint)],
        )
    raise TypeError(f"no launchpad field for {hint!r}: configs hold numbers, text, tuples, groups")
