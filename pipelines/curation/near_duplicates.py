"""Near-duplicates: YT1B scenes that show the same, of which one is kept.

As in DINOv2 (Oquab 2023, appendix A): the nearest neighbours of every scene whose cosine is at
least `similarity`, connected components of these pairs, one scene kept of each. Which one is chosen
by a hash of (seed, scene id): a scene more or less never changes the choice in another component.

Neighbours are sought in a scene's own cluster and in the `probes` clusters nearest to that, so the
work grows like the pool and not like its square. The pool's vectors are laid out by cluster in a
file of the scratch folder; a cluster and its neighbours are in memory at a time, beside the pairs.

What the cosines mean depends on the network: 0.6 is for DINOv2; README says what the packaged one
needs. Reads `clusters`, and `scene_embeddings` of the pool. Payload:
    dropped/<partition>.parquet  scene_id, cluster, of (the scene that is kept), similarity to it
    clusters.parquet             dropped: how many scenes of every cluster
    quarantine.parquet           empty: nothing is opened here
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipelines.curation.kmeans import block_rows
from pipelines.settings import Count, Natural, Share, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.arrays import array_shape, read_blocks
from storage.artifacts import Artifact
from storage.digests import unit_interval
from storage.tables import QUARANTINE, write_table

DROPPED = {"scene_id": "string", "cluster": "int32", "of": "string", "similarity": "float32"}
COUNTS = {"dropped": "int64"}


@settings
class NearDuplicatesConfig:
    """What counts as the same."""

    drop: bool = True
    """Whether one of the scenes that show the same is kept; false looks for none and keeps all."""
    similarity: Share = 0.6
    """Cosine of two embeddings from which on their scenes show the same. 0.6 is for DINOv2."""
    neighbours: Count = 64
    """Nearest neighbours of a scene that are looked at."""
    probes: Count = 32
    """Clusters in which they are sought: its own, and those nearest to it."""
    seed: Natural = 0
    """Chooses which scene of a component is kept."""


@dataclass(frozen=True)
class Laid:
    """The pool by cluster: scene n of the layout is row `row[n]` of partition `part[n]`."""

    vectors: NDArray[np.float32]
    """[N, D], mapped from a file."""
    part: NDArray[np.int32]
    row: NDArray[np.int32]
    starts: NDArray[np.int64]
    """[K + 1]: cluster c holds the scenes from starts[c] to starts[c + 1]."""

    def members(self, cluster: int) -> NDArray[np.int64]:
        """The scenes of a cluster."""
        return np.arange(self.starts[cluster], self.starts[cluster + 1])


def components(pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Connected components of some pairs [P, 2] of scenes: each the sorted scenes in it."""
    scenes, ends = np.unique(pairs, return_inverse=True)
    ends = ends.reshape(-1, 2)
    size = (len(scenes), len(scenes))
    graph = coo_array((np.ones(len(ends), np.bool_), (ends[:, 0], ends[:, 1])), size)
    _, label = connected_components(graph, directed=False)
    order = np.argsort(label, kind="stable")
    cuts = np.flatnonzero(np.diff(label[order])) + 1
    return [part for part in np.split(scenes[order], cuts) if len(part) > 1]


def run(config: NearDuplicatesConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Find the pairs cluster by cluster, join them, keep one scene of each component."""
    clustered, pool = inputs["clusters"], inputs.parts("scene_embeddings")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in pool}
    found: list[NDArray[np.int64]] = []
    if config.drop:
        laid = lay_out(pool, clustered, out)
        found = components(_pairs(laid, config, clustered, out.execution.device))
        names = _named(found, laid, clustered, list(pool))
        for group in found:
            for part, row in _dropped(group, laid, names, config.seed):
                rows[list(pool)[part]].append(row)
    return {
        "scenes": int(clustered.columns("clusters.parquet", ["scenes"])["scenes"].sum()),
        "groups": len(found),
        "largest_group": max(map(len, found), default=0),
        "dropped": write_dropped(out.payload, rows, clustered),
    }


def lay_out(pool: Mapping[str, Artifact], clustered: Artifact, out: Workspace) -> Laid:
    """Write the pool's vectors by cluster."""
    files = {name: part.file("embeddings.npy") for name, part in pool.items()}
    sizes = clustered.columns("clusters.parquet", ["scenes"])["scenes"]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    free = starts[:-1].copy()
    part, row = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int32)
    path, width = out.scratch / "by-cluster.npy", array_shape(next(iter(files.values())))[1]
    held = np.lib.format.open_memmap(path, "w+", np.float32, (int(starts[-1]), width))
    size = block_rows(out.execution.stream_mb, width)
    for number, (name, file) in enumerate(files.items()):
        cluster = clustered.columns(f"assignments/{name}.parquet", ["cluster"])["cluster"]
        places = _places(cluster, free)
        part[places], row[places] = number, np.arange(len(places))
        first = 0
        for block in read_blocks(file, size):
            held[places[first : first + len(block)]] = block
            first += len(block)
    held.flush()
    return Laid(np.load(path, mmap_mode="r"), part, row, starts)


