"""From raw files to a weighted mixture of training clips: the assets of the group `curation`."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from assets import pictures
from assets.nouns import noun
from pipelines.curation.ingest import read_media
from pipelines.stage import Inputs
from storage.artifacts import Artifact
from storage.frames import middle_frame
from storage.pictures import VideoError
from storage.shards import read_span, shard_path
from storage.tables import read_columns, read_table

Row = TypeVar("Row")
Rows = Sequence[Mapping[str, Any]]
SHEET = 16  # frames of a contact sheet
SIDE = 96  # pixels, the shorter side of a small frame


@noun
def raw_videos(videos: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Every file of one source, probed and digested: the first sealed fact about the data.

    A source is a folder, an S3 prefix, or the generator of the DEMO profile; a large one is split
    into hash buckets (`yt1b-00`, `yt1b-01`, …) by the digest of a file's relative path, so that
    adding or removing one video makes one partition stale. Point a source at your own files with
    `vjepa2 run --set raw_videos.sources.yt1b.location=/my/videos`.

    Payload: `videos.parquet`, one row a file (video_id, path, sha256, codec, container, width,
    height, fps, frames, seconds, label); `quarantine.parquet`, the files that cannot be read, each
    with its reason; `media/`, the files themselves only where the source is generated. A user's
    files stay where they are, and later stages refuse bytes whose digest has changed.
    """
    rows = read_table(videos.path / "videos.parquet")
    groups = {
        "codec": counted(row["codec"] for row in rows),
        "container": counted(row["container"] for row in rows),
        "shorter side (px)": counted(f"{min(row['width'], row['height'])}" for row in rows),
        "set aside": counted(reasons(videos)),
    }
    seconds = sum(row["seconds"] for row in rows)
    title = f"{videos.manifest.name}: {len(rows)} files, {seconds / 60:.1f} minutes"
    shown = {name: counts for name, counts in groups.items() if counts}
    # A hash bucket of a small source may be empty: there is nothing to draw then.
    return {"kinds of files": pictures.table_bars(shown, title)} if shown else {}


@noun
def scenes(cut: Artifact, inputs: Inputs) -> Mapping[str, bytes]:
    """Shots between cuts, found by PySceneDetect; one whole-video row for sources that stay whole.

    Only YT1B is cut (web videos have several shots); the other sources are trimmed clips already.
    Payload: `scenes.parquet` with start and end in seconds and frames, and who each scene came
    from; `quarantine.parquet` with the videos that broke while being decoded to their end.
    """
    rows = read_table(cut.path / "scenes.parquet")
    chosen = evenly(rows, SHEET)
    frames = [_scene_frame(inputs["raw_videos"], row) for row in chosen]
    captions = [f"{row['start']:.1f}-{row['end']:.1f} s, {row['cut']}" for row in chosen]
    title = f"{cut.manifest.name}: {len(chosen)} of {len(rows)} scenes, middle frames"
    return {"contact sheet": pictures.contact_sheet(frames, captions, title)}


