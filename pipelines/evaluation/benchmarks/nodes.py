"""The assets of the group `benchmarks`: the paper's evaluations, each made when it is named."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.evaluation import released_weights
from pipelines.evaluation.benchmarks import features, report, videos
from pipelines.evaluation.benchmarks.protocol import (
    BenchmarkReportConfig,
    FeaturesConfig,
    HeadsConfig,
    ProtocolConfig,
)
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.evaluation.nodes import DEMO_PROBE
from pipelines.node import Node, Profile, Read, same, whole
from storage.artifacts import Artifact

BENCHMARK_VIDEOS = """\
The files of one benchmark, as its own annotation files list them.

`benchmark_videos.places.<benchmark>.location` is a folder or bucket with the real data set; without
one a few dozen films stand in, in the benchmark's own format and under names that it has. Payload:
`items.parquet` (class number and side of each listed item whose file is whole), `missing.parquet`
(listed items without one: none is replaced), `classes.json`."""


RELEASED_WEIGHTS = """\
The weights that benchmarks are run on: Meta's, anybody's in their layouts, or this graph's own.

`released_weights.location` is an official `.pt` file or a Hugging Face folder; without one the
cooled-down encoder is taken. Payload: `model.json` and `checkpoints/released/*.safetensors`, laid
out as a training leaves its own."""


BENCHMARK_FEATURES = """\
Frozen features of one benchmark's films, encoded once for weights, films and protocol.

Of the weights, of encoders that were never trained and of films that stand still. Other heads or
learning rates need no other features. Payload: `films.parquet` and, by mode (`official` samples
frames as the released code, `fixed` as the paper), pooled features and, where
`benchmark_features.keep_tokens` says so, all tokens."""

BENCHMARK_REPORT = """\
One benchmark's accuracy: attentive heads, a linear readout and nearest neighbours.

Beside each number the same on an encoder that was never trained and on films that stand still, 95 %
intervals, and the paper's. Head and epoch are chosen on films held out of train; the best head on
validation itself, which the released code reports, stands beside as optimistic. Films that stand in
for a data set are called format-faithful synthetic: no number of theirs is one of the benchmark.
Payload: `report.json`, `predictions.parquet`."""

# What a small encoder of the demo can be shown: four frames of 32 pixels.
DEMO_FEATURES = FeaturesConfig(
    protocols={
        name: ProtocolConfig(
            frames=4, step=4, segments=1 if b.images else 2, views=1 if b.images else 2, size=32,
            flip=b.flip,
        )
        for name, b in BENCHMARKS.items()
    },
    modes=("official", "fixed"), train_views=2, keep_tokens=True,
)  # fmt: skip
DEMO_HEADS = HeadsConfig(head=DEMO_PROBE.head, lrs=(1e-3, 3e-3), weight_decays=(0.1,))
DEMO_REPORT = BenchmarkReportConfig(heads=dict.fromkeys(BENCHMARKS, DEMO_HEADS))


def report_lines(report: Artifact) -> Iterator[tuple[str, str]]:
    """Every mode's readouts: on the weights, untrained, on stills; beside them the paper's."""
    told = report.json("report.json")
    for mode, readouts in told["modes"].items():
        said = []
        for readout, found in readouts.items():
            shares = ", ".join(
                f"{variant} {judged['accuracy']['rate']:.0%}"
                f" [{judged['accuracy']['low']:.0%}, {judged['accuracy']['high']:.0%}]"
                for variant, judged in found["variants"].items()
            )
            said.append(f"{readout}: {shares}")
        lost = f", {told['missing']} missing" if told["missing"] else ""
        yield (
            "Benchmarks",
            f"{told['title']} ({told['data']}, {mode}) {'; '.join(said)}: chance "
            f"{told['chance']:.1%} on {told['asked']} films{lost}",
        )


def _places(profile: Profile) -> tuple[str, ...]:
    return tuple(profile.benchmark_videos.places)


NODES = (
    Node(
        stage=released_weights.STAGE,
        group="benchmarks",
        description=RELEASED_WEIGHTS,
        reads=(Read("cooled_encoder", released_weights.from_this_graph),),
        seconds=1.0,
        on_request=True,
    ),
    Node(
        stage=videos.STAGE,
        group="benchmarks",
        description=BENCHMARK_VIDEOS,
        partitions=_places,
        seconds=6.0,
        on_request=True,
    ),
    Node(
        stage=features.STAGE,
        group="benchmarks",
        description=BENCHMARK_FEATURES,
        partitions=_places,
        reads=(whole("released_weights"), same("benchmark_videos")),
        scales={"demo": DEMO_FEATURES},
        seconds=10.0,
        on_request=True,
    ),
    Node(
        stage=report.STAGE,
        group="benchmarks",
        description=BENCHMARK_REPORT,
        partitions=_places,
        reads=(whole("released_weights"), same("benchmark_videos"), same("benchmark_features")),
        scales={"demo": DEMO_REPORT},
        seconds=20.0,
        summary=report_lines,
        on_request=True,
    ),
)
