"""Small artifacts and workspaces for the tests of curation stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.curation.retrieval import CURATED
from pipelines.curation.scenes import COLUMNS as SCENES
from pipelines.stage import Inputs, Workspace
from storage.artifacts import Artifact
from storage.digests import digest_bytes
from storage.manifests import content_digest, list_files
from storage.tables import write_table
from tests.pipelines.builders import artifact


def inputs(**artifacts: Artifact) -> Inputs:
    """Inputs by asset name."""
    return Inputs(artifacts)


def embeddings(root: Path, partition: str, vectors: np.ndarray, **columns: list[Any]) -> Artifact:
    """A scene_embeddings artifact of the given vectors.

    Scenes are named `<partition>-<row>`, unless `scene_id` says otherwise.
    """
    root.mkdir(parents=True)
    np.save(root / "embeddings.npy", np.asarray(vectors, np.float32))
    splits = columns.get("split", [None] * len(vectors))
    names = columns.get("scene_id", [f"{partition}-{row}" for row in range(len(vectors))])
    rows = [
        {"scene_id": name, "source": partition.split("-")[0], "split": split}
        for name, split in zip(names, splits, strict=True)
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


def moving(frames: int, seed: int = 0, height: int = 96, width: int = 128) -> list[np.ndarray]:
    """A bright square on a coloured ground, moving to the right: [H, W, 3] frames."""
    generator = np.random.default_rng(seed)
    ground, square = generator.integers(0, 255, (2, 3), dtype=np.uint8)
    pictures = []
    for t in range(frames):
        picture = np.tile(ground, (height, width, 1))
        left = 2 * t % (width - 24)
        picture[20:60, left : left + 24] = square
        pictures.append(picture)
    return pictures


def raw_videos(root: Path, files: Mapping[str, bytes], source: str = "yt1b") -> Artifact:
    """A raw_videos artifact whose payload holds the files (path -> bytes)."""
    rows = []
    for name, data in files.items():
        path = root / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        digest = digest_bytes(data)
        image = path.suffix in (".jpg", ".png")
        rows.append({
            "video_id": digest[:32], "source": source, "path": name, "sha256": digest,
            "kind": "image" if image else "video", "width": 128, "height": 96,
        })  # fmt: skip
    schema = dict.fromkeys(("video_id", "source", "path", "sha256", "kind"), "string")
    write_table(root / "videos.parquet", rows, schema | {"width": "int32", "height": "int32"})
    return artifact(root, f"raw_videos/{source}", {"media": "payload"})


def scenes(
    root: Path, raw: Artifact, spans: list[tuple[str, float, float]], **changes: Any
) -> Artifact:
    """A scenes artifact of (path, start, end) spans of the raw videos, at 25 frames a second."""
    known = {row["path"]: row for row in raw.table("videos.parquet")}
    rows = []
    for path, start, end in spans:
        video = {name: known[path][name] for name in ("video_id", "source", "sha256", "kind")}
        first, last = round(start * 25), round(end * 25)
        scene_id = digest_bytes(f"{video['video_id']}:{first}:{last}".encode())[:32]
        rows.append(scene(
            scene_id, **video, path=path, start=start, end=end, start_frame=first, end_frame=last,
        ) | changes)  # fmt: skip
    root.mkdir(parents=True)
    schema = CURATED if "draws" in changes else SCENES
    write_table(root / "scenes.parquet", rows, schema)
    return artifact(root, "curated_scenes" if "draws" in changes else "scenes")
