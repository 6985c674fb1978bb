"""Typed settings from outside: `--set encoder.lr=1e-4`, and launchpad values, over dataclasses.

A setting is named by its dotted path from the profile down (`raw_videos.sources.yt1b.location`).
Its text is read as the type of the field it names, an unknown name is refused with the nearest
valid one, and every dataclass on the way is rebuilt once, so that `__post_init__` sees all new
values together.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_NONE = {"none", "null"}
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class OverrideError(ValueError):
    """A setting that cannot be applied: one line with what, where, and what to write instead."""


def override(config: T, assignments: Iterable[str]) -> T:
    """Return `config` with every `path=value` of `assignments` applied; a path's last one wins.

    `config` is a frozen dataclass instance, possibly nested; a tuple of dataclasses is entered by
    its members' `name`, or by position. Raises OverrideError for an unknown path, a value that is
    not of the field's type, and a combination that the dataclass itself refuses.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        path = path.strip()
        if not equals or not path:
            raise OverrideError(f"--set {assignment!r}: write name=value, e.g. pretrain.lr=1e-4")
        _plant(tree, path, text.strip())
    return typing.cast(T, _grown(config, tree, "", config))


def settings(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) of every leaf of a nested dataclass, in order of its fields."""
    for name, value in _members(config).items():
        if _is_branch(value):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def plain(config: Any) -> Any:
    """Return the JSON-able twin of a config: dataclasses as dicts, tuples as lists."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, tuple):
        return [plain(item) for item in config]
    if isinstance(config, Mapping):
        return {name: plain(item) for name, item in config.items()}
    return config


