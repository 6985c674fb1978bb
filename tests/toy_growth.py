"""One more asset and one more source, as somebody adds them: all that either takes is in here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.curation.sources import SOURCES, Source
from pipelines.curation.themes import Theme
from pipelines.gates import Gate, Verdict
from pipelines.node import Graph, Held, Node, same
from pipelines.nodes import build_graph
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import Artifact
from storage.tables import write_table

# A source that is there to be evaluated on: neither trained on nor a retrieval target.
TOY_SOURCE = Source(
    name="toy_benchmark",
    theme=Theme(backdrops=("sand",), labels="motion"),
    files=3,
    evaluated=True,
)

LENGTHS = {"video_id": "string", "seconds": "float64"}


@dataclass(frozen=True, kw_only=True)
class ClipLengthsConfig:
    """What is counted."""

    at_least: float = 0.1
    """Clips shorter than this are left out, seconds."""


def run(config: ClipLengthsConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Write the length of every clip of this partition."""
    rows = inputs["clip_shards"].table("index.parquet", list(LENGTHS))
    kept = [row for row in rows if row["seconds"] >= config.at_least]
    write_table(out.payload / "lengths.parquet", kept, LENGTHS)
    return {"clips": len(kept)}


def enough(artifact: Artifact, least: float) -> Verdict:
    """At least `least` clips are there."""
    clips = artifact.metrics["clips"]
    return Verdict(clips >= least, f"{clips} clips, at least {least:g}", {"clips": clips})


def told(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """How many clips there are."""
    yield "Toys", f"{artifact.manifest.name} {artifact.metrics['clips']} clips"


CLIP_LENGTHS = Node(
    stage=Stage("clip_lengths", version=1, config=ClipLengthsConfig, run=run),
    group="toys",
    description="Lengths of the clips of one source.\n\nPayload: `lengths.parquet`, seconds.",
    partitions=lambda _: (TOY_SOURCE.name,),
    reads=(same("clip_shards"),),
    gates=(Gate("enough_clips", "there are enough clips", enough, threshold=1.0, most=1e6),),
    summary=told,
    held=Held("lengths.parquet", "video_id", "measured clip"),
    costs="by_hour",
)

GRAPH = Graph((*build_graph((*SOURCES, TOY_SOURCE)).nodes, CLIP_LENGTHS))
