"""Transcoding: the scenes of one file as shards store them, made or found.

What an artifact of the store holds of a scene already is read there. A clip is not kept twice: what
is remembered of a file says in which samples of which artifact its scenes lie, under what they
depend on (the bytes of the file, their bounds, how they are encoded). One whose artifact was never
sealed, or is gone or damaged, is made again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipelines.curation.ingest import read_media
from pipelines.settings import plain
from storage.artifacts import Artifact
from storage.errors import UserError
from storage.frames import grid_frames, resample_to_store
from storage.pictures import Clip
from storage.results import Results
from storage.shards import Span
from storage.video import ENCODER, decode_image, encode, encode_image

if TYPE_CHECKING:
    from pipelines.curation.clip_shards import ClipShardsConfig

# What a clip does not depend on, or (the side) not by this number alone.
_OF_SHARDS = ("short_side", "shard_samples", "shard_seconds")


def bounds(scene: Mapping[str, Any]) -> str:
    """A scene by its start and end in its file, seconds."""
    return f"{scene['start']!r}-{scene['end']!r}"


class Film:
    """One file whose scenes are stored; it is read only if one of them has to be transcoded."""

    def __init__(
        self, scene: Mapping[str, Any], side: int, media: Artifact, config: ClipShardsConfig,
        version: int, results: Results,
    ) -> None:  # fmt: skip
        """Look up what is known.

        scene: any of the file; side: shorter side of what is stored, pixels; version: of the stage.
        """
        png = str(scene["path"]).lower().endswith(".png")
        self.ext = "mp4" if scene["kind"] == "video" else "png" if png else "jpg"
        self._side, self._media, self._config, self._results = side, media, config, results
        asked = {name: v for name, v in plain(config).items() if name not in _OF_SHARDS}
        self._question = {
            "item": "clips", "version": version, "content": scene["sha256"], "as": self.ext,
            "side": side, "config": asked, "encoder": ENCODER,
        }  # fmt: skip
        self._known = results.recall(self._question) or {}
        self._new: dict[str, Any] = {}
        self._data: bytes | None = None

    def clips(self, scene: Mapping[str, Any]) -> list[Clip]:
        """The pieces of a scene.

        Raises:
            VideoError: nothing can be decoded.
            MediaError: the file is gone, or is no longer the one that was ingested.
        """
        if clips := self._found(self._known.get(bounds(scene))):
            return clips
        self._known.pop(bounds(scene), None)
        self._data = self._data or read_media(self._media, scene)
        return stored_clips(self._data, scene, self.ext, self._side, self._config)

    def _found(self, place: Any) -> list[Clip]:
        """The clips that lie in a place; none where they cannot be had from there."""
        try:
            artifact, shard = self._results.artifact(place["recipe"]), place["shard"]
            return [
                Clip(
                    artifact.sample(shard, clip["offset"], clip["size"], clip["digest"]),
                    clip["frames"], clip["fps"], clip["width"], clip["height"],
                )
                for clip in place["clips"]
            ]  # fmt: skip
        except (KeyError, TypeError, ValueError, UserError):
            return []

    def note(
        self, scene: Mapping[str, Any], recipe: str, shard: str, spans: Sequence[Span],
        clips: Sequence[Clip],
    ) -> None:  # fmt: skip
        """Take down where the pieces of a scene went: a shard of what is sealed under a recipe.

        Those that were found somewhere stay known by that place.
        """
        if bounds(scene) in self._known:
            return
        told = []
        for span, clip in zip(spans, clips, strict=True):
            about = {name: value for name, value in asdict(clip).items() if name != "data"}
            told.append(about | {"offset": span.offset, "size": span.size, "digest": span.digest})
        self._new[bounds(scene)] = {"recipe": recipe, "shard": shard, "clips": told}

    def remember(self) -> None:
        """Keep what was taken down."""
        if self._new:
            self._results.keep(self._question, self._known | self._new)


def stored_clips(
    data: bytes, scene: Mapping[str, Any], ext: str, side: int, config: ClipShardsConfig
) -> list[Clip]:
    """The pieces in which a scene is stored, as mp4, png or jpg, its shorter side `side` pixels.

    Raises:
        VideoError: nothing can be decoded.
    """
    if ext != "mp4":
        still = decode_image(data, side)
        encoded = encode_image(still, ext, config.jpeg_quality)
        return [Clip(encoded, 1, 0.0, still.shape[1], still.shape[0])]
    start, end, options = scene["start"], scene["end"], {"crf": str(config.crf)}
    frames = resample_to_store(data, start, end, config.fps, side)
    lengths = piece_frames(grid_frames(start, end, config.fps), config.piece_seconds * config.fps)
    return [
        encode(
            itertools.islice(frames, length), config.fps, keyframes=config.keyframes,
            options=options,
        )
        for length in lengths
    ]  # fmt: skip


def piece_frames(frames: int, most: float) -> list[int]:
    """Frames of each piece of a scene that has `frames`: as few as can be, none above `most`."""
    pieces = math.ceil(frames / max(1, int(most)))
    ends = [frames * (number + 1) // pieces for number in range(pieces)]
    return [end - first for first, end in itertools.pairwise([0, *ends])]
