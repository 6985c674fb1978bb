"""The settings of a benchmark's features and heads; the defaults are the paper's for ViT-L."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, TypeVar

from pipelines.evaluation.benchmarks.registry import BENCHMARKS, Benchmark
from pipelines.evaluation.benchmarks.sampling import Mode
from pipelines.evaluation.features import PRETRAINED, STILL, random_variant
from pipelines.evaluation.probing import HeadConfig
from pipelines.settings import (
    DIFFERENT,
    NOT_EMPTY,
    Count,
    Natural,
    NotNegative,
    Part,
    Positive,
    SettingError,
    Share,
    settings,
)

T = TypeVar("T")


@settings
class ProtocolConfig:
    """How the films of one benchmark are shown to the encoder."""

    frames: Count = 16
    """Frames of a clip."""
    step: Count = 4
    """Frames of the film from one frame of a clip to the next."""
    segments: Count = 2
    """Clips of a film, whose tokens are probed together."""
    views: Count = 3
    """Crops of each film that is asked about, along its longer side; predictions are averaged."""
    size: Count = 256
    """Side of the square that the encoder sees, pixels."""
    layers: tuple[Natural, ...] = ()
    """Blocks whose tokens are probed together, 0 the first; (): the last alone."""
    flip: Share = 0.0
    """Probability that a training clip is mirrored: 0.5 of pictures, 0 of films."""


@settings
class FeaturesConfig:
    """What is shown to the encoder, and what is kept of its features."""

    protocols: dict[str, ProtocolConfig] = field(
        default_factory=lambda: {name: published_protocol(b) for name, b in BENCHMARKS.items()}
    )
    """Benchmark -> how its films are shown; a partition each."""
    modes: Annotated[tuple[Mode, ...], NOT_EMPTY, DIFFERENT] = ("official",)
    """"official" repeats the released code, "fixed" does what the paper describes."""
    train_views: Count = 1
    """Random views of each training film whose features are kept; every epoch takes one of them."""
    keep_tokens: bool = False
    """Whether all tokens are kept; else heads have each epoch's views encoded anew, as the released
    code does, and only pooled features are kept."""
    random_encoders: Count = 1
    """Encoders that were never trained, to compare with; the attentive probe reads the first."""
    still: bool = True
    """Whether films that stand still are probed, too."""
    seed: Natural = 0
    """Of windows, crops and augmentation, and of the random encoders."""

    @property
    def variants(self) -> tuple[str, ...]:
        """Whose features are taken."""
        drawn = (random_variant(number) for number in range(self.random_encoders))
        return (PRETRAINED, *drawn, *([STILL] if self.still else []))

    @property
    def attended(self) -> tuple[str, ...]:
        """Of these all tokens are read."""
        return (PRETRAINED, random_variant(0), *([STILL] if self.still else []))


@settings
class HeadsConfig:
    """The attentive heads of one benchmark."""

    head: HeadConfig = field(default_factory=HeadConfig)
    """The probe and how it learns."""
    lrs: Annotated[tuple[Positive, ...], NOT_EMPTY] = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
    """Learning rates of the heads."""
    weight_decays: Annotated[tuple[NotNegative, ...], NOT_EMPTY] = (0.8, 0.4, 0.1, 0.01)
    """Weight decays of the heads: one head for each pair."""
    released: Annotated[str, NOT_EMPTY] | None = None
    """A probe that was released (an official `.pt` file): it is asked, too, as it is. Its classes
    have the publisher's numbers."""

    @property
    def grid(self) -> tuple[tuple[float, float], ...]:
        """(learning rate, weight decay) of every head."""
        return tuple((lr, decay) for lr in self.lrs for decay in self.weight_decays)


@settings
class BenchmarkReportConfig:
    """What is learned on the features."""

    heads: dict[str, HeadsConfig] = field(
        default_factory=lambda: {name: published_heads(b) for name, b in BENCHMARKS.items()}
    )
    """Benchmark -> its heads; a partition each."""
    held_out: Part = 0.1
    """Share of the training films, class by class, on which head and epoch are chosen."""
    seed: Natural = 0
    """Of what is held out, and of the intervals of differences."""


def published_protocol(benchmark: Benchmark) -> ProtocolConfig:
    """The paper's protocol of a benchmark for ViT-L."""
    return ProtocolConfig(
        frames=benchmark.frames, step=benchmark.step, segments=benchmark.segments,
        views=benchmark.views, layers=benchmark.layers, flip=benchmark.flip,
    )  # fmt: skip


def published_heads(benchmark: Benchmark) -> HeadsConfig:
    """The paper's heads of a benchmark."""
    head = HeadConfig(epochs=benchmark.epochs, batch=benchmark.batch)
    return HeadsConfig(head=head, lrs=benchmark.lrs, weight_decays=benchmark.weight_decays)


def of_one(settings: Mapping[str, T], partition: str | None, name: str) -> dict[str, T]:
    """The entry of one benchmark, of a dict with one for each."""
    if str(partition) not in settings:
        raise SettingError(f"{name} has no {partition!r}; it has {', '.join(settings)}")
    return {str(partition): settings[str(partition)]}


def features_of(config: FeaturesConfig, partition: str | None) -> FeaturesConfig:
    """What the features of one benchmark depend on."""
    named = of_one(config.protocols, partition, "benchmark_features.protocols")
    return replace(config, protocols=named)


def report_of(config: BenchmarkReportConfig, partition: str | None) -> BenchmarkReportConfig:
    """What the report of one benchmark depends on."""
    return replace(config, heads=of_one(config.heads, partition, "benchmark_report.heads"))
