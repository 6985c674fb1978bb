"""Leakage guard: YT1B scenes that show what an encoder will be judged on are not trained on.

As in DINOv2 (Oquab 2023, appendix A): a scene whose cosine with a clip of an evaluation is at least
`similarity` is dropped, and with it all its near-duplicates (`near_duplicates`), the one that was
kept of them too. Clips of an evaluation are those that the retrieval targets hold out, and all of
the `sources` that are named. Each of them is compared with every scene of the pool.

Reads `clusters`, `near_duplicates`, `scene_embeddings`. Payload, of scenes that `near_duplicates`
kept:
    dropped/<partition>.parquet  scene_id, cluster, of (the evaluation's scene), similarity to it
    clusters.parquet             dropped: how many scenes of every cluster
    quarantine.parquet           empty: nothing is opened here
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.kmeans import block_rows
from pipelines.curation.labels import HELD_OUT
from pipelines.curation.near_duplicates import DROPPED, write_dropped
from pipelines.curation.sources import POOL
from pipelines.node import source_of
from pipelines.settings import DIFFERENT, Share, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.arrays import read_blocks
from storage.artifacts import Artifact


@settings
class LeakageGuardConfig:
    """What counts as seen."""

    drop: bool = True
    """Whether scenes that show what is evaluated are dropped; false looks for none."""
    similarity: Share = 0.45
    """Cosine with a clip of an evaluation from which on a scene shows the same. For DINOv2."""
    sources: Annotated[tuple[str, ...], DIFFERENT] = ()
    """Sources that are there for evaluation alone, to be guarded too: adding one makes the curation
    stale. What the retrieval targets hold out is guarded always."""


@dataclass(frozen=True)
class Leak:
    """The clip of an evaluation that a scene shows, and the cosine of the two."""

    of: str
    similarity: float


def run(config: LeakageGuardConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Compare the pool with the evaluations, partition by partition; drop whole components."""
    parts = inputs.parts("scene_embeddings")
    pool = {name: part for name, part in parts.items() if source_of(name) == POOL}
    judged, vectors = _evaluations(config, {n: p for n, p in parts.items() if n not in pool})
    size = block_rows(out.execution.stream_mb, max(1, vectors.shape[1]))
    leaks: dict[str, Leak] = {}
    for part in pool.values():
        if config.drop and len(judged):
            leaks |= _leaks(part, judged, vectors, config.similarity, size, out.execution.device)
    duplicates, clustered = inputs["near_duplicates"], inputs["clusters"]
    everyone = leaks | _with_leaks(leaks, duplicates, list(pool))
    rows = ((name, _rows(name, everyone, duplicates, clustered)) for name in pool)
    return {
        "evaluation_scenes": len(judged),
        "scenes_alike": len(leaks),
        "dropped": write_dropped(out.payload, rows, clustered),
    }


def _evaluations(
    config: LeakageGuardConfig, parts: Mapping[str, Artifact]
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Scene ids [E] and embeddings [E, D] of what is evaluated on."""
    names, vectors = [np.empty(0, object)], []
    for name, part in parts.items():
        rows = part.columns("rows.parquet", ["scene_id", "split"])
        taken = (rows["split"] == HELD_OUT) | (source_of(name) in config.sources)
        names.append(rows["scene_id"][taken])
        vectors.append(np.load(part.file("embeddings.npy"), mmap_mode="r")[taken])
    return np.concatenate(names), np.concatenate(vectors or [np.empty((0, 0), np.float32)])


def _leaks(
    part: Artifact,
    judged: NDArray[Any],
    vectors: NDArray[np.float32],
    least: float,
    size: int,
    device: str,
) -> dict[str, Leak]:
    """Scene id -> the evaluation's clip that it is most like, of the scenes that are like one."""
    from pipelines.curation.neighbours import alike

    ids = part.columns("rows.parquet", ["scene_id"])["scene_id"]
    found: dict[str, Leak] = {}
    first = 0
    for block in read_blocks(part.file("embeddings.npy"), size):
        rows, hits, cosines = alike(block, vectors, 1, least, device)
        for row, hit, cosine in zip(rows.tolist(), hits.tolist(), cosines.tolist(), strict=True):
            found[ids[first + row]] = Leak(judged[hit], cosine)
        first += len(block)
    return found


def _with_leaks(
    leaks: Mapping[str, Leak], duplicates: Artifact, partitions: list[str]
) -> dict[str, Leak]:
    """The scenes that were kept of components in which another one leaks."""
    found: dict[str, Leak] = {}
    for name in partitions:
        table = duplicates.columns(f"dropped/{name}.parquet", ["scene_id", "of"])
        for scene, kept in zip(table["scene_id"], table["of"], strict=True):
            if scene in leaks and kept not in leaks:
                found[kept] = max(
                    leaks[scene], found.get(kept, leaks[scene]), key=lambda leak: leak.similarity
                )
    return found


def _rows(
    name: str, leaks: Mapping[str, Leak], duplicates: Artifact, clustered: Artifact
) -> list[dict[str, Any]]:
    """The rows of a partition's scenes that are dropped here and were not before."""
    table = clustered.columns(f"assignments/{name}.parquet", ["scene_id", "cluster"])
    gone = set(duplicates.columns(f"dropped/{name}.parquet", ["scene_id"])["scene_id"])
    return [
        dict(zip(DROPPED, (scene, cluster, leaks[scene].of, leaks[scene].similarity), strict=True))
        for scene, cluster in zip(table["scene_id"], table["cluster"].tolist(), strict=True)
        if scene in leaks and scene not in gone
    ]


STAGE = Stage("leakage_guard", version=1, config=LeakageGuardConfig, run=run, on_device=True)
