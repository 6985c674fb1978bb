"""Retrieval: which YT1B scenes are kept, and how often each is drawn.

Steps 6 and 7 of the curation (V-JEPA 2, section 10.2, table 11). The target sets K710, SSv2, COIN
and EpicKitchens have been assigned to clusters of the pool. A cluster is kept if and only if at
least one target video falls in it, and scenes are then drawn with the cluster's weight

    w_c = sum_d w_d * N_{d,c} / N_d

N_{d,c}: videos of target d in cluster c; N_d: all videos of target d; w_d: its retrieval weight.

The draw is made scene by scene, with replacement in effect: a scene of cluster c is expected
e = budget * (w_c / |c|) / sum(w) times, and gets floor(e + u) draws with u a hash of
(seed, scene id); |c| are the scenes of the cluster that neither `near_duplicates` nor
`leakage_guard` dropped. So the expected total is `budget`, and no scene's draw depends on which
other scenes happened to be in the same file. Nothing is told here of the pool as a whole: where one
video comes or goes, a partition whose draws are what they were has the bytes that it had.

What the paper has not: `most_draws` limits e, and what is cut off goes to the other scenes by their
weights; `rule` takes the pool without its targets, to compare curated with uncurated.

Payload of one YT1B partition:
    scenes.parquet      the columns of `scenes` plus draws (> 0)
    retrieval.json      the settings by which they were drawn
    quarantine.parquet  empty: nothing is opened here
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.scenes import COLUMNS as SCENES
from pipelines.curation.sources import retrieval_weights
from pipelines.settings import Count, Natural, NotNegative, plain, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.digests import unit_interval
from storage.errors import InputError
from storage.tables import QUARANTINE, TableWriter, write_table

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
LEFT_OUT = ("near_duplicates", "leakage_guard")
"""Assets whose tables `dropped` say which scenes are no longer of the pool."""


@settings
class RetrievalConfig:
    """How the pool is matched to the targets."""

    rule: Literal["retrieval", "uniform", "all"] = "retrieval"
    """Curated or not: "retrieval" draws by the weights of the clusters, "uniform" every scene
    equally often, as many draws in all, and "all" every scene once."""
    weights: dict[str, NotNegative] = field(default_factory=retrieval_weights)
    """w_d of every target source (table 11). Only their ratios matter: they are divided by their
    sum, so that one can be changed alone. 0 switches a target off: its videos then keep no cluster.
    """
    budget: Count = 115_000_000
    """Expected number of draws over the whole pool. The paper does not say how many scenes were
    finally drawn; this is the number of scenes in the clusters it kept (table 11)."""
    most_draws: Count | None = None
    """How often one scene may be drawn, at most; none: as often as its cluster's weight gives, as
    the paper does."""
    seed: Natural = 0
    """Decides the draws that the fractions leave open."""

    def __post_init__(self) -> None:
        if not sum(self.weights.values()):
            raise ValueError("weights: all are 0; give at least one target a weight")


def kept_clusters(counts: Mapping[str, Counts], weights: Mapping[str, float]) -> NDArray[np.bool_]:
    """[K]: True where at least one video of a target with a weight above 0 falls.

    Args:
        counts: target -> N_{d,c}, its videos in every cluster [K].
        weights: target -> w_d.
    """
    clusters = len(next(iter(counts.values())))
    kept = np.zeros(clusters, dtype=np.bool_)
    for target, weight in weights.items():
        if weight > 0:
            kept |= counts[target] > 0
    return kept


def cluster_weights(counts: Mapping[str, Counts], weights: Mapping[str, float]) -> Floats:
    """[K]: w_c = sum_d w_d N_{d,c} / N_d, with w_d divided by their sum; the w_c sum to 1.

    Raises:
        ValueError: a target has a weight but no videos, so its share of the draws has no place.
    """
    total = sum(weights.values())
    result = np.zeros(len(next(iter(counts.values()))))
    for target in sorted(weights):
        if not weights[target]:
            continue
        videos = int(counts[target].sum())
        if not videos:
            raise InputError(
                f"curated_scenes: target {target} has weight {weights[target]} but no embedded "
                f"video; add videos to that source, or set curated_scenes.weights.{target}=0"
            )
        result += weights[target] / total * counts[target] / videos
    return result


def expected_draws(weights: Floats, sizes: Counts, budget: int) -> Floats:
    """[K]: how often one scene of each cluster is expected to be drawn.

    Args:
        weights: w_c [K].
        sizes: |c|, scenes of the pool in every cluster [K].
        budget: expected draws over all scenes.

    Raises:
        ValueError: no cluster has both a target and a scene.
    """
    reachable = float(weights[sizes > 0].sum())
    if not reachable:
        raise InputError(
            "curated_scenes: no cluster holds both a target video and a scene of the pool"
        )
    share = np.divide(weights, sizes, out=np.zeros(len(weights)), where=sizes > 0)
    return share * (budget / reachable)


def capped(expected: Floats, sizes: Counts, most: float) -> Floats:
    """[K]: expected draws of one scene of each cluster, none above `most`.

    What is cut off goes to the scenes of the other clusters by their shares, so that the sum over
    all scenes (`sizes` [K]) stays, until every scene that is drawn at all is drawn `most` times.
    """
    # No dot products: BLAS sums in another order for another number of threads.
    total, held = float((expected * sizes).sum()), expected
    full = np.zeros(len(expected), np.bool_)
    while (over := ~full & (held > most)).any():
        full |= over
        others = float((expected[~full] * sizes[~full]).sum())
        rest = total - most * float(sizes[full].sum())
        held = np.where(full, most, expected * (rest / others if others else 0.0))
    return held


def draws_of(expected: float, seed: int, scene_id: str) -> int:
    """Draws of one scene: floor(expected + u), u in [0, 1) a hash of (seed, scene id)."""
    return int(np.floor(expected + unit_interval("retrieval", seed, scene_id)))


def run(config: RetrievalConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Weigh all clusters of the pool, then draw the scenes of this partition."""
    clustered, left_out = inputs["clusters"], [inputs[name] for name in LEFT_OUT]
    table = weighed(clustered, config, left_out)
    here = clustered.columns(f"assignments/{out.partition}.parquet", ["scene_id", "cluster"])
    cluster_of = dict(zip(here["scene_id"].tolist(), here["cluster"].tolist(), strict=True))
    gone = [a.columns(f"dropped/{out.partition}.parquet", ["scene_id"]) for a in left_out]
    for scene_id in np.concatenate([dropped["scene_id"] for dropped in gone]):
        del cluster_of[scene_id]
    cut = draws = 0
    with TableWriter(out.payload / "scenes.parquet", CURATED) as drawn:
        for batch in inputs["scenes"].batches("scenes.parquet"):
            columns = drawn_of(batch, cluster_of, table["expected"], config.seed)
            drawn.write(columns)
            cut, draws = cut + len(batch["scene_id"]), draws + int(columns["draws"].sum())
    text = json.dumps(plain(config), indent=2, sort_keys=True) + "\n"
    (out.payload / "retrieval.json").write_text(text)
    write_table(out.payload / "quarantine.parquet", [], QUARANTINE)
    return {
        "clusters": len(table["kept"]),
        "clusters_kept": int(table["kept"].sum()),
        "scenes": len(here["cluster"]),
        "scenes_without_embedding": cut - len(here["cluster"]),
        **{f"scenes_{name}": len(d["scene_id"]) for name, d in zip(LEFT_OUT, gone, strict=True)},
        "scenes_in_kept_clusters": sum(bool(table["kept"][c]) for c in cluster_of.values()),
        "scenes_drawn": drawn.rows,
        "draws": draws,
    }


