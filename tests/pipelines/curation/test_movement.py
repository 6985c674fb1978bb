"""Claims: without one scene, its own partition changes and no other, unless the draws of a cluster
moved; what moved is counted, cluster by cluster and scene by scene.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.curation import clusters, leakage_guard, near_duplicates, retrieval
from pipelines.curation.clusters import ClustersConfig
from pipelines.curation.movement import clusters_moved, scenes_moved
from pipelines.curation.retrieval import RetrievalConfig
from pipelines.curation.scenes import COLUMNS as SCENES
from pipelines.stage import Inputs, Workspace
from storage.artifacts import Artifact
from storage.tables import read_table, write_table
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.curation.builders import embeddings, inputs, scene
from tests.pipelines.curation.test_clusters import scattered

VECTORS = scattered(1200, 300, 64)
PARTS = [f"yt1b-{number:02d}" for number in range(4)]
WEIGHTS = {"kinetics": 0.8, "ssv2": 0.2}


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)


def curate(root: Path, gone: str | None = None) -> tuple[Artifact, dict[str, Artifact]]:
    """Clusters and curated scenes of a pool of 1,200 scenes in four partitions, or of one less."""
    parts, cut = {}, {}
    for number, name in enumerate(PARTS):
        names = {f"{name}-{row}": at for row, at in enumerate(range(number, 1200, 4))}
        names.pop(gone, None)
        chosen = VECTORS[list(names.values())]
        parts[name] = embeddings(root / "embedded" / name, name, chosen, scene_id=list(names))
        (root / "scenes" / name).mkdir(parents=True)
        table = root / "scenes" / name / "scenes.parquet"
        write_table(table, [scene(scene_id) for scene_id in names], SCENES)
        cut[name] = artifact(table.parent, f"scenes/{name}")
    for target, rows in (("kinetics", slice(0, 30)), ("ssv2", slice(30, 60))):
        parts[target] = embeddings(root / "embedded" / target, target, VECTORS[rows] + 1e-4)
    out = workspace(root / "clustered")
    given = Inputs({f"scene_embeddings/{name}": part for name, part in parts.items()})
    clusters.run(ClustersConfig(clusters=48), given, out)
    clustered = artifact(out.payload, "clusters")
    pool = {name: part for name, part in given.items() if "yt1b" in name}
    out = workspace(root / "near")
    config = near_duplicates.NearDuplicatesConfig(similarity=0.95)
    near_duplicates.run(config, Inputs({**pool, "clusters": clustered}), out)
    left = {"near_duplicates": artifact(out.payload, "near_duplicates"), "clusters": clustered}
    out = workspace(root / "guard")
    leakage_guard.run(leakage_guard.LeakageGuardConfig(), Inputs({**given, **left}), out)
    left["leakage_guard"] = artifact(out.payload, "leakage_guard")
    curated = {}
    for name in PARTS:
        out = workspace(root / "curated" / name, name)
        config = RetrievalConfig(weights=WEIGHTS, budget=300)
        retrieval.run(config, inputs(scenes=cut[name], **left), out)
        curated[name] = artifact(out.payload, f"curated_scenes/{name}")
    return clustered, curated


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, dict[str, Artifact]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "map", map_in_turn)
        return curate(tmp_path_factory.mktemp("before"))


def gone_from(clustered: Artifact, *, kept: bool, first: bool = False) -> str:
    """A scene of the last partition in a cluster with, or without, a target."""
    table = clustered.columns("clusters.parquet")
    voted = (table["n_kinetics"] + table["n_ssv2"] > 0) == kept
    for row in read_table(clustered.file(f"assignments/{PARTS[-1]}.parquet")):
        if voted[row["cluster"]] and (row["scene_id"] in table["first_scene"].tolist()) == first:
            return row["scene_id"]
    raise LookupError("no such scene")


def changed(before: dict[str, Artifact], after: dict[str, Artifact]) -> list[str]:
    return [name for name in PARTS if before[name].content != after[name].content]


def test_without_a_scene_that_was_not_drawn_no_partition_changes(before, tmp_path) -> None:
    gone = gone_from(before[0], kept=False)
    clustered, curated = curate(tmp_path, gone)
    assert changed(before[1], curated) == []
    moved = clusters_moved(before[0], clustered)
    assert (moved["scenes_gone"], moved["scenes_new"]) == (1, 0)
    assert moved["scenes_in_another_cluster"] == moved["clusters_with_other_targets"] == 0
    assert moved["clusters_of_another_size"] == 1


def test_without_a_scene_of_a_kept_cluster_the_others_take_over_its_draws(before, tmp_path) -> None:
    gone = gone_from(before[0], kept=True)
    clustered, curated = curate(tmp_path, gone)
    moved = {name: scenes_moved(before[1][name], curated[name]) for name in PARTS}
    # A mean without the scene lies a little beside: a scene at the border may go over.
    assert clusters_moved(before[0], clustered)["scenes_in_another_cluster"] <= 5
    # What they take over is what one scene was expected to be drawn: about one draw.
    assert sum(sum(numbers.values()) for numbers in moved.values()) <= 5
    unmoved = [name for name in PARTS if not any(moved[name].values())]
    assert changed(before[1], curated) == [name for name in PARTS if name not in unmoved]
    assert unmoved


def test_without_the_scene_that_a_cluster_began_as_that_is_told(before, tmp_path) -> None:
    clustered, _ = curate(tmp_path, gone_from(before[0], kept=False, first=True))
    moved = clusters_moved(before[0], clustered)
    assert (moved["clusters_new"], moved["clusters_gone"]) == (1, 1)
    assert 0 < moved["scenes_in_another_cluster"] < 200
    assert np.sum(clustered.columns("clusters.parquet")["scenes"]) == 1199