@noun
def scene_embeddings(embedded: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """One unit vector per scene: what a pretrained image network sees in its middle frame.

    PAPER uses DINOv2 ViT-L from a local folder; DEMO uses a network whose weights come inside a
    package, so that nothing is downloaded. Made for the YT1B buckets and for the four retrieval
    targets they are compared with. Payload: `embeddings.npy` [N, D] float32, `rows.parquet` in the
    same order, `quarantine.parquet`.
    """
    vectors = np.load(embedded.path / "embeddings.npy")
    groups = read_columns(embedded.path / "rows.parquet", ["source"])["source"].tolist()
    if len(vectors) < 3:
        return {}  # two points have no map
    title = f"{embedded.manifest.name}: {len(vectors)} scenes by their embedding"
    return {"map": pictures.embedding_map(vectors, groups, title)}


@noun
def clusters(found: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """k-means over all YT1B scenes, and the nearest cluster of every target video.

    The paper clusters its pool into 1.5 million cells with FAISS. Payload: `centroids.npy` [K, D],
    `assignments.parquet` (YT1B scene → cluster, distance), `targets.parquet` (target → cluster).
    The picture already shows the rule of the next step: a cluster without a target is dropped.
    """
    scenes_in = Counter(
        read_columns(found.path / "assignments.parquet", ["cluster"])["cluster"].tolist()
    )
    targets = read_columns(found.path / "targets.parquet", ["source", "cluster"])
    votes = Counter(zip(targets["source"].tolist(), targets["cluster"].tolist(), strict=True))
    names = sorted(set(targets["source"].tolist()))
    rows = [
        {
            "cluster": cluster,
            "scenes": scenes_in[cluster],
            "kept": any(votes[name, cluster] for name in names),
            "weight": sum(votes[name, cluster] for name in names),
            **{f"n_{name}": votes[name, cluster] for name in names},
        }
        for cluster in range(len(np.load(found.path / "centroids.npy")))
    ]
    return {"clusters": pictures.cluster_sheet(rows, names)}


@noun
def curated_scenes(kept: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """The YT1B scenes that are kept, and how often each is drawn.

    A cluster is kept if and only if at least one target video falls in it; its scenes are drawn
    with weight w_c = Σ_d w_d · N_{d,c} / N_d, the retrieval weights being K710 0.7, SSv2 0.125,
    COIN 0.125 and EpicKitchens 0.05. Change one with `--set retrieval.weights.coin=0.2`: this asset
    and what follows turn stale, and nothing before it. Payload: `scenes.parquet` (with cluster,
    weight, draws), `clusters.parquet` (every cluster with its counts).
    """
    rows = read_table(kept.path / "clusters.parquet")
    targets = sorted(
        name.removeprefix("n_") for name in (rows[0] if rows else {}) if name[1] == "_"
    )
    return {"kept and dropped": pictures.cluster_sheet(rows, targets)}


@noun
def clip_shards(shards: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Training clips of one source as WebDataset tars that any reader of the format opens.

    Each sample is `<scene_id>.mp4` (or an image) and `<scene_id>.json`, re-encoded at training
    size; the tars are the same bytes on every rebuild. `index.parquet` says where each clip's bytes
    start and how often it is drawn, so training reads single clips without unpacking. Clips that
    cannot be decoded are in `quarantine.parquet`.
    """
    rows = read_table(shards.path / "index.parquet")
    chosen = evenly(rows, SHEET)
    frames = [_clip_frame(shards, row) for row in chosen]
    captions = [f"{row['seconds']:.1f} s, drawn {row['weight']:g}x" for row in chosen]
    title = f"{shards.manifest.name}: {len(chosen)} of {len(rows)} clips"
    return {"contact sheet": pictures.contact_sheet(frames, captions, title)}


@noun
def videomix22m(mixture: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """All sources as one weighted training set: the paper's VideoMix22M.

    Weights: SSv2 0.056, Kinetics 0.188, HowTo100M 0.318, YT1B 0.188, ImageNet 0.250 (images become
    still clips). No bytes are copied: `index.parquet` lists every clip of every shard,
    `mixture.json` the weights. Change one with `--set mixture.weights.yt1b=…` (they sum to one).
    """
    told = json.loads((mixture.path / "mixture.json").read_text())
    held = {source: entry["samples"] for source, entry in told["samples"].items()}
    return {"mixture": pictures.mixture_bars(told["weights"], held)}


NOUNS = (raw_videos, scenes, scene_embeddings, clusters, curated_scenes, clip_shards, videomix22m)


def evenly(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` of the rows, evenly spread over all of them."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[place] for place in places]


def counted(values: Any) -> dict[str, float]:
    """The eight most frequent values with their counts, by count and then by name."""
    counts = Counter(values)
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:8])


def reasons(artifact: Artifact) -> list[str]:
    """Why items were quarantined, in at most two short lines beside a bar."""
    rows = read_table(artifact.path / "quarantine.parquet")
    return [textwrap.fill(textwrap.shorten(row["reason"], 56, placeholder="…"), 30) for row in rows]


def _scene_frame(media: Artifact, row: Mapping[str, Any]) -> np.ndarray:
    """The middle frame of a scene; grey where a later stage will say that it cannot be decoded."""
    try:
        return middle_frame(read_media(media, row), row["start"], row["end"], SIDE)
    except VideoError:
        return np.full((SIDE, SIDE, 3), 128, np.uint8)


def _clip_frame(shards: Artifact, row: Mapping[str, Any]) -> np.ndarray:
    shard = shard_path(shards.path / "shards", row["shard"])
    data = read_span(shard, row["offset"], row["size"])
    return middle_frame(data, 0.0, row["seconds"], SIDE)
