"""Stages: what one is, what its recipe depends on, and how its artifact is made and sealed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.provenance import environment, source_digest
from pipelines.workspace import Workspace
from storage.artifacts import Artifact, ArtifactError, ArtifactStore, Manifest
from storage.digests import canonical_json, digest_json
from storage.errors import UserError
from storage.manifests import NewerManifestError
from storage.sealing import HeldError
from storage.work import Work

if TYPE_CHECKING:  # its ranges need pydantic, which the home of an exported planner lacks
    from pipelines.execution import ExecutionConfig

SOURCES = "scratch/sources.txt"
_TELL = partial(print, "   ", file=sys.stderr, flush=True)

__all__ = [
    "Inputs", "Materialized", "Stage", "Workspace",
    "differences", "drift", "materialize", "recipe_inputs",
]  # fmt: skip


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
    `resolve(config, execution)` replaces what is asked by what will really be done, such as a
    precision that the device does not have.
    `observe(config, partition, execution)` digests what lies outside the store (a user's files),
    `prepare(config, partition, execution, store)` brings it there first.
    `note(artifact, execution)` keeps the deployment's own books of what it shows.
    """

    name: str
    version: int
    config: type
    run: Callable[[Any, Inputs, Workspace], dict[str, Any]]
    narrow: Callable[[Any, str | None], Any] | None = None
    observe: Callable[[Any, str | None, ExecutionConfig], Mapping[str, Any]] | None = None
    resolve: Callable[[Any, ExecutionConfig], Any] | None = None
    prepare: Callable[[Any, str | None, ExecutionConfig, str], None] | None = None
    note: Callable[[Artifact, ExecutionConfig], None] | None = None
    on_device: bool = False
    """Whether the bits of its artifact depend on the type of device that it is computed on."""
    paths: tuple[str, ...] = ()
    """Fields of its config that say where something lies whose digest `observe` gives: what it is
    counts for the recipe, and not where."""

    def settled(self, config: Any, partition: str | None, execution: ExecutionConfig) -> Any:
        """What `run` is given: the config narrowed to a partition and resolved."""
        narrowed = self.narrow(config, partition) if self.narrow else config
        return self.resolve(narrowed, execution) if self.resolve else narrowed


@dataclass(frozen=True)
class Materialized:
    """An artifact, whether it was there already, and a warning when today's code is another."""

    artifact: Artifact
    reused: bool
    warning: str = ""


def recipe_inputs(
    stage: Stage,
    config: Any,
    contents: Mapping[str, str],
    partition: str | None,
    execution: ExecutionConfig,
) -> dict[str, Any]:
    """Everything that the artifact's bytes may depend on."""
    settled = asdict(stage.settled(config, partition, execution))
    asked: dict[str, Any] = {
        "stage": stage.name,
        "version": stage.version,
        "partition": partition,
        "config": {name: value for name, value in settled.items() if name not in stage.paths},
        "inputs": dict(contents),
    }
    if stage.on_device:
        asked["device"] = execution.device
    if stage.observe and (seen := stage.observe(config, partition, execution)):
        asked["external_inputs"] = dict(seen)
    # Through JSON and back: today's inputs compare equal to those that a manifest holds.
    return dict(json.loads(canonical_json(asked)))


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """What changed from one recipe's inputs to another's, one readable line each."""
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


def drift(stage: Stage, manifest: Manifest) -> str:
    """A warning when sources other than today's had a part in an artifact of the same version."""
    if manifest.record.get("resumed_from"):
        return (
            f"{manifest.name} was begun by other sources of stage {stage.name} than finished it; "
            "if they give other bytes, raise the version"
        )
    if manifest.record.get("source_digest") == source_digest(stage.run.__module__):
        return ""
    return (
        f"{manifest.name} was made by other sources of stage {stage.name} version {stage.version}; "
        "if they now give other bytes, raise the version"
    )


