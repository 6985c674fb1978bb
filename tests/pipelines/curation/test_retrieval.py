"""Claims: w_c = sum_d w_d N_dc / N_d, by hand; a cluster is kept if and only if a target falls in
it; draws follow the weights in expectation; a scene's draw depends on itself and its cluster alone;
one weight can be changed alone; a target without videos is refused by name; a cap holds for every
scene and leaves the total; without curation every scene is drawn alike, or once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.curation.clusters import ASSIGNMENTS
from pipelines.curation.near_duplicates import COUNTS, DROPPED
from pipelines.curation.retrieval import (
    LEFT_OUT,
    RetrievalConfig,
    capped,
    cluster_weights,
    draws_of,
    expected_draws,
    kept_clusters,
    run,
    weighed,
)
from pipelines.curation.scenes import COLUMNS as SCENES
from pipelines.curation.sources import retrieval_weights
from storage.artifacts import Artifact
from storage.tables import read_table, write_table
from tests.pipelines.builders import artifact, workspace
from tests.pipelines.curation.builders import content, inputs, scene

PAPER = {"kinetics": 0.7, "ssv2": 0.125, "coin": 0.125, "epic_kitchens": 0.05}


def counts(**by_target: list[int]) -> dict[str, np.ndarray]:
    return {name: np.array(values, np.int64) for name, values in by_target.items()}


def test_cluster_weights_by_hand() -> None:
    # Four clusters; N_d: kinetics 10, ssv2 4, coin 1, epic_kitchens 2.
    found = counts(
        kinetics=[5, 5, 0, 0], ssv2=[0, 1, 3, 0], coin=[1, 0, 0, 0], epic_kitchens=[0, 0, 2, 0]
    )
    expected = [
        0.7 * 5 / 10 + 0.125 * 1 / 1,
        0.7 * 5 / 10 + 0.125 * 1 / 4,
        0.125 * 3 / 4 + 0.05 * 2 / 2,
        0.0,
    ]
    assert np.allclose(cluster_weights(found, PAPER), expected)
    assert kept_clusters(found, PAPER).tolist() == [True, True, True, False]


def test_weights_are_divided_by_their_sum() -> None:
    found = counts(kinetics=[1, 0], ssv2=[0, 1], coin=[1, 0], epic_kitchens=[1, 0])
    changed = PAPER | {"ssv2": 0.2}
    assert np.allclose(cluster_weights(found, changed), [0.875 / 1.075, 0.2 / 1.075])
    assert cluster_weights(found, changed).sum() == pytest.approx(1)


def test_a_target_that_is_switched_off_keeps_nothing() -> None:
    found = counts(kinetics=[1, 0], ssv2=[0, 1], coin=[0, 0], epic_kitchens=[0, 0])
    weights = {"kinetics": 1.0, "ssv2": 0.0, "coin": 0.0, "epic_kitchens": 0.0}
    assert kept_clusters(found, weights).tolist() == [True, False]
    assert cluster_weights(found, weights).tolist() == [1.0, 0.0]


def test_a_target_without_videos_is_refused_by_name() -> None:
    found = counts(kinetics=[1], ssv2=[1], coin=[0], epic_kitchens=[1])
    with pytest.raises(
        ValueError, match=r"coin has weight 0.125.*set curated_scenes.weights.coin=0"
    ):
        cluster_weights(found, PAPER)


def test_expected_draws_sum_to_the_budget_over_reachable_scenes() -> None:
    weights, sizes = np.array([0.5, 0.25, 0.0, 0.25]), np.array([10, 5, 7, 0])
    per_scene = expected_draws(weights, sizes, 300)
    # The last cluster holds no scene: its share goes to the others, 2 : 1.
    assert per_scene.tolist() == [20.0, 20.0, 0.0, 0.0]
    assert (per_scene * sizes).sum() == pytest.approx(300)
    with pytest.raises(ValueError, match="no cluster holds both"):
        expected_draws(np.array([0.0, 1.0]), np.array([3, 0]), 10)


def test_draws_average_to_what_is_expected() -> None:
    for expected in (0.2, 1.0, 2.75):
        draws = np.array([draws_of(expected, 0, f"scene-{n}") for n in range(4000)])
        assert set(draws) <= {int(np.floor(expected)), int(np.floor(expected)) + 1}
        # Standard error of the mean is below 0.008.
        assert draws.mean() == pytest.approx(expected, abs=0.03)
    assert draws_of(0.0, 0, "any") == 0
    assert [draws_of(0.5, 1, f"s{n}") for n in range(64)] != [
        draws_of(0.5, 2, f"s{n}") for n in range(64)
    ]


def planted(root: Path, sizes: list[int], found: dict[str, list[int]]) -> Any:
    """A pool with `sizes` scenes per cluster in two partitions, targets as counted in `found`."""
    clustered, scenes = root / "clusters", root / "scenes"
    scenes.mkdir(parents=True)
    pool: dict[str, list[dict[str, Any]]] = {"yt1b-00": [], "yt1b-01": []}
    for cluster, size in enumerate(sizes):
        for n in range(size):
            row = {"scene_id": f"c{cluster}-{n}", "cluster": cluster, "distance": 0.0}
            pool[f"yt1b-0{n % 2}"].append(row)
    for name, rows in pool.items():
        write_table(clustered / "assignments" / f"{name}.parquet", rows, ASSIGNMENTS)
    votes = {f"n_{source}": per_cluster for source, per_cluster in found.items()}
    table = [
        {"first_scene": f"c{c}-0", "scenes": size, "distance": 0.0}
        | {n: v[c] for n, v in votes.items()}
        for c, size in enumerate(sizes)
    ]
    schema = {"first_scene": "string", "distance": "float64"}
    write_table(
        clustered / "clusters.parquet", table, {n: schema.get(n, "int64") for n in table[0]}
    )
    here = [scene(row["scene_id"]) for row in pool["yt1b-00"]]
    write_table(scenes / "scenes.parquet", [*here, scene("not-embedded")], SCENES)
    return inputs(
        clusters=artifact(clustered, "clusters"),
        scenes=artifact(scenes, "scenes/yt1b-00"),
        **{name: left_out(root / name, sizes, ()) for name in LEFT_OUT},
    )


def left_out(root: Path, sizes: list[int], scenes: Sequence[str]) -> Artifact:
    """What says that some of the first partition's scenes are no longer of the pool."""
    rows = [
        {"scene_id": name, "cluster": int(name[1]), "of": "x", "similarity": 0.9} for name in scenes
    ]
    write_table(root / "dropped" / "yt1b-00.parquet", rows, DROPPED)
    counts = Counter(row["cluster"] for row in rows)
    table = [{"dropped": counts[cluster]} for cluster in range(len(sizes))]
    write_table(root / "clusters.parquet", table, COUNTS)
    return artifact(root, root.name)


