"""Near-duplicates: YT1B scenes that show the same, of which one is kept.

As in DINOv2 (Oquab 2023, appendix A): the nearest neighbours of every scene whose cosine is at
least `similarity`, connected components of these pairs, one scene kept of each. Which one is chosen
by a hash of (seed, scene id): a scene more or less never changes the choice in another component.

Neighbours are sought in a scene's own cluster and in the `probes` clusters nearest to that, so the
work grows like the pool and not like its square. The pool's vectors are laid out by cluster in a
file of the scratch folder (`by_cluster`); a cluster and its neighbours are in memory at a time,
beside the pairs that were found and the ids of the scenes that are in one.

What the cosines mean depends on the network: 0.6 is for DINOv2; README says what the packaged one
needs. Reads `clusters`, and `scene_embeddings` of the pool. Payload:
    dropped/<partition>.parquet  scene_id, cluster, of (the scene that is kept), similarity to it
    clusters.parquet             dropped: how many scenes of every cluster
    quarantine.parquet           empty: nothing is opened here
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipelines.curation.by_cluster import Laid, lay_out
from pipelines.settings import Count, Natural, Share, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.arrays import pick_rows
from storage.artifacts import Artifact
from storage.digests import unit_interval
from storage.tables import QUARANTINE, TableWriter, write_table

DROPPED = {"scene_id": "string", "cluster": "int32", "of": "string", "similarity": "float32"}
COUNTS = {"dropped": "int64"}
Rows = Sequence[Mapping[str, Any]]
"""Of DROPPED."""
_AT_ONCE = 4096  # pairs of vectors whose cosines are taken together


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


def components(pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Connected components of some pairs [P, 2] of scenes.

    Returns:
        (the scenes that are in one [M], sorted; the number of each one's component [M], from 0).
    """
    scenes, ends = np.unique(pairs, return_inverse=True)
    ends = ends.reshape(-1, 2)
    size = (len(scenes), len(scenes))
    graph = coo_array((np.ones(len(ends), np.bool_), (ends[:, 0], ends[:, 1])), size)
    _, label = connected_components(graph, directed=False)
    return scenes, label.astype(np.int64)


def run(config: NearDuplicatesConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Find the pairs cluster by cluster, join them, keep one scene of each component."""
    clustered, pool = inputs["clusters"], inputs.parts("scene_embeddings")
    pairs, laid = np.empty((0, 2), np.int64), None
    if config.drop:
        laid = lay_out(pool, clustered, out)
        pairs = _pairs(laid, config, clustered, out.execution.device)
    scenes, group = components(pairs)
    rows: Iterable[tuple[str, Rows]] = ((name, ()) for name in pool)
    if laid:
        rows = _dropped(laid, scenes, group, clustered, list(pool), config.seed)
    return {
        "scenes": int(clustered.columns("clusters.parquet", ["scenes"])["scenes"].sum()),
        "groups": len(np.unique(group)),
        "largest_group": int(np.bincount(group).max(initial=0)),
        "dropped": write_dropped(out.payload, rows, clustered),
    }


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
            laid.of(cluster),
            np.concatenate([laid.of(c) for c in probed]),
            config.neighbours + 1,
            config.similarity,
            device,
        )
        pairs = np.stack([here[query], there[hit]], axis=1)
        found.append(pairs[pairs[:, 0] != pairs[:, 1]])
    return np.concatenate(found)


def _dropped(
    laid: Laid,
    scenes: NDArray[np.int64],
    group: NDArray[np.int64],
    clustered: Artifact,
    partitions: Sequence[str],
    seed: int,
) -> Iterator[tuple[str, Rows]]:
    """(partition, its rows): every scene of a component [M] but the one that is kept."""
    origin = pick_rows(laid.origins, scenes)
    ids, chance = np.empty(len(scenes), object), np.empty(len(scenes))
    order = np.argsort(origin[:, 0], kind="stable")
    ends = np.searchsorted(origin[order, 0], np.arange(len(partitions) + 1))
    of_part = [order[first:end] for first, end in itertools.pairwise(ends)]
    for name, here in zip(partitions, of_part, strict=True):
        if len(here):
            column = clustered.columns(f"assignments/{name}.parquet", ["scene_id"])["scene_id"]
            ids[here] = column[origin[here, 1]]
            chance[here] = [unit_interval("near_duplicates", seed, scene) for scene in ids[here]]
    kept = _first_of_each(group, chance)[group]
    for name, here in zip(partitions, of_part, strict=True):
        gone = here[kept[here] != here]
        cosine = _cosines(laid, scenes[gone], scenes[kept[gone]])
        columns = ids[gone], laid.clusters(scenes[gone]).tolist(), ids[kept[gone]], cosine
        yield name, [dict(zip(DROPPED, row, strict=True)) for row in zip(*columns, strict=True)]


def _first_of_each(group: NDArray[np.int64], chance: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of each group, from 0, the place of the smallest number."""
    order = np.lexsort((chance, group))
    _, first = np.unique(group[order], return_index=True)
    return order[first]


def _cosines(laid: Laid, some: NDArray[np.int64], others: NDArray[np.int64]) -> list[float]:
    """Cosines of pairs of scenes."""
    found: list[float] = []
    for first in range(0, len(some), _AT_ONCE):
        piece = slice(first, first + _AT_ONCE)
        left, right = (pick_rows(laid.vectors, rows[piece]) for rows in (some, others))
        found += np.einsum("nd,nd->n", left.astype(np.float64), right).tolist()
    return found


def write_dropped(payload: Path, rows: Iterable[tuple[str, Rows]], clustered: Artifact) -> int:
    """Write the tables of what is dropped of each partition; returns how many scenes are."""
    clusters = len(clustered.columns("clusters.parquet", ["scenes"])["scenes"])
    counts = np.zeros(clusters, np.int64)
    for name, here in rows:
        ordered = sorted(here, key=lambda row: row["scene_id"])
        write_table(payload / "dropped" / f"{name}.parquet", ordered, DROPPED)
        np.add.at(counts, [row["cluster"] for row in here], 1)
    with TableWriter(payload / "clusters.parquet", COUNTS) as table:
        table.write({"dropped": counts})
    write_table(payload / "quarantine.parquet", [], QUARANTINE)
    return int(counts.sum())


STAGE = Stage(
    "near_duplicates", version=2, config=NearDuplicatesConfig, run=run, on_device=True
)  # fmt: skip
