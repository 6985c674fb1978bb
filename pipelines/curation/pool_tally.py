"""What became of the scenes of one partition of the pool, counted by one task.

The tables of a partition are gone through once; what is told of it is small, and the draws of its
clusters are kept as a table in scratch: cluster, drawn (scenes), draws, and draws_0 ... in each mix
(see `sensitivity`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.retrieval import LEFT_OUT, Floats
from pipelines.curation.sensitivity import moved, redrawn
from storage.artifacts import Artifact
from storage.digests import unit_interval
from storage.tables import TableWriter
from storage.work import KeptFile, Work

Columns = Mapping[str, NDArray[Any]]
FILES = ("listed", "quarantined", "broken while cut")
FATES = ("not embedded", *LEFT_OUT, "cluster without a target", "not drawn by chance", "drawn")
"""What became of a scene, in the order in which that is decided."""


@dataclass(frozen=True)
class Tally:
    """What a task counts: one partition of the pool."""

    partition: str
    videos: Artifact
    scenes: Artifact
    curated: Artifact
    clustered: Artifact
    left_out: Mapping[str, Artifact]
    mixes: KeptFile
    """Expected draws of one scene, as asked and in every variant [V, K]."""
    seed: int
    shown: tuple[int, ...]
    """Clusters of which the scene next to the centroid is told."""
    most_drawn: int
    work: Work

    @property
    def target(self) -> str:
        """Where the draws of its clusters are kept."""
        return f"scratch/{self.partition}.parquet"


def tally(task: Tally) -> dict[str, Any]:
    """Count one partition: files, scenes by what became of them, what each variant moves, rows."""
    mixes = np.load(task.work.file(task.mixes))
    assigned = task.clustered.columns(f"assignments/{task.partition}.parquet")
    gone = {
        name: dropped.columns(f"dropped/{task.partition}.parquet", ["scene_id"])["scene_id"]
        for name, dropped in task.left_out.items()
    }
    here = _left(assigned, gone)
    draws = redrawn(mixes, here["cluster"], _chances(task.seed, here, mixes))
    cluster_of = dict(zip(here["scene_id"].tolist(), here["cluster"].tolist(), strict=True))
    drawn = task.curated.columns("scenes.parquet", ["scene_id", "draws"])
    _keep_draws(task, here, drawn, cluster_of, draws)
    cut = sum(
        len(batch["scene_id"]) for batch in task.scenes.batches("scenes.parquet", ["scene_id"])
    )
    reached = int((mixes[0][here["cluster"]] > 0).sum())
    return {
        "files": {
            "listed": len(task.videos.columns("videos.parquet", ["kind"])["kind"]),
            "quarantined": len(task.videos.table("quarantine.parquet")),
            "broken while cut": len(task.scenes.table("quarantine.parquet")),
        },
        "scenes": {
            "not embedded": cut - len(assigned["cluster"]),
            **{name: len(ids) for name, ids in gone.items()},
            "cluster without a target": len(cluster_of) - reached,
            "not drawn by chance": reached - len(drawn["draws"]),
            "drawn": len(drawn["draws"]),
        },
        "moved": moved(draws),
        "most_drawn": _most_drawn(task, cluster_of),
        "shown": _shown(task, here),
    }  # fmt: skip


def _left(assigned: Columns, gone: Mapping[str, NDArray[Any]]) -> Columns:
    """The rows of the scenes that are still of the pool."""
    dropped = {name for ids in gone.values() for name in ids.tolist()}
    left = np.array([name not in dropped for name in assigned["scene_id"].tolist()], bool)
    return {name: column[left] for name, column in assigned.items()}


def _chances(seed: int, scenes: Columns, mixes: Floats) -> Floats:
    """[n]: the hash of each scene that some mix may draw; 0 for the others."""
    chance = np.zeros(len(scenes["scene_id"]))
    for row in np.flatnonzero(mixes.max(axis=0)[scenes["cluster"]]):
        chance[row] = unit_interval("retrieval", seed, scenes["scene_id"][row])
    return chance


def _keep_draws(
    task: Tally,
    scenes: Columns,
    drawn: Columns,
    cluster_of: Mapping[str, int],
    draws: NDArray[np.int32],
) -> None:
    """Keep the table of draws by cluster, of the clusters that have a scene here."""
    clusters, place = np.unique(scenes["cluster"], return_inverse=True)
    at = {int(cluster): row for row, cluster in enumerate(clusters)}
    rows = [at[cluster_of[name]] for name in drawn["scene_id"].tolist()]
    columns = {
        "cluster": clusters,
        "drawn": np.bincount(rows, minlength=len(clusters)),
        "draws": np.bincount(rows, drawn["draws"], len(clusters)).astype(np.int64),
        **{
            f"draws_{number}": np.bincount(place, mix, len(clusters)).astype(np.int64)
            for number, mix in enumerate(draws)
        },
    }
    with task.work.room() as room:
        with TableWriter(room / "draws.parquet", dict.fromkeys(columns, "int64")) as table:
            table.write(columns)
        task.work.keep(room / "draws.parquet", task.target)


def _most_drawn(task: Tally, cluster_of: Mapping[str, int]) -> list[dict[str, Any]]:
    """Rows of the scenes that are drawn most often here."""
    found: list[dict[str, Any]] = []
    for batch in task.curated.batches("scenes.parquet"):
        order = np.lexsort((batch["scene_id"].astype(str), -batch["draws"]))
        found = ranked([*found, *_rows(batch, order[: task.most_drawn])], task.most_drawn)
    more = {"partition": task.partition}
    return [row | more | {"cluster": cluster_of[row["scene_id"]]} for row in found]


def ranked(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The rows that are drawn most often, at most so many."""
    return sorted(rows, key=lambda row: (-row["draws"], row["scene_id"]))[:most]


def _shown(task: Tally, scenes: Columns) -> list[dict[str, Any]]:
    """The row of the scene next to the centroid, of every cluster to be shown that is here."""
    near: dict[str, dict[str, Any]] = {}
    for cluster in task.shown:
        if len(rows := np.flatnonzero(scenes["cluster"] == cluster)):
            first = min(rows, key=lambda row: (scenes["distance"][row], scenes["scene_id"][row]))
            distance = float(scenes["distance"][first])
            near[scenes["scene_id"][first]] = {"cluster": cluster, "distance": distance}
    found = []
    for batch in task.scenes.batches("scenes.parquet") if near else ():
        wanted = [row for row, name in enumerate(batch["scene_id"].tolist()) if name in near]
        found += _rows(batch, wanted)
    return [row | {"partition": task.partition} | near[row["scene_id"]] for row in found]


def _rows(columns: Columns, places: Any) -> list[dict[str, Any]]:
    """Some rows of a table as what JSON can hold."""
    listed = {name: column[places].tolist() for name, column in columns.items()}
    return [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]
