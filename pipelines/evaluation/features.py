"""Frozen features of labelled clips, computed once and kept in the run's scratch.

Every clip is seen in a few views: for training a random window and crop each, for validation evenly
spaced windows and crops. A view is one or more segments (windows along the clip), each encoded
alone, their tokens side by side in time (V-JEPA 2, section 12). Three variants read the same views:
the trained encoder, a randomly initialised one of the same architecture, and the trained one on a
clip whose frames are all its middle frame, which shows what a class gives away without motion.

Shapes: C clips, V views, S segments, N tokens of a segment, D encoder width.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoder import Encoder, EncoderConfig
from pipelines.planner.weights import open_encoder, read_model
from pipelines.settings import Count, Natural, Positive, PositiveRange, ShareRange, settings
from pipelines.stage import Workspace
from pipelines.training.clips import ClipConfig, augment, frame_numbers
from pipelines.training.order import CROP, CROP_TRIES, START
from storage.artifacts import Artifact
from storage.digests import digest_json
from storage.errors import InputError
from storage.frames import frames_at
from storage.work import KeptFile, Work

Pictures = NDArray[np.uint8]

VARIANTS = ("pretrained", "random", "still")
_CLIPS = 16  # clips in one file
INDEX = ("key", "label", "split", "shard", "offset", "size", "fps", "frames", "source", "kind")
_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class LabelledClip:
    """A clip of the shards, its class and its side of the split."""

    key: str
    label: str
    split: str
    shards: Artifact
    shard: str
    offset: int
    size: int
    fps: float
    frames: int


@settings
class ViewConfig:
    """How a clip is shown to the encoder."""

    frames: Count = 16
    """Frames of a segment."""
    fps: Positive = 4.0
    """Frames a second."""
    size: Count = 256
    """Side of the square the encoder sees, pixels."""
    segments: Count = 2
    """Windows along the clip; their tokens are probed together."""
    train_views: Count = 1
    """Random windows and crops of each training clip that are kept."""
    views: Count = 3
    """Crops of each validation clip along its longer side; their predictions are averaged."""
    crop_scale: ShareRange = (0.08, 1.0)
    """Share of the picture's area that a training crop takes, from and to."""
    crop_aspect: PositiveRange = (0.75, 1.3333)
    """Width over height of a training crop, from and to. Clips are never mirrored."""
    seed: Natural = 0
    """Of windows, crops and the random encoder."""

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
            row["key"], row["label"], row["split"],
            artifact, f"shards/{row['shard']}",
            row["offset"], row["size"], row["fps"], row["frames"],
        )
        for artifact in parts.values()
        for row in artifact.table("index.parquet", INDEX)
        if row["source"] == source and row["kind"] == "video" and row["label"]
        and row["split"] in _SPLITS
    ]  # fmt: skip
    classes = {split: {c.label for c in clips if c.split == split} for split in _SPLITS}
    if len(classes["train"]) < 2 or not classes["validation"]:
        found = ", ".join(f"{len(c)} classes in {s}" for s, c in classes.items())
        raise InputError(
            f"source {source} cannot be probed ({found}): it needs labelled videos of two or more "
            "classes, split into train and validation"
        )
    if unknown := sorted(classes["validation"] - classes["train"]):
        raise InputError(
            f"source {source}: class {unknown[0]} is in validation and never in train; "
            "no probe can learn it"
        )
    return sorted(clips, key=lambda clip: clip.key)


def decoded(clip: LabelledClip) -> Pictures:
    """All stored frames [frames, H, W, 3] of a clip."""
    data = clip.shards.span(clip.shard, clip.offset, clip.size)
    return frames_at(data, (np.arange(clip.frames) / clip.fps).tolist())


