"""Siblings: the partitions of one asset that something is made from together, made alike or not.

A partition that was made under other settings than its siblings (from a launchpad, say) fits what
is made from it alone. What is made from several of them would mix two experiments without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from pipelines.graph import key_name
from pipelines.node import Graph, Profile
from storage.artifacts import Artifact, ArtifactError, ArtifactStore, Manifest
from storage.errors import UserError


class MixedError(UserError):
    """Partitions that are to be read together were made under different settings."""


def refuse_mixed(
    graph: Graph, name: str, inputs: Iterable[Artifact], profile: Profile, store: ArtifactStore
) -> None:
    """Raise MixedError if some partitions that `name` is made from, or what those were made from,
    differ in a setting that the profile gives to all of them alike.
    """
    read = _several([artifact.manifest for artifact in inputs])
    for asset, manifests in sorted(_by_asset(_with_ancestors(read, store)).items()):
        if asset in graph.by_name and (odd := _odd_setting(graph, manifests, profile)):
            raise MixedError(
                f"{name} would mix partitions that were made under different settings: {odd}; "
                f"make them alike first: `vjepa2 run {name.partition('/')[0]}`, or the job `stale`"
            )


def _several(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Those that are read together with another partition of their asset."""
    return [m for group in _by_asset(manifests).values() if len(group) > 1 for m in group]


def _by_asset(manifests: Iterable[Manifest]) -> dict[str, list[Manifest]]:
    found: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        found.setdefault(manifest.asset, []).append(manifest)
    return found


def _with_ancestors(manifests: Iterable[Manifest], store: ArtifactStore) -> Iterator[Manifest]:
    """Each once; what cannot be read any more is left out."""
    seen: set[tuple[str, str]] = set()
    todo = list(manifests)
    while todo:
        manifest = todo.pop()
        yield manifest
        for digests in manifest.parents.values():
            if digests not in seen:
                seen.add(digests)
                try:
                    todo.append(store.manifest(*digests))
                except ArtifactError:
                    continue


def _odd_setting(graph: Graph, manifests: list[Manifest], profile: Profile) -> str:
    """The first setting in which some artifacts of an asset differ and should not; "" for none."""
    stage = graph[manifests[0].asset].stage
    config = getattr(profile, stage.name)
    made: dict[tuple[str, str], dict[str, list[str]]] = {}
    for manifest in manifests:
        settled = asdict(stage.settled(config, manifest.partition, profile.execution))
        asked = dict(_leaves({"config": settled, "version": stage.version}))
        told = dict(_leaves({k: manifest.recipe_inputs[k] for k in ("config", "version")}))
        name = key_name((manifest.asset, manifest.partition))
        for path in asked.keys() & told.keys():
            alike = made.setdefault((path, asked[path]), {})
            alike.setdefault(told[path], []).append(name)
    for (path, _), values in sorted(made.items()):
        if len(values) > 1:
            few, *_, many = sorted(values, key=lambda value: (len(values[value]), value))
            return f"{_some(values[few])} with {path} {few}, {_some(values[many])} with {many}"
    return ""


def _some(names: list[str]) -> str:
    """At most three names."""
    names = sorted(set(names))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        yield path, str(list(value))
    else:
        yield path, str(value)
