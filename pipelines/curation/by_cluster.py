"""The pool's vectors laid out by cluster in files, so that a cluster is one read.

Files are written and read, not mapped: pages of a mapping count as memory of the process, and the
pool is larger than memory. What is held are the numbers of the clusters, not of the scenes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.kmeans import block_rows
from pipelines.stage import Workspace
from storage.arrays import array_shape, read_blocks, read_rows, write_rows
from storage.artifacts import Artifact

Placed = tuple[NDArray[np.int64], NDArray[Any]]
"""Places of some rows in the layout, and the rows."""


@dataclass(frozen=True)
class Laid:
    """The pool by cluster: a scene is its place in the layout, from 0 to N."""

    vectors: Path
    """Array [N, D] float32 of the embeddings."""
    origins: Path
    """Array [N, 2] int32: the partition's number, and the row in it."""
    starts: NDArray[np.int64]
    """[K + 1]: cluster c holds the scenes from starts[c] to starts[c + 1]."""

    def members(self, cluster: int) -> NDArray[np.int64]:
        """The scenes of a cluster."""
        return np.arange(self.starts[cluster], self.starts[cluster + 1])

    def of(self, cluster: int) -> NDArray[np.float32]:
        """The vectors of a cluster's scenes, [n, D]."""
        return read_rows(self.vectors, int(self.starts[cluster]), len(self.members(cluster)))

    def clusters(self, scenes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The cluster of each of some scenes."""
        return np.searchsorted(self.starts, scenes, side="right") - 1


def lay_out(pool: Mapping[str, Artifact], clustered: Artifact, out: Workspace) -> Laid:
    """Write the vectors of the pool (partition -> its embeddings) by cluster."""
    sizes = clustered.columns("clusters.parquet", ["scenes"])["scenes"]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    files = [part.file("embeddings.npy") for part in pool.values()]
    count, width = int(starts[-1]), array_shape(files[0])[1]
    size = block_rows(out.execution.stream_mb, width)

    def vectors() -> Iterator[Placed]:
        for file, places in zip(files, _places(pool, clustered, starts), strict=True):
            first = 0
            for block in read_blocks(file, size):
                yield places[first : first + len(block)], block
                first += len(block)

    def origins() -> Iterator[Placed]:
        for number, places in enumerate(_places(pool, clustered, starts)):
            rows = np.arange(len(places))
            yield places, np.stack([np.full(len(rows), number), rows], axis=1)

    laid = Laid(out.scratch / "by-cluster.npy", out.scratch / "origins.npy", starts)
    write_rows(laid.vectors, vectors(), (count, width), np.float32)
    write_rows(laid.origins, origins(), (count, 2), np.int32)
    return laid


def _places(
    names: Iterable[str], clustered: Artifact, starts: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """Where the rows of each partition go, [n], one partition after another."""
    free = starts[:-1].copy()  # the next place of each cluster
    for name in names:
        cluster = clustered.columns(f"assignments/{name}.parquet", ["cluster"])["cluster"]
        order = np.argsort(cluster, kind="stable")
        hit, first, count = np.unique(cluster[order], return_index=True, return_counts=True)
        places = np.empty(len(cluster), np.int64)
        places[order] = np.arange(len(cluster)) + np.repeat(free[hit] - first, count)
        free[hit] += count
        yield places
