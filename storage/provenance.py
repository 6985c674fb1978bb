"""Provenance of an artifact as others' tools read it: SLSA's predicate in an in-toto statement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.digests import digest_bytes
from storage.envelopes import statement
from storage.manifests import Manifest, manifest_key

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "urn:vjepa2:stage"
"""What kind of build it is: `externalParameters` are a stage's recipe without its inputs."""


def built(manifest: Manifest, builder: str) -> dict[str, Any]:
    """How an artifact was made, about its manifest and each file of its payload.

    The contents of its inputs are its dependencies; what was asked of the stage are the parameters.
    """
    subjects = {manifest.key: digest_bytes(manifest.to_json())}
    subjects |= {entry.path: entry.digest for entry in manifest.files}
    asked = manifest.recipe_inputs
    return statement(
        subjects,
        PREDICATE,
        {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {
                    name: asked[name]
                    for name in ("stage", "version", "partition", "config", "device")
                    if name in asked
                },
                "internalParameters": {"recipe": manifest.recipe, "content": manifest.content},
                "resolvedDependencies": [*_code(manifest.record), *_parents(manifest)],
            },
            "runDetails": {
                "builder": {"id": f"urn:vjepa2:key:{builder}"},
                "metadata": {"invocationId": manifest.recipe},
            },
        },
    )


def _parents(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {"name": name, "uri": manifest_key(*pair), "digest": {"vjepa2content": pair[1]}}
        for name, pair in sorted(manifest.parents.items())
    ]


def _code(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    commit = record.get("git_commit")
    return [{"name": "code", "digest": {"gitCommit": commit}}] if commit else []
