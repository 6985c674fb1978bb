"""The assets that curate the pool: clusters, what is dropped of them, the scenes that are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipelines.curation import (
    clusters,
    curation_report,
    leakage_guard,
    movement,
    near_duplicates,
    retrieval,
)
from pipelines.curation.partitions import partitions_of
from pipelines.curation.sources import POOL, Source, retrieval_weights
from pipelines.node import Held, Node, Profile, every, same, those_of, whole
from pipelines.settings import SettingError
from storage.artifacts import Artifact

CLUSTERS = """\
k-means over all YT1B scenes, and the nearest cluster of every target video.

The paper clusters its pool into 1.5 million cells with FAISS. Clusters begin at the scenes with the
smallest hashes, so that one video more or less leaves the clusters of all others where they are;
`clusters.frozen` keeps an earlier artifact's centroids, and the drift from them is told. Payload:
`centroids.npy` [K, D], `clusters.parquet` (scenes and target videos in each),
`assignments/<partition>.parquet` (YT1B scene → cluster, distance), `targets/<partition>.parquet`.
The picture already shows the rule of the next step: a cluster without a target is dropped."""

NEAR_DUPLICATES = """\
YT1B scenes that show the same as another one, of which one is kept.

Neighbours by cosine, connected components, one scene of each kept by a hash; off with
`--set near_duplicates.drop=false`. From which cosine on two scenes show the same depends on the
network: 0.6 for PAPER's DINOv2, 0.7 for the packaged one on natural videos; the generator's few
backdrops look alike for it, and DEMO asks for 0.9. Payload: `dropped/<partition>.parquet` (scene,
the one that is kept for it, their cosine), `clusters.parquet` (how many are dropped of each)."""

LEAKAGE_GUARD = """\
YT1B scenes that show what an encoder is judged on, and all their near-duplicates: not drawn.

The pool is compared with what the retrieval targets hold out and with the sources that
`leakage_guard.sources` names; off with `--set leakage_guard.drop=false`. Payload:
`dropped/<partition>.parquet` (scene, the evaluation's clip that it shows, their cosine),
`clusters.parquet` (how many are dropped of each)."""

CURATED_SCENES = """\
The YT1B scenes that are kept, and how often each is drawn.

A cluster is kept if and only if at least one target video falls in it; its scenes are drawn
with weight w_c = Σ_d w_d · N_{d,c} / N_d, the retrieval weights being Kinetics (K710) 0.7, SSv2
0.125, COIN 0.125 and EpicKitchens 0.05. Change one with `--set curated_scenes.weights.coin=0.2`:
this asset and what follows turn stale, and nothing before it. `--set curated_scenes.rule=uniform`
(or `all`) takes the pool uncurated, `--set curated_scenes.most_draws=4` draws no scene more often.
Payload: `scenes.parquet` (with draws), `retrieval.json` (the settings)."""

CURATION_REPORT = """\
What became of every scene of the pool, and what each retrieval weight is worth.

Files and scenes by the reason for which they were dropped, clusters by why they are kept, the part
of each target, the scenes drawn most often; and what enters and leaves the mix when one weight is a
fifth smaller or larger (`curation_report.change`), counted scene by scene. Payload: `report.json`,
`clusters.parquet` (one row a cluster), `sensitivity.parquet`, `most_drawn.parquet`,
`shown.parquet` (the scenes of the pictures)."""

POOL_FILES, POOL_SCENES = (
    those_of(asset, lambda _, __: (POOL,)) for asset in ("raw_videos", "scenes")
)
DROPPED = Held("dropped/{}.parquet", "scene_id", "dropped scene")


def judged_alone(sources: Sequence[Source]) -> list[str]:
    """Names of the sources that are there for evaluation alone."""
    return [s.name for s in sources if s.evaluated and s.retrieval_weight is None]


def _dropped(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """How many scenes of the pool an asset drops, and how many it has looked at."""
    told = artifact.metrics
    of = told.get("scenes", told.get("evaluation_scenes"))
    what = "scenes" if "scenes" in told else "held-out clips compared with the pool"
    yield "Curation", f"{artifact.manifest.name}: {told['dropped']} scenes dropped; {of} {what}"


def _told(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """What became of the pool, in one line."""
    told = artifact.json("report.json")["scenes"]
    parts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in told.items())
    yield "Curation", f"{artifact.manifest.name}: of {sum(told.values())} scenes {parts}"


def nodes(sources: Sequence[Source]) -> tuple[Node, ...]:
    """The nodes from clusters to curated scenes over some sources, upstream first."""
    targets = retrieval_weights(sources)

    def guarded(_: str | None, profile: Profile) -> tuple[str, ...]:
        return (POOL, *targets, *profile.leakage_guard.sources)

    def check(profile: Profile) -> None:
        for name in profile.leakage_guard.sources:
            if name not in (judged := judged_alone(sources)):
                there = f"there are {', '.join(judged)}" if judged else "this graph has none"
                raise SettingError(
                    f"leakage_guard.sources = {name}: want sources that are there for evaluation "
                    f"alone; {there}"
                )

    return (
        Node(
            stage=clusters.STAGE, group="curation", description=CLUSTERS,
            reads=(those_of("scene_embeddings", lambda _, __: (POOL, *targets)),),
            moved=movement.clusters_moved,
            held=Held("assignments/{}.parquet", "scene_id", "assigned scene"),
            scales={
                "demo": clusters.ClustersConfig(clusters=40, iterations=20),
                "laptop": clusters.ClustersConfig(clusters=200, iterations=20),
            },
        ),
        Node(
            stage=near_duplicates.STAGE, group="curation", description=NEAR_DUPLICATES,
            reads=(those_of("scene_embeddings", lambda _, __: (POOL,)), whole("clusters")),
            scales={"demo": near_duplicates.NearDuplicatesConfig(similarity=0.9, probes=40)},
            summary=_dropped, held=DROPPED,
        ),
        Node(
            stage=leakage_guard.STAGE, group="curation", description=LEAKAGE_GUARD,
            reads=(
                those_of("scene_embeddings", guarded), whole("clusters"), whole("near_duplicates"),
            ),
            scales={"demo": leakage_guard.LeakageGuardConfig(similarity=0.85)},
            check=check, summary=_dropped, held=DROPPED,
        ),
        *_curated(targets),
    )  # fmt: skip


def _curated(targets: Mapping[str, float]) -> tuple[Node, ...]:
    """What is drawn of the pool by the weights of its targets, and the report on it."""
    return (
        Node(
            stage=retrieval.STAGE, group="curation", description=CURATED_SCENES,
            partitions=partitions_of(POOL),
            reads=(same("scenes"), whole("clusters"), *map(whole, retrieval.LEFT_OUT)),
            moved=movement.scenes_moved,
            held=Held("scenes.parquet", "video_id", "kept scene"),
            scales={
                "demo": retrieval.RetrievalConfig(weights=dict(targets), budget=200),
                "laptop": retrieval.RetrievalConfig(weights=dict(targets), budget=1000),
                "paper": retrieval.RetrievalConfig(weights=dict(targets)),
            },
        ),
        Node(
            stage=curation_report.STAGE, group="curation", description=CURATION_REPORT,
            reads=(
                POOL_FILES, POOL_SCENES, whole("clusters"), *map(whole, retrieval.LEFT_OUT),
                every("curated_scenes"),
            ),
            summary=_told, held=Held("most_drawn.parquet", "video_id", "scene drawn most often"),
        ),
    )  # fmt: skip
