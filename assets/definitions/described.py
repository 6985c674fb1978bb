"""What the page of an asset tells of an artifact: what moved, its numbers, pictures and place."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import dagster as dg

from pipelines.node import Node
from pipelines.stage import Materialized, differences
from storage.artifacts import Artifact, ArtifactError, ArtifactStore, Manifest

MOVED = "moved/"
"""How the names begin under which a page says what is another than before."""


def told(made: Materialized) -> str:
    """One line on an artifact, for the run's log."""
    manifest = made.artifact.manifest
    verb = "had been made before" if made.reused else f"made in {manifest.record['seconds']:.1f} s"
    return f"{manifest.name} {verb}: {len(manifest.files)} files, {manifest.size / 1e6:.2f} MB"


def moved(
    node: Node, before: Manifest | None, now: Artifact, store: ArtifactStore
) -> Iterator[tuple[str, Any]]:
    """Why an artifact has other bytes than what was shown before it, and what its node counts;
    the names begin with MOVED.
    """
    if before is None or before.content == now.content:
        return
    old, new = before.recipe_inputs, now.manifest.recipe_inputs
    why = list(differences(old, new))
    more = f" (and {len(why) - 3} more)" if len(why) > 3 else ""
    yield f"{MOVED}why", "; ".join(why[:3]) + more
    if node.moved and old["version"] == new["version"]:
        with suppress(ArtifactError):  # what was shown before may have been cleared away
            told = node.moved(store.open(before), now)
            yield from ((f"{MOVED}{name}", value) for name, value in told.items())


def described(made: Materialized, store: ArtifactStore) -> dict[str, Any]:
    """What an artifact is filed under, where it is, and what it cost."""
    manifest = made.artifact.manifest
    return {
        "recipe": manifest.recipe,
        "content": manifest.content,
        "manifest": dg.MetadataValue.path(f"{store.place.location}/{manifest.key}"),
        "payload": dg.MetadataValue.path(made.artifact.location),
        "size (MB)": round(manifest.size / 1e6, 3),
        "files": len(manifest.files),
        "seconds": float(manifest.record["seconds"]),
        "reused": made.reused,
    }


def numbers(manifest: Manifest) -> Iterator[tuple[str, int | float | str | bool]]:
    """The stage's metrics, flattened: (`sources.ssv2.samples`, 12). Lists stay in the manifest."""

    def walk(value: Any, name: str) -> Iterator[tuple[str, int | float | str | bool]]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from walk(inner, f"{name}.{key}" if name else str(key))
        elif isinstance(value, int | float | str):
            yield name, value

    return walk(manifest.record.get("metrics", {}), "")


def markdown(title: str, picture: bytes) -> str:
    """A PNG inside markdown, which is how Dagster shows a picture beside an asset."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(picture).decode()})"
