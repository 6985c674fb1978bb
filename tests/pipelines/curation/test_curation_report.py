"""Claims: every scene of the pool is counted once, by what became of it; the table of clusters adds
up to the draws that there are; what a weight is said to move is what a retrieval with that weight
moves; a cap shows; partitions drawn by other settings are refused; no targets, no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.curation import curation_report, retrieval
from pipelines.curation.curation_report import CurationReportConfig
from pipelines.curation.near_duplicates import write_dropped
from pipelines.curation.retrieval import LEFT_OUT, RetrievalConfig
from pipelines.stage import Inputs, Workspace
from storage.artifacts import Artifact
from storage.errors import InputError
from storage.tables import QUARANTINE, write_table
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.curation.test_movement import PARTS, WEIGHTS, curate

ASKED = RetrievalConfig(weights=WEIGHTS, budget=600)


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A pool of 1,200 scenes in four partitions, and what was left out of it."""
    root = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "map", map_in_turn)
        clustered, _ = curate(root)
    given = {"clusters": clustered}
    for first, name in enumerate(LEFT_OUT):
        rows = ((part, some(clustered, part, slice(first, None, 20))) for part in PARTS)
        write_dropped(root / name, rows, clustered)
        given[name] = artifact(root / name, name)
    for number, name in enumerate(PARTS):
        kinds = [{"kind": "video"}] * 3
        aside = [{"item": "a", "stage": "b", "reason": "c"}] * number
        write_table(root / "raw" / name / "videos.parquet", kinds, {"kind": "string"})
        write_table(root / "raw" / name / "quarantine.parquet", aside, QUARANTINE)
        write_table(root / "scenes" / name / "quarantine.parquet", [], QUARANTINE)
        for asset, kind in (("raw_videos", "raw"), ("scenes", "scenes")):
            given[f"{asset}/{name}"] = artifact(root / kind / name, f"{asset}/{name}")
    return given


def some(clustered: Artifact, partition: str, which: slice) -> list[dict[str, Any]]:
    """Some scenes of a partition as rows of what is dropped."""
    table = clustered.columns(f"assignments/{partition}.parquet", ["scene_id", "cluster"])
    named = zip(table["scene_id"][which].tolist(), table["cluster"][which].tolist(), strict=True)
    return [{"scene_id": s, "cluster": c, "of": "x", "similarity": 1.0} for s, c in named]


def drawn(
    pool: Mapping[str, Artifact], folder: Path, config: RetrievalConfig
) -> dict[str, Artifact]:
    """The curated scenes of every partition."""
    found = {}
    for name in PARTS:
        out = workspace(folder / name, name)
        mine = {asset: pool[asset] for asset in ("clusters", *LEFT_OUT)}
        retrieval.run(config, Inputs({**mine, "scenes": pool[f"scenes/{name}"]}), out)
        found[f"curated_scenes/{name}"] = artifact(out.payload, f"curated_scenes/{name}")
    return found


def reported(
    pool: Mapping[str, Artifact], folder: Path, config: RetrievalConfig = ASKED, **settings: Any
) -> tuple[Artifact, dict[str, int]]:
    """A report, and the draws of every scene that is drawn."""
    curated = drawn(pool, folder / "curated", config)
    out = workspace(folder / "report")
    curation_report.run(CurationReportConfig(**settings), Inputs({**pool, **curated}), out)
    return artifact(out.payload, "curation_report"), draws_of(curated)


def draws_of(curated: Mapping[str, Artifact]) -> dict[str, int]:
    tables = [part.columns("scenes.parquet", ["scene_id", "draws"]) for part in curated.values()]
    return {k: v for t in tables for k, v in zip(t["scene_id"], t["draws"].tolist(), strict=True)}


def test_every_scene_is_counted_once_by_what_became_of_it(pool, tmp_path: Path) -> None:
    report, draws = reported(pool, tmp_path)
    told = report.json("report.json")
    assert sum(told["scenes"].values()) == 1200
    assert told["scenes"]["drawn"] == len(draws) > 100
    assert told["scenes"]["near_duplicates"] == told["scenes"]["leakage_guard"] == 60
    assert told["scenes"]["cluster without a target"] > 10
    assert told["draws"] == sum(draws.values())
    assert told["files"] == {"listed": 12, "quarantined": 6, "broken while cut": 0}
    assert sum(t["draws"] for t in told["targets"].values()) == pytest.approx(told["draws"])
    # Draws follow the weights of the targets, 0.8 to 0.2.
    assert told["targets"]["kinetics"]["draws"] == pytest.approx(480, abs=40)


def test_the_table_of_clusters_adds_up(pool, tmp_path: Path) -> None:
    report, draws = reported(pool, tmp_path)
    table = report.columns("clusters.parquet")
    assert table["scenes"].sum() == 1200 and len(table["kept"]) == 48
    assert table["draws"].sum() == sum(draws.values()) and table["drawn"].sum() == len(draws)
    voted = table["n_kinetics"] + table["n_ssv2"] > 0
    assert (table["kept"] == voted).all() and 0 < voted.sum() < 48
    shares = table["share_kinetics"] + table["share_ssv2"]
    assert np.allclose(shares, table["kept"])
    assert not table["draws"][~table["kept"]].any()
    for kinetics, ssv2, why in zip(table["n_kinetics"], table["n_ssv2"], table["why"], strict=True):
        names = [name for name, n in (("kinetics", kinetics), ("ssv2", ssv2)) if n]
        assert why == (f"target video: {', '.join(names)}" if names else "no target video")


