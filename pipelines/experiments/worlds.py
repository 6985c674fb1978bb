"""Readouts of one encoder in every labelled world: what studies compare.

The clips are those of the probe, taken by the same rule; each is shown once, by its middle window.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from models.checkpoints import load_into, load_weights
from models.encoder import Encoder, EncoderConfig
from pipelines.evaluation.features import pooled_features
from pipelines.evaluation.readouts import accuracies
from pipelines.evaluation.splits import Split, labelled_clips
from pipelines.evaluation.views import ViewConfig, shown
from pipelines.settings import DIFFERENT, NOT_EMPTY, RISING, Count, settings
from pipelines.stage import Inputs
from pipelines.training.clips import ClipConfig
from storage.artifacts import Artifact


@settings
class ReadoutConfig:
    """On what encoders are read out."""

    sources: Annotated[tuple[str, ...], NOT_EMPTY, DIFFERENT] = ("ssv2", "kinetics")
    """Labelled sources, a world each."""
    labels: Annotated[tuple[Count, ...], NOT_EMPTY, RISING] = (240, 1000)
    """Budgets of labelled clips, rising, each inside the next."""
    test: Count = 1000
    """Clips to ask about."""


def load_encoder(path: Path, architecture: EncoderConfig) -> Encoder:
    """A frozen encoder with the weights of a file."""
    encoder = Encoder(architecture)
    load_into(encoder, load_weights(path), str(path))
    return encoder.eval().requires_grad_(False)


def split_of(inputs: Mapping[str, Artifact], config: ReadoutConfig, source: str) -> Split:
    """The clips that a source is read out on; the same for every encoder.

    Raises:
        InputError: the source cannot be read out so.
    """
    return _split(tuple(inputs.items()), config, source)


def read_out_worlds(
    encoder: Encoder, clip: ClipConfig, inputs: Mapping[str, Artifact], config: ReadoutConfig
) -> list[dict[str, Any]]:
    """Accuracies of the linear and the nearest-neighbour readout in every world.

    Args:
        encoder: frozen; it sees clips of `clip`'s frames, rate and size.
        clip: of its training.
        inputs: `clip_shards`, by partition.
        config: sources, labels and test clips.

    Returns:
        Rows of source, readout, labels, successes, trials.
    """
    views = ViewConfig(
        frames=clip.frames, fps=clip.fps, size=clip.crop, segments=1, views=1, train_views=1,
        crop_scale=(1.0, 1.0), crop_aspect=(1.0, 1.0),
    )  # fmt: skip
    rows = []
    for source in config.sources:
        split = split_of(inputs, config, source)
        clips = _shown(tuple(inputs.items()), config, source, views)
        features = pooled_features(encoder, clips, views.frames // encoder.config.tubelet)
        labels = np.array([*split.train_labels, *split.test_labels])
        asked = range(len(split.train), len(features))
        budgets = {count: range(count) for count in config.labels}
        rows += [
            {
                "source": source,
                "readout": readout,
                "labels": count,
                "successes": rate.successes,
                "trials": rate.trials,
            }
            for readout, by_count in accuracies(features, labels, budgets, asked).items()
            for count, rate in by_count.items()
        ]
    return rows


# Decoding takes as long as training a small arm for a while: a process does it once.
@functools.lru_cache(maxsize=4)
def _split(inputs: tuple[tuple[str, Artifact], ...], config: ReadoutConfig, source: str) -> Split:
    clips = labelled_clips(Inputs(dict(inputs)).parts("clip_shards"), source)
    return Split.of(source, clips, labels=config.labels, test=config.test, seed=0)


@functools.lru_cache(maxsize=4)
def _shown(
    inputs: tuple[tuple[str, Artifact], ...], config: ReadoutConfig, source: str, views: ViewConfig
) -> Tensor:
    split = _split(inputs, config, source)
    return torch.cat([shown(side, views) for side in (split.train, split.test)])
