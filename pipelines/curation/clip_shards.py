"""Clip shards: every scene cut out, made small and packed into WebDataset tars with an index.

A training clip is 16 frames at 4 fps of a random window. Decoding originals for it costs up to
twenty times more than decoding a small copy, so each span is stored once at `short_side` pixels and
`fps` frames a second. PAPER stores 8 fps, twice what a clip takes: with every second frame a window
may begin at either of two phases, which a 4 fps copy would fix for good. A keyframe a second lets a
reader start near its window. Images stay images, at the same size, and repeat in time when read.

A sample is read whole for every draw, so a scene longer than `piece_seconds` is stored in pieces of
equal length, a sample each. They share the scene's weight by their length, and a window lies inside
one of them: those that would cross from one piece to the next are never drawn.

One task writes one shard, a range of video ids: all ids are halved, and halved again, until what
falls into a range is at most `shard_samples` scenes and `shard_seconds` of video, or one video. A
video id is a digest, so neighbours in a shard have nothing to do with each other. Nothing that is
decoded decides where a scene goes, nor does the number of workers; and a video that is taken out
changes its own shard alone (with it the other half, where the two together fit one shard again).
What an artifact of the store holds of a scene already is taken from there (`transcoding`), so that
the shards that do change cost the transcoding of what is new.

Reads `raw_videos` and `curated_scenes` (YT1B: the scenes that were drawn) or `scenes` (the other
sources pass through, as in the paper). Payload:
    shards/400000.tar ...  <key>.mp4 (or .jpg, .png) and <key>.json; the name has the first digits
                           of the range, the key is the scene id, with -000, -001 ... for pieces
    index.parquet          one row a sample with place and digest of its bytes; see INDEX
    quarantine.parquet     scenes that cannot be decoded
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pipelines.curation.transcoding import Film
from pipelines.settings import between, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.pictures import Clip, VideoError
from storage.results import Results
from storage.shards import ShardWriter
from storage.tables import QUARANTINE, write_table
from storage.work import Work

INDEX = {
    "key": "string", "scene_id": "string", "video_id": "string", "source": "string",
    "shard": "string", "offset": "int64", "size": "int64", "ext": "string", "kind": "string",
    "fps": "float64", "frames": "int32", "seconds": "float64", "width": "int32",
    "height": "int32", "weight": "float64", "label": "string", "split": "string",
    "digest": "int64", "piece": "int32",
}  # fmt: skip
# What a sample's .json says about where it came from; `start` and `end` are those of the piece.
PROVENANCE = (
    "scene_id", "video_id", "source", "path", "sha256", "kind", "start", "end", "cut", "label",
    "split",
)  # fmt: skip

# Digits of a video id that name a range: 16 million ranges at most.
DIGITS = 6


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
    """Scenes in one shard, at most; a video with more has a shard of its own."""
    shard_seconds: Annotated[float, between(0.1, 1e7)] = 10_000.0
    """Seconds of video in one shard, at most; a longer video has a shard of its own."""
    piece_seconds: Annotated[float, between(0.1, 1e7)] = 60.0
    """A longer scene is stored in pieces of equal length, none longer than this, seconds."""


def planned_shards(
    scenes: Sequence[Mapping[str, Any]], samples: int, seconds: float
) -> dict[str, list[Mapping[str, Any]]]:
    """Name of a shard -> its scenes, in the order of (video id, first frame).

    A shard holds the video ids of a range, named by the first DIGITS hexadecimal digits of the
    range's first id. A range is halved while it has more than one video and more than `samples`
    scenes or `seconds` of video.
    """
    shards: dict[str, list[Mapping[str, Any]]] = {}

    def deal(some: list[Mapping[str, Any]], first: int, size: int) -> None:
        length = sum(scene["end"] - scene["start"] for scene in some)
        alone = size == 1 or not some or some[0]["video_id"] == some[-1]["video_id"]
        if alone or (len(some) <= samples and length <= seconds):
            if some:
                shards[f"{first:0{DIGITS}x}"] = some
            return
        half = first + size // 2
        place = bisect.bisect_left(some, half, key=lambda s: int(s["video_id"][:DIGITS], 16))
        deal(some[:place], first, size // 2)
        deal(some[place:], half, size // 2)

    deal(sorted(scenes, key=lambda s: (s["video_id"], s["start_frame"])), 0, 16**DIGITS)
    return shards


@dataclass(frozen=True)
class ShardPlan:
    """What one task writes: the scenes of a shard, in order."""

    name: str
    scenes: Sequence[Mapping[str, Any]]
    shorter: Mapping[str, int]
    """video id -> shorter side of the original, pixels."""
    media: Artifact
    config: ClipShardsConfig
    work: Work
    results: Results = field(default_factory=Results)
    recipe: str | None = None
    """That of the artifact which the shard becomes part of."""

    @property
    def target(self) -> str:
        """The name under which the work keeps the shard."""
        return f"scratch/shards/{self.name}.tar"


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
    with ShardWriter(room, shard_samples=1 << 62, shard_bytes=1 << 62) as shard:
        for _, scenes in itertools.groupby(plan.scenes, key=lambda scene: scene["video_id"]):
            some = list(scenes)
            side = min(plan.config.short_side, plan.shorter[some[0]["video_id"]])
            film = Film(some[0], side, plan.media, plan.config, STAGE.version, plan.results)
            for scene in some:
                try:
                    clips = film.clips(scene)
                except VideoError as error:
                    item = f"{scene['path']} ({scene['scene_id']})"
                    broken.append({"item": item, "stage": STAGE.name, "reason": str(error)})
                    continue
                spans = []
                for row, record, clip in _samples(scene, film.ext, clips):
                    span = shard.write(row["key"], {film.ext: clip.data, "json": record})[film.ext]
                    index.append(row | {n: getattr(span, n) for n in ("offset", "size", "digest")})
                    spans.append(span)
                if plan.recipe:
                    film.note(scene, plan.recipe, f"shards/{plan.name}.tar", spans, clips)
            film.remember()
    return {"index": index, "quarantine": broken}


def run(config: ClipShardsConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Write the shards of this partition on Ray, one task a shard, then their index."""
    curated = "curated_scenes" in inputs
    scenes = inputs["curated_scenes" if curated else "scenes"].table("scenes.parquet")
    videos = inputs["raw_videos"].table("videos.parquet")
    shorter = {video["video_id"]: min(video["width"], video["height"]) for video in videos}
    plans = {
        name: ShardPlan(
            name, shard, {s["video_id"]: shorter[s["video_id"]] for s in shard},
            inputs["raw_videos"], config, out.work, out.results, out.recipe,
        )
        for name, shard in planned_shards(
            scenes, config.shard_samples, config.shard_seconds
        ).items()
    }  # fmt: skip
    done = out.map(write_shard, plans, noun="shards")
    index, broken = [], []
    for name, result in done.items():
        broken += result["quarantine"]
        if result["index"]:
            out.adopt(plans[name].target, f"shards/{name}.tar")
            index += [{**row, "shard": f"{name}.tar"} for row in result["index"]]
    write_table(out.payload / "index.parquet", index, INDEX)
    write_table(out.payload / "quarantine.parquet", broken, QUARANTINE)
    return {
        "samples": len(index),
        "shards": len({row["shard"] for row in index}),
        "bytes": sum(row["size"] for row in index),
        "seconds_of_video": round(sum(row["seconds"] for row in index), 3),
        "quarantined": len(broken),
    }


def _samples(
    scene: Mapping[str, Any], ext: str, clips: Sequence[Clip]
) -> Iterator[tuple[dict[str, Any], dict[str, Any], Clip]]:
    """(row of INDEX but for its place, what its .json says, clip) of every piece of a scene."""
    frames, begun = sum(clip.frames for clip in clips), 0
    for piece, clip in enumerate(clips):
        row = {
            "key": scene["scene_id"] + (f"-{piece:03d}" if len(clips) > 1 else ""),
            "ext": ext, "fps": clip.fps, "frames": clip.frames, "piece": piece,
            "seconds": clip.frames / clip.fps if clip.fps else 0.0,
            "width": clip.width, "height": clip.height,
            "weight": scene.get("draws", 1) * clip.frames / frames,
            **{n: scene[n] for n in ("scene_id", "video_id", "source", "kind", "label", "split")},
        }  # fmt: skip
        record = {name: scene[name] for name in PROVENANCE}
        if piece:
            record["start"] = scene["start"] + begun / clip.fps
        begun += clip.frames
        if piece < len(clips) - 1:
            record["end"] = scene["start"] + begun / clip.fps
        yield row, record, clip


STAGE = Stage("clip_shards", version=4, config=ClipShardsConfig, run=run)