FOUND = {
    "kinetics": [8, 2, 0, 0], "ssv2": [0, 4, 0, 0], "coin": [1, 0, 0, 0],
    "epic_kitchens": [0, 0, 1, 0],
}  # fmt: skip


def test_run_on_planted_clusters(tmp_path: Path) -> None:
    given = planted(tmp_path, [200, 200, 200, 200], FOUND)
    out = workspace(tmp_path / "work", "yt1b-00", workers=2)
    metrics = run(RetrievalConfig(budget=4000), given, out)
    table = weighed(given["clusters"], RetrievalConfig(weights=PAPER), [])
    assert table["kept"].tolist() == [True, True, True, False]
    assert table["n_kinetics"].tolist() == [8, 2, 0, 0]
    weights = [0.7 * 0.8 + 0.125, 0.7 * 0.2 + 0.125, 0.05, 0.0]
    assert np.allclose(table["weight"], weights)
    drawn = read_table(out.payload / "scenes.parquet")
    draws = Counter()
    for row in drawn:
        assert row["draws"] > 0
        draws[int(row["scene_id"][1])] += row["draws"]
    assert draws[3] == 0
    # Half of the pool lies in this partition, so half of the budget is expected here.
    for cluster in range(3):
        assert draws[cluster] == pytest.approx(2000 * weights[cluster], abs=15)
    assert metrics["clusters_kept"] == 3
    assert metrics["scenes_without_embedding"] == 1
    assert metrics["scenes_in_kept_clusters"] == 300


def test_what_is_no_longer_of_the_pool_is_not_drawn_and_others_take_its_place(
    tmp_path: Path,
) -> None:
    sizes = [20, 20, 20, 20]
    given = planted(tmp_path, sizes, FOUND)
    copies, leaks = [f"c0-{n}" for n in range(0, 20, 4)], ["c1-0", "c1-2"]
    given = inputs(**{
        **given,
        "near_duplicates": left_out(tmp_path / "copies", sizes, copies),
        "leakage_guard": left_out(tmp_path / "leaks", sizes, leaks),
    })  # fmt: skip
    out = workspace(tmp_path / "work", "yt1b-00")
    metrics = run(RetrievalConfig(budget=4000), given, out)
    drawn = {row["scene_id"]: row["draws"] for row in read_table(out.payload / "scenes.parquet")}
    assert not set(drawn) & {*copies, *leaks}
    assert (metrics["scenes_near_duplicates"], metrics["scenes_leakage_guard"]) == (5, 2)
    # Half of each cluster lies here: of cluster 0, 5 of the 15 scenes that are left.
    weight = 0.7 * 0.8 + 0.125
    share = sum(draws for name, draws in drawn.items() if name[1] == "0")
    assert share == pytest.approx(4000 * weight * 5 / 15, abs=6)