def drawn_of(
    scenes: Mapping[str, NDArray[Any]], cluster_of: Mapping[str, int], expected: Floats, seed: int
) -> dict[str, NDArray[Any]]:
    """Columns of the scenes that are drawn, with their draws; `cluster_of`: scene id -> cluster."""
    draws = np.zeros(len(scenes["scene_id"]), np.int32)
    for row, scene_id in enumerate(scenes["scene_id"]):
        if (cluster := cluster_of.get(scene_id)) is not None and expected[cluster]:
            draws[row] = draws_of(float(expected[cluster]), seed, scene_id)
    return {name: column[draws > 0] for name, column in (*scenes.items(), ("draws", draws))}


def weighed(
    clustered: Artifact, config: RetrievalConfig, left_out: Sequence[Artifact]
) -> dict[str, NDArray[Any]]:
    """Every cluster of a `clusters` artifact: columns [K] scenes, those of `mixed`, n_<target>.

    `left_out` count the scenes of each cluster that are no longer of the pool. A target that has a
    weight and no column has no video in any cluster.
    """
    table = clustered.columns("clusters.parquet")
    scenes = table["scenes"]
    for artifact in left_out:
        scenes = scenes - artifact.columns("clusters.parquet", ["dropped"])["dropped"]
    none = np.zeros(len(scenes), np.int64)
    counts = {target: table.get(f"n_{target}", none) for target in config.weights}
    votes = {f"n_{target}": values for target, values in counts.items()}
    return {"scenes": scenes, **mixed(config, scenes, counts), **votes}


def mixed(
    config: RetrievalConfig, sizes: Counts, counts: Mapping[str, Counts]
) -> dict[str, NDArray[Any]]:
    """Columns [K]: kept, weight (w_c; they sum to 1), expected (draws of one scene).

    Args:
        config: the rule, and what it takes.
        sizes: |c|, scenes of the pool in every cluster [K].
        counts: target -> N_{d,c}, its videos in every cluster [K].
    """
    if config.rule == "retrieval":
        kept = kept_clusters(counts, config.weights)
        weight = cluster_weights(counts, config.weights)
    else:
        kept, weight = sizes > 0, sizes / max(1, sizes.sum())
    expected: Floats = kept.astype(np.float64)
    if config.rule != "all":
        expected = expected_draws(weight, sizes, config.budget)
    if config.most_draws is not None:
        expected = capped(expected, sizes, config.most_draws)
    return {"kept": kept, "weight": weight, "expected": expected}


CURATED = SCENES | {"draws": "int32"}

STAGE = Stage("curated_scenes", version=3, config=RetrievalConfig, run=run)
