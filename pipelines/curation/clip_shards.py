"""Clip shards: every scene cut out, made small and packed into WebDataset tars with an index.

A training clip is 16 frames at 4 fps of a random window. Decoding originals for it costs up to
twenty times more than decoding a small copy, so each span is stored once at `short_side` pixels and
`fps` frames a second. PAPER stores 8 fps, twice what a clip takes: with every second frame a window
may begin at either of two phases, which a 4 fps copy would fix for good. A keyframe a second lets a
reader start near its window. Images stay images, at the same size, and repeat in time when read.

One task writes one shard. Scenes are taken in the order of (video id, first frame); a video id is a
digest, so neighbours in a shard have nothing to do with each other, and a video's scenes share one
read. A shard is full at `shard_samples` scenes or `shard_seconds` of video, whichever comes first:
both are known before anything is decoded, so no shard depends on how long another took or on the
number of workers.

Reads `raw_videos` and `curated_scenes` (YT1B: the scenes that were drawn) or `scenes` (the other
sources pass through, as in the paper). Payload:
    shards/000000.tar ...  <scene id>.mp4 (or .jpg, .png) and <scene id>.json
    index.parquet          one row a sample with place and digest of its bytes; see INDEX
    quarantine.parquet     scenes that cannot be decoded
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pipelines.curation.ingest import read_media
from pipelines.settings import between, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.frames import resample
from storage.pictures import Clip, VideoError
from storage.shards import ShardWriter
from storage.tables import QUARANTINE, write_table
from storage.video import decode_image, encode, encode_image
from storage.work import Work

INDEX = {
    "key": "string", "scene_id": "string", "video_id": "string", "source": "string",
    "shard": "string", "offset": "int64", "size": "int64", "ext": "string", "kind": "string",
    "fps": "float64", "frames": "int32", "seconds": "float64", "width": "int32",
    "height": "int32", "weight": "float64", "label": "string", "split": "string",
    "digest": "int64",
}  # fmt: skip
# What a sample's .json says about where it came from.
PROVENANCE = (
    "scene_id", "video_id", "source", "path", "sha256", "kind", "start", "end", "cut", "label",
    "split",
)  # fmt: skip


@settings
class ClipShardsConfig:
    """How scenes are stored for training."""

    short_side: Annotated[int, between(16, 4320)] = 320
    """Shorter side of a stored clip, pixels; smaller originals are not enlarged."""
    fps: Annotated[float, between(0.1, 240)] = 8.0
    """Stored frames a second; a multiple of the rate of training clips gives several phases."""
    crf: Annotated[int, between(0, 51)] = 20
    """x264 quality: 0 is lossless, 51 the worst."""
    keyframes: Annotated[float, between(0.01, 60)] = 1.0
    """Seconds between keyframes, at most."""
    jpeg_quality: Annotated[int, between(2, 31)] = 3
    """Quality of stored jpg stills: 2 is the best, 31 the worst."""
    shard_samples: Annotated[int, between(1, 1_000_000)] = 1000
    """Scenes in one shard, at most."""
    shard_seconds: Annotated[float, between(0.1, 1e7)] = 10_000.0
    """Seconds of video in one shard, about: it is closed by the scene that reaches this."""


def planned_shards(
    scenes: Sequence[Mapping[str, Any]], samples: int, seconds: float
) -> list[list[Mapping[str, Any]]]:
    """Scenes in the order of (video id, first frame), dealt into shards.

    A shard ends at `samples` scenes, or with the scene that brings it to `seconds` of video.
    """
    shards: list[list[Mapping[str, Any]]] = []
    held = seconds
    for scene in sorted(scenes, key=lambda scene: (scene["video_id"], scene["start_frame"])):
        if held >= seconds or len(shards[-1]) >= samples:
            shards.append([])
            held = 0.0
        shards[-1].append(scene)
        held += scene["end"] - scene["start"]
    return shards


@dataclass(frozen=True)
class ShardPlan:
    """What one task writes: the scenes of a shard, in order, kept under the name `target`."""

    scenes: Sequence[Mapping[str, Any]]
    shorter: Mapping[str, int]
    """video id -> shorter side of the original, pixels."""
    media: Artifact
    config: ClipShardsConfig
    work: Work
    target: str


def write_shard(plan: ShardPlan) -> dict[str, Any]:
    """Write one shard; returns its index rows (without `shard`) and its quarantine rows.

    A shard without a scene is not kept.
    """
    with plan.work.room() as room:
        result = _fill_shard(plan, room)
        if result["index"]:
            plan.work.keep(room / "000000.tar", plan.target)
    return result


def _fill_shard(plan: ShardPlan, room: Path) -> dict[str, Any]:
    """Write the shard as 000000.tar in a folder.

    A scene that cannot be decoded becomes a quarantine row. A file that is gone or is no longer
    the one that was ingested is an error: the partition has to be ingested again.
    """
    index, broken = [], []
    media: tuple[str, bytes] = ("", b"")
    with ShardWriter(room, shard_samples=len(plan.scenes), shard_bytes=1 << 62) as shard:
        for scene in plan.scenes:
            if scene["video_id"] != media[0]:
                media = (scene["video_id"], read_media(plan.media, scene))
            try:
                side = min(plan.config.short_side, plan.shorter[scene["video_id"]])
                ext, clip = stored_clip(media[1], scene, side, plan.config)
            except VideoError as error:
                item = f"{scene['path']} ({scene['scene_id']})"
                broken.append({"item": item, "stage": STAGE.name, "reason": str(error)})
                continue
            record = {name: scene[name] for name in PROVENANCE}
            span = shard.write(scene["scene_id"], {ext: clip.data, "json": record})[ext]
            place = {"offset": span.offset, "size": span.size, "digest": span.digest}
            index.append(_index_row(scene, ext, clip) | place)
    return {"index": index, "quarantine": broken}


def stored_clip(
    data: bytes, scene: Mapping[str, Any], side: int, config: ClipShardsConfig
) -> tuple[str, Clip]:
    """The extension and bytes under which a scene is stored, its shorter side `side` pixels.

    Raises:
        VideoError: nothing can be decoded.
    """
    if scene["kind"] == "image":
        ext = "png" if str(scene["path"]).lower().endswith(".png") else "jpg"
        still = decode_image(data, side)
        encoded = encode_image(still, ext, config.jpeg_quality)
        return ext, Clip(encoded, 1, 0.0, still.shape[1], still.shape[0])
    frames = resample(data, scene["start"], scene["end"], config.fps, side)
    options = {"crf": str(config.crf)}
    return "mp4", encode(frames, config.fps, keyframes=config.keyframes, options=options)


def run(config: ClipShardsConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Write the shards of this partition on Ray, one task a shard, then their index."""
    curated = "curated_scenes" in inputs
    scenes = inputs["curated_scenes" if curated else "scenes"].table("scenes.parquet")
    videos = inputs["raw_videos"].table("videos.parquet")
    shorter = {video["video_id"]: min(video["width"], video["height"]) for video in videos}
    plans = {
        f"{number:06d}": ShardPlan(
            shard, {s["video_id"]: shorter[s["video_id"]] for s in shard}, inputs["raw_videos"],
            config, out.work, f"scratch/shards/{number:06d}.tar",
        )
        for number, shard in enumerate(
            planned_shards(scenes, config.shard_samples, config.shard_seconds)
        )
    }  # fmt: skip
    done = out.map(write_shard, plans, noun="shards")
    index, broken, shards = [], [], 0
    for key, result in done.items():
        broken += result["quarantine"]
        if result["index"]:  # numbered without gaps, for readers that expand {000000..000007}
            name = f"{shards:06d}.tar"
            shards += 1
            out.adopt(plans[key].target, f"shards/{name}")
            index += [{**row, "shard": name} for row in result["index"]]
    write_table(out.payload / "index.parquet", index, INDEX)
    write_table(out.payload / "quarantine.parquet", broken, QUARANTINE)
    return {
        "samples": len(index),
        "shards": shards,
        "bytes": sum(row["size"] for row in index),
        "seconds_of_video": round(sum(row["seconds"] for row in index), 3),
        "quarantined": len(broken),
    }


def _index_row(scene: Mapping[str, Any], ext: str, clip: Clip) -> dict[str, Any]:
    """A row of INDEX but for its place: what was stored, and how often it is to be drawn."""
    return {
        "key": scene["scene_id"], "ext": ext, "fps": clip.fps, "frames": clip.frames,
        "seconds": clip.frames / clip.fps if clip.fps else 0.0,
        "width": clip.width, "height": clip.height, "weight": float(scene.get("draws", 1)),
        **{n: scene[n] for n in ("scene_id", "video_id", "source", "kind", "label", "split")},
    }  # fmt: skip


STAGE = Stage("clip_shards", version=2, config=ClipShardsConfig, run=run)