def test_two_builds_one_digest_and_one_weight_changes_it(tmp_path: Path) -> None:
    given = planted(tmp_path, [20, 20, 20, 20], FOUND)
    answers = []
    for number, ssv2 in enumerate((0.125, 0.125, 0.2)):
        out = workspace(tmp_path / f"work{number}", "yt1b-00", workers=2)
        config = RetrievalConfig(weights=retrieval_weights() | {"ssv2": ssv2}, budget=100)
        run(config, given, out)
        answers.append(content(out))
    assert answers[0] == answers[1] != answers[2]


def test_a_draw_does_not_depend_on_the_other_scenes_here(tmp_path: Path) -> None:
    given = planted(tmp_path, [20, 20, 20, 20], FOUND)
    table = given["scenes"].file("scenes.parquet")
    every = read_table(table)
    drawn = []
    for number, rows in enumerate((every, every[::3])):
        write_table(table, rows, SCENES)
        given = inputs(**{**given, "scenes": artifact(table.parent, "scenes/yt1b-00")})
        out = workspace(tmp_path / f"work{number}", "yt1b-00", workers=2)
        run(RetrievalConfig(budget=60), given, out)
        chosen = read_table(out.payload / "scenes.parquet")
        drawn.append({row["scene_id"]: row["draws"] for row in chosen})
    fewer = {row["scene_id"] for row in every[::3]}
    assert drawn[1] == {name: draws for name, draws in drawn[0].items() if name in fewer}
    assert 0 < len(drawn[1]) < len(drawn[0])


def test_a_cap_gives_what_it_cuts_off_to_the_others_by_their_weights() -> None:
    expected, sizes = np.array([9.0, 3.0, 1.0, 0.0]), np.array([1, 2, 5, 7])
    # 5 are cut off the first cluster. The others' 11 become 16, which takes the second above 4,
    # too; then all that is left of 20 goes to the third.
    assert capped(expected, sizes, 4.0).tolist() == [4.0, 4.0, 1.6, 0.0]
    assert capped(expected, sizes, 9.0).tolist() == expected.tolist()
    # Too little for the total: every scene that is drawn at all is drawn once.
    assert capped(expected, sizes, 1.0).tolist() == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("most", [1, 3, None])
def test_no_scene_is_drawn_more_often_than_the_cap(tmp_path: Path, most: int | None) -> None:
    given = planted(tmp_path, [40, 200, 200, 200], FOUND)
    out = workspace(tmp_path / "work", "yt1b-00")
    run(RetrievalConfig(budget=1000, most_draws=most), given, out)
    draws = [row["draws"] for row in read_table(out.payload / "scenes.parquet")]
    assert max(draws) == (most or 18)  # 0.685 / 0.985 of 1,000 over 40 scenes
    # Half of what all may be drawn, or of the budget.
    assert sum(draws) == pytest.approx({1: 220, 3: 500, None: 500}[most], abs=25)


def test_without_curation_every_scene_is_drawn_alike_or_once(tmp_path: Path) -> None:
    given = planted(tmp_path, [40, 200, 200, 200], FOUND)
    found = {}
    for rule in ("uniform", "all"):
        out = workspace(tmp_path / rule, "yt1b-00")
        run(RetrievalConfig(rule=rule, budget=1600), given, out)
        rows = read_table(out.payload / "scenes.parquet")
        found[rule] = Counter(row["draws"] for row in rows)
        assert {row["scene_id"][1] for row in rows} == set("0123")
    assert set(found["uniform"]) == {2, 3}  # 1,600 over 640 scenes
    assert found["uniform"][2] == pytest.approx(160, abs=40)
    assert found["all"] == {1: 320}


def test_a_rule_that_is_none_is_refused_with_the_nearest() -> None:
    told = r"RetrievalConfig.rule = 'uniformly': must be .*did you mean uniform\?"
    with pytest.raises(ValueError, match=told):
        RetrievalConfig(rule="uniformly")


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_weights_are_checked(weight: float) -> None:
    with pytest.raises(ValueError, match=r"RetrievalConfig.weights.coin = "):
        RetrievalConfig(weights={"coin": weight})


def test_the_papers_numbers_are_the_defaults() -> None:
    config = RetrievalConfig()
    assert config.weights == PAPER
    assert config.budget == 115_000_000
    with pytest.raises(ValueError, match="all are 0"):
        RetrievalConfig(weights=dict.fromkeys(retrieval_weights(), 0.0))
