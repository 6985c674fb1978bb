"""Pictures of the group `curation`: files, scenes, clusters, clips, the mixture."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from assets.previews import figures
from pipelines.curation.ingest import read_media
from pipelines.curation.retrieval import LEFT_OUT, RetrievalConfig, weighed
from pipelines.settings import from_plain
from pipelines.stage import Inputs
from storage.artifacts import Artifact
from storage.frames import middle_frame
from storage.pictures import VideoError

Row = TypeVar("Row")
SHEET = 16  # frames of a contact sheet
SIDE = 96  # pixels, the shorter side of a small frame


def raw_videos(videos: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Kinds of files, and why some were set aside."""
    rows = videos.table("videos.parquet")
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
    return {"kinds of files": figures.table_bars(shown, title)} if shown else {}


def scenes(cut: Artifact, inputs: Inputs) -> Mapping[str, bytes]:
    """Middle frames of scenes from all over the partition."""
    rows = cut.table("scenes.parquet")
    chosen = evenly(rows, SHEET)
    frames = [_scene_frame(inputs["raw_videos"], row) for row in chosen]
    captions = [f"{row['start']:.1f}-{row['end']:.1f} s, {row['cut']}" for row in chosen]
    title = f"{cut.manifest.name}: {len(chosen)} of {len(rows)} scenes, middle frames"
    return {"contact sheet": figures.contact_sheet(frames, captions, title)}


