"""The settings of a probe: of whom, on which clips, by which readouts."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Annotated, Literal

from pipelines.evaluation.features import PRETRAINED, STILL, random_variant
from pipelines.evaluation.probing import HeadConfig
from pipelines.evaluation.views import ViewConfig
from pipelines.settings import (
    DIFFERENT,
    NOT_EMPTY,
    RISING,
    Count,
    Natural,
    NotNegative,
    Part,
    Positive,
    settings,
)

SELECTIONS = {
    "held_out": "a held-out part of the labelled clips",
    "validation": "the test clips themselves, as in the paper: optimistic",
}
OTHERS_CHOSEN = "leaving out each labelled clip in turn"


@settings
class ProbeConfig:
    """The probe of frozen features; the defaults are the paper's SSv2 protocol for ViT-L."""

    sources: Annotated[tuple[str, ...], NOT_EMPTY, DIFFERENT] = ("ssv2", "kinetics")
    """The labelled sources that are probed, a partition each."""
    must_beat_random: tuple[str, ...] = ()
    """Sources on which nothing goes on unless the pretrained encoder beats a random one."""
    labels: Annotated[tuple[Count, ...], NOT_EMPTY, RISING] | None = None
    """Budgets of labelled training clips, rising, each inside the next; None: all there are."""
    test: Count | None = None
    """Validation clips to ask about, at most; None: all there are."""
    seed: Natural = 0
    """Of the order in which clips are taken, and of the intervals of differences."""
    random_encoders: Count = 3
    """Encoders that were never trained, to compare with; the attentive probe reads the first."""
    still: bool = True
    """Whether to probe clips without motion too."""
    views: ViewConfig = field(default_factory=ViewConfig)
    """How clips are shown to the encoder."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The attentive probe and how it learns."""
    lrs: Annotated[tuple[Positive, ...], NOT_EMPTY] = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
    """Learning rates of the attentive probe to choose from."""
    weight_decays: Annotated[tuple[NotNegative, ...], NOT_EMPTY] = (0.01, 0.1, 0.4, 0.8)
    """Weight decays of the attentive probe to choose from."""
    selection: Literal["held_out", "validation"] = "held_out"
    """Where they are chosen: "held_out" (part of the labels), or "validation" (the paper's way)."""
    held_out: Part = 0.2
    """Share of the labelled clips, class by class, that is held out to choose on."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.must_beat_random) - set(self.sources)):
            raise ValueError(f"must_beat_random names {unknown[0]!r}, which sources does not")

    @property
    def grid(self) -> tuple[tuple[float, float], ...]:
        """(learning rate, weight decay) of every attentive head that is tried."""
        return tuple((lr, decay) for lr in self.lrs for decay in self.weight_decays)

    @property
    def attended(self) -> tuple[str, ...]:
        """The variants that an attentive probe reads."""
        return (PRETRAINED, random_variant(0), *([STILL] if self.still else []))

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants that the other readouts read."""
        return (
            PRETRAINED,
            *(random_variant(number) for number in range(self.random_encoders)),
            *([STILL] if self.still else []),
        )


def of_source(config: ProbeConfig, source: str | None) -> ProbeConfig:
    """What the probe of one source depends on: whether it must beat a random encoder is no part."""
    return replace(config, sources=(str(source),), must_beat_random=())
