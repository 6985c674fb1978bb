"""Tokens of what was seen before an action and of what the predictor expects then.

The encoder sees the clip; the predictor, with all of its tokens as context, is asked for those of
one time step, as far ahead as the action. Both lie side by side (V-JEPA 2, section 6).

Shapes: B clips, f frames, N tokens of a clip, P = h * w of one time step, D encoder width.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.encoder import Encoder, EncoderConfig
from models.predictor import Predictor, PredictorConfig
from models.seeds import seeded_networks
from pipelines.curation.ingest import read_media
from pipelines.evaluation.anticipation.protocol import AnticipationConfig
from pipelines.evaluation.anticipation.sampling import Mode, frames_of, steps_ahead
from pipelines.evaluation.anticipation.tables import Segment
from pipelines.evaluation.benchmarks.pixels import training_view, validation_views
from pipelines.evaluation.features import RANDOM, STILL
from pipelines.evaluation.views import stilled
from pipelines.planner.weights import open_encoder, open_predictor, read_model
from storage.artifacts import Artifact
from storage.digests import digest_json
from storage.errors import InputError
from storage.frames import numbered_frames
from storage.work import Work

Row = Mapping[str, Any]
_FIELDS = tuple(Segment.__dataclass_fields__)


@dataclass(frozen=True)
class Group:
    """One unit of work: some actions of one side in one mode, for every variant."""

    films: Artifact
    weights: Artifact
    rows: tuple[Row, ...]
    config: AnticipationConfig
    mode: Mode
    device: str
    work: Work
    name: str

    def target(self, variant: str) -> str:
        """Under which name the tokens of a variant are kept."""
        return f"scratch/{self.mode}/{variant}/{self.name}.npy"


def encode_group(group: Group) -> dict[str, Any]:
    """Keep tokens [C * V, N + P, D] float16 of the actions whose clips there are.

    Returns:
        shown: names of these actions; beyond: name -> why there is none of the others.
    """
    shown, beyond, clips, ahead = [], {}, [], []
    for row in group.rows:
        try:
            found = [
                clip_of(group.films, row, group.config, group.mode, view)
                for view in _views(row, group.config)
            ]
        except ValueError as error:  # a film that ends before, or cannot be decoded
            beyond[str(row["name"])] = str(error)
            continue
        shown.append(str(row["name"]))
        clips += [clip for clip, _ in found]
        ahead += [span for _, span in found]
    if clips:
        _keep(group, torch.stack(clips), ahead)
    return {"shown": shown, "beyond": beyond}


def _keep(group: Group, clips: Tensor, ahead: Sequence[float]) -> None:
    clips, rate = clips.to(group.device), group.config.rate
    for variant in group.config.variants:
        networks = opened(variant, group.weights, group.config.seed, group.device)
        seen = stilled(clips) if variant == STILL else clips
        steps = [steps_ahead(span, rate, networks[0].config.tubelet) for span in ahead]
        tokens = anticipated(*networks, seen, steps, group.config.mask_token)
        with group.work.room() as room:
            np.save(room / "array.npy", tokens.cpu().numpy().astype(np.float16))
            group.work.keep(room / "array.npy", group.target(variant))


def _views(row: Row, config: AnticipationConfig) -> range:
    return range(config.train_views if row["split"] == "train" else 1)


def clip_of(
    films: Artifact, row: Row, config: AnticipationConfig, mode: Mode, view: int
) -> tuple[Tensor, float]:
    """The clip [3, f, R, R] before an action, and how many seconds ahead that is.

    Raises:
        ValueError: the clip lies beyond the film, or the film cannot be decoded.
    """
    word = int(digest_json([config.seed, mode, row["name"], view])[:16], 16)
    random = np.random.Generator(np.random.PCG64(word))
    ahead, point, train = config.ahead, 0.0, row["split"] == "train"
    if train:
        ahead, point = (random.uniform(*span) for span in (config.train_ahead, config.train_point))
    segment = Segment(**{name: row[name] for name in _FIELDS})
    numbers = frames_of(
        segment, row["fps"], row["frames"], mode, ahead, point, config.frames, config.rate
    )
    unique, places = np.unique(numbers, return_inverse=True)
    pictures = numbered_frames(read_media(films, row), unique.tolist())[places]
    if train:
        clip = training_view(pictures, config.size, random, config.flip)
    else:
        [clip] = validation_views(pictures, config.size, 1)
    return clip, ahead


def anticipated(
    encoder: Encoder, predictor: Predictor, clips: Tensor, steps: Sequence[int], mask_token: int = 1
) -> Tensor:
    """[B, N + P, D]: tokens of clips [B, 3, f, R, R], then those predicted so many steps ahead."""
    time, height, width = encoder.grid(clips)
    area = height * width
    grid = (time + max(steps) + 1, height, width)
    with torch.inference_mode():
        context = encoder(clips)
        here = torch.arange(context.shape[1], device=clips.device).expand(len(clips), -1)
        first = torch.tensor(steps, device=clips.device)[:, None] * area + context.shape[1]
        there = first + torch.arange(area, device=clips.device)
        predicted = predictor(context, here, there, grid, mask_token)
        assert isinstance(predicted, Tensor)
        return torch.cat([context, predicted], dim=1).float()


@functools.cache
def opened(variant: str, weights: Artifact, seed: int, device: str) -> tuple[Encoder, Predictor]:
    """Encoder and predictor of a variant, frozen, once in each process.

    Raises:
        InputError: the weights have no predictor.
    """
    if not variant.startswith(RANDOM):
        return open_encoder(weights, device), open_predictor(weights, device)
    described = read_model(weights)[0]
    if described["predictor"] is None:
        raise InputError(f"{weights.manifest.name}: its weights have no predictor")
    word = int(digest_json([variant, seed])[:12], 16)
    encoder, predictor = seeded_networks(
        EncoderConfig(**described["encoder"]), PredictorConfig(**described["predictor"]), word,
        described["initialisation"],
    )  # fmt: skip
    assert predictor is not None
    for network in (encoder, predictor):
        network.eval().requires_grad_(False).to(torch.device(device))
    return encoder, predictor
