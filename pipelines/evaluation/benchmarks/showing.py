"""How the films of a benchmark are shown to an encoder, as tokens.

Shapes: C films, V views, S segments, f frames of a clip, R the side of the square the encoder sees,
N tokens of a clip (of all layers that are probed), D encoder width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoder import Encoder
from pipelines.curation.ingest import read_media
from pipelines.evaluation.benchmarks.pixels import training_view, validation_views
from pipelines.evaluation.benchmarks.protocol import ProtocolConfig
from pipelines.evaluation.benchmarks.sampling import INDICES, Mode, is_short
from pipelines.evaluation.features import Network, encoded
from storage.artifacts import Artifact
from storage.digests import digest_json
from storage.errors import curable
from storage.frames import numbered_frames
from storage.video import decode_image

Row = Mapping[str, Any]
"""A row of items.parquet."""


@dataclass(frozen=True)
class Show:
    """The films of one benchmark under one protocol."""

    videos: Artifact
    """A `benchmark_videos`."""
    protocol: ProtocolConfig
    mode: Mode
    seed: int

    def views(self, row: Row, numbers: Sequence[int] = (0,)) -> Tensor:
        """[V, S, 3, f, R, R]: random views of these numbers in train, else the even crops.

        Raises:
            InputError: one line with item and table, where the film is too short or cannot be read.
        """
        where = f"items.parquet of {self.videos.manifest.name}, item {row['key']}"
        with curable(where):
            if row["split"] == "train":
                return torch.stack([self._random(row, number) for number in numbers])
            clips = self._clips(row, self._generator(row, -1), centred=self.mode == "fixed")
            size, views = self.protocol.size, self.protocol.views
            cut = [validation_views(clip, size, views) for clip in clips]
            return torch.stack(cut, dim=1).expand(-1, -1, -1, self.protocol.frames, -1, -1)

    def is_short(self, row: Row) -> bool:
        """Whether the film has fewer frames than a clip spans, so that its last one is held."""
        film = row["kind"] == "video"
        return film and is_short(row["frames"], self.protocol.frames, self.protocol.step)

    def _random(self, row: Row, number: int) -> Tensor:
        random, protocol = self._generator(row, number), self.protocol
        cut = [
            training_view(clip, protocol.size, random, protocol.flip)
            for clip in self._clips(row, random)
        ]
        return torch.stack(cut).expand(-1, -1, protocol.frames, -1, -1)

    def _generator(self, row: Row, number: int) -> np.random.Generator:
        word = int(digest_json([self.seed, self.mode, row["key"], number])[:16], 16)
        return np.random.Generator(np.random.PCG64(word))

    def _clips(
        self, row: Row, random: np.random.Generator, centred: bool = False
    ) -> NDArray[np.uint8]:
        """Pictures [S, f, H, W, 3]; of a picture [1, 1, H, W, 3]."""
        protocol, data = self.protocol, read_media(self.videos, row)
        if row["kind"] == "image":
            return np.ascontiguousarray(decode_image(data))[None, None]
        draws = [0.5 if centred else random.random() for _ in range(protocol.segments)]
        rule = INDICES[self.mode]
        indices = rule(row["frames"], protocol.frames, protocol.step, protocol.segments, draws)
        numbers, places = np.unique(indices, return_inverse=True)
        pictures = numbered_frames(data, numbers.tolist())[places.reshape(indices.shape)]
        return pictures


def network_of(encoder: Encoder, layers: Sequence[int]) -> Network:
    """Video -> tokens of some layers side by side, each through the final norm, the last at the
    end; without layers those of the last block.

    Raises:
        InputError: the encoder has no such block.
    """
    if not layers:
        return encoder

    def network(video: Tensor) -> Tensor:
        with curable("benchmark_features.protocols.layers"):
            return torch.cat(encoder.features(video, layers), dim=1)

    return network


def tokens_of(network: Network, views: Tensor) -> Tensor:
    """Tokens [C, V, S, N, D] of views [C, V, S, 3, f, R, R]."""
    return encoded(network, views)
