"""`--set encoder.lr=1e-4`: assignments of text to the settings of a config."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pipelines.schemas import Spec, inside_of, is_group, members, nearest
from pipelines.settings import Refusal, SettingError, leaves, plain, spec_of, validated

T = TypeVar("T")


def override(config: T, assignments: Iterable[str]) -> T:
    """Return `config` with every `path=value` of `assignments` applied; a path's last one wins.

    `config` is a dataclass instance, possibly nested; a mapping is entered by its keys, a tuple of
    dataclasses by its members' `name` or position. All new values of one dataclass are checked
    together. Raises SettingError for an unknown path, a value that is not of the field's type or
    out of its range, and a combination that the dataclass itself refuses.
    """
    texts, spec = _assigned(assignments), spec_of(type(config))
    tree = plain(config)
    for path, text in texts.items():
        _plant(tree, spec, path, text)
    return validated(type(config), tree, strict=False, line=lambda told: _line(told, texts))


def _line(told: Refusal, texts: Mapping[str, str]) -> str:
    """Name the assignment that is refused, as it was written."""
    place = told.place
    path = next((path for path in texts if f"{place}.".startswith(f"{path}.")), None)
    if path is None:
        return f"--set {place or '/'.join(texts)}: {told.said}"
    inside = told.line() if place != path else told.said
    return f"--set {path}={texts[path]}: {inside}"


def _assigned(assignments: Iterable[str]) -> dict[str, str]:
    """Path -> text, in the order in which they were last given."""
    texts: dict[str, str] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        path = path.strip()
        if not equals or not path:
            raise SettingError(f"--set {assignment!r}: write name=value, e.g. encoder.lr=1e-4")
        texts[path] = text.strip()
    for path in texts:
        for whole in texts:
            if path.startswith(f"{whole}."):
                raise SettingError(f"--set {path}: {whole} is set as a whole by another --set")
    return texts


def _plant(tree: Any, root: Spec, path: str, text: str) -> None:
    """Put the text of one assignment into the JSON-able twin of a config."""
    *branches, leaf = path.split(".")
    node, spec, where = tree, root, ""
    for name in branches:
        where = _known(f"{where}{name}", name, node, spec, (tree, root))
        found, inside = members(node, spec), inside_of(spec, name)
        if not is_group(inside):
            raise SettingError(f"--set {path}: {where} has no fields")
        if found[name] is None:  # an optional group: what is not set keeps its default
            node[name] = found[name] = {}
        node, spec, where = found[name], inside, f"{where}."
    _known(path, leaf, node, spec, (tree, root))
    node[leaf] = _read(path, text, inside_of(spec, leaf), members(node, spec)[leaf])


def _known(path: str, name: str, node: Any, spec: Spec, top: tuple[Any, Spec]) -> str:
    """Return the path if its last name is known; else word the refusal.

    A near sibling is suggested first, else a setting of that last name anywhere.
    """
    siblings = list(members(node, spec))
    if name in siblings:
        return path
    near = nearest(name, siblings, listed=False)
    elsewhere = (leaf.path for leaf in leaves(*top) if leaf.path.rsplit(".", 1)[-1] == name)
    if not near and (full := next(elsewhere, None)):
        near = f"; did you mean {full}?"
    raise SettingError(f"--set {path}: no such setting{near or nearest(name, siblings)}")


def _read(path: str, text: str, spec: Spec, value: Any) -> Any:
    """Give text the shape of its setting: None, a list, or text that pydantic reads."""
    if spec.get("nullable") and text.lower() in ("none", "null"):
        return None
    if is_group(spec):
        inside = ", ".join(members(value, spec))
        raise SettingError(f"--set {path}: it is a group; set one of its fields: {inside}")
    if spec.get("type") != "array":
        return text
    if inside_of(spec, 0).get("type") == "string":
        parts = (part.strip(" '\"") for part in text.strip("()[] ").split(","))
        return [part for part in parts if part]
    try:
        values = ast.literal_eval(f"[{text}]")
    except (ValueError, SyntaxError):
        return text
    # One pair of brackets around it all is optional.
    return values[0] if len(values) == 1 and isinstance(values[0], list | tuple) else values
