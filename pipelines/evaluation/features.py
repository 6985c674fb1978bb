"""Frozen features of labelled clips, computed once and kept in the run's scratch.

Every clip is seen in a few views: for training a random window and crop each, for validation evenly
spaced windows and crops. A view is one or more segments (windows along the clip), each encoded
alone, their tokens side by side in time (V-JEPA 2, section 12). Three arms read the same views: the
trained encoder, a randomly initialised one of the same architecture, and the trained one on a clip
whose frames are all its middle frame, which shows what a class gives away without motion.

Shapes: C clips, V views, S segments, N tokens of a segment, D encoder width.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoder import Encoder, EncoderConfig
from pipelines.compute import map_items
from pipelines.planner.weights import open_encoder, read_model
from pipelines.stage import Workspace
from pipelines.training.clips import ClipConfig, finished, frame_numbers
from pipelines.training.order import CROP, CROP_TRIES, START
from storage.artifacts import Artifact
from storage.digests import digest_json
from storage.frames import frames_at
from storage.shards import read_span
from storage.tables import read_table

Pictures = NDArray[np.uint8]

ARMS = ("pretrained", "random", "still")
_CLIPS = 16  # clips in one file
_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class LabelledClip:
    """A clip of the shards, its class and its side of the split."""

    key: str
    label: str
    split: str
    shard: Path
    offset: int
    size: int
    fps: float
    frames: int


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How a clip is shown to the encoder."""

    frames: int = 16
    """Frames of a segment."""
    fps: float = 4.0
    """Frames a second."""
    size: int = 256
    """Side of the square the encoder sees, pixels."""
    segments: int = 2
    """Windows along the clip; their tokens are probed together."""
    train_views: int = 1
    """Random windows and crops of each training clip that are kept."""
    views: int = 3
    """Crops of each validation clip along its longer side; their predictions are averaged."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Share of the picture's area that a training crop takes, from and to."""
    crop_aspect: tuple[float, float] = (0.75, 1.3333)
    """Width over height of a training crop, from and to. Clips are never mirrored."""
    seed: int = 0
    """Of windows, crops and the random encoder."""

    def __post_init__(self) -> None:
        for name in ("frames", "size", "segments", "train_views", "views"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 1 or more")
        _ = self.clip  # refuses what no clip can be

    @property
    def clip(self) -> ClipConfig:
        """Window and random crop of a training view."""
        return ClipConfig(
            frames=self.frames,
            fps=self.fps,
            crop=self.size,
            scale=self.crop_scale,
            aspect=self.crop_aspect,
            flip=0.0,
        )


def labelled_clips(parts: Mapping[str, Artifact], source: str) -> list[LabelledClip]:
    """The labelled clips of one source, in the order of their keys.

    Raises:
        ValueError: there are none, a class or a side of the split is missing.
    """
    clips = [
        LabelledClip(
            row["key"], row["label"], row["split"], artifact.path / "shards" / row["shard"],
            row["offset"], row["size"], row["fps"], row["frames"],
        )
        for artifact in parts.values()
        for row in read_table(artifact.path / "index.parquet")
        if row["source"] == source and row["kind"] == "video" and row["label"]
        and row["split"] in _SPLITS
    ]  # fmt: skip
    classes = {split: {c.label for c in clips if c.split == split} for split in _SPLITS}
    if len(classes["train"]) < 2 or not classes["validation"]:
        found = ", ".join(f"{len(c)} classes in {s}" for s, c in classes.items())
        raise ValueError(
            f"source {source} cannot be probed ({found}): it needs labelled videos of two or more "
            "classes, split into train and validation"
        )
    if unknown := sorted(classes["validation"] - classes["train"]):
        raise ValueError(
            f"source {source}: class {unknown[0]} is in validation and never in train; "
            "no probe can learn it"
        )
    return sorted(clips, key=lambda clip: clip.key)


def views_of(clip: LabelledClip, how: ViewConfig, still: bool) -> Iterator[Tensor]:
    """The views [S, 3, T, H, W] of a clip: random ones in train, evenly spaced in validation."""
    data = read_span(clip.shard, clip.offset, clip.size)
    train = clip.split == "train"
    whole = replace(how.clip, scale=(1.0, 1.0), aspect=(1.0, 1.0))
    for view in range(how.train_views if train else how.views):
        word = int(digest_json([how.seed, clip.key, view])[:16], 16)
        drawn = np.random.Generator(np.random.PCG64(word)).random(CROP + 4 * CROP_TRIES)
        segments = []
        for segment in range(how.segments):
            within = float(drawn[START]) if train else 0.5
            start = (segment + within) / how.segments
            numbers = frame_numbers(clip.frames, clip.fps, how.clip, start)
            pictures = frames_at(data, (numbers / clip.fps).tolist())
            if still:
                pictures = np.repeat(pictures[len(pictures) // 2][None], len(pictures), axis=0)
            # One draw for all segments: they are cut alike.
            if train:
                segments.append(finished(pictures, drawn, how.clip))
            else:
                segments.append(finished(_square(pictures, view, how.views), drawn, whole))
        yield torch.stack(segments)


def _square(pictures: Pictures, view: int, views: int) -> Pictures:
    """The largest square [T, s, s, 3], at one of `views` even places along the longer side."""
    high, wide = pictures.shape[1:3]
    side, place = min(high, wide), 0.5 if views == 1 else view / (views - 1)
    top, left = round((high - side) * place), round((wide - side) * place)
    return pictures[:, top : top + side, left : left + side]


@dataclass(frozen=True)
class Group:
    """One unit of work: some clips seen by one arm."""

    arm: str
    encoder: Path
    clips: tuple[LabelledClip, ...]
    how: ViewConfig
    device: str
    target: Path


@functools.cache
def open_arm(arm: str, folder: Path, seed: int, device: str) -> Encoder:
    """An arm's frozen encoder, once in each process."""
    if arm != "random":
        return open_encoder(folder, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(EncoderConfig(**read_model(folder)[0]["encoder"]))
    return encoder.eval().requires_grad_(False).to(torch.device(device))


def encode_group(group: Group) -> int:
    """Write the features [views, S * N, D] float16 of a group's clips; returns their number."""
    encoder = open_arm(group.arm, group.encoder, group.how.seed, group.device)
    done = []
    with torch.inference_mode():
        for clip in group.clips:
            for view in views_of(clip, group.how, still=group.arm == "still"):
                tokens = encoder(view.to(group.device)).flatten(0, 1)
                done.append(tokens.float().cpu().numpy().astype(np.float16))
    group.target.parent.mkdir(parents=True, exist_ok=True)
    aside = group.target.with_suffix(f".{os.getpid()}.aside")
    with open(aside, "wb") as stream:
        np.save(stream, np.stack(done), allow_pickle=False)
    aside.replace(group.target)
    return len(done)


def encode_clips(
    encoder: Path, clips: Sequence[LabelledClip], how: ViewConfig, arms: Sequence[str],
    out: Workspace,
) -> dict[str, dict[str, tuple[Path, ...]]]:  # fmt: skip
    """Encode all clips for all arms on Ray; arm -> split -> files, in the order of the clips."""
    groups: dict[str, Group] = {}
    for arm in arms:
        for split in _SPLITS:
            chosen = [clip for clip in clips if clip.split == split]
            for start in range(0, len(chosen), _CLIPS):
                target = out.scratch / "features" / arm / f"{split}-{start // _CLIPS:06d}.npy"
                some = tuple(chosen[start : start + _CLIPS])
                name = f"{arm} {target.stem}"
                groups[name] = Group(arm, encoder, some, how, out.how.device, target)
    map_items(encode_group, groups, out, noun="groups of clips")
    return {
        arm: {
            split: tuple(
                g.target for g in groups.values() if g.arm == arm and g.clips[0].split == split
            )
            for split in _SPLITS
        }
        for arm in arms
    }


class Features:
    """Features [views, S * N, D] of one split of one arm, mapped from their files."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._parts = [np.load(path, mmap_mode="r") for path in parts]
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        """Features [len(rows), S * N, D] float32 of some views."""
        taken = []
        for row in rows:
            part = int(np.searchsorted(self._ends, row, side="right"))
            first = int(self._ends[part]) - len(self._parts[part])
            taken.append(self._parts[part][row - first])
        return torch.from_numpy(np.stack(taken)).float()
