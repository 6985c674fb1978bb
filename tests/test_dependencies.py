"""What is imported is declared, and what is installed is pinned.

- Every distribution that the rooms or the tests import stands in pyproject.toml by itself, and is
  not only there because something else happens to bring it.
- `.constraints.txt` gives one version of everything that these distributions bring in on a CPU, the
  one that pyproject.toml asks for where it asks, and no address of an index.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_architecture import ROOMS, ROOT, imports, modules

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
RUNNING = [
    *PROJECT["dependencies"], *EXTRAS["cpu"], *EXTRAS["gpu"], *EXTRAS["hf"], *EXTRAS["tensorboard"],
    *EXTRAS["mlflow"], *EXTRAS["shots"],
]  # fmt: skip
PINS = (ROOT / ".constraints.txt").read_text().splitlines()
OURS = {*ROOMS, "tests"}
PEERS = {"decord", "imageio_ffmpeg"}
"""What a benchmark measures against where somebody has installed it, and goes without elsewhere."""
CUDA_ALONE = ("nvidia-", "cuda-", "triton")
"""How the names begin of what the CUDA build of torch brings, each version pinned by torch."""


def undeclared(folders: Iterable[str], requirements: Iterable[str]) -> set[str]:
    """`package (the distributions that hold it)` for what is imported and not required."""
    holders = packages_distributions()
    declared = {canonicalize_name(Requirement(text).name) for text in requirements}
    packages = {i.split(".")[0] for module in modules(*folders) for i in imports(module)}
    return {
        f"{package} ({', '.join(holders.get(package, ['not installed']))})"
        for package in packages - OURS - sys.stdlib_module_names
        if not {canonicalize_name(name) for name in holders.get(package, [])} & declared
    }


def test_what_the_rooms_import_is_declared() -> None:
    assert undeclared(ROOMS, RUNNING) == set()


def test_what_the_tests_import_is_declared() -> None:
    found = undeclared(["tests"], [*RUNNING, *EXTRAS["test"]])
    assert {text for text in found if text.split(" ")[0] not in PEERS} == set()


def test_a_missing_declaration_is_found() -> None:
    assert "pytest (pytest)" in undeclared(["tests"], ["torch"])
    assert "PIL (pillow)" in undeclared(["assets"], ["matplotlib==3.11.0"])


def brought_in(requirements: Iterable[str]) -> set[str]:
    """The distributions that some requirements bring into this environment, themselves included."""
    queue = [(Requirement(text), "") for text in requirements]
    seen: set[tuple[str, str]] = set()
    while queue:
        wanted, extra = queue.pop()
        name = canonicalize_name(wanted.name)
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        for inner in {"", *wanted.extras} - {e for n, e in seen if n == name}:
            seen.add((name, inner))
            try:
                below = requires(name) or []
            except PackageNotFoundError:
                below = []  # of the other extra: cpu and gpu exclude each other
            queue += [(Requirement(text), inner) for text in below]
    return {name for name, _ in seen}


def test_one_version_is_pinned_of_everything_that_is_brought_in() -> None:
    pinned = dict(line.split("==") for line in PINS if not line.startswith("#"))
    asked = [*PROJECT["dependencies"], *EXTRAS["cpu"], *EXTRAS["hf"], *EXTRAS["test"]]
    found = {name for name in brought_in(asked) if not name.startswith(CUDA_ALONE)}
    assert {"torch", "dagster-shared", "markupsafe", "faiss-cpu"} <= found and len(found) > 150
    assert found <= pinned.keys(), f"run `make constraints`: {sorted(found - pinned.keys())}"
    for requirement in map(Requirement, asked):
        version = pinned[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"run `make constraints`: {requirement}"
    for built in map(Requirement, PYPROJECT["build-system"]["requires"]):
        assert pinned[canonicalize_name(built.name)] in built.specifier


def test_pins_name_versions_and_no_place_to_fetch_them_from() -> None:
    pins = [line for line in PINS if not line.startswith("#")]
    assert len(pins) > 150
    assert [p for p in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", p)] == []


def test_what_make_installs_alone_is_pinned_too() -> None:
    alone = re.findall(r"^(?:INSTALLER|PEER) := (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert len(alone) == 2 and set(alone) <= set(PINS)
