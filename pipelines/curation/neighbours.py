"""Neighbours: nearest centroids, k-means, alike vectors. The only module that imports faiss.

All of it is deterministic, and nothing depends on how many vectors are given at a time:
- On the CPU the search runs on one thread, because the order in which threads add up is not
  something a digest should depend on; scale comes from partitions (many processes) or from a GPU,
  which is used when `device` is "cuda" and this FAISS build has one.
- FAISS multiplies BLOCK queries at a time, so pieces of whole blocks are the same products.
- A mean is added up in integers, which have no order of summation.

Distances are squared Euclidean. On vectors of length 1 that orders like the cosine:
||x - c||^2 = 1 + ||c||^2 - 2 x.c .
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from storage.errors import InputError

try:
    import faiss
except ModuleNotFoundError as missing:
    if missing.name != "faiss":
        raise
    raise InputError("no faiss: install this package with the extra `cpu` or `gpu`") from None

Vectors = NDArray[np.float32]

BLOCK = int(faiss.cvar.distance_compute_blas_query_bs)
"""Queries that FAISS multiplies at a time: a piece that is read should be some of these blocks."""
# Sums of coordinates are kept in units of 2^-32: two thousand million vectors of length 1 fit.
_UNIT = 2.0**32
_LARGEST = 1.5


class Centroids:
    """Centroids [K, D] that can be searched."""

    def __init__(self, centroids: Vectors, device: str = "cpu") -> None:
        self.vectors = _checked(centroids, "centroids")
        self._index = _index(self.vectors.shape[1], device)
        self._index.add(self.vectors)

    def nearest(self, vectors: Vectors) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """For every one of `vectors` [N, D]: its nearest centroid and how far that is.

        Returns:
            (cluster [N] int32, squared distance [N] float32). The distance is computed anew from
            the pair, so it does not depend on how FAISS batched the search.
        """
        cluster = self.search(vectors)
        distance = np.empty(len(vectors), np.float32)
        for piece in _pieces(len(vectors)):
            apart = vectors[piece].astype(np.float64) - self.vectors[cluster[piece]]
            distance[piece] = np.einsum("nd,nd->n", apart, apart)
        return cluster, distance

    def search(self, vectors: Vectors) -> NDArray[np.int32]:
        """[N] int32: the nearest centroid of every one of `vectors` [N, D]."""
        vectors = _checked(vectors, "vectors")
        if not len(vectors):
            return np.empty(0, np.int32)
        with _one_thread():
            _, found = self._index.search(vectors, 1)
        return found[:, 0].astype(np.int32)


def alike(
    queries: Vectors, vectors: Vectors, count: int, least: float, device: str = "cpu"
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Which of `vectors` [N, D] are like `queries` [Q, D], all of length 1: cosine from `least` on.

    Returns:
        (rows of queries, rows of vectors, cosines), [P] each: of every query its `count` most alike
        vectors at most, the most alike first.
    """
    if not len(queries) or not len(vectors):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    found, cosines = _searched(queries, vectors, min(count, len(vectors)), device)
    query, place = np.nonzero(cosines >= np.float32(least))
    return query, found[query, place], cosines[query, place]


def most_alike(vectors: Vectors, count: int, device: str = "cpu") -> NDArray[np.int64]:
    """[N, count]: of each of `vectors` [N, D], which `count` of them have the largest products."""
    return _searched(vectors, vectors, count, device)[0]


def lloyd_step(blocks: Iterable[Vectors], centroids: Vectors, *, device: str = "cpu") -> Vectors:
    """One iteration of k-means: centroids [K, D] -> the means [K, D] of what is nearest to each.

    `blocks` give the training vectors, [n, D] at a time; any cut gives the same bytes for the same
    CPU capability. A centroid that nothing is nearest to stays where it is.

    Raises:
        ValueError: a vector that is not finite, or far longer than 1.
    """
    index = Centroids(centroids, device)
    sums, counts = np.zeros(centroids.shape, np.int64), np.zeros(len(centroids), np.int64)
    for block in blocks:
        cluster = index.search(block)
        for piece in _pieces(len(block)):
            _add_up(sums, counts, block[piece], cluster[piece])
    held = counts > 0
    means = centroids.copy()
    means[held] = sums[held] / (counts[held, None] * _UNIT)
    return means


def _add_up(
    sums: NDArray[np.int64], counts: NDArray[np.int64], vectors: Vectors, cluster: NDArray[np.int32]
) -> None:
    """Add vectors to the sums and counts of their clusters, in place."""
    if np.abs(vectors).max() > _LARGEST:
        raise ValueError("vectors: want vectors of length 1")
    order = np.argsort(cluster, kind="stable")
    hit, starts, number = np.unique(cluster[order], return_index=True, return_counts=True)
    # A multiplication by a power of two is exact; what is rounded away is below 2^-33.
    whole = np.rint(vectors[order] * np.float32(_UNIT)).astype(np.int64)
    sums[hit] += np.add.reduceat(whole, starts, axis=0)
    counts[hit] += number


def has_gpu() -> bool:
    """Whether this FAISS build can use a GPU and sees one."""
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def _searched(
    queries: Vectors, vectors: Vectors, count: int, device: str
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """([Q, count] rows of vectors, [Q, count] their products with the queries), largest first."""
    index = _index(vectors.shape[1], device, faiss.METRIC_INNER_PRODUCT)
    with _one_thread():
        index.add(_checked(vectors, "vectors"))
        products, found = index.search(_checked(queries, "queries"), count)
    return found, products


def _index(width: int, device: str, metric: int = faiss.METRIC_L2) -> faiss.Index:
    """An exact index; on the GPU when `device` asks for CUDA and FAISS has it."""
    flat = faiss.IndexFlat(width, metric)
    if device.startswith("cuda") and has_gpu():
        return faiss.index_cpu_to_all_gpus(flat)
    return flat


def _pieces(count: int) -> Iterator[slice]:
    """Rows of BLOCK vectors at a time: small enough for what is worked out beside them."""
    return (slice(first, first + BLOCK) for first in range(0, count, BLOCK))


def _checked(vectors: Vectors, name: str) -> Vectors:
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise ValueError(f"{name}: shape {vectors.shape}, want [count, width]")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    for piece in _pieces(len(vectors)):
        if not (finite := np.isfinite(vectors[piece])).all():
            row = piece.start + int(np.argmin(finite.all(axis=1)))
            raise ValueError(f"{name}: row {row} is not finite")
    return vectors


@contextmanager
def _one_thread() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
