"""Frozen features of a benchmark's films, encoded once for (weights, films, protocol).

What is kept does not depend on any head, so another learning rate encodes nothing again. Films that
are asked about are shown in the same way every time; of training films a number of random views is
kept. Variants as in `evaluation.features`: the weights, encoders that were never trained, films
that stand still.

Inputs: `released_weights`, `benchmark_videos` of the benchmark. Payload, for every mode:
    films.parquet                                   the films of both sides, in the order of rows
    <mode>/pooled/<variant>/<side>-<group>.npy      [C, S * t, D], spatial means, of the last layer
    <mode>/tokens/<variant>/<side>-<group>.npy      [C * V, S * N, D] float16, where they are kept
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.curation.labels import HELD_OUT
from pipelines.evaluation.benchmarks.protocol import FeaturesConfig, features_of
from pipelines.evaluation.benchmarks.sampling import Mode
from pipelines.evaluation.benchmarks.showing import Row, Show, network_of, tokens_of
from pipelines.evaluation.features import STILL, open_variant, pooled
from pipelines.evaluation.views import stilled
from pipelines.planner.weights import read_model
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.errors import InputError
from storage.tables import write_table
from storage.work import Work

SIDES = ("train", HELD_OUT)
FILMS = {"key": "string", "label": "string", "number": "int32", "split": "string"}
_CLIPS = 16  # films in one file


@dataclass(frozen=True)
class Group:
    """One unit of work: some films of one side, seen by every variant in one mode."""

    show: Show
    weights: Artifact
    rows: tuple[Row, ...]
    config: FeaturesConfig
    device: str
    work: Work
    name: str

    def target(self, kind: str, variant: str) -> str:
        """Under which name `pooled` features or `tokens` of a variant are kept."""
        return f"payload/{self.show.mode}/{kind}/{variant}/{self.name}.npy"


def encode_group(group: Group) -> int:
    """Keep the features of a group; returns how many of its films are shorter than a clip."""
    config, layers = group.config, group.show.protocol.layers
    views = torch.stack([group.show.views(row, range(config.train_views)) for row in group.rows])
    views = views.to(group.device)
    kept: dict[tuple[str, str], NDArray[Any]] = {}
    for variant in config.variants:
        encoder = open_variant(variant, group.weights, config.seed, group.device)
        shown = stilled(views) if variant == STILL else views
        tokens = tokens_of(network_of(encoder, layers), shown)
        last = tokens[..., -(tokens.shape[3] // max(1, len(layers))) :, :]
        steps = group.show.protocol.frames // encoder.config.tubelet
        kept["pooled", variant] = pooled(last, steps)
        if config.keep_tokens and variant in config.attended:
            flat = tokens.flatten(2, 3).flatten(0, 1).cpu().numpy()
            kept["tokens", variant] = flat.astype(np.float16)
    with group.work.room() as room:
        for (kind, variant), array in kept.items():
            np.save(room / "array.npy", array, allow_pickle=False)
            group.work.keep(room / "array.npy", group.target(kind, variant))
    return sum(group.show.is_short(row) for row in group.rows)


def films_of(videos: Artifact) -> dict[str, list[Row]]:
    """Side -> rows of items.parquet, by their keys.

    Raises:
        InputError: a side is empty.
    """
    rows = sorted(videos.table("items.parquet"), key=lambda row: str(row["key"]))
    sides: dict[str, list[Row]] = {
        side: [row for row in rows if row["split"] == side] for side in SIDES
    }
    if empty := [side for side, some in sides.items() if not some]:
        raise InputError(f"{videos.manifest.name} lists no film of {empty[0]}; it needs both sides")
    return sides


def run(config: FeaturesConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Encode all films for all variants, in every mode."""
    [(name, protocol)] = config.protocols.items()
    weights, videos = inputs["released_weights"], inputs["benchmark_videos"]
    sides = films_of(videos)
    groups = {
        f"{mode} {side}-{start // _CLIPS:06d}": Group(
            Show(videos, protocol, mode, config.seed), weights,
            tuple(some[start : start + _CLIPS]), config, out.execution.device, out.work,
            f"{side}-{start // _CLIPS:06d}",
        )
        for mode in config.modes
        for side, some in sides.items()
        for start in range(0, len(some), _CLIPS)
    }  # fmt: skip
    _check(weights, config)
    short = out.map(encode_group, groups, noun=f"groups of films of {name}")
    rows = [{column: row[column] for column in FILMS} for some in sides.values() for row in some]
    write_table(out.payload / "films.parquet", rows, FILMS)
    shorter = {
        mode: sum(n for g, n in short.items() if g.startswith(mode)) for mode in config.modes
    }
    counted = {side: len(some) for side, some in sides.items()}
    return {"films": counted, "shorter_than_a_clip": shorter[config.modes[0]]}


def _check(weights: Artifact, config: FeaturesConfig) -> None:
    """Refuse before anything is decoded what the weights cannot be shown."""
    [(name, protocol)] = config.protocols.items()
    encoder = read_model(weights)[0]["encoder"]
    where = f"benchmark_features.protocols.{name}"
    for field, value, unit in (
        ("frames", protocol.frames, encoder["tubelet"]), ("size", protocol.size, encoder["patch"]),
    ):  # fmt: skip
        if value % unit:
            raise InputError(f"{where}.{field} is {value}; these weights need a multiple of {unit}")
    if beyond := [layer for layer in protocol.layers if layer >= encoder["depth"]]:
        raise InputError(
            f"{where}.layers names block {beyond[0]}; these weights have 0 to "
            f"{encoder['depth'] - 1}"
        )


class Kept:
    """Pooled features and tokens of one mode, out of the artifact."""

    def __init__(self, features: Artifact, mode: Mode) -> None:
        self.features, self.mode = features, mode

    def pooled(self, variant: str, side: str) -> NDArray[np.float32]:
        """[C, S * t, D] of all films of a side."""
        found: NDArray[np.float32] = np.concatenate([
            np.load(self.features.file(path)) for path in self._paths("pooled", variant, side)
        ])  # fmt: skip
        return found

    @functools.cache  # noqa: B019 (an object lives as long as its task)
    def _tokens(self, variant: str, side: str) -> list[NDArray[np.float16]]:
        paths = self._paths("tokens", variant, side)
        return [np.load(self.features.file(path), mmap_mode="r") for path in paths]

    def tokens(self, variant: str, side: str, rows: Sequence[int]) -> Tensor:
        """[len(rows), S * N, D] float32 of some views; a film's views follow each other."""
        parts = self._tokens(variant, side)
        ends = np.cumsum([len(part) for part in parts])
        taken = []
        for row in rows:
            part = int(np.searchsorted(ends, row, side="right"))
            taken.append(parts[part][row - (int(ends[part]) - len(parts[part]))])
        return torch.from_numpy(np.stack(taken)).float()

    def _paths(self, kind: str, variant: str, side: str) -> Iterator[str]:
        folder = f"{self.mode}/{kind}/{variant}/"
        yield from (p for p in sorted(self.features.files(folder)) if f"/{side}-" in p)


STAGE = Stage(
    "benchmark_features", version=1, config=FeaturesConfig, run=run, narrow=features_of,
    on_device=True,
)  # fmt: skip
