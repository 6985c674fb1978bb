"""Neighbours: k-means and nearest centroids. The only module that imports faiss.

Both functions are deterministic. On the CPU they run on one thread, because the order in which
threads add up is not something a digest should depend on; scale comes from partitions (many
processes) or from a GPU, which is used when `device` is "cuda" and this FAISS build has one.

Distances are squared Euclidean. On vectors of length 1 that orders like the cosine:
||x - c||^2 = 1 + ||c||^2 - 2 x.c .
"""

from __future__ import annotations

from collections.abc import Iterator
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


def train_centroids(
    vectors: Vectors, clusters: int, *, iterations: int, seed: int, device: str = "cpu"
) -> Vectors:
    """Lloyd's k-means from randomly chosen vectors: `vectors` [N, D] -> centroids [clusters, D].

    All N vectors are used (a subsample is the caller's choice). The same vectors, seed and FAISS
    build give the same bytes for the same CPU capability; a GPU adds up in another order.

    Raises:
        ValueError: fewer vectors than clusters, or a vector that is not finite.
    """
    vectors = _checked(vectors, "vectors")
    count, width = vectors.shape
    if count < clusters:
        raise InputError(
            f"k-means: {count} vectors cannot make {clusters} clusters; "
            f"set clusters.clusters to at most {count}, or add scenes"
        )
    settings = faiss.ClusteringParameters()
    settings.niter, settings.seed = iterations, seed
    # FAISS would otherwise warn below 39 and silently subsample above 256 points per centroid.
    settings.min_points_per_centroid, settings.max_points_per_centroid = 1, count
    clustering = faiss.Clustering(width, clusters, settings)
    with _one_thread():
        clustering.train(vectors, _index(width, device))
    return faiss.vector_to_array(clustering.centroids).reshape(clusters, width)


def nearest(
    vectors: Vectors, centroids: Vectors, *, device: str = "cpu"
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """For every one of `vectors` [N, D]: its nearest of `centroids` [K, D] and how far that is.

    Returns:
        (cluster [N] int32, squared distance [N] float32). The distance is computed anew from the
        pair, so it does not depend on how FAISS batched the search.
    """
    vectors, centroids = _checked(vectors, "vectors"), _checked(centroids, "centroids")
    if not len(vectors):
        return np.empty(0, np.int32), np.empty(0, np.float32)
    index = _index(centroids.shape[1], device)
    with _one_thread():
        index.add(centroids)
        _, found = index.search(vectors, 1)
    cluster = found[:, 0].astype(np.int32)
    difference = vectors.astype(np.float64) - centroids[cluster]
    return cluster, np.einsum("nd,nd->n", difference, difference).astype(np.float32)


def has_gpu() -> bool:
    """Whether this FAISS build can use a GPU and sees one."""
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def _index(width: int, device: str) -> faiss.Index:
    """An exact index; on the GPU when `device` asks for CUDA and FAISS has it."""
    flat = faiss.IndexFlatL2(width)
    if device.startswith("cuda") and has_gpu():
        return faiss.index_cpu_to_all_gpus(flat)
    return flat


def _checked(vectors: Vectors, name: str) -> Vectors:
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise ValueError(f"{name}: shape {vectors.shape}, want [count, width]")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(vectors).all():
        row = int(np.argmin(np.isfinite(vectors).all(axis=1)))
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
