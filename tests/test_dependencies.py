"""What is imported is declared: every distribution that the rooms or the tests import stands in
pyproject.toml by itself, and is not only there because something else happens to bring it.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions

from tests.test_architecture import ROOMS, ROOT, imports, modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {*ROOMS, "tests"}


def normal(name: str) -> str:
    """A distribution's name as indices compare it: `PyYAML` and `pyyaml` are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: Iterable[str]) -> set[str]:
    """The distributions that some requirements (`ray[default]==2.60.0`) name."""
    found = (re.match(r"[\w.-]+", requirement) for requirement in requirements)
    return {normal(match[0]) for match in found if match}


def undeclared(folders: Iterable[str], requirements: Iterable[str]) -> set[str]:
    """`package (the distributions that hold it)` for what is imported and not required."""
    holders, declared = packages_distributions(), names(requirements)
    packages = {i.split(".")[0] for module in modules(*folders) for i in imports(module)}
    foreign = packages - OURS - sys.stdlib_module_names
    return {
        f"{package} ({', '.join(holders.get(package, ['not installed']))})"
        for package in foreign
        if not {normal(holder) for holder in holders.get(package, [])} & declared
    }


def test_what_the_rooms_import_is_declared() -> None:
    running = [r for extra, rs in EXTRAS.items() if extra != "test" for r in rs]
    assert undeclared(ROOMS, [*PROJECT["dependencies"], *running]) == set()


def test_what_the_tests_import_is_declared() -> None:
    testing = [r for rs in EXTRAS.values() for r in rs]
    assert undeclared(["tests"], [*PROJECT["dependencies"], *testing]) == set()


def test_a_missing_declaration_is_found() -> None:
    assert "pytest (pytest)" in undeclared(["tests"], ["torch"])
    assert "PIL (pillow)" in undeclared(["assets"], ["matplotlib==3.11.0"])
