"""Curation report: what became of every scene of the pool, cluster by cluster and by each target.

The paper tells how many scenes and clusters each target kept, and nothing of what was dropped. Here
all is counted over the whole pool, a partition by each task (`pool_tally`); beside them there are
some numbers for each cluster in memory, and no scenes.

Reads `raw_videos`, `scenes` and `curated_scenes` of the pool, `clusters`, and what leaves scenes
out. Payload:
    report.json          files and scenes by what became of them; of each target its videos, the
                         clusters and the scenes of the pool that are there with it, its draws
    clusters.parquet     one row a cluster: first_scene, scenes, how many near_duplicates and
                         leakage_guard drop, n_<target>, share_<target> (of its weight), weight,
                         kept, why, drawn (scenes), draws
    sensitivity.parquet  each retrieval weight smaller and larger by `change`: see SENSITIVITY
    most_drawn.parquet   the scenes that are drawn most often
    shown.parquet        of the heaviest kept and the largest dropped clusters, the scene next to
                         the centroid
    quarantine.parquet   empty: nothing is opened here
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.pool_tally import FATES, FILES, Tally, ranked, tally
from pipelines.curation.retrieval import CURATED, LEFT_OUT, RetrievalConfig, mixed, weighed
from pipelines.curation.scenes import COLUMNS as SCENES
from pipelines.curation.sensitivity import SENSITIVITY, told, variants
from pipelines.settings import Count, Part, from_plain, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.errors import InputError
from storage.tables import QUARANTINE, TableWriter, read_batches, write_table

Columns = dict[str, NDArray[Any]]
WHERE = {"partition": "string", "cluster": "int32"}


@settings
class CurationReportConfig:
    """What is told of the curation."""

    change: Part = 0.2
    """By what share of itself each retrieval weight is made smaller and larger, one at a time."""
    most_drawn: Count = 24
    """How many of the scenes that are drawn most often are listed."""
    shown: Count = 8
    """Of how many kept clusters, and of how many dropped ones, a scene is shown."""


def run(config: CurationReportConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Count the partitions on Ray, join what they tell, write it down."""
    clustered, curated = inputs["clusters"], inputs.parts("curated_scenes")
    asked, left_out = _asked(curated), {name: inputs[name] for name in LEFT_OUT}
    table = weighed(clustered, asked, list(left_out.values()))
    votes = {t: table[f"n_{t}"] for t in asked.weights}
    others = variants(asked, config.change)
    mixes = [table, *(mixed(v.config, table["scenes"], votes) for v in others)]
    with out.work.room() as room:
        np.save(room / "mixes.npy", np.stack([mix["expected"] for mix in mixes]))
        kept = out.work.keep(room / "mixes.npy", "scratch/mixes.npy")
    shown = _chosen(table, config.shown)
    tasks = {
        name: Tally(
            name, inputs[f"raw_videos/{name}"], inputs[f"scenes/{name}"], part, clustered,
            left_out, kept, asked.seed, shown, config.most_drawn, out.work,
        )
        for name, part in curated.items()
    }  # fmt: skip
    parts = list(out.map(tally, tasks, noun="partitions of the pool").values())
    files = [out.file(task.target) for task in tasks.values()]
    draws = _draws(files, len(table["kept"]), len(mixes))
    clusters = _clusters(clustered, left_out, asked, table, draws)
    rows = [
        told(variant, [part["moved"][n] for part in parts],
             (table["weight"], mixes[n + 1]["weight"]), (draws["draws_0"], draws[f"draws_{n + 1}"]))
        for n, variant in enumerate(others)
    ]  # fmt: skip
    report = _report(asked, parts, clusters)
    _write(out, report, clusters, rows, parts, config)
    return _metrics(report, clusters, rows)


def _asked(curated: Mapping[str, Artifact]) -> RetrievalConfig:
    """The settings by which all partitions were drawn."""
    first, *_ = curated
    found = {name: part.json("retrieval.json") for name, part in curated.items()}
    if odd := [name for name, settings in found.items() if settings != found[first]]:
        raise InputError(
            f"curation_report: curated_scenes/{odd[0]} was drawn by other settings than "
            f"curated_scenes/{first}; run curated_scenes"
        )
    return from_plain(RetrievalConfig, found[first])


def _chosen(table: Mapping[str, NDArray[Any]], most: int) -> tuple[int, ...]:
    """The heaviest of the kept clusters, and the largest of those that are dropped."""
    there = table["scenes"] > 0
    kept = np.flatnonzero(table["kept"] & there)
    dropped = np.flatnonzero(~table["kept"] & there)
    heavy = kept[np.argsort(-table["weight"][kept], kind="stable")[:most]]
    large = dropped[np.argsort(-table["scenes"][dropped], kind="stable")[:most]]
    return (*heavy.tolist(), *large.tolist())


def _draws(files: Sequence[Any], clusters: int, mixes: int) -> dict[str, NDArray[np.int64]]:
    """Columns [K] drawn, draws, draws_0 ... of all partitions."""
    names = ["drawn", "draws", *(f"draws_{number}" for number in range(mixes))]
    total = {name: np.zeros(clusters, np.int64) for name in names}
    for file in files:
        for batch in read_batches(file):
            for name in names:  # a cluster has one row in each file
                total[name][batch["cluster"]] += batch[name]
    return total