def views_of(clip: LabelledClip, stored: Pictures, config: ViewConfig, still: bool) -> Tensor:
    """The views [V, S, 3, T, H, W] of a clip: random in train, evenly spaced in validation.

    Args:
        clip: whose views.
        stored: its frames, as `decoded` gives them.
        config: windows and crops.
        still: whether every frame shall be the middle one of its window.
    """
    train = clip.split == "train"
    whole = replace(config.clip, scale=(1.0, 1.0), aspect=(1.0, 1.0))
    views = []
    for view in range(config.train_views if train else config.views):
        word = int(digest_json([config.seed, clip.key, view])[:16], 16)
        drawn = np.random.Generator(np.random.PCG64(word)).random(CROP + 4 * CROP_TRIES)
        segments = []
        for segment in range(config.segments):
            within = float(drawn[START]) if train else 0.5
            start = (segment + within) / config.segments
            numbers = frame_numbers(clip.frames, clip.fps, config.clip, start)
            if still:
                numbers = np.full_like(numbers, numbers[len(numbers) // 2])
            pictures = stored[numbers]
            # One draw for all segments: they are cut alike.
            if train:
                segments.append(augment(pictures, drawn, config.clip))
            else:
                segments.append(augment(_square(pictures, view, config.views), drawn, whole))
        views.append(torch.stack(segments))
    return torch.stack(views)


def _square(pictures: Pictures, view: int, views: int) -> Pictures:
    """The largest square [T, s, s, 3], at one of `views` even places along the longer side."""
    high, wide = pictures.shape[1:3]
    side, place = min(high, wide), 0.5 if views == 1 else view / (views - 1)
    top, left = round((high - side) * place), round((wide - side) * place)
    return pictures[:, top : top + side, left : left + side]


@dataclass(frozen=True)
class Group:
    """One unit of work: some clips of one split, seen by every variant."""

    variants: tuple[str, ...]
    encoder: Artifact
    clips: tuple[LabelledClip, ...]
    config: ViewConfig
    device: str
    work: Work
    name: str

    def target(self, variant: str) -> str:
        """Under which name a variant's features are kept."""
        return f"scratch/features/{variant}/{self.name}.npy"


@functools.cache
def open_variant(variant: str, trained: Artifact, seed: int, device: str) -> Encoder:
    """A variant's frozen encoder, once in each process."""
    if variant != "random":
        return open_encoder(trained, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(EncoderConfig(**read_model(trained)[0]["encoder"]))
    return encoder.eval().requires_grad_(False).to(torch.device(device))


def encode_group(group: Group) -> int:
    """Write, for every variant, the features [views, S * N, D] float16 of a group's clips."""
    done: dict[str, list[NDArray[np.float16]]] = {variant: [] for variant in group.variants}
    for clip in group.clips:
        stored = decoded(clip)
        for variant in group.variants:
            encoder = open_variant(variant, group.encoder, group.config.seed, group.device)
            views = views_of(clip, stored, group.config, still=variant == "still").to(group.device)
            with torch.inference_mode():
                tokens = encoder(views.flatten(0, 1)).unflatten(0, views.shape[:2]).flatten(1, 2)
            done[variant].append(tokens.float().cpu().numpy().astype(np.float16))
    with group.work.room() as room:
        for variant, features in done.items():
            np.save(room / f"{variant}.npy", np.concatenate(features), allow_pickle=False)
            group.work.keep(room / f"{variant}.npy", group.target(variant))
    return len(group.clips)


def encode_clips(
    encoder: Artifact, clips: Sequence[LabelledClip], config: ViewConfig, variants: tuple[str, ...],
    out: Workspace,
) -> dict[str, dict[str, tuple[KeptFile, ...]]]:  # fmt: skip
    """Encode all clips for all variants; variant -> split -> files, in the order of the clips."""
    groups: dict[str, list[Group]] = {split: [] for split in _SPLITS}
    for split, some in groups.items():
        chosen = [clip for clip in clips if clip.split == split]
        for start in range(0, len(chosen), _CLIPS):
            name = f"{split}-{start // _CLIPS:06d}"
            part = tuple(chosen[start : start + _CLIPS])
            device, work = out.execution.device, out.work
            some.append(Group(variants, encoder, part, config, device, work, name))
    tasks = {group.name: group for some in groups.values() for group in some}
    out.map(encode_group, tasks, noun="groups of clips")
    return {
        variant: {
            split: tuple(out.kept[group.target(variant)] for group in some)
            for split, some in groups.items()
        }
        for variant in variants
    }


class Features:
    """Features [views, S * N, D] of one split of one variant, mapped from their files."""

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
