"""Claims: planted groups of scenes and targets meet in the right clusters; held-out targets stay
out; the sample that trains is a hash of ids; two builds give one digest; too few scenes is refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.curation.clusters import ClustersConfig, run, source_of, training_rows
from pipelines.stage import Inputs
from storage.tables import read_table
from tests.pipelines.builders import workspace
from tests.pipelines.curation.builders import content, embeddings
from tests.pipelines.curation.test_neighbours import groups

CONFIG = ClustersConfig(clusters=4, iterations=20, train_scenes=1000, seed=3)


def planted(root: Path) -> Inputs:
    """Two pool partitions over four groups; kinetics in group 0, ssv2 in 1 and (held out) 2."""
    vectors = groups(4, 50)
    parts = {
        "yt1b-00": embeddings(root / "a", "yt1b-00", vectors[::2]),
        "yt1b-01": embeddings(root / "b", "yt1b-01", vectors[1::2]),
        "yt1b-02": embeddings(root / "c", "yt1b-02", vectors[:0]),
        "kinetics": embeddings(root / "d", "kinetics", vectors[:3]),
        "ssv2": embeddings(
            root / "e", "ssv2", vectors[[50, 51, 100]], split=["train", None, "validation"]
        ),
    }
    return Inputs({f"scene_embeddings/{name}": part for name, part in parts.items()})


def test_planted_groups_meet(tmp_path: Path) -> None:
    out = workspace(tmp_path / "work", workers=2)
    metrics = run(CONFIG, planted(tmp_path), out)
    pool = read_table(out.payload / "assignments.parquet")
    assert len(pool) == 200
    by_scene = {row["scene_id"]: row["cluster"] for row in pool}
    # Row r of a partition is vector 2r or 2r + 1, so 25 rows of each partition are one group.
    first, second = (by_scene[f"yt1b-00-{row}"] for row in (0, 25))
    assert {by_scene[f"yt1b-0{part}-{row}"] for part in (0, 1) for row in range(25)} == {first}
    assert {row["partition"] for row in pool} == {"yt1b-00", "yt1b-01"}
    targets = read_table(out.payload / "targets.parquet")
    found = [(row["source"], row["cluster"]) for row in targets]
    assert found == [("kinetics", first)] * 3 + [("ssv2", second)] * 2
    assert metrics["targets_held_out"] == 1
    assert metrics["clusters_hit_by_targets"] == 2
    assert np.load(out.payload / "centroids.npy").shape == (4, 8)


def test_two_builds_one_digest_and_the_seed_matters(tmp_path: Path) -> None:
    given = planted(tmp_path)
    answers = []
    for number, seed in enumerate((3, 3, 4)):
        out = workspace(tmp_path / f"work{number}", workers=2)
        run(ClustersConfig(clusters=20, iterations=5, train_scenes=60, seed=seed), given, out)
        answers.append(content(out))
    assert answers[0] == answers[1] != answers[2]


def test_training_sample_is_a_hash_of_ids() -> None:
    ids = {
        "a": np.array([f"a{n}" for n in range(300)]),
        "b": np.array([f"b{n}" for n in range(200)]),
    }
    chosen = training_rows(ids, 100, seed=0)
    assert sum(len(rows) for rows in chosen.values()) == 100
    assert 35 <= len(chosen["a"]) <= 85  # 60 expected
    named = {f"a{row}" for row in chosen["a"]}
    shuffled = {"a": ids["a"][::-1], "b": ids["b"]}
    again = training_rows(shuffled, 100, seed=0)
    assert {shuffled["a"][row] for row in again["a"]} == named
    assert len(np.concatenate(list(training_rows(ids, 500, seed=0).values()))) == 500


def test_fewer_scenes_than_clusters_is_one_clear_line(tmp_path: Path) -> None:
    config = ClustersConfig(clusters=201, train_scenes=500)
    with pytest.raises(ValueError, match=r"200 scenes .* cannot make 201 clusters.*at most 200"):
        run(config, planted(tmp_path), workspace(tmp_path / "work", workers=2))


@pytest.mark.parametrize("change", [{"clusters": 0}, {"iterations": 0}, {"train_scenes": 10}])
def test_settings_are_checked(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"ClustersConfig.{next(iter(change))} = "):
        ClustersConfig(**change)


def test_source_of_a_partition() -> None:
    assert [source_of(name) for name in ("yt1b-07", "epic_kitchens", "howto100m")] == [
        "yt1b", "epic_kitchens", "howto100m",
    ]  # fmt: skip
