"""The assets of the group `curation`: from raw files to a weighted mixture of training clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pipelines.curation import (
    clip_shards,
    duplicates,
    embeddings,
    ingest,
    mixture,
    pool,
    scenes,
)
from pipelines.curation.ingest import RawVideosConfig
from pipelines.curation.partitions import partitions_of
from pipelines.curation.source_config import SourceConfig
from pipelines.curation.sources import (
    POOL,
    SOURCES,
    Source,
    generated_weights,
    mixture_weights,
    retrieval_weights,
)
from pipelines.gates import Gate, Verdict, labels_match, quarantine_small
from pipelines.node import Held, Node, same, those_of, whole
from storage.artifacts import Artifact

RAW_VIDEOS = """\
Every file of one source, probed and digested: the first sealed fact about the data.

A source is a folder or an S3 prefix (or the tars there), a list of HTTP addresses, or the
generator of the DEMO profile; a large one is split into hash buckets (`yt1b-00`, `yt1b-01`, …) by
the digest of a file's relative path, so that adding or removing one video makes one partition
stale. Point a source at your own files with
`vjepa2 run --set raw_videos.sources.yt1b.location=/my/videos`.

Payload: `videos.parquet`, one row a file (video_id, path, sha256, codec, container, width,
height, fps, frames, seconds, label); `quarantine.parquet`, the files that cannot be read, each
with its reason; `media/`, the files themselves only where the source is generated. A user's
files stay where they are, what is fetched is kept in the store, and later stages refuse bytes
whose digest has changed."""

SCENES = """\
Shots between cuts, found by PySceneDetect; one whole-video row for sources that stay whole.

Only YT1B is cut (web videos have several shots); the other sources are trimmed clips already.
Payload: `scenes.parquet` with start and end in seconds and frames, and who each scene came
from; `quarantine.parquet` with the videos that broke while being decoded to their end."""

SCENE_EMBEDDINGS = """\
One unit vector per scene: what a pretrained image network sees in its middle frame.

PAPER uses DINOv2 ViT-L from a local folder; DEMO uses a network whose weights come inside a
package, so that nothing is downloaded. Made for the YT1B buckets and for the four retrieval
targets they are compared with, `target_scenes` and `held_out_scenes` of each. Payload:
`embeddings.npy` [N, D] float32, `rows.parquet` in the same order, `quarantine.parquet`."""

CLIP_SHARDS = """\
Training clips of one source as WebDataset tars that any reader of the format opens.

Each sample is `<scene_id>.mp4` (or an image) and `<scene_id>.json`, re-encoded at training
size, long scenes in pieces; the tars are the same bytes on every rebuild, and a video that is
taken out changes its own shard alone. `index.parquet` says where each clip's bytes
start and how often it is drawn, so training reads single clips without unpacking. Clips that
cannot be decoded are in `quarantine.parquet`."""

DUPLICATES = """\
Equal files in several buckets or sources, and which of the copies is trained on.

One that is held out is kept first, then one with a label, then the first by source and path; of
the others no clip comes into the mixture. `--set duplicates.drop=false` trains on all. Payload:
`duplicates.parquet`, one row a copy that is left out (video_id, partition, path) with the one
that is kept for it; `quarantine.parquet`, the same in words."""

VIDEOMIX22M = """\
All sources as one weighted training set: the paper's VideoMix22M.

