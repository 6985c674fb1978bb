"""What tests of every stage build: artifacts, workspaces, finished trainings (no tests in here)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from models.checkpoints import save_weights
from pipelines.execution import ExecutionConfig
from pipelines.stage import Workspace
from storage.artifacts import Artifact, Manifest
from storage.digests import digest_json
from storage.manifests import content_digest, list_files
from storage.payloads import LocalPayload
from storage.work import noting_kept


def artifact(
    folder: Path,
    name: str,
    record: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Artifact:
    """What is in a folder, as the artifact `asset` or `asset/partition`."""
    asset, _, partition = name.partition("/")
    asked = {"stage": asset, "config": dict(config or {})}
    recipe, files = digest_json(asked), list_files(folder)
    manifest = Manifest(
        asset, partition or None, asked, recipe, content_digest(files), files, {},
        dict(record or {}),
    )  # fmt: skip
    return Artifact(manifest, LocalPayload(folder))


def workspace(folder: Path, partition: str | None = None, *, workers: int = 1) -> Workspace:
    """A workspace in a folder, with whatever lies there already."""
    for name in ("payload", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    execution = ExecutionConfig(workers=workers, cache=folder / "cache")
    return Workspace(folder / "payload", folder / "scratch", partition, execution)


def finished_training(
    folder: Path, name: str, networks: Mapping[str, nn.Module], **described: object
) -> Artifact:
    """Networks as a training stage leaves them; `described` is what it says of the architecture."""
    checkpoint = "checkpoints/step-000007"
    for label, network in networks.items():
        save_weights(folder / checkpoint / f"{label}.safetensors", network.state_dict())
    model = {"architecture": described, "final": checkpoint, "step": 7}
    (folder / "model.json").write_text(json.dumps(model))
    return artifact(folder, name)


def map_in_turn(
    out: Workspace, function: Callable[[Any], Any], items: Mapping[str, Any], *, noun: str
) -> dict[str, Any]:
    """`Workspace.map` without Ray: in this process, with what JSON makes of the results."""
    results = {}
    for key, item in items.items():
        with noting_kept() as files:
            results[key] = json.loads(json.dumps(function(item)))
        out.note_kept(files)
    return results
