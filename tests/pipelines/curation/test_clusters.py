"""Claims: planted groups of scenes and targets meet in the right clusters; held-out targets stay
out; the sample that trains is a hash of ids; two builds give one digest, whatever memory they take
and however often they were killed; a scene more or less leaves the others where they are; frozen
centroids stay as they are, and the drift from them is told; too few scenes is refused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from pipelines.curation import kmeans, neighbours
from pipelines.curation.clusters import CENTROIDS, STAGE, ClustersConfig, run, source_of
from pipelines.curation.kmeans import block_rows, training_sample
from pipelines.curation.neighbours import BLOCK, lloyd_step
from pipelines.execution import ExecutionConfig
from pipelines.stage import Inputs, Workspace, recipe_inputs
from storage.artifacts import Artifact
from storage.tables import read_columns, read_table
from tests.pipelines.builders import map_in_turn, workspace
from tests.pipelines.curation.builders import content, embeddings
from tests.pipelines.curation.test_neighbours import groups, unit

CONFIG = ClustersConfig(clusters=4, iterations=20, train_scenes=1000, seed=3)


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)


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


def assigned(out: Workspace, kind: str = "assignments") -> dict[str, dict[str, Any]]:
    """Scene -> its row, over all partitions."""
    files = sorted((out.payload / kind).glob("*.parquet"))
    return {row["scene_id"]: row for file in files for row in read_table(file)}


def test_planted_groups_meet(tmp_path: Path) -> None:
    out = workspace(tmp_path / "work", workers=2)
    metrics = run(CONFIG, planted(tmp_path), out)
    by_scene = {name: row["cluster"] for name, row in assigned(out).items()}
    assert len(by_scene) == 200
    # Row r of a partition is vector 2r or 2r + 1, so 25 rows of each partition are one group.
    first, second = (by_scene[f"yt1b-00-{row}"] for row in (0, 25))
    assert {by_scene[f"yt1b-0{part}-{row}"] for part in (0, 1) for row in range(25)} == {first}
    targets = {name: row["cluster"] for name, row in assigned(out, "targets").items()}
    assert targets == {
        **{f"kinetics-{n}": first for n in range(3)}, "ssv2-0": second, "ssv2-1": second,
    }  # fmt: skip
    assert metrics["targets_held_out"] == 1
    assert metrics["clusters_hit_by_targets"] == 2
    assert np.load(out.payload / "centroids.npy").shape == (4, 8)
    table = read_columns(out.payload / "clusters.parquet")
    assert table["scenes"].tolist() == [50] * 4
    assert (table["n_kinetics"].sum(), table["n_kinetics"][first]) == (3, 3)
    assert (table["n_ssv2"].sum(), table["n_ssv2"][second]) == (2, 2)
    near = [row["distance"] for row in assigned(out).values() if row["cluster"] == first]
    assert table["distance"][first] == pytest.approx(np.mean(near))


def test_two_builds_one_digest_and_the_seed_matters(tmp_path: Path) -> None:
    given = planted(tmp_path)
    answers = []
    for number, seed in enumerate((3, 3, 4)):
        out = workspace(tmp_path / f"work{number}", workers=2)
        run(ClustersConfig(clusters=20, iterations=5, train_scenes=60, seed=seed), given, out)
        answers.append(content(out))
    assert answers[0] == answers[1] != answers[2]


def test_less_memory_gives_the_same_bytes(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(0).standard_normal((6 * BLOCK + 7, 64)))
    part = embeddings(tmp_path / "pool", "yt1b-00", vectors)
    answers = []
    for megabytes in (1, 64):
        assert block_rows(megabytes, 64) == megabytes * BLOCK
        out = workspace(tmp_path / f"work{megabytes}")
        out = replace(out, execution=replace(out.execution, stream_mb=megabytes))
        run(ClustersConfig(clusters=16, iterations=3), pool(yt1b_00=part), out)
        answers.append(content(out))
    assert answers[0] == answers[1]


def test_what_was_done_before_a_kill_is_not_done_again(tmp_path: Path, monkeypatch) -> None:
    config = ClustersConfig(clusters=20, iterations=5, train_scenes=60)
    given, steps = planted(tmp_path), []
    whole = workspace(tmp_path / "whole")
    run(config, given, whole)

    def dying(*values: Any, **named: Any) -> np.ndarray:
        if len(steps) == 3:
            raise KeyboardInterrupt
        steps.append(lloyd_step(*values, **named))
        return steps[-1]

    out = workspace(tmp_path / "killed")
    monkeypatch.setattr(neighbours, "lloyd_step", dying)
    with pytest.raises(KeyboardInterrupt):
        run(config, given, out)
    assert (out.scratch / "iteration-000003.npy").read_bytes()[-640:] == steps[-1].tobytes()
    monkeypatch.setattr(neighbours, "lloyd_step", lloyd_step)
    monkeypatch.setattr(kmeans, "write_blocks", None)  # the sample is not gathered again, either
    run(config, given, out)
    assert content(out) == content(whole)


def test_training_sample_is_a_hash_of_ids() -> None:
    ids = [np.array([f"a{n}" for n in range(300)]), np.array([f"b{n}" for n in range(200)])]
    chosen = training_sample(ids, 100, seed=0)
    assert (len(chosen.row), chosen.total) == (100, 500)
    assert 35 <= (chosen.partition == 0).sum() <= 85  # 60 expected
    named = [ids[part][row] for part, row in zip(chosen.partition, chosen.row, strict=True)]
    shuffled = [ids[0][::-1], ids[1]]
    again = training_sample(shuffled, 100, seed=0)
    found = [shuffled[part][row] for part, row in zip(again.partition, again.row, strict=True)]
    assert set(found) == set(named)
    # The first centroids, too: by their hashes, whatever else is there.
    assert [named[at] for at in chosen.first(7)] == [found[at] for at in again.first(7)]
    assert len(training_sample(ids, 500, seed=0).row) == 500


def pool(**parts: Artifact) -> Inputs:
    return Inputs(
        {f"scene_embeddings/{name.replace('_', '-')}": part for name, part in parts.items()}
    )


def scattered(count: int, centres: int, width: int) -> np.ndarray:
    """Vectors [count, width] that overlap: many loose groups."""
    generator = np.random.default_rng(1)
    middle = generator.standard_normal((centres, width))[generator.integers(0, centres, count)]
    return unit(middle + 0.5 * generator.standard_normal((count, width)))


@pytest.mark.parametrize(("count", "clusters"), [(395, 40), (4000, 128)])
def test_one_scene_less_leaves_the_others_in_their_clusters(
    tmp_path: Path, count: int, clusters: int
) -> None:
    vectors, config = scattered(count, 600, 64), ClustersConfig(clusters=clusters)
    names, found = [f"scene-{n}" for n in range(count)], []
    for number, gone in enumerate((None, count // 2)):
        kept = [n for n in range(count) if n != gone]
        part = embeddings(
            tmp_path / f"pool{number}", "yt1b-00", vectors[kept], scene_id=[names[n] for n in kept]
        )
        out = workspace(tmp_path / f"work{number}", workers=2)
        run(config, pool(yt1b_00=part), out)
        found.append({name: row["cluster"] for name, row in assigned(out).items()})
    before, after = found
    assert len(before) - 1 == len(after)
    agreement = adjusted_rand_score([before[name] for name in after], list(after.values()))
    assert agreement >= 0.99


def test_frozen_centroids_stay_and_the_drift_from_them_is_told(tmp_path: Path) -> None:
    vectors = groups(4, 50)
    before, after = (workspace(tmp_path / name) for name in ("before", "after"))
    first = embeddings(tmp_path / "a", "yt1b-00", vectors[:150])
    run(ClustersConfig(clusters=3, iterations=5), pool(yt1b_00=first), before)
    frozen = ClustersConfig(clusters=3, frozen=str(before.payload))
    new = embeddings(tmp_path / "b", "yt1b-01", vectors[150:])
    metrics = run(frozen, pool(yt1b_00=first, yt1b_01=new), after)
    assert (before.payload / CENTROIDS).read_bytes() == (after.payload / CENTROIDS).read_bytes()
    drift = metrics["drift"]
    assert (drift["scenes_before"], drift["scenes"], drift["clusters_emptied"]) == (150, 200, 0)
    assert drift["mean_distance"] > 10 * drift["mean_distance_before"]
    sizes = read_columns(after.payload / "clusters.parquet")["scenes"] / 200
    assert drift["share_moved"] == pytest.approx(np.abs(sizes - 1 / 3).sum() / 2)
    table = "assignments/yt1b-00.parquet"
    assert (before.payload / table).read_bytes() == (after.payload / table).read_bytes()


def test_frozen_centroids_are_part_of_the_recipe_by_what_they_are(tmp_path: Path) -> None:
    execution = ExecutionConfig(cache=tmp_path / "cache")
    seen = []
    for name, value in (("here", 1.0), ("there", 1.0), ("other", 2.0)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / CENTROIDS, np.full((2, 3), value, np.float32))
        config = ClustersConfig(clusters=2, frozen=str(tmp_path / name))
        seen.append(recipe_inputs(STAGE, config, {}, None, execution))
    assert seen[0] == seen[1] != seen[2]
    none = recipe_inputs(STAGE, ClustersConfig(clusters=2), {}, None, execution)
    assert "external_inputs" not in none


def test_frozen_centroids_that_do_not_fit_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match=r"clusters.frozen = .*missing.*an earlier clusters"):
        run(replace(CONFIG, frozen=str(tmp_path / "old")), planted(tmp_path), workspace(tmp_path))
    old = workspace(tmp_path / "nine")
    run(replace(CONFIG, clusters=9), planted(tmp_path / "p"), old)
    with pytest.raises(ValueError, match=r"holds 9 centroids; set clusters.clusters=9"):
        run(replace(CONFIG, frozen=str(old.payload)), planted(tmp_path / "q"), workspace(tmp_path))


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
