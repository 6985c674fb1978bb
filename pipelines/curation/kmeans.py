"""K-means of a pool that is larger than memory: which scenes train it, where it begins, how it goes
on after a kill.

The training scenes are those with the smallest hashes of (seed, scene id), and the smallest of all
begin as centroids: a scene more or less leaves the clusters of the others where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.stage import Workspace
from storage.arrays import array_shape, read_blocks, write_blocks
from storage.digests import unit_interval

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """The scenes with the smallest hashes: which rows of which partitions, sorted, and the hashes.

    All arrays are [n]; `total` counts the scenes that there were to choose from.
    """

    partition: NDArray[np.int32]
    row: NDArray[np.int64]
    hash: NDArray[np.float64]
    total: int

    def first(self, count: int) -> NDArray[np.int64]:
        """[count]: places in the sample of the smallest hashes, the smallest first."""
        return np.argsort(self.hash, kind="stable")[:count]


def training_sample(scene_ids: Iterable[NDArray[Any]], count: int, seed: int) -> Sample:
    """The `count` scenes with the smallest hashes of (seed, scene id), in the order of their rows.

    Takes the scene ids [n] of one partition after another, and holds no more than one partition
    beside the sample. One scene's hash depends on nothing but itself, so adding a source file
    changes the sample by few scenes.
    """
    part, row = np.empty(0, np.int32), np.empty(0, np.int64)
    smallest, total = np.empty(0, np.float64), 0
    for number, ids in enumerate(scene_ids):
        total += len(ids)
        here = np.array([unit_interval("clusters", seed, scene) for scene in ids.tolist()])
        part = np.append(part, np.full(len(ids), number, np.int32))
        row = np.append(row, np.arange(len(ids)))
        smallest = np.append(smallest, here)
        if len(smallest) > count:
            kept = np.sort(np.argpartition(smallest, count - 1)[:count])
            part, row, smallest = part[kept], row[kept], smallest[kept]
    return Sample(part, row, smallest, total)


def train(
    sample: Sample, pool: Sequence[Path], clusters: int, iterations: int, out: Workspace
) -> Vectors:
    """Lloyd's k-means of a sample: the centroids [clusters, D] after some iterations.

    `pool`: the file of embeddings [N, D] of each partition that was sampled. The sample lies in
    scratch, and so do the centroids of the last iteration: what was done is not done again.
    """
    from pipelines.curation.neighbours import lloyd_step

    path = out.scratch / "sample.npy"
    width = array_shape(pool[0])[1]
    rows = block_rows(out.execution.stream_mb, width)
    if not path.exists():
        aside = out.scratch / "gathering.npy"
        write_blocks(aside, _gathered(sample, pool, rows), (len(sample.row), width), np.float32)
        aside.replace(path)
    done = sorted(out.scratch.glob("iteration-*.npy"))
    centroids = (
        np.load(done[-1])
        if done
        else np.array(np.load(path, mmap_mode="r")[sample.first(clusters)])
    )
    for number in range(int(done[-1].stem[-6:]) if done else 0, iterations):
        centroids = lloyd_step(read_blocks(path, rows), centroids, device=out.execution.device)
        aside = out.scratch / "iterating.npy"
        there = out.scratch / f"iteration-{number + 1:06d}.npy"
        np.save(aside, centroids)
        aside.replace(there)
        for old in done:
            old.unlink()
        done = [there]
    return centroids


def block_rows(megabytes: int, width: int) -> int:
    """How many float32 vectors [width] are read at a time: whole blocks of FAISS, one or more."""
    from pipelines.curation.neighbours import BLOCK

    return max(1, (megabytes << 20) // (4 * width * BLOCK)) * BLOCK


def _gathered(sample: Sample, pool: Sequence[Path], rows: int) -> Iterator[Vectors]:
    """The embeddings of a sample, in its order, some [n, D] at a time."""
    for number, path in enumerate(pool):
        wanted = sample.row[sample.partition == number]
        first = 0
        for block in read_blocks(path, rows):
            here = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, first + rows)]
            yield block[here - first]
            first += len(block)
