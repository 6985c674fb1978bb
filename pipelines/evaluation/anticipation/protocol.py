"""The settings of action anticipation; the defaults are the paper's (section 6, table 19)."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from pipelines.evaluation.anticipation.sampling import Mode
from pipelines.evaluation.features import PRETRAINED, STILL, random_variant
from pipelines.evaluation.probing import HeadConfig
from pipelines.settings import (
    ASCENDING,
    NOT_EMPTY,
    Count,
    Natural,
    NotNegative,
    Part,
    Positive,
    Share,
    settings,
)

MODES: tuple[Mode, ...] = ("official", "fixed")


@settings
class AnticipationConfig:
    """What is seen before an action, and what is learned from it."""

    frames: Count = 32
    """Frames of a clip."""
    rate: Count = 8
    """Frames a second."""
    size: Count = 256
    """Side of the square that the encoder sees, pixels."""
    ahead: Positive = 1.0
    """Seconds between a clip's end and its anchor, in validation."""
    train_ahead: Annotated[tuple[Positive, Positive], ASCENDING] = (0.25, 1.75)
    """The same in training, from and to."""
    train_point: Annotated[tuple[Share, Share], ASCENDING] = (0.0, 0.25)
    """Where the anchor of a training clip lies: 0 at the start of the action (in `official` mode,
    as in the released code, at its stop)."""
    flip: Share = 0.5
    """Probability that a training clip is mirrored."""
    train_views: Count = 20
    """Random clips of each training action that are encoded; every epoch takes one of them."""
    mask_token: Natural = 1
    """Which of the predictor's mask tokens stands for what comes: the released evaluation takes
    number 1, modulo their number."""
    still: bool = True
    """Whether clips that stand still are probed, too."""
    head: HeadConfig = field(default_factory=lambda: HeadConfig(batch=128))
    """The probe, with a query each for verb, noun and action, and how it learns."""
    lrs: Annotated[tuple[Positive, ...], NOT_EMPTY] = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
    """Learning rates of the heads."""
    weight_decays: Annotated[tuple[NotNegative, ...], NOT_EMPTY] = (1e-4, 1e-3, 1e-2, 1e-1)
    """Weight decays of the heads: one head for each pair."""
    held_out: Part = 0.1
    """Share of the training films whose actions choose head and epoch."""
    seed: Natural = 0
    """Of clips, of augmentation, of the random encoder and of intervals."""

    @property
    def variants(self) -> tuple[str, ...]:
        """Whose features are read."""
        return (PRETRAINED, random_variant(0), *([STILL] if self.still else []))

    @property
    def grid(self) -> tuple[tuple[float, float], ...]:
        """(learning rate, weight decay) of every head."""
        return tuple((lr, decay) for lr in self.lrs for decay in self.weight_decays)