@pytest.mark.parametrize("config", [ASKED, replace(ASKED, most_draws=2)])
def test_what_a_weight_moves_is_what_a_retrieval_with_it_moves(
    pool, tmp_path: Path, config: RetrievalConfig
) -> None:
    report, before = reported(pool, tmp_path, config)
    rows = report.table("sensitivity.parquet")
    assert [(r["target"], r["factor"]) for r in rows] == [
        ("kinetics", 0.8), ("kinetics", 1.2), ("ssv2", 0.8), ("ssv2", 1.2)
    ]  # fmt: skip
    names = [pool["clusters"].columns(f"assignments/{p}.parquet") for p in PARTS]
    cluster = {s: c for t in names for s, c in zip(t["scene_id"], t["cluster"], strict=True)}
    for number, row in enumerate(rows):
        weights = WEIGHTS | {row["target"]: WEIGHTS[row["target"]] * row["factor"]}
        changed = replace(config, weights=weights)
        after = draws_of(drawn(pool, tmp_path / str(number), changed))
        assert row["scenes_in"] == len(set(after) - set(before))
        assert row["scenes_out"] == len(set(before) - set(after))
        assert row["draws"] == sum(after.values())
        moved = sum(abs(after.get(s, 0) - before.get(s, 0)) for s in {*after, *before})
        assert row["draws_moved"] == moved > 0
        at = [{cluster[scene] for scene in some} for some in (before, after)]
        assert (row["clusters_in"], row["clusters_out"]) == (len(at[1] - at[0]), len(at[0] - at[1]))
        assert row["weight"] == pytest.approx(weights[row["target"]] / sum(weights.values()))
    assert sum(row["scenes_in"] for row in rows) and sum(row["scenes_out"] for row in rows)
    # From 0.2 of 1.0 to 0.24 of 1.04: as much weight moves between the targets, at most.
    assert 0.005 < rows[-1]["weight_moved"] <= 0.24 / 1.04 - 0.2


def test_scenes_drawn_most_often_and_scenes_of_clusters_are_named(pool, tmp_path: Path) -> None:
    report, draws = reported(pool, tmp_path, most_drawn=5, shown=3)
    rows = report.table("most_drawn.parquet")
    expected = sorted(draws, key=lambda scene: (-draws[scene], scene))[:5]
    assert [row["scene_id"] for row in rows] == expected
    assert all(row["scene_id"].startswith(row["partition"]) for row in rows)
    table, shown = report.columns("clusters.parquet"), report.table("shown.parquet")
    assert sorted(table["kept"][row["cluster"]] for row in shown) == [False] * 3 + [True] * 3
    heaviest = set(np.argsort(-table["weight"], kind="stable")[:3].tolist())
    assert {row["cluster"] for row in shown if table["kept"][row["cluster"]]} == heaviest
    nearest = {}
    for name in PARTS:
        here = pool["clusters"].columns(f"assignments/{name}.parquet")
        for scene, c, distance in zip(*here.values(), strict=True):
            nearest[c] = min(nearest.get(c, (9.0, "")), (distance, scene))
    # A dropped near-duplicate may lie nearer still.
    assert sum(nearest[row["cluster"]][1] == row["scene_id"] for row in shown) >= 3


def test_a_cap_shows(pool, tmp_path: Path) -> None:
    free, capped = (
        reported(pool, tmp_path / str(most), replace(ASKED, most_draws=most))[0]
        for most in (None, 1)
    )
    assert free.table("most_drawn.parquet")[0]["draws"] > 1
    assert capped.table("most_drawn.parquet")[0]["draws"] == 1
    assert capped.json("report.json")["most_draws"] == 1


@pytest.mark.parametrize("rule", ["uniform", "all"])
def test_without_targets_no_weight_counts(pool, tmp_path: Path, rule: Any) -> None:
    report, draws = reported(pool, tmp_path, replace(ASKED, rule=rule))
    told = report.json("report.json")
    assert told["rule"] == rule and told["scenes"]["cluster without a target"] == 0
    assert report.table("sensitivity.parquet") == []
    assert set(report.columns("clusters.parquet")["why"]) == {f"not curated: rule {rule}"}
    if rule == "all":
        assert set(draws.values()) == {1} and told["scenes"]["not drawn by chance"] == 0


def test_two_reports_one_digest(pool, tmp_path: Path) -> None:
    first, second = (reported(pool, tmp_path / name)[0] for name in "ab")
    assert first.content == second.content


def test_partitions_drawn_by_other_settings_are_refused(pool, tmp_path: Path) -> None:
    curated = drawn(pool, tmp_path / "one", ASKED)
    other = drawn(pool, tmp_path / "other", replace(ASKED, seed=1))
    mixed = curated | {f"curated_scenes/{PARTS[2]}": other[f"curated_scenes/{PARTS[2]}"]}
    told = f"curated_scenes/{PARTS[2]} was drawn by other settings than curated_scenes/{PARTS[0]}"
    with pytest.raises(InputError, match=told):
        curation_report.run(
            CurationReportConfig(), Inputs({**pool, **mixed}), workspace(tmp_path / "out")
        )
