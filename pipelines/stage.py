"""Stages: what one is, how its question is asked, and how its answer is made and sealed."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from storage.artifacts import Artifact, ArtifactStore, Manifest
from storage.digests import canonical_json, digest_bytes, digest_json

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("assets", "models", "pipelines", "storage")


@dataclass(frozen=True, kw_only=True)
class How:
    """How a stage is run: recorded beside the answer, never part of the question."""

    workers: int = 2
    """Ray workers of a stage."""
    device: str = "cpu"
    """Where tensors live: cpu or cuda."""
    cache: Path = field(default_factory=lambda: ROOT / "dagster_home" / "cache")
    """A folder for what may be lost: digests of source files, copies of S3 objects."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"how.workers is {self.workers}; give at least 1")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"how.device is {self.device!r}; give 'cpu' or 'cuda'")


@dataclass(frozen=True)
class Workspace:
    """Where a stage writes: `payload` becomes the artifact, `scratch` survives a kill."""

    payload: Path
    scratch: Path
    partition: str | None
    how: How


class Inputs(Mapping[str, Artifact]):
    """A stage's upstream artifacts, by name; partitioned upstreams by `name/partition`."""

    def __init__(self, artifacts: Mapping[str, Artifact]) -> None:
        self._artifacts = dict(sorted(artifacts.items()))

    def __getitem__(self, name: str) -> Artifact:
        if name in self._artifacts:
            return self._artifacts[name]
        parts = self.parts(name)
        if len(parts) == 1:
            return next(iter(parts.values()))
        raise KeyError(f"{name}: have {list(self._artifacts)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._artifacts)

    def __len__(self) -> int:
        return len(self._artifacts)

    def __contains__(self, name: object) -> bool:
        return name in self._artifacts or bool(self.parts(str(name)))

    def parts(self, name: str) -> dict[str, Artifact]:
        """Partition -> artifact of a partitioned upstream, sorted by partition."""
        start = f"{name}/"
        return {k[len(start) :]: a for k, a in self._artifacts.items() if k.startswith(start)}


@dataclass(frozen=True)
class Stage:
    """One verb: a name, a version that a person raises, its config and its `run`.

    `narrow(config, partition)` leaves the part of the config that one partition depends on.
    `observe(config, partition, how)` digests what lies outside the store (a user's files).
    """

    name: str
    version: int
    config: type
    run: Callable[[Any, Inputs, Workspace], dict[str, Any]]
    narrow: Callable[[Any, str | None], Any] | None = None
    observe: Callable[[Any, str | None, How], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Materialised:
    """An answer, and whether it was there already."""

    artifact: Artifact
    reused: bool


def question(
    stage: Stage, config: Any, contents: Mapping[str, str], partition: str | None, how: How
) -> dict[str, Any]:
    """What a stage is asked: everything that the answer's bytes may depend on."""
    narrowed = stage.narrow(config, partition) if stage.narrow else config
    asked: dict[str, Any] = {
        "stage": stage.name,
        "version": stage.version,
        "partition": partition,
        "config": asdict(narrowed),
        "inputs": dict(contents),
    }
    if stage.observe and (seen := stage.observe(config, partition, how)):
        asked["world"] = dict(seen)
    # Through JSON and back: today's question compares equal to the one that a manifest holds.
    return dict(json.loads(canonical_json(asked)))


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """What changed from one question to another, one readable line each."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            place = f"{where}.{name}" if where else name
            if name not in old:
                yield f"{place} is new"
            elif name not in new:
                yield f"{place} is gone"
            else:
                yield from differences(old[name], new[name], place)
    elif old != new:
        yield f"{where}: {_short(old)} -> {_short(new)}"


def materialise(
    store: ArtifactStore,
    stage: Stage,
    config: Any,
    inputs: Mapping[str, Artifact],
    *,
    asset: str,
    partition: str | None,
    how: How,
) -> Materialised:
    """Answer a stage's question, or find the answer, and show it under the asset's name."""
    contents = {name: artifact.content for name, artifact in inputs.items()}
    asked = question(stage, config, contents, partition, how)
    recipe = digest_json(asked)
    manifest, reused = store.find(recipe), True
    if manifest is None:
        reused = False
        with store.work(recipe) as work:
            manifest = store.resume_sealing(work)
            if manifest is None:
                draft = {
                    "asset": asset,
                    "partition": partition,
                    "question": asked,
                    "recipe": recipe,
                    "parents": {n: (a.manifest.recipe, a.content) for n, a in inputs.items()},
                }
                manifest = _answer(store, work, stage, config, Inputs(inputs), how, draft)
    artifact = store.open(manifest)
    store.set_ref(asset, partition, manifest)
    return Materialised(artifact, reused)


def _answer(
    store: ArtifactStore,
    work: Path,
    stage: Stage,
    config: Any,
    inputs: Inputs,
    how: How,
    draft: Mapping[str, Any],
) -> Manifest:
    out = Workspace(work / "payload", work / "scratch", draft["partition"], how)
    out.payload.mkdir(exist_ok=True)
    out.scratch.mkdir(exist_ok=True)
    narrowed = stage.narrow(config, out.partition) if stage.narrow else config
    started = time.time()
    metrics = stage.run(narrowed, inputs, out)
    record = environment(stage, how) | {
        "metrics": metrics,
        "started": round(started, 3),
        "seconds": round(time.time() - started, 3),
    }
    if "media" in metrics:
        record["media"] = metrics["media"]
    return store.seal(work, {**draft, "record": record})


def environment(stage: Stage, how: How) -> dict[str, Any]:
    """What an answer was made with: code, interpreter, libraries, machine kind."""
    commit, dirty = _git()
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "source_digest": source_digest(sys.modules[stage.run.__module__].__name__),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "platform": platform.platform(),
        "device": how.device,
        "workers": how.workers,
    }


@cache
def source_digest(module: str) -> str:
    """Digest of a module's source and of every module of our rooms that it imports, in turn."""
    sources: dict[str, str] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        path = _source_of(name)
        if path is None or name in sources:
            continue
        data = path.read_bytes()
        sources[name] = digest_bytes(data)
        queue.extend(_imports(ast.parse(data)))
    return digest_json(sources)


def _imports(tree: ast.Module) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _source_of(module: str) -> Path | None:
    if module.split(".")[0] not in ROOMS:
        return None
    path = ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((p for p in candidates if p.is_file()), None)


@cache
def _git() -> tuple[str | None, bool | None]:
    def ask(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return None, None  # installed without its repository: recorded as unknown


def _short(value: Any) -> str:
    text = str(value)
    is_digest = isinstance(value, str) and len(value) == 64
    return text[:12] if is_digest else text if len(text) <= 60 else text[:57] + "..."
