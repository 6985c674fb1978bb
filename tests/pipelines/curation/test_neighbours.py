"""Claims: k-means finds planted groups; centroids are means; nearest is nearest; bytes depend on
vectors and seed alone, not on threads; what cannot work is refused in one line.
"""

from __future__ import annotations

import subprocess
import sys

import faiss
import numpy as np
import pytest

from pipelines.curation.neighbours import nearest, train_centroids


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


def test_planted_groups_become_the_clusters() -> None:
    vectors = groups()
    centroids = train_centroids(vectors, 4, iterations=20, seed=1)
    cluster, distance = nearest(vectors, centroids)
    for first in range(0, len(vectors), 50):
        assert len(set(cluster[first : first + 50])) == 1
    assert len(set(cluster)) == 4
    assert distance.max() < 0.01
    for number in range(4):
        assert np.allclose(centroids[number], vectors[cluster == number].mean(axis=0), atol=1e-6)


def test_nearest_by_hand() -> None:
    centroids = np.array([[0, 0], [3, 0]], np.float32)
    cluster, distance = nearest(np.array([[1, 0], [2, 1], [3, 0]], np.float32), centroids)
    assert cluster.tolist() == [0, 1, 1]
    assert distance.tolist() == [1.0, 2.0, 0.0]


def test_nearest_agrees_with_brute_force() -> None:
    generator = np.random.default_rng(3)
    vectors, centroids = generator.random((200, 16)), generator.random((30, 16))
    cluster, distance = nearest(vectors.astype(np.float32), centroids.astype(np.float32))
    every = ((vectors[:, None] - centroids[None]) ** 2).sum(-1)
    assert (cluster == every.argmin(1)).all()
    assert np.allclose(distance, every.min(1), atol=1e-5)


def test_bytes_depend_on_vectors_and_seed_alone() -> None:
    vectors = np.random.default_rng(5).standard_normal((2000, 64)).astype(np.float32)

    def answer(seed: int, threads: int) -> bytes:
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(threads)
        try:
            centroids = train_centroids(vectors, 20, iterations=5, seed=seed)
            cluster, distance = nearest(vectors, centroids)
        finally:
            faiss.omp_set_num_threads(before)
        return centroids.tobytes() + cluster.tobytes() + distance.tobytes()

    assert answer(7, 1) == answer(7, 2)
    assert answer(7, 1) != answer(8, 1)


def test_more_points_per_cluster_than_faiss_would_take_are_all_used() -> None:
    # FAISS by itself trains on at most 256 points per centroid: one cluster's mean would be off.
    vectors = np.random.default_rng(6).random((1000, 4)).astype(np.float32)
    centroids = train_centroids(vectors, 1, iterations=2, seed=0)
    assert np.allclose(centroids[0], vectors.mean(axis=0), atol=1e-5)


def test_refusals() -> None:
    vectors = groups(2, 2)
    with pytest.raises(ValueError, match=r"4 vectors cannot make 5 clusters.*at most 4"):
        train_centroids(vectors, 5, iterations=1, seed=0)
    vectors[1, 0] = np.nan
    with pytest.raises(ValueError, match="row 1 is not finite"):
        train_centroids(vectors, 1, iterations=1, seed=0)
    assert len(nearest(np.empty((0, 3), np.float32), np.ones((1, 3), np.float32))[0]) == 0
