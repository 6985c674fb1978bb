"""Frozen features of labelled clips, computed once and kept in the run's scratch.

The variants read the same views: the target encoder of the training, encoders of the same
architecture and initialisation that were never trained, and the target encoder on clips whose
frames are all the middle one, which shows what a class gives away without motion. For all of them
the pooled features are kept, the spatial mean of every time step, averaged over a clip's views; for
those that an attentive probe reads, all tokens too.

Shapes: C clips, V views, S segments, N tokens of a segment, D encoder width, T time steps of all
segments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoder import CHANNELS, Encoder, EncoderConfig
from models.seeds import seeded_encoder
from models.tokens import Grid, token_grid
from pipelines.evaluation.splits import SIDES, LabelledClip, Split
from pipelines.evaluation.views import ViewConfig, shown, stilled
from pipelines.planner.weights import open_encoder, read_model
from pipelines.stage import Workspace
from storage.artifacts import Artifact
from storage.digests import digest_json
from storage.errors import curable
from storage.work import KeptFile, Work

PRETRAINED, RANDOM, STILL = "pretrained", "random", "still"
_CLIPS = 32  # clips in one file
_PIXELS = 1 << 17  # pixels of all frames in one pass of an encoder, about

Network = Callable[[Tensor], Tensor]
"""Video [B, 3, T, H, W] -> tokens [B, N, D], time-major."""
Files = dict[str, tuple[KeptFile, ...]]
"""Side of the split -> files, in the order of its clips."""


def random_variant(number: int) -> str:
    """The name of one of the encoders that were never trained."""
    return f"{RANDOM}-{number}"


def view_grid(trained: Artifact, views: ViewConfig) -> Grid:
    """Tokens of a view along time (all segments), height and width.

    Raises:
        InputError: frames or pixels of a view do not divide into those of a token.
    """
    encoder = EncoderConfig(**read_model(trained)[0]["encoder"])
    video = torch.Size((1, CHANNELS, views.frames, views.size, views.size))
    with curable("probe_report.views"):
        time, height, width = token_grid(
            video, channels=CHANNELS, tubelet=encoder.tubelet, patch=encoder.patch
        )
    return views.segments * time, height, width


def random_encoder(trained: Artifact, seed: int) -> Encoder:
    """An encoder as the trained one was before its first step, from another seed."""
    architecture = read_model(trained)[0]
    return seeded_encoder(
        EncoderConfig(**architecture["encoder"]), seed, architecture["initialisation"]
    )


@functools.cache
def open_variant(variant: str, trained: Artifact, seed: int, device: str) -> Encoder:
    """A variant's frozen encoder, once in each process."""
    if not variant.startswith(RANDOM):
        return open_encoder(trained, device)
    encoder = random_encoder(trained, int(digest_json([variant, seed])[:12], 16))
    return encoder.eval().requires_grad_(False).to(torch.device(device))


def encoded(network: Network, views: Tensor) -> Tensor:
    """Tokens [C, V, S, N, D] of views [C, V, S, 3, T, H, W], some at a time."""
    some = max(1, _PIXELS // views.shape[-3:].numel())
    with torch.inference_mode():
        tokens = [network(part).float() for part in torch.split(views.flatten(0, 2), some)]
    return torch.cat(tokens).unflatten(0, views.shape[:3])


def pooled(tokens: Tensor, steps: int) -> NDArray[np.float32]:
    """[C, T, D]: the spatial mean of every time step, averaged over views.

    Args:
        tokens: [C, V, S, N, D].
        steps: time steps of a segment.
    """
    means: NDArray[np.float32] = (
        tokens.unflatten(3, (steps, -1)).mean(4).flatten(2, 3).mean(1).cpu().numpy()
    )
    return means


def pooled_features(network: Network, views: Tensor, steps: int) -> NDArray[np.float32]:
    """Features [C, T, D] of views [C, V, S, 3, T, H, W] by a network in memory.

    For studies that compare many networks on clips shown once (`views.shown`); `steps` as above.
    """
    return pooled(encoded(network, views), steps)


@dataclass(frozen=True)
class Group:
    """One unit of work: some clips of one side, seen by every variant."""

    variants: tuple[str, ...]
    attended: tuple[str, ...]
    """Of these variants all tokens are kept too."""
    encoder: Artifact
    clips: tuple[LabelledClip, ...]
    config: ViewConfig
    steps: int
    """Time steps of a segment."""
    device: str
    work: Work
    name: str

    def target(self, kind: str, variant: str) -> str:
        """Under which name a variant's `pooled` features or `tokens` are kept."""
        return f"scratch/{kind}/{variant}/{self.name}.npy"

    @property
    def arrays(self) -> Iterator[tuple[str, str]]:
        """(kind, variant) of everything that is kept."""
        yield from (("pooled", variant) for variant in self.variants)
        yield from (("tokens", variant) for variant in self.attended)


def encode_group(group: Group) -> int:
    """Keep pooled features [C, T, D] float32 and tokens [C * V, S * N, D] float16 of a group."""
    views = shown(group.clips, group.config).to(group.device)
    kept: dict[tuple[str, str], NDArray[np.float16] | NDArray[np.float32]] = {}
    for variant in group.variants:
        network = open_variant(variant, group.encoder, group.config.seed, group.device)
        tokens = encoded(network, stilled(views) if variant == STILL else views)
        kept["pooled", variant] = pooled(tokens, group.steps)
        if variant in group.attended:
            flat = tokens.flatten(2, 3).flatten(0, 1).cpu().numpy()
            kept["tokens", variant] = flat.astype(np.float16)
    with group.work.room() as room:
        for (kind, variant), array in kept.items():
            np.save(room / "array.npy", array, allow_pickle=False)
            group.work.keep(room / "array.npy", group.target(kind, variant))
    return len(group.clips)


@dataclass(frozen=True)
class Encoded:
    """Files of the features of every variant."""

    pooled: dict[str, Files]
    tokens: dict[str, Files]


def encode_clips(
    encoder: Artifact, split: Split, config: ViewConfig, variants: tuple[str, ...],
    attended: tuple[str, ...], out: Workspace,
) -> Encoded:  # fmt: skip
    """Encode the clips of both sides for all variants."""
    steps = view_grid(encoder, config)[0] // config.segments
    groups: dict[str, list[Group]] = {}
    for side, clips in zip(SIDES, (split.train, split.test), strict=True):
        groups[side] = [
            Group(
                variants, attended, encoder, clips[start : start + _CLIPS], config, steps,
                out.execution.device, out.work, f"{side}-{start // _CLIPS:06d}",
            )
            for start in range(0, len(clips), _CLIPS)
        ]  # fmt: skip
    tasks = {group.name: group for some in groups.values() for group in some}
    out.map(encode_group, tasks, noun="groups of clips")
    files: dict[str, dict[str, Files]] = {"pooled": {}, "tokens": {}}
    for kind, variant in next(iter(tasks.values())).arrays:
        files[kind][variant] = {
            side: tuple(out.kept[group.target(kind, variant)] for group in some)
            for side, some in groups.items()
        }
    return Encoded(**files)


class Features:
    """Tokens [C * V, S * N, D] of one side of one variant, mapped from their files."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._parts = [np.load(path, mmap_mode="r") for path in parts]
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        """Tokens [len(rows), S * N, D] float32 of some views."""
        taken = []
        for row in rows:
            part = int(np.searchsorted(self._ends, row, side="right"))
            first = int(self._ends[part]) - len(self._parts[part])
            taken.append(self._parts[part][row - first])
        return torch.from_numpy(np.stack(taken)).float()
