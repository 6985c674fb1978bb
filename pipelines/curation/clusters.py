"""Clusters: k-means over the embeddings of all YT1B scenes; every target video to its nearest.

Steps 4 and 5 of the curation (V-JEPA 2, section 10.2). Not stated in the paper, chosen here: plain
k-means with squared Euclidean distance on length-1 embeddings, centroids not renormalised, ten
iterations, trained on at most fifty million scenes (about 33 a cluster) drawn by a hash of
(seed, scene id). Only that sample is held in memory; embeddings are read and assigned one partition
at a time, so the pool itself may be larger than memory.

Reads `scene_embeddings` of every partition: "yt1b-NN" is the pool, any other source is a target.
Target videos marked "validation" are left out: the paper retrieves with training sets alone.

Payload:
    centroids.npy        [clusters, D] float32
    assignments.parquet  scene_id, partition, cluster, distance: the pool
    targets.parquet      scene_id, source, cluster, distance: the target videos
    quarantine.parquet   empty: a scene without an embedding was quarantined where it failed
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.sources import POOL
from pipelines.node import source_of
from pipelines.settings import Count, Natural, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.digests import unit_interval
from storage.errors import InputError
from storage.tables import QUARANTINE, write_table

ASSIGNMENTS = {
    "scene_id": "string", "partition": "string", "cluster": "int32", "distance": "float32",
}  # fmt: skip
TARGETS = {"scene_id": "string", "source": "string", "cluster": "int32", "distance": "float32"}


@settings
class ClustersConfig:
    """How the pool of scenes is clustered."""

    clusters: Count = 1_500_000
    """Number of clusters K."""
    iterations: Count = 10
    """Lloyd iterations."""
    train_scenes: Count = 50_000_000
    """Scenes that k-means is trained on, at most; all scenes are assigned."""
    seed: Natural = 0
    """Chooses the training scenes and the first centroids."""

    def __post_init__(self) -> None:
        if self.train_scenes < self.clusters:
            raise ValueError(
                f"train_scenes = {self.train_scenes}: must be at least clusters = {self.clusters}"
            )


def training_rows(scene_ids: Mapping[str, NDArray[Any]], count: int, seed: int) -> dict[str, Any]:
    """Which scenes train the clusters: the `count` smallest hashes of (seed, scene id).

    Takes partition -> scene ids [n], gives partition -> sorted row numbers. One scene's hash
    depends on nothing but itself, so adding a source file changes the sample by few scenes.
    """
    hashes = {
        name: np.array([unit_interval("clusters", seed, scene) for scene in ids.tolist()])
        for name, ids in scene_ids.items()
    }
    every = np.concatenate(list(hashes.values()))
    limit = np.partition(every, count - 1)[count - 1] if count < len(every) else np.inf
    return {name: np.flatnonzero(values <= limit) for name, values in hashes.items()}


def run(config: ClustersConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Train the centroids on the pool, then assign pool and targets to them."""
    from pipelines.curation.neighbours import nearest, train_centroids

    parts = inputs.parts("scene_embeddings")
    pool = {name: part for name, part in parts.items() if source_of(name) == POOL}
    targets = {name: part for name, part in parts.items() if name not in pool}
    sample = _training_sample(pool, config)
    centroids = train_centroids(
        sample, config.clusters,
        iterations=config.iterations, seed=config.seed, device=out.execution.device,
    )  # fmt: skip
    np.save(out.payload / "centroids.npy", centroids)

    assigned: list[dict[str, Any]] = []
    for name, part in pool.items():
        scenes = part.columns("rows.parquet", ["scene_id"])["scene_id"]
        cluster, distance = nearest(_embeddings(part), centroids, device=out.execution.device)
        assigned += _rows(scenes, cluster, distance, partition=name)
    write_table(out.payload / "assignments.parquet", assigned, ASSIGNMENTS)

    wanted: list[dict[str, Any]] = []
    held_out = 0
    for name, part in targets.items():
        rows = part.columns("rows.parquet", ["scene_id", "split"])
        train = rows["split"] != "validation"
        held_out += int((~train).sum())
        cluster, distance = nearest(
            np.asarray(_embeddings(part)[train]), centroids, device=out.execution.device
        )
        wanted += _rows(rows["scene_id"][train], cluster, distance, source=source_of(name))
    write_table(out.payload / "targets.parquet", wanted, TARGETS)
    write_table(out.payload / "quarantine.parquet", [], QUARANTINE)
    return _metrics(config, len(sample), assigned, wanted) | {"targets_held_out": held_out}


def _training_sample(pool: Mapping[str, Artifact], config: ClustersConfig) -> NDArray[np.float32]:
    """The scenes that train k-means, [n, D], in the order of (partition, row)."""
    ids = {
        name: part.columns("rows.parquet", ["scene_id"])["scene_id"] for name, part in pool.items()
    }
    total = sum(len(scenes) for scenes in ids.values())
    if total < config.clusters:
        raise InputError(
            f"clusters: {total} scenes in {len(pool)} YT1B partition(s) cannot make "
            f"{config.clusters} clusters; set clusters.clusters to at most {total}, or add videos"
        )
    rows = training_rows(ids, config.train_scenes, config.seed)
    # A partition without scenes has embeddings [0, D]: concatenating it changes nothing.
    return np.concatenate([_embeddings(pool[name])[chosen] for name, chosen in rows.items()])


def _embeddings(part: Artifact) -> NDArray[np.float32]:
    """[n, D], mapped from disk: only the rows that are used are read."""
    embeddings: NDArray[np.float32] = np.load(part.file("embeddings.npy"), mmap_mode="r")
    return embeddings


def _rows(
    scenes: NDArray[Any], cluster: NDArray[np.int32], distance: NDArray[np.float32], **where: str
) -> list[dict[str, Any]]:
    return [
        {"scene_id": scene, **where, "cluster": c, "distance": d}
        for scene, c, d in zip(scenes.tolist(), cluster.tolist(), distance.tolist(), strict=True)
    ]


def _metrics(
    config: ClustersConfig,
    trained: int,
    assigned: list[dict[str, Any]],
    wanted: list[dict[str, Any]],
) -> dict[str, Any]:
    sizes = np.bincount([row["cluster"] for row in assigned], minlength=config.clusters)
    return {
        "clusters": config.clusters,
        "clusters_empty": int((sizes == 0).sum()),
        "largest_cluster": int(sizes.max()),
        "scenes": len(assigned),
        "scenes_trained_on": trained,
        "mean_distance": float(np.mean([row["distance"] for row in assigned])),
        "targets": len(wanted),
        "clusters_hit_by_targets": len({row["cluster"] for row in wanted}),
    }


STAGE = Stage("clusters", version=1, config=ClustersConfig, run=run, on_device=True)
