"""Scenes: edited videos are cut into shots, annotated ones into their segments, others pass whole.

Steps 1 and 2 of the curation (V-JEPA 2, section 10.2): scenes come from PySceneDetect, and those
shorter than 4 s are dropped. The paper names neither detector nor threshold; here it is the
package's own default, ContentDetector at 27; TransNet V2 is a setting. Frames come from our
decoder, so that files may lie in a bucket and a cut's time is the time at which later stages find
that very frame. What changes in a file is seen while it is probed, where it is one of the pool: it
is decoded once for both.

Payload:
    scenes.parquet      one row a scene, by path and start
    quarantine.parquet  videos that could not be decoded to their end
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pipelines.curation.cutting import SIDE, Changes, DetectorName, cuts, look, looking, seen
from pipelines.curation.ingest import read_media
from pipelines.curation.transnet import weights
from pipelines.isolation import LimitError, Limits, isolated
from pipelines.settings import Natural, NotNegative, Positive, at_least, plain, settings
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.digests import digest_bytes
from storage.frames import thumbnails
from storage.pictures import TooLargeError, VideoError
from storage.results import Results
from storage.tables import QUARANTINE, write_table

COLUMNS = {
    "scene_id": "string", "video_id": "string", "source": "string", "path": "string",
    "sha256": "string", "kind": "string", "start": "float64", "end": "float64",
    "start_frame": "int64", "end_frame": "int64", "fps": "float64", "cut": "string",
    "label": "string", "split": "string",
}  # fmt: skip


@settings
class ScenesConfig:
    """How videos are cut."""

    sources: tuple[str, ...] = ("yt1b",)
    """Sources that are cut; a video of any other is one scene."""
    detector: DetectorName = "content"
    """"content" (change from frame to frame), "adaptive" (change beside its neighbours) or
    "transnet" (a network, sixty times the work: see the README for when it is worth that)."""
    threshold: Positive | None = None
    """What counts as a cut; None is the detector's default, 27 (content), 3 (adaptive), 0.5
    (transnet: a probability)."""
    flash_frames: Natural = 15
    """Cuts closer together than this are taken for flashes and merged, frames (not by transnet)."""
    min_seconds: NotNegative = 4.0
    """Scenes shorter than this are dropped, seconds."""
    side: Annotated[int, at_least(16)] = SIDE
    """Frames are looked at with a shorter side of at most this, pixels (not by transnet)."""
    limits: Limits = field(default_factory=Limits)
    """What the cutting of one video may take; what takes more is quarantined."""

    def __post_init__(self) -> None:
        if self.detector == "transnet" and self.threshold is not None and self.threshold >= 1:
            raise ValueError(
                f"ScenesConfig.threshold = {self.threshold}: must be below 1 where the detector is "
                "'transnet' (a probability); 0.5 is its default"
            )


def spans(
    times: list[float], seconds: float, starts: list[int]
) -> list[tuple[int, int, float, float]]:
    """(first frame, one past the last, start, end in seconds) of each shot.

    times: of every frame; seconds: of the whole video; starts: frames that begin a shot.
    """
    edges = [0, *starts, len(times)]
    clock = [*times, seconds]
    return [(first, past, clock[first], clock[past]) for first, past in itertools.pairwise(edges)]


def run(config: ScenesConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Cut every video of the partition, or pass it whole."""
    raw = inputs["raw_videos"]
    videos = raw.table("videos.parquet")
    if "segments" in raw.metrics:
        return _annotated(raw, videos, out)
    items = {
        video["path"]: Uncut(raw, video, config, out.results)
        for video in videos
        if video["source"] in config.sources and video["kind"] == "video"
    }
    if items and config.detector == "transnet":
        weights()  # what is not there is told before any task starts
    found = out.map(_cut, items, noun="videos to cut")
    rows: list[dict[str, Any]] = []
    aside: list[dict[str, str]] = []
    short = 0
    for video in videos:
        if video["path"] not in items:
            rows.append(_scene(video, (0, video["frames"], 0.0, video["seconds"]), "whole"))
            continue
        result = found[video["path"]]
        if reason := result.get("reason"):
            aside.append({"item": video["path"], "stage": STAGE.name, "reason": reason})
            continue
        # Half a millisecond: containers round times, and a scene of just 4 s shall not fall for it.
        long = [s for s in result["spans"] if s[3] - s[2] >= config.min_seconds - 0.0005]
        short += len(result["spans"]) - len(long)
        rows += [_scene(video, tuple(span), "detected") for span in long]
    write_table(out.payload / "scenes.parquet", rows, COLUMNS)
    write_table(out.payload / "quarantine.parquet", aside, QUARANTINE)
    return {
        "scenes": len(rows),
        "videos": len(videos) - len(aside),
        "too_short": short,
        "quarantined": len(aside),
        "seconds": round(sum(row["end"] - row["start"] for row in rows), 3),
    }