def from_plain(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build a config dataclass from its JSON-able twin: the inverse of `plain`.

    Absent fields keep their defaults. Raises OverrideError for an unknown field, a wrong type, or a
    combination that the dataclass refuses; `where` is put before the field's name in the message.
    """
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    arguments = {}
    for name, value in values.items():
        if name not in names:
            raise OverrideError(f"no setting {where}{name}{nearest(name, names)}")
        arguments[name] = _from_plain(value, hints[name], f"{where}{name}")
    try:
        return kind(**arguments)
    except (ValueError, TypeError) as refused:
        raise OverrideError(f"{where.rstrip('.') or kind.__name__}: {refused}") from refused


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` for the closest known name, else `; choose from …`."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; choose from {', '.join(known)}" if known else ""


def _plant(tree: dict[str, Any], path: str, text: str) -> None:
    """Put one assignment into the tree of assignments: {"pretrain": {"lr": "1e-4"}}."""
    *branches, leaf = path.split(".")
    node = tree
    for branch in branches:
        below = node.setdefault(branch, {})
        if not isinstance(below, dict):
            raise OverrideError(f"--set {path}: {branch} is set as a whole by another --set")
        node = below
    if isinstance(node.get(leaf), dict):
        raise OverrideError(f"--set {path}: a field inside {path} is set by another --set")
    node[leaf] = text


def _grown(config: Any, tree: Mapping[str, Any], where: str, root: Any) -> Any:
    """Return `config` (a dataclass or a tuple of them) rebuilt with the assignments of `tree`."""
    members = _members(config)
    hints = typing.get_type_hints(type(config)) if dataclasses.is_dataclass(config) else {}
    changed: dict[str, Any] = {}
    for name, below in tree.items():
        if name not in members:
            raise OverrideError(_unknown(f"{where}{name}", name, members, root))
        value, hint = members[name], hints.get(name, type(members[name]))
        if isinstance(below, dict):
            value = _entered(value, hint)
            if not _is_branch(value):
                inside = f"{where}{name}.{next(iter(below))}"
                raise OverrideError(f"--set {inside}: {where}{name} has no fields")
            changed[name] = _grown(value, below, f"{where}{name}.", root)
        else:
            changed[name] = _from_text(below, hint, f"{where}{name}")
    if isinstance(config, tuple):
        return tuple(changed.get(name, member) for name, member in members.items())
    if isinstance(config, Mapping):
        return {**config, **changed}
    try:
        return dataclasses.replace(config, **changed)
    except (ValueError, TypeError) as refused:
        place = where.rstrip(".") or "/".join(changed)
        raise OverrideError(f"--set {place}: {refused}") from refused


def _members(config: Any) -> dict[str, Any]:
    """Name what is inside a branch: a dataclass's fields, a tuple's members by name or place."""
    if isinstance(config, tuple):
        return {str(getattr(member, "name", i)): member for i, member in enumerate(config)}
    if isinstance(config, Mapping):
        return dict(config)
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def _is_branch(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(dataclasses.is_dataclass(member) for member in value)
    return dataclasses.is_dataclass(value) or isinstance(value, Mapping)


def _entered(value: Any, hint: Any) -> Any:
    """Give an optional group that is None its defaults, so that a field inside it can be set."""
    if value is not None:
        return value
    groups: list[Any] = [kind for kind in typing.get_args(hint) if dataclasses.is_dataclass(kind)]
    return groups[0]() if groups else None


def _unknown(path: str, name: str, siblings: Mapping[str, Any], root: Any) -> str:
    """Word the refusal: a near sibling first, else a setting of that last name anywhere."""
    if difflib.get_close_matches(name, list(siblings), n=1, cutoff=0.6):
        return f"--set {path}: no such setting{nearest(name, siblings)}"
    elsewhere = [full for full, _ in settings(root) if full.rsplit(".", 1)[-1] == name]
    if elsewhere:
        return f"--set {path}: no such setting; did you mean {elsewhere[0]}?"
    return f"--set {path}: no such setting{nearest(name, siblings)}"


def _from_text(text: str, hint: Any, where: str) -> Any:
    """Read text as the type `hint`; a refusal names the setting, the text and what is expected."""
    options = _options(hint)
    if type(None) in options and text.lower() in _NONE:
        return None
    options = [option for option in options if option is not type(None)]
    for group in filter(dataclasses.is_dataclass, options):
        inside = ", ".join(f.name for f in dataclasses.fields(group))
        raise OverrideError(f"--set {where}: it is a group; set one of its fields: {inside}")
    refusals: list[OverrideError] = []
    for option in options:
        try:
            return _scalar(text, option, where)
        except OverrideError as refused:
            refusals.append(refused)
    raise refusals[0]


def _scalar(text: str, kind: Any, where: str) -> Any:
    if typing.get_origin(kind) is tuple:
        parts = _split(text)
        return tuple(_from_text(part, hint, where) for part, hint in _paired(parts, kind, where))
    if typing.get_origin(kind) is typing.Literal:
        if text in typing.get_args(kind):
            return text
        raise OverrideError(f"--set {where}={text}{nearest(text, map(str, typing.get_args(kind)))}")
    if kind in (str, Path):
        return kind(text)
    if kind is bool and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if kind in (int, float):
        try:
            number: int | float = kind(text)
            if math.isfinite(number):
                return number
        except ValueError:
            pass
    raise OverrideError(f"--set {where}={text}: expected {_named(kind)}")


def _split(text: str) -> list[str]:
    """Split `a,b,(c,d)` at its outer commas; one pair of brackets around it all is optional."""
    parts: list[str] = []
    depth, part = 0, ""
    for place, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if place == len(text) - 1 and not parts and letter in ")]" and text[0] in "([":
            return _split(text[1:-1])
        if letter == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += letter
    return [*parts, part.strip()] if part.strip() else parts


def _paired(parts: list[Any], kind: Any, where: str) -> list[tuple[Any, Any]]:
    """Pair the members of a tuple with their types: `tuple[int, ...]` or `tuple[int, float]`."""
    hints = typing.get_args(kind)
    if len(hints) == 2 and hints[1] is Ellipsis:
        return [(part, hints[0]) for part in parts]
    if len(parts) != len(hints):
        raise OverrideError(f"{where}: expected {_named(kind)}, got {len(parts)} value(s)")
    return list(zip(parts, hints, strict=True))


def _from_plain(value: Any, hint: Any, where: str) -> Any:
    """Check a JSON value against the type `hint` and give it the config's own shape."""
    for option in _options(hint):
        if value is None and option is type(None):
            return None
        if dataclasses.is_dataclass(option) and isinstance(value, Mapping):
            return from_plain(typing.cast(type, option), value, f"{where}.")
        if typing.get_origin(option) is dict and isinstance(value, Mapping):
            member = typing.get_args(option)[1]
            return {k: _from_plain(v, member, f"{where}.{k}") for k, v in value.items()}
        if typing.get_origin(option) is tuple and isinstance(value, list | tuple):
            pairs = _paired(list(value), option, where)
            return tuple(_from_plain(v, h, f"{where}.{i}") for i, (v, h) in enumerate(pairs))
        if typing.get_origin(option) is typing.Literal and value in typing.get_args(option):
            return value
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
    raise OverrideError(f"{where} = {value!r}: expected {_named(hint)}")


def _options(hint: Any) -> list[Any]:
    """Return the members of a union, or the one type."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return list(typing.get_args(hint))
    return [hint]


def _named(hint: Any) -> str:
    """Say a type in words for a message."""
    words: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}
    words |= {str: "text", type(None): "none"}
    if typing.get_origin(hint) is tuple:
        inside = [_named(kind) for kind in typing.get_args(hint) if kind is not Ellipsis]
        if typing.get_args(hint)[-1:] == (Ellipsis,):
            return f"a list of {inside[0]}, with commas"
        return f"{len(inside)} values: {', '.join(inside)}"
    if len(_options(hint)) > 1:
        return " or ".join(_named(option) for option in _options(hint))
    return words.get(hint, getattr(hint, "__name__", str(hint)))