def scene_embeddings(embedded: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """The embeddings on their two principal axes."""
    vectors = np.load(embedded.file("embeddings.npy"))
    groups = embedded.columns("rows.parquet", ["source"])["source"].tolist()
    if len(vectors) < 3:
        return {}  # two points have no map
    title = f"{embedded.manifest.name}: {len(vectors)} scenes by their embedding"
    return {"map": figures.embedding_map(vectors, groups, title)}


def clusters(found: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Clusters with the target videos in them; without one, a cluster will be dropped."""
    table = found.columns("clusters.parquet")
    votes = {name: column for name, column in table.items() if name.startswith("n_")}
    told = sum(votes.values(), start=np.zeros(len(table["scenes"]), np.int64))
    rows = {"scenes": table["scenes"], "kept": told > 0, "weight": told, **votes}
    return {"clusters": figures.cluster_sheet(rows)}


def near_duplicates(found: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """How like the scene that was kept for it each dropped scene is."""
    return _by_cosine(found, "to the scene that is kept for it")


def leakage_guard(found: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """How like an evaluation's clip each dropped scene, or one of its near-duplicates, is."""
    return _by_cosine(found, "to a clip of an evaluation")


def _by_cosine(found: Artifact, of_what: str) -> Mapping[str, bytes]:
    paths = found.files("dropped/")
    tables = [found.columns(path, ["similarity"])["similarity"] for path in paths]
    cosines = np.concatenate(tables) if tables else np.empty(0)
    if not len(cosines):
        return {}
    counts, edges = np.histogram(np.clip(cosines, 0, 1), 20, (0, 1))
    named = zip(edges, edges[1:], counts.tolist(), strict=False)
    held = {f"{low:.2f} to {high:.2f}": float(count) for low, high, count in named if count}
    title = f"{found.manifest.name}: {len(cosines)} scenes dropped"
    return {"dropped": figures.table_bars({f"cosine {of_what}": held}, title)}


def curated_scenes(kept: Artifact, inputs: Inputs) -> Mapping[str, bytes]:
    """Clusters kept and dropped, by their weight."""
    asked = from_plain(RetrievalConfig, kept.json("retrieval.json"))
    table = weighed(inputs["clusters"], asked, [inputs[name] for name in LEFT_OUT])
    return {"kept and dropped": figures.cluster_sheet(table)}


def curation_report(report: Artifact, inputs: Inputs) -> Mapping[str, bytes]:
    """What became of the pool, scenes of kept and dropped clusters, what each weight moves."""
    told = report.json("report.json")
    groups = {
        "scenes of the pool": told["scenes"],
        "files of the pool": told["files"],
        "draws, by target": {name: t["draws"] for name, t in told["targets"].items()},
        "scenes in clusters with the target": {n: t["scenes"] for n, t in told["targets"].items()},
    }
    title = f"{sum(told['scenes'].values())} scenes, {told['draws']} draws (rule: {told['rule']})"
    sheets = {
        "kept and dropped": figures.table_bars(groups, title),
        **_clusters_shown(report, inputs),
        "drawn most often": _most_drawn(report, inputs),
    }
    rows = report.table("sensitivity.parquet")
    return {**sheets, "sensitivity": _sensitivity(rows)} if rows else sheets


def _clusters_shown(report: Artifact, inputs: Inputs) -> Mapping[str, bytes]:
    """One scene of each of the heaviest kept, and of the largest dropped clusters."""
    table = report.columns("clusters.parquet", ["scenes", "kept", "why", "draws"])
    rows = report.table("shown.parquet")
    sheets = {}
    for name, wanted in (("kept clusters", True), ("dropped clusters", False)):
        here = [row for row in rows if table["kept"][row["cluster"]] == wanted]
        frames = [_frame_of(inputs, row) for row in here]
        captions = [_of_cluster(table, row["cluster"]) for row in here]
        title = f"{name}: the scene next to the centroid of {len(here)} of them"
        if here:
            sheets[name] = figures.contact_sheet(frames, captions, title)
    return sheets


def _of_cluster(table: Mapping[str, np.ndarray], cluster: int) -> str:
    why = table["why"][cluster].removeprefix("target video: ")
    told = f"{table['scenes'][cluster]} scenes, {table['draws'][cluster]}x: {why}"
    return textwrap.shorten(told, 36, placeholder=" …")


def _most_drawn(report: Artifact, inputs: Inputs) -> bytes:
    rows = report.table("most_drawn.parquet")[: SHEET // 2]
    captions = [f"{row['draws']}x, cluster {row['cluster']}" for row in rows]
    frames = [_frame_of(inputs, row) for row in rows]
    return figures.contact_sheet(frames, captions, "the scenes that are drawn most often")


def _sensitivity(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """What one weight smaller or larger moves, of the four numbers that say most."""
    names = [f"{row['target']} × {row['factor']:g}" for row in rows]
    groups = {
        "weight of the clusters moved (%)": [100 * row["weight_moved"] for row in rows],
        "draws moved": [row["draws_moved"] for row in rows],
        "scenes that enter or leave": [row["scenes_in"] + row["scenes_out"] for row in rows],
        "clusters that enter or leave": [row["clusters_in"] + row["clusters_out"] for row in rows],
    }
    bars = {name: dict(zip(names, values, strict=True)) for name, values in groups.items()}
    return figures.table_bars(bars, "one retrieval weight smaller or larger")


def _frame_of(inputs: Inputs, row: Mapping[str, Any]) -> np.ndarray:
    """The middle frame of a scene of the pool."""
    return _scene_frame(inputs[f"raw_videos/{row['partition']}"], row)


def clip_shards(shards: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Middle frames of clips from all over the shards."""
    rows = shards.table("index.parquet")
    chosen = evenly(rows, SHEET)
    frames = [_clip_frame(shards, row) for row in chosen]
    captions = [f"{row['seconds']:.1f} s, drawn {row['weight']:g}x" for row in chosen]
    title = f"{shards.manifest.name}: {len(chosen)} of {len(rows)} clips"
    return {"contact sheet": figures.contact_sheet(frames, captions, title)}


def videomix22m(mixture: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """What is drawn beside what there is."""
    told = mixture.json("mixture.json")
    held = {source: entry["samples"] for source, entry in told["samples"].items()}
    return {"mixture": figures.mixture_bars(told["weights"], held)}


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
    rows = artifact.table("quarantine.parquet")
    return [textwrap.fill(textwrap.shorten(row["reason"], 56, placeholder="…"), 30) for row in rows]


def _scene_frame(media: Artifact, row: Mapping[str, Any]) -> np.ndarray:
    """The middle frame of a scene; grey where a later stage will say that it cannot be decoded."""
    try:
        return middle_frame(read_media(media, row), row["start"], row["end"], SIDE)
    except VideoError:
        return np.full((SIDE, SIDE, 3), 128, np.uint8)


def _clip_frame(shards: Artifact, row: Mapping[str, Any]) -> np.ndarray:
    data = shards.sample(f"shards/{row['shard']}", row["offset"], row["size"], row["digest"])
    return middle_frame(data, 0.0, row["seconds"], SIDE)