def _annotated(
    raw: Artifact, videos: Sequence[Mapping[str, Any]], out: Workspace
) -> dict[str, Any]:
    """One scene for each segment that annotations name; they are not cut, whatever their length."""
    by_id = {video["video_id"]: video for video in videos}
    rows = []
    for segment in raw.table("segments.parquet"):
        video = by_id[segment["video_id"]]
        shared = {name: segment[name] for name in COLUMNS if name in segment}
        kept = {name: video[name] for name in COLUMNS if name in video}
        rows.append(kept | shared | {"cut": "annotated"})
    write_table(out.payload / "scenes.parquet", rows, COLUMNS)
    write_table(out.payload / "quarantine.parquet", [], QUARANTINE)
    return {
        "scenes": len(rows),
        "videos": len(videos),
        "too_short": 0,
        "quarantined": 0,
        "seconds": round(sum(row["end"] - row["start"] for row in rows), 3),
    }


@dataclass(frozen=True)
class Uncut:
    """One video that is to be cut."""

    raw: Artifact
    video: Mapping[str, Any]
    """Its row of videos.parquet."""
    config: ScenesConfig
    results: Results

    @property
    def question(self) -> dict[str, Any]:
        """What its shots depend on: its bytes, and of the config what is asked of one video."""
        asked = plain(self.config)
        for name in ("sources", "min_seconds", "limits"):  # asked of shots, or of no video
            del asked[name]
        return {**self.looking, "item": "shots", "stage": STAGE.version, "config": asked}

    @property
    def looking(self) -> dict[str, Any]:
        """What the changes in it depend on."""
        return looking(self.video["sha256"], self.config.detector, self.config.side)


def _cut(item: Uncut) -> dict[str, Any]:
    """The shots of one video, or why there are none; from the store where they are known."""
    if known := item.results.recall(item.question):
        return known
    if not (changes := item.results.recall(item.looking)):
        try:
            changes = isolated(_changes, item, item.config.limits)
        except LimitError as error:
            return {"reason": str(error)}
        if "reason" in changes:
            return changes
        item.results.keep(item.looking, changes)
    found = _shots(item, Changes.unpacked(changes))
    if "spans" in found:
        item.results.keep(item.question, found)
    return found


def _changes(item: Uncut) -> dict[str, str]:
    """What changes from frame to frame of one video, packed; or a `reason`."""
    looks = look(item.config.detector, item.config.side)
    data = read_media(item.raw, item.video)
    try:
        return seen(thumbnails(data, looks.size), looks).packed()
    except TooLargeError:
        raise
    except VideoError as error:
        return {"reason": str(error)}


def _shots(item: Uncut, changes: Changes) -> dict[str, Any]:
    video, config = item.video, item.config
    if (frames := len(changes.times)) != video["frames"]:
        return {"reason": f"{frames} frames decode now, {video['frames']} did at ingest"}
    starts = cuts(changes.scores, config.detector, config.threshold, config.flash_frames)
    return {"spans": spans(changes.times, video["seconds"], starts)}


def _scene(video: dict[str, Any], span: tuple[int, int, float, float], cut: str) -> dict[str, Any]:
    """A row of scenes.parquet."""
    first, past, start, end = span
    name = f"{video['video_id']}:{first}:{past}"
    kept = ("video_id", "source", "path", "sha256", "kind", "fps", "label", "split")
    return {column: video[column] for column in kept} | {
        "scene_id": digest_bytes(name.encode())[:32], "start": start, "end": end,
        "start_frame": first, "end_frame": past, "cut": cut,
    }  # fmt: skip


STAGE = Stage("scenes", version=2, config=ScenesConfig, run=run)