def _places(cluster: NDArray[np.int32], free: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the rows of a partition go; `free` [K], the next place of each cluster, moves on."""
    order = np.argsort(cluster, kind="stable")
    hit, starts, count = np.unique(cluster[order], return_index=True, return_counts=True)
    places = np.empty(len(cluster), np.int64)
    places[order] = np.arange(len(cluster)) + np.repeat(free[hit] - starts, count)
    free[hit] += count
    return places


def _pairs(
    laid: Laid, config: NearDuplicatesConfig, clustered: Artifact, device: str
) -> NDArray[np.int64]:
    """[P, 2]: pairs of scenes that show the same, as far as they are sought."""
    from pipelines.curation.neighbours import alike, most_alike

    centroids = np.load(clustered.file("centroids.npy"))
    near = most_alike(centroids, min(config.probes, len(centroids)), device)
    found = [np.empty((0, 2), np.int64)]
    for cluster in np.flatnonzero(np.diff(laid.starts)).tolist():
        # Its own cluster may be as near as another one: it is always among them.
        probed = dict.fromkeys((cluster, *near[cluster].tolist()))
        here, there = laid.members(cluster), np.concatenate([laid.members(c) for c in probed])
        # Itself is the nearest of all, and no pair.
        query, hit, _ = alike(
            laid.vectors[here],
            laid.vectors[there],
            config.neighbours + 1,
            config.similarity,
            device,
        )
        pairs = np.stack([here[query], there[hit]], axis=1)
        found.append(pairs[pairs[:, 0] != pairs[:, 1]])
    return np.concatenate(found)


def _named(
    groups: Sequence[NDArray[np.int64]], laid: Laid, clustered: Artifact, partitions: Sequence[str]
) -> dict[int, str]:
    """Scene of the layout -> its id, of all scenes of the groups."""
    scenes = np.concatenate([np.empty(0, np.int64), *groups])
    named: dict[int, str] = {}
    for number, name in enumerate(partitions):
        here = scenes[laid.part[scenes] == number]
        if len(here):
            ids = clustered.columns(f"assignments/{name}.parquet", ["scene_id"])["scene_id"]
            named |= zip(here.tolist(), ids[laid.row[here]].tolist(), strict=True)
    return named


def _dropped(
    group: NDArray[np.int64], laid: Laid, names: Mapping[int, str], seed: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the partition, row) of every scene of a component but the one that is kept."""
    scenes = group.tolist()
    kept = min(scenes, key=lambda scene: unit_interval("near_duplicates", seed, names[scene]))
    for scene in scenes:
        if scene != kept:
            cluster = int(np.searchsorted(laid.starts, scene, side="right")) - 1
            cosine = float(laid.vectors[scene] @ laid.vectors[kept])
            values = (names[scene], cluster, names[kept], cosine)
            yield int(laid.part[scene]), dict(zip(DROPPED, values, strict=True))


def write_dropped(
    payload: Path, rows: Mapping[str, Sequence[Mapping[str, Any]]], clustered: Artifact
) -> int:
    """Write the tables of what is dropped (partition -> rows); returns how many scenes are."""
    clusters = len(clustered.columns("clusters.parquet", ["scenes"])["scenes"])
    counts = np.zeros(clusters, np.int64)
    for name, here in rows.items():
        ordered = sorted(here, key=lambda row: row["scene_id"])
        write_table(payload / "dropped" / f"{name}.parquet", ordered, DROPPED)
        np.add.at(counts, [row["cluster"] for row in here], 1)
    write_table(payload / "clusters.parquet", [{"dropped": n} for n in counts.tolist()], COUNTS)
    write_table(payload / "quarantine.parquet", [], QUARANTINE)
    return int(counts.sum())


STAGE = Stage(
    "near_duplicates", version=1, config=NearDuplicatesConfig, run=run, on_device=True
)  # fmt: skip
