"""The sources of VideoMix22M and the retrieval targets: one entry each, and all that follows.

A new source is one more entry. From it come its partitions, its section of the settings, its share
of the mixture and of the retrieval, and what the generator makes for it where no data is at hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.curation.backdrops import THEMES
from pipelines.curation.themes import Theme

POOL = "yt1b"
"""The source that is cut into scenes, clustered, and curated by retrieval."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of videos or pictures."""

    name: str
    theme: Theme
    """What the generator films for it."""
    files: int
    """How many files the generator makes."""
    mixture_weight: float | None = None
    """Probability that a training clip comes from it (table 1); None: never trained on."""
    generated_weight: float | None = None
    """The same where the generator stands in for all sources; None: never trained on there."""
    retrieval_weight: float | None = None
    """Its weight as a retrieval target (table 11); None: no target."""
    evaluated: bool = False
    """Whether clips of it are stored for evaluations, though it is not trained on."""
    buckets: int = 1
    """Partitions of the real data set, so that none has more than about twenty thousand files."""

    @property
    def only_generated(self) -> bool:
        """Whether no data set stands behind it: the generator alone has it, and PAPER has not."""
        real = self.mixture_weight is not None or self.retrieval_weight is not None
        return self.generated_weight is not None and not real and not self.evaluated

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z][a-z0-9_]*", self.name):
            raise ValueError(
                f"Source.name is {self.name!r}: give small letters, digits and _, a letter first "
                "(a hyphen parts a source from the number of its partition)"
            )


# A probe of 1,000 clips; whatever else is made is trained on.
HELD_OUT: dict[str, Any] = {"validation": (25, 57), "validation_files": 2280}

SOURCES = (
    # Something-Something v2: labelled, trained on, a target.
    Source(
        name="ssv2",
        # The world made for motion: noise, of which nothing but its movement can be told.
        theme=Theme(backdrops=("noise",), labels="motion", moves="camera", broken=True, **HELD_OUT),
        files=2280,
        mixture_weight=0.056,
        generated_weight=0.45,
        retrieval_weight=0.125,
        buckets=4,
    ),
    # Kinetics 400/600/700 (K710): labelled, trained on, a target.
    Source(
        name="kinetics",
        # The same moves over coloured things that show them in every direction (sky and planks do
        # not: nothing in them tells where along a streak one is).
        theme=Theme(
            backdrops=("foliage", "bricks", "paper", "tiles"),
            labels="motion",
            moves="camera",
            **HELD_OUT,
        ),
        files=2280,
        mixture_weight=0.188,
        generated_weight=0.35,
        retrieval_weight=0.7,
        buckets=16,
    ),
    # HowTo100M: trained on.
    Source(
        name="howto100m",
        theme=Theme(backdrops=("planks", "metal", "tiles", "paper", "foliage"), edited=2),
        files=8,
        mixture_weight=0.318,
        generated_weight=0.05,
        buckets=64,
    ),
    # YT-Temporal-1B, the pool that is cut and curated.
    Source(
        name=POOL,
        # Nothing that is a target shows night, sand, sky or water: retrieval has what to drop.
        theme=Theme(backdrops=THEMES, edited=1, broken=True),
        files=100,
        mixture_weight=0.188,
        generated_weight=0.1,
        buckets=1024,
    ),
    # ImageNet-1K: pictures, trained on as still clips.
    Source(
        name="imagenet",
        theme=Theme(backdrops=THEMES, labels="shape"),
        files=16,
        mixture_weight=0.250,
        # A still is the same at all times: nothing to learn motion from.
        generated_weight=0.0,
        buckets=16,
    ),
    # COIN: a target only.
    Source(
        name="coin",
        theme=Theme(backdrops=("metal", "planks")),
        files=8,
        retrieval_weight=0.125,
    ),
    # EPIC-Kitchens: a target only.
    Source(
        name="epic_kitchens",
        theme=Theme(backdrops=("tiles",)),
        files=8,
        retrieval_weight=0.05,
    ),
    # What an encoder sees of robots on the internet: arms in labs that are nobody's here.
    Source(
        name="robot_videos",
        theme=Theme(moves="arm"),
        files=320,
        generated_weight=0.05,
    ),
)


def named_once(sources: Sequence[Source]) -> Sequence[Source]:
    """The sources as they are; ValueError if two have one name: their partitions would be one."""
    names = [source.name for source in sources]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two sources are called {twice[0]}; give each a name of its own")
    return sources


def mixture_weights(sources: Sequence[Source] = SOURCES) -> dict[str, float]:
    """Source -> probability that a training clip comes from it, of those that are trained on."""
    return {s.name: s.mixture_weight for s in sources if s.mixture_weight is not None}


def generated_weights(sources: Sequence[Source] = SOURCES) -> dict[str, float]:
    """As `mixture_weights`, where all sources are generated."""
    return {s.name: s.generated_weight for s in sources if s.generated_weight is not None}


def retrieval_weights(sources: Sequence[Source] = SOURCES) -> dict[str, float]:
    """Source -> retrieval weight, of those that are targets."""
    return {s.name: s.retrieval_weight for s in sources if s.retrieval_weight is not None}
