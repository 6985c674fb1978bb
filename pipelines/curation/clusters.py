"""Clusters: k-means over the embeddings of all YT1B scenes; every target video to its nearest.

Steps 4 and 5 of the curation (V-JEPA 2, section 10.2). Not stated in the paper, chosen here: plain
k-means with squared Euclidean distance on length-1 embeddings, centroids not renormalised, ten
iterations, trained on at most fifty million scenes (about 33 a cluster): those with the smallest
hashes of (seed, scene id). The smallest of all begin as centroids, so that a scene more or less
leaves the clusters of the others where they are. Embeddings are read and assigned one partition at
a time, and the scenes that train come from the disk, so the pool may be larger than memory.

With `frozen`, nothing is trained: scenes go to the clusters of an earlier artifact, and `drift`
says how far the pool has moved away from them since.

Reads `scene_embeddings` of every partition: "yt1b-NN" is the pool, any other source is a target.
Target videos marked "validation" are left out: the paper retrieves with training sets alone.

Payload:
    centroids.npy                    [clusters, D] float32
    clusters.parquet                 every cluster: first_scene (its name when clusters are
                                     compared), scenes, distance (mean), n_<target>
    assignments/<partition>.parquet  scene_id, cluster, distance: the pool
    targets/<partition>.parquet      scene_id, cluster, distance: the target videos
    quarantine.parquet               empty: a scene without an embedding was quarantined before
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.kmeans import block_rows, train, training_sample
from pipelines.curation.labels import HELD_OUT
from pipelines.curation.sources import POOL
from pipelines.execution import ExecutionConfig
from pipelines.node import source_of
from pipelines.settings import Count, Natural, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.arrays import read_blocks
from storage.artifacts import Artifact
from storage.digests import digest_json
from storage.errors import InputError
from storage.media import MediaError, open_media
from storage.tables import QUARANTINE, TableWriter, read_batches, read_columns, write_table
from storage.work import KeptFile, Work

ASSIGNMENTS = {"scene_id": "string", "cluster": "int32", "distance": "float32"}
CENTROIDS, CLUSTERS = "centroids.npy", "clusters.parquet"


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
    frozen: str | None = None
    """Payload of an earlier `clusters` (folder or s3://bucket/prefix, as its page says) whose
    centroids are kept as they are; None trains new ones."""

    def __post_init__(self) -> None:
        if self.train_scenes < self.clusters:
            raise ValueError(
                f"train_scenes = {self.train_scenes}: must be at least clusters = {self.clusters}"
            )


def run(config: ClustersConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Have centroids, assign pool and targets to them on Ray, count every cluster once."""
    parts = inputs.parts("scene_embeddings")
    pool = [part for name, part in parts.items() if source_of(name) == POOL]
    found = _frozen(config) if config.frozen else _trained(config, pool, out)
    centroids = found.centroids
    np.save(out.payload / CENTROIDS, centroids)
    with out.work.room() as room:
        np.save(room / CENTROIDS, centroids)
        kept = out.work.keep(room / CENTROIDS, f"scratch/{CENTROIDS}")
    tasks = {
        name: Assignment(name, part, kept, out.execution, out.work) for name, part in parts.items()
    }
    held_out = out.map(assign, tasks, noun="partitions of scenes")
    held = {task.target: out.file(f"payload/{task.target}") for task in tasks.values()}
    table = {"first_scene": found.first_scenes, **_counted(held, len(centroids))}
    with TableWriter(out.payload / CLUSTERS, _schema(table)) as written:
        written.write(table)
    write_table(out.payload / "quarantine.parquet", [], QUARANTINE)
    drift = {"drift": _drift(config.frozen, table)} if config.frozen else {}
    return _metrics(table, found.trained) | {"targets_held_out": sum(held_out.values())} | drift


@dataclass(frozen=True)
class Assignment:
    """What one task assigns: the scenes of one partition."""

    partition: str
    part: Artifact
    centroids: KeptFile
    execution: ExecutionConfig
    work: Work

    @property
    def target(self) -> str:
        """Path of the table in the payload."""
        kind = "assignments" if source_of(self.partition) == POOL else "targets"
        return f"{kind}/{self.partition}.parquet"


def assign(task: Assignment) -> int:
    """Write the nearest cluster of every scene of a partition; returns how many were held out."""
    from pipelines.curation.neighbours import Centroids

    rows = task.part.columns("rows.parquet", ["scene_id", "split"])
    taken = (rows["split"] != HELD_OUT) | (source_of(task.partition) == POOL)
    index = Centroids(np.load(task.work.file(task.centroids)), task.execution.device)
    size = block_rows(task.execution.stream_mb, index.vectors.shape[1])
    with task.work.room() as room:
        path, first = room / "assigned.parquet", 0
        with TableWriter(path, ASSIGNMENTS) as table:
            for block in read_blocks(task.part.file("embeddings.npy"), size):
                here = slice(first, first + len(block))
                found = rows["scene_id"][here][taken[here]], *index.nearest(block[taken[here]])
                table.write(dict(zip(ASSIGNMENTS, found, strict=True)))
                first += len(block)
        task.work.keep(path, f"payload/{task.target}")
    return int((~taken).sum())


def observe(config: ClustersConfig, _partition: str | None, execution: ExecutionConfig) -> Any:
    """What lies outside the store: the frozen centroids, wherever they are kept."""
    if config.frozen is None:
        return {}
    media = open_media(config.frozen)
    book = execution.cache / "digests" / f"{digest_json(['clusters', media.location])[:32]}.json"
    return {"frozen": media.digests([CENTROIDS, CLUSTERS], book)}


@dataclass(frozen=True)
class _Found:
    """Centroids [K, D], the scene [K] that each began as, and how many scenes trained them."""

    centroids: NDArray[np.float32]
    first_scenes: NDArray[Any]
    trained: int = 0


def _frozen(config: ClustersConfig) -> _Found:
    """Those of an earlier payload."""
    frozen = str(config.frozen)
    try:
        data = (open_media(frozen).read(name) for name in (CENTROIDS, CLUSTERS))
        centroids, table = (io.BytesIO(file) for file in data)
    except MediaError as error:
        raise InputError(
            f"clusters.frozen = {frozen}: {error}; give the payload of an earlier clusters"
        ) from None
    found = _Found(np.load(centroids), read_columns(table, ["first_scene"])["first_scene"])
    if (count := len(found.centroids)) != config.clusters:
        raise InputError(
            f"clusters.frozen = {frozen}: holds {count} centroids; set clusters.clusters={count}"
        )
    return found


def _trained(config: ClustersConfig, pool: Sequence[Artifact], out: Workspace) -> _Found:
    """k-means over the pool."""
    ids = (part.columns("rows.parquet", ["scene_id"])["scene_id"] for part in pool)
    sample = training_sample(ids, config.train_scenes, config.seed)
    if sample.total < config.clusters:
        raise InputError(
            f"clusters: {sample.total} scenes in {len(pool)} YT1B partition(s) cannot make "
            f"{config.clusters} clusters; set clusters.clusters to at most {sample.total}, or add "
            "videos"
        )
    first = sample.first(config.clusters)
    names = np.empty(config.clusters, object)
    for number, part in enumerate(pool):
        here = sample.partition[first] == number
        scene_ids = part.columns("rows.parquet", ["scene_id"])["scene_id"]
        names[here] = scene_ids[sample.row[first[here]]]
    files = [part.file("embeddings.npy") for part in pool]
    centroids = train(sample, files, config.clusters, config.iterations, out)
    return _Found(centroids, names, len(sample.row))


def _counted(held: Mapping[str, Path], clusters: int) -> dict[str, NDArray[Any]]:
    """Columns [K] of the table of clusters, from the tables of assignments (path -> file)."""
    scenes, distance = np.zeros(clusters, np.int64), np.zeros(clusters)
    targets: dict[str, NDArray[np.int64]] = {}
    for target, file in held.items():
        kind, _, name = target.removesuffix(".parquet").partition("/")
        counts = scenes
        if kind == "targets":
            counts = targets.setdefault(f"n_{source_of(name)}", np.zeros(clusters, np.int64))
        for batch in read_batches(file, ["cluster", "distance"]):
            counts += np.bincount(batch["cluster"], minlength=clusters)
            if counts is scenes:
                distance += np.bincount(batch["cluster"], batch["distance"], clusters)
    mean = np.divide(distance, scenes, out=np.zeros(clusters), where=scenes > 0)
    return {"scenes": scenes, "distance": mean, **targets}


def _schema(table: Mapping[str, Any]) -> dict[str, str]:
    known = {"first_scene": "string", "distance": "float64"}
    return {name: known.get(name, "int64") for name in table}


def _mean_distance(table: Mapping[str, NDArray[Any]]) -> float:
    return float(table["distance"] @ table["scenes"] / max(1, table["scenes"].sum()))


def _drift(frozen: str, table: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """How far the pool has moved from what the frozen clusters were counted on."""
    columns = ["scenes", "distance"]
    before = read_columns(io.BytesIO(open_media(frozen).read(CLUSTERS)), columns)
    old, new = before["scenes"], table["scenes"]
    return {
        "scenes_before": int(old.sum()),
        "scenes": int(new.sum()),
        "share_moved": float(np.abs(old / old.sum() - new / new.sum()).sum() / 2),
        "mean_distance_before": _mean_distance(before),
        "mean_distance": _mean_distance(table),
        "clusters_emptied": int(((old > 0) & (new == 0)).sum()),
    }


def _metrics(table: Mapping[str, NDArray[Any]], trained: int) -> dict[str, Any]:
    sizes = table["scenes"]
    targets = sum(column for name, column in table.items() if name.startswith("n_"))
    return {
        "clusters": len(sizes),
        "clusters_empty": int((sizes == 0).sum()),
        "largest_cluster": int(sizes.max()),
        "scenes": int(sizes.sum()),
        "scenes_trained_on": trained,
        "mean_distance": _mean_distance(table),
        "targets": int(np.sum(targets)),
        "clusters_hit_by_targets": int(np.count_nonzero(targets)),
    }


STAGE = Stage(
    "clusters", version=2, config=ClustersConfig, run=run, observe=observe, on_device=True,
    paths=("frozen",),
)  # fmt: skip