def materialize(
    store: ArtifactStore,
    stage: Stage,
    config: Any,
    inputs: Mapping[str, Artifact],
    *,
    asset: str,
    partition: str | None,
    execution: ExecutionConfig,
    holder: str = "",
    tell: Callable[[str], None] = _TELL,
) -> Materialized:
    """Make the artifact of a recipe, or find it, and show it under the asset's name.

    While another process makes the very same, this one waits and takes its answer; `tell` says so.
    `holder` is how others are told of us while they wait.
    """
    contents = {name: a.content for name, a in inputs.items()}
    if stage.prepare:
        stage.prepare(config, partition, execution, store.place.location)
    asked = recipe_inputs(stage, config, contents, partition, execution)
    recipe = digest_json(asked)
    draft = {
        "asset": asset, "partition": partition, "recipe_inputs": asked, "recipe": recipe,
        "parents": {name: (a.manifest.recipe, a.content) for name, a in inputs.items()},
    }  # fmt: skip
    make = partial(_make, store, stage, config, Inputs(inputs), execution, draft)
    artifact, reused = _answer(store, recipe, make, holder, tell)
    store.set_ref(asset, partition, artifact.manifest)
    if stage.note:
        stage.note(artifact, execution)
    told = drift(stage, artifact.manifest), store.doubt(artifact.manifest).told
    return Materialized(artifact, reused, "; ".join(filter(None, told)))


def _answer(
    store: ArtifactStore,
    recipe: str,
    make: Callable[[Path], Manifest],
    holder: str,
    tell: Callable[[str], None],
) -> tuple[Artifact, bool]:
    """The artifact of a recipe, and whether another one made it."""
    while (artifact := _found(store, recipe)) is None:
        try:
            with store.work(recipe, holder) as work:
                manifest = store.resume_sealing(work) or make(work)
            return store.open(manifest), False
        except HeldError as held:
            tell(f"waits for {held.holder}, which makes the same")
            while store.holder(recipe):
                time.sleep(1.0)
        except UserError:
            # Another machine may have sealed it meanwhile, and cleared what this one still needed.
            if (artifact := _found(store, recipe)) is None:
                raise
            break
    store.discard(recipe)
    return artifact, True


def _found(store: ArtifactStore, recipe: str) -> Artifact | None:
    """The first artifact under a recipe whose payload is whole.

    Raises:
        NewerManifestError: there is none, and one that another version of this code made.
    """
    unread: list[ArtifactError] = []
    for manifest in store.manifests(f"{recipe}/", unread):
        artifact = store.handle(manifest)
        try:
            store.check(artifact)
            if (doubt := store.doubt(manifest)).refused:
                raise ArtifactError(f"{manifest.name}: {doubt.told}")
            return artifact
        except ArtifactError as error:
            unread.append(error)
    for problem in unread:
        if isinstance(problem, NewerManifestError):
            raise problem
        print(f"    {problem}: making it again", file=sys.stderr, flush=True)
    return None


def _make(
    store: ArtifactStore,
    stage: Stage,
    config: Any,
    inputs: Inputs,
    execution: ExecutionConfig,
    draft: Mapping[str, Any],
    work: Path,
) -> Manifest:
    out = Workspace(
        work / "payload", work / "scratch", draft["partition"], execution,
        store.shared_work(work), results=store.results,
        recipe=draft["recipe"], observed=draft["recipe_inputs"].get("external_inputs", {}),
    )  # fmt: skip
    begun_by = _note_sources(out.work, today := source_digest(stage.run.__module__))
    out.payload.mkdir(exist_ok=True)
    out.scratch.mkdir(exist_ok=True)
    settled = stage.settled(config, out.partition, execution)
    started, began = time.time(), time.monotonic()  # a clock may be set back meanwhile
    metrics = stage.run(settled, inputs, out)
    _refuse_odd_metrics(stage, metrics)
    record = environment(stage.run.__module__) | {
        "device": execution.device,
        "workers": execution.workers,
        "metrics": metrics,
        "resumed": bool(begun_by),
        "resumed_from": [digest for digest in begun_by if digest != today],
        "started": round(started, 3),
        "seconds": round(time.monotonic() - began, 3),
    }
    if "media" in metrics:
        record["media"] = metrics["media"]
    return store.seal(work, {**draft, "record": record}, out.remote)


def _note_sources(work: Work, today: str) -> list[str]:
    """Note for every machine which sources work on an artifact; returns those noted before."""
    known = (work.read_note(SOURCES) or b"").decode().split()
    if today not in known:
        work.note(SOURCES, "\n".join([*known, today]).encode())
    return known


def _refuse_odd_metrics(stage: Stage, metrics: Any) -> None:
    try:
        canonical_json(metrics)
    except TypeError as error:
        raise ArtifactError(
            f"stage {stage.name} returned metrics that no manifest can hold: {error}"
        ) from None


def _short(value: Any) -> str:
    text = str(value)
    is_digest = isinstance(value, str) and len(value) == 64
    return text[:12] if is_digest else text if len(text) <= 60 else text[:57] + "..."