Weights: SSv2 0.056, Kinetics 0.188, HowTo100M 0.318, YT1B 0.188, ImageNet 0.250 (images become
still clips); where the sources are generated, those of `Source.generated_weight`. No bytes are
copied: `index.parquet` lists every clip of every shard, `mixture.json` the weights. Change one
with `--set videomix22m.weights.yt1b=…` (they sum to one)."""


def _weights_match(artifact: Artifact) -> Verdict:
    """The mixture draws by the weights that were asked for, and has clips for each of them."""
    told = artifact.json("mixture.json")
    asked = artifact.manifest.recipe_inputs["config"]["weights"]
    index = artifact.columns("index.parquet", ["source", "weight"])
    trained = {str(s) for s in index["source"][index["weight"] > 0]}
    total = sum(told["weights"].values())
    without = sorted(s for s, weight in told["weights"].items() if weight and s not in trained)
    passed = told["weights"] == asked and math.isclose(total, 1.0, abs_tol=1e-6) and not without
    listed = ", ".join(f"{source} {weight:g}" for source, weight in told["weights"].items())
    lacking = f"; no clip to train on in {', '.join(without)}" if without else ""
    return Verdict(passed, f"{listed}; sum {total:.6g}{lacking}", {**told["weights"]})


FILES = those_of("raw_videos", lambda _, profile: profile.videomix22m.weights)
"""The files of all sources that the mixture has a weight for."""

CLIPS = those_of("clip_shards", lambda _, profile: profile.videomix22m.weights)
"""The clips of all sources that the mixture has a weight for."""

WEIGHTS_MATCH = Gate("weights_match", "sources are drawn as asked", _weights_match)


def _raw_videos(sources: Sequence[Source]) -> dict[str, RawVideosConfig]:
    """Where the videos come from: generated, and for PAPER a folder or bucket for every source."""
    demo = ingest.generated(sources, **{POOL: 4})
    counts = {
        "ssv2": 5000, "kinetics": 5000, "howto100m": 40, "yt1b": 300, "imagenet": 80,
        "robot_videos": 800,
    }  # fmt: skip
    known = {name: count for name, count in counts.items() if name in demo.sources}
    real = [s for s in sources if not s.only_generated]
    there = {s.name: SourceConfig(location=f"/data/{s.name}", buckets=s.buckets) for s in real}
    more = replace(demo.internet, counts={**demo.internet.counts, **known})
    return {
        "demo": demo,
        "laptop": replace(demo, internet=more),
        "paper": replace(ingest.generated(real), sources=there),
    }


def nodes(sources: Sequence[Source] = SOURCES) -> tuple[Node, ...]:
    """The nodes of this group over some sources, upstream first."""
    return (*_files(sources), *pool.nodes(sources), *_clips(sources))


def _files(sources: Sequence[Source]) -> tuple[Node, ...]:
    every_source = partitions_of(*(source.name for source in sources))
    targets = retrieval_weights(sources)
    return (
        Node(
            stage=ingest.STAGE, group="curation", description=RAW_VIDEOS,
            partitions=every_source,
            gates=(quarantine_small("videos.parquet", "video_id"), labels_match()),
            scales=_raw_videos(sources), seconds=5.0,
            held=Held("videos.parquet", "video_id", "file"), costs="by_hour",
        ),
        Node(
            stage=scenes.STAGE, group="curation", description=SCENES, partitions=every_source,
            reads=(same("raw_videos"),), gates=(quarantine_small("scenes.parquet", "video_id"),),
            scales={"demo": scenes.ScenesConfig(min_seconds=2.0)},
            held=Held("scenes.parquet", "video_id", "scene"), costs="by_hour",
        ),
        Node(
            stage=embeddings.STAGE, group="curation", description=SCENE_EMBEDDINGS,
            partitions=partitions_of(POOL, *targets, *pool.judged_alone(sources)),
            reads=(same("raw_videos"), same("scenes")),
            gates=(quarantine_small("rows.parquet", "scene_id"),),
            scales={
                "demo": embeddings.EmbeddingsConfig(
                    model="efficientnet_lite0", size=128, target_scenes=120, held_out_scenes=40
                ),
                "paper": embeddings.EmbeddingsConfig(weights="/data/dinov2-large", batch=256),
            },
            held=Held("rows.parquet", "scene_id", "vector"), costs="by_hour",
        ),
    )  # fmt: skip


def _clips(sources: Sequence[Source]) -> tuple[Node, ...]:
    weights, generated = mixture_weights(sources), generated_weights(sources)
    trained = weights | generated
    clips = [s.name for s in sources if s.name in trained or s.evaluated]
    return (
        Node(
            stage=clip_shards.STAGE, group="curation", description=CLIP_SHARDS,
            partitions=partitions_of(*clips),
            reads=(
                same("raw_videos"), same("scenes", without=(POOL,)),
                same("curated_scenes", only=(POOL,)),
            ),
            gates=(quarantine_small("index.parquet", "scene_id"),),
            scales={"demo": clip_shards.ClipShardsConfig(short_side=64, shard_samples=100)},
            seconds=3.0, held=Held("index.parquet", "video_id", "stored clip"), costs="by_hour",
        ),
        Node(
            stage=duplicates.STAGE, group="curation", description=DUPLICATES, reads=(FILES,),
        ),
        Node(
            stage=mixture.STAGE, group="curation", description=VIDEOMIX22M,
            reads=(CLIPS, whole("duplicates")), gates=(WEIGHTS_MATCH,),
            scales={
                "demo": mixture.MixtureConfig(weights=generated),
                "paper": mixture.MixtureConfig(weights=weights),
            },
            held=Held("index.parquet", "video_id", "listed clip"),
        ),
    )  # fmt: skip
