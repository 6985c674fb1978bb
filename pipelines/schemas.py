"""JSON schemas of settings: what is inside a group, and what a setting may be, in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, cast

Spec = Mapping[str, Any]
"""The schema of a setting, references resolved; `nullable` where None is allowed."""

_KINDS = {
    "integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text",
    "object": "a group of settings",
}  # fmt: skip


def resolved(spec: Spec, defs: Mapping[str, Spec]) -> Spec:
    """Return a schema with what it refers to in place, and `anyOf` null told as `nullable`."""
    spec = dict(spec)
    if reference := spec.pop("$ref", None):
        spec = {**defs[reference.rsplit("/", 1)[-1]], **spec}
    if options := spec.pop("anyOf", None):
        kinds = [option for option in options if option.get("type") != "null"]
        if len(kinds) == 1:
            spec = {**resolved(kinds[0], defs), **spec, "nullable": len(options) > 1}
    for name in ("items", "additionalProperties"):
        if isinstance(spec.get(name), dict):
            spec[name] = resolved(spec[name], defs)
    if "prefixItems" in spec:
        spec["prefixItems"] = [resolved(item, defs) for item in spec["prefixItems"]]
    if "properties" in spec:
        spec["properties"] = {n: resolved(s, defs) for n, s in spec["properties"].items()}
    return spec


def inside_of(spec: Spec, name: str | int) -> Spec:
    """The schema of a field, of a mapping's value, or of a tuple's member; {} if there is none."""
    if isinstance(name, int) and name < len(spec.get("prefixItems", ())):
        return cast(Spec, spec["prefixItems"][name])
    found = spec.get("properties", {}).get(name)
    if found is None:
        found = spec.get("items", spec.get("additionalProperties"))
    return found if isinstance(found, dict) else {}


def is_group(spec: Spec) -> bool:
    """Whether a setting has settings inside: a dataclass, a mapping, or a tuple of dataclasses."""
    return spec.get("type") == "object" or inside_of(spec, 0).get("type") == "object"


def members(values: Any, spec: Spec) -> dict[str, Any]:
    """Name what is inside a group: a tuple's members by their `name`, or their place."""
    if isinstance(values, list):
        return {str(item.get("name", i)): item for i, item in enumerate(values)}
    return {**dict.fromkeys(spec.get("properties", ())), **(values or {})}


def expected(spec: Spec) -> str:
    """What a setting takes: `a whole number, at least 1`; `true or false, or none`."""
    kind, limits = (
        _kind(spec),
        must(spec).removeprefix("must ").removeprefix("be ").removeprefix("name "),
    )
    if "enum" in spec or "const" in spec:
        kind, limits = limits, ""
    told = f"{kind}, {limits}" if limits else kind
    return f"{told}, or none" if spec.get("nullable") else told


def must(spec: Spec) -> str:
    """Which values of its kind a setting takes: `must be from 0 to 1`; empty where it takes all."""
    if "enum" in spec or "const" in spec:
        return f"must be {' or '.join(map(repr, choices(spec)))}"
    if least := spec.get("minItems", 0) if "prefixItems" not in spec else 0:
        return f"must name at least {'one' if least == 1 else least}"
    if spec.get("minLength"):
        return "must not be empty"
    limits = [_multiple(spec["multipleOf"])] if "multipleOf" in spec else []
    limits += filter(None, [_between(spec)])
    return f"must be {' and '.join(limits)}" if limits else ""


def choices(spec: Spec) -> list[str]:
    """The words that a setting chooses from; empty where it takes others too."""
    return list(spec.get("enum", [spec["const"]] if "const" in spec else []))


def nearest(name: str, known: Iterable[str], *, listed: bool = True) -> str:
    """Return `; did you mean …?` for the closest known name, else, if listed, `; choose from …`."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; choose from {', '.join(known)}" if known and listed else ""


def _between(spec: Spec) -> str:
    low, high = spec.get("minimum"), spec.get("maximum")
    if low is not None and high is not None:
        return f"from {_number(low)} to {_number(high)}"
    names = {
        "minimum": "at least", "exclusiveMinimum": "above",
        "maximum": "at most", "exclusiveMaximum": "below",
    }  # fmt: skip
    return " and ".join(f"{word} {_number(spec[n])}" for n, word in names.items() if n in spec)


def _multiple(step: float) -> str:
    return "even" if step == 2 else f"a multiple of {_number(step)}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _kind(spec: Spec) -> str:
    if "prefixItems" in spec:
        inside = [_member(item) for item in spec["prefixItems"]]
        return f"{len(inside)} values: {', '.join(inside)}"
    if spec.get("type") == "array":
        return f"a list of {_member(spec['items'])}, with commas"
    return _KINDS.get(str(spec.get("type")), str(spec.get("type", "something else")))


def _member(spec: Spec) -> str:
    kind, *limits = expected(spec).split(", ", 1)
    return f"{kind} ({limits[0]})" if limits and "prefixItems" not in spec else expected(spec)
