"""Claims: k-means finds planted groups; centroids are means; nearest is nearest; bytes depend on
the vectors alone, not on threads or blocks; what cannot work is refused in one line.
"""

from __future__ import annotations

import subprocess
import sys

import faiss
import numpy as np
import pytest

from pipelines.curation.neighbours import BLOCK, Centroids, lloyd_step


def groups(count: int = 4, each: int = 50, width: int = 8) -> np.ndarray:
    """`count` tight groups of vectors, far apart, of length 1: [count * each, width]."""
    generator = np.random.default_rng(0)
    centres = np.eye(width)[:count].repeat(each, axis=0)
    vectors = centres + 0.01 * generator.standard_normal(centres.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_missing_faiss_is_told_with_what_to_install() -> None:
    script = (
        "import sys; sys.modules['faiss'] = None\n"
        "from storage.errors import UserError\n"
        "try: import pipelines.curation.neighbours\n"
        "except UserError as told: print(told)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "no faiss: install this package with the extra `cpu` or `gpu`" in done.stdout


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, D] at length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def kmeans(vectors: np.ndarray, initial: np.ndarray, steps: int = 20) -> np.ndarray:
    centroids = initial
    for _ in range(steps):
        centroids = lloyd_step([vectors], centroids)
    return centroids


def test_planted_groups_become_the_clusters() -> None:
    vectors = groups()
    centroids = kmeans(vectors, vectors[::50])
    cluster, distance = Centroids(centroids).nearest(vectors)
    assert cluster.tolist() == np.repeat(np.arange(4), 50).tolist()
    assert distance.max() < 0.01
    for number in range(4):
        assert np.allclose(centroids[number], vectors[cluster == number].mean(axis=0), atol=1e-6)


def test_a_step_is_that_of_the_library_it_searches_with() -> None:
    vectors = unit(np.random.default_rng(2).standard_normal((3000, 24)))
    settings = faiss.ClusteringParameters()
    settings.niter, settings.min_points_per_centroid = 4, 1
    theirs = faiss.Clustering(24, 30, settings)
    faiss.copy_array_to_vector(vectors[:30].ravel(), theirs.centroids)
    theirs.train(vectors, faiss.IndexFlatL2(24))
    expected = faiss.vector_to_array(theirs.centroids).reshape(30, 24)
    assert np.allclose(kmeans(vectors, vectors[:30], 4), expected, atol=1e-5)


def test_a_centroid_that_nothing_is_nearest_to_stays_where_it_is() -> None:
    vectors = groups(2)
    far = -np.eye(8, dtype=np.float32)[:1]
    assert (lloyd_step([vectors], np.concatenate([vectors[::50], far]))[2] == far).all()


def test_nearest_by_hand() -> None:
    centroids = np.array([[0, 0], [3, 0]], np.float32)
    cluster, distance = Centroids(centroids).nearest(np.array([[1, 0], [2, 1], [3, 0]], np.float32))
    assert cluster.tolist() == [0, 1, 1]
    assert distance.tolist() == [1.0, 2.0, 0.0]


def test_nearest_agrees_with_brute_force() -> None:
    generator = np.random.default_rng(3)
    vectors, centroids = (generator.random((n, 16)).astype(np.float32) for n in (200, 30))
    cluster, distance = Centroids(centroids).nearest(vectors)
    every = ((vectors[:, None] - centroids[None]) ** 2).sum(-1)
    assert (cluster == every.argmin(1)).all()
    assert np.allclose(distance, every.min(1), atol=1e-5)


def test_bytes_depend_on_the_vectors_alone_not_on_threads_or_on_how_they_are_cut() -> None:
    vectors = unit(np.random.default_rng(5).standard_normal((3 * BLOCK, 64)))

    def answer(threads: int, blocks: int) -> bytes:
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(threads)
        try:
            size, centroids = blocks * BLOCK, vectors[:20]
            cut = [vectors[first : first + size] for first in range(0, len(vectors), size)]
            for _ in range(3):
                centroids = lloyd_step(cut, centroids)
            found = [Centroids(centroids).nearest(block) for block in cut]
        finally:
            faiss.omp_set_num_threads(before)
        return centroids.tobytes() + b"".join(
            np.concatenate(column).tobytes() for column in zip(*found, strict=True)
        )

    assert answer(1, 3) == answer(2, 3) == answer(1, 1) == answer(1, 2)


def test_refusals() -> None:
    vectors = groups(2, 2)
    with pytest.raises(ValueError, match="want vectors of length 1"):
        lloyd_step([2 * vectors], vectors)
    vectors[1, 0] = np.nan
    with pytest.raises(ValueError, match="row 1 is not finite"):
        lloyd_step([vectors], groups(2, 1))
    assert len(Centroids(np.ones((1, 3), np.float32)).search(np.empty((0, 3), np.float32))) == 0
