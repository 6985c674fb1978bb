"""Small artifacts and workspaces for the tests of curation stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.stage import How, Inputs, Workspace
from storage.artifacts import Artifact, Manifest, content_digest, list_files
from storage.tables import write_table


def artifact(path: Path, name: str, record: Mapping[str, Any] | None = None) -> Artifact:
    """What is in a folder, as the artifact `asset` or `asset/partition`."""
    asset, _, partition = name.partition("/")
    files = list_files(path)
    manifest = Manifest(
        asset, partition or None, {}, "0" * 64, content_digest(files), files, {}, dict(record or {})
    )
    return Artifact(manifest, path)


def inputs(**artifacts: Artifact) -> Inputs:
    """Inputs by asset name."""
    return Inputs(artifacts)


def workspace(root: Path, partition: str | None = None, workers: int = 2) -> Workspace:
    """An empty workspace under `root`."""
    for name in ("payload", "scratch"):
        (root / name).mkdir(parents=True, exist_ok=True)
    how = How(workers=workers, cache=root / "cache")
    return Workspace(root / "payload", root / "scratch", partition, how)


def embeddings(root: Path, partition: str, vectors: np.ndarray, **columns: list[Any]) -> Artifact:
    """A scene_embeddings artifact of the given vectors, scenes named `<partition>-<row>`."""
    root.mkdir(parents=True)
    np.save(root / "embeddings.npy", np.asarray(vectors, np.float32))
    splits = columns.get("split", [None] * len(vectors))
    rows = [
        {"scene_id": f"{partition}-{row}", "source": partition.split("-")[0], "split": split}
        for row, split in enumerate(splits)
    ]
    schema = {"scene_id": "string", "source": "string", "split": "string"}
    write_table(root / "rows.parquet", rows, schema)
    return artifact(root, f"scene_embeddings/{partition}")


def scene(scene_id: str, **changes: Any) -> dict[str, Any]:
    """One row of scenes.parquet."""
    row = {
        "scene_id": scene_id, "video_id": f"video-{scene_id}", "source": "yt1b", "path": "a.mp4",
        "sha256": "0" * 64, "kind": "video", "start": 0.0, "end": 4.0, "start_frame": 0,
        "end_frame": 100, "fps": 25.0, "cut": "detected", "label": None, "split": None,
    }  # fmt: skip
    return row | changes


def content(out: Workspace) -> str:
    """Digest of a payload."""
    return content_digest(list_files(out.payload))