def _clusters(
    clustered: Artifact,
    left_out: Mapping[str, Artifact],
    asked: RetrievalConfig,
    table: Mapping[str, NDArray[Any]],
    draws: Mapping[str, NDArray[np.int64]],
) -> Columns:
    """Columns [K] of clusters.parquet."""
    counted = clustered.columns("clusters.parquet", ["first_scene", "scenes"])
    dropped = {
        name: artifact.columns("clusters.parquet", ["dropped"])["dropped"]
        for name, artifact in left_out.items()
    }
    shares = _shares(asked, table)
    return {
        **counted,
        **dropped,
        **{f"n_{target}": table[f"n_{target}"] for target in asked.weights},
        **{f"share_{target}": share for target, share in shares.items()},
        "weight": table["weight"],
        "kept": table["kept"],
        "why": _why(asked, table, shares),
        "drawn": draws["drawn"],
        "draws": draws["draws"],
    }


def _shares(
    asked: RetrievalConfig, table: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float64]]:
    """Target -> [K]: its part w_d N_{d,c} / N_d of the weight of each cluster, 0 to 1."""
    weight = table["weight"]
    found = {}
    for target, given in asked.weights.items():
        votes = table[f"n_{target}"]
        scale = given / sum(asked.weights.values()) / max(1, votes.sum())
        part = votes * scale * (asked.rule == "retrieval")
        found[target] = np.divide(part, weight, out=np.zeros(len(weight)), where=weight > 0)
    return found


def _why(
    asked: RetrievalConfig,
    table: Mapping[str, NDArray[Any]],
    shares: Mapping[str, NDArray[np.float64]],
) -> NDArray[Any]:
    """[K]: why a cluster is kept or dropped, in words."""
    if asked.rule != "retrieval":
        return np.where(table["kept"], f"not curated: rule {asked.rule}", "no scene is left")
    names = np.full(len(table["kept"]), "", object)
    for target, share in shares.items():
        names = np.where(share > 0, names + np.where(names == "", "", ", ") + target, names)
    empty = table["scenes"] == 0
    kept = np.where(empty, "target video, but no scene is left: ", "target video: ") + names
    return np.where(table["kept"], kept, "no target video")


def _report(
    asked: RetrievalConfig, parts: Sequence[Mapping[str, Any]], clusters: Columns
) -> dict[str, Any]:
    """report.json."""
    left = clusters["scenes"] - sum(clusters[name] for name in LEFT_OUT)
    return {
        "rule": asked.rule,
        "budget": asked.budget,
        "most_draws": asked.most_draws,
        "draws": int(clusters["draws"].sum()),
        **{
            kind: {name: sum(part[kind][name] for part in parts) for name in names}
            for kind, names in (("files", FILES), ("scenes", FATES))
        },
        "targets": {
            target: {
                "weight": weight / sum(asked.weights.values()),
                "videos": int(clusters[f"n_{target}"].sum()),
                "clusters": int((clusters[f"n_{target}"] > 0).sum()),
                "scenes": int(left[clusters[f"n_{target}"] > 0].sum()),
                # No dot product: BLAS sums in another order for another number of threads.
                "draws": float((clusters["draws"] * clusters[f"share_{target}"]).sum()),
            }
            for target, weight in asked.weights.items()
        },
    }


def _write(
    out: Workspace,
    report: Mapping[str, Any],
    clusters: Columns,
    rows: Sequence[Mapping[str, Any]],
    parts: Sequence[Mapping[str, Any]],
    config: CurationReportConfig,
) -> None:
    (out.payload / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    with TableWriter(out.payload / "clusters.parquet", _schema(clusters)) as table:
        table.write(clusters)
    write_table(out.payload / "sensitivity.parquet", rows, SENSITIVITY)
    most = ranked([row for part in parts for row in part["most_drawn"]], config.most_drawn)
    write_table(out.payload / "most_drawn.parquet", most, CURATED | WHERE)
    near: dict[int, Mapping[str, Any]] = {}
    for row in sorted(
        (row for part in parts for row in part["shown"]),
        key=lambda row: (row["distance"], row["scene_id"]),
    ):
        near.setdefault(row["cluster"], row)
    schema = SCENES | WHERE | {"distance": "float32"}
    write_table(out.payload / "shown.parquet", [near[c] for c in sorted(near)], schema)
    write_table(out.payload / "quarantine.parquet", [], QUARANTINE)


def _schema(table: Columns) -> dict[str, str]:
    kinds = {"first_scene": "string", "why": "string", "kept": "bool", "weight": "float64"}
    shares = {name: "float64" for name in table if name.startswith("share_")}
    return {name: (kinds | shares).get(name, "int64") for name in table}


def _metrics(
    report: Mapping[str, Any], clusters: Columns, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "clusters_kept": int(clusters["kept"].sum()),
        "clusters_dropped": int((~clusters["kept"]).sum()),
        **{f"scenes {name}": count for name, count in report["scenes"].items()},
        "draws": report["draws"],
        "most_weight_moved": max((row["weight_moved"] for row in rows), default=0.0),
        "most_scenes_moved": max((r["scenes_in"] + r["scenes_out"] for r in rows), default=0),
    }


STAGE = Stage("curation_report", version=1, config=CurationReportConfig, run=run)
