"""A tiny house for tests: three real stages of a few bytes under the real graph, store and Dagster.

    counts[a, b, c]  →  sums[a, b]  →  total

`counts` and `sums` differ in their partitions, `total` reads all of `sums`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import definitions
from assets.deployment import Deployment, deployment
from assets.nouns import noun
from assets.walk import Outcome, walk
from pipelines import gates, graph, profiles
from pipelines.gates import Gate, GateConfig, Verdict
from pipelines.graph import Node
from pipelines.stage import ExecutionConfig, Inputs, Stage, Workspace
from storage.artifacts import Artifact, ArtifactStore
from storage.tables import QUARANTINE, write_table

MADE: list[str] = []
"""Every time a stage ran: `asset/partition`, in order."""


@dataclass(frozen=True, kw_only=True)
class CountsConfig:
    upto: int = 5
    """How far to count."""
    broken: int = 1
    """Items to set aside."""

    def __post_init__(self) -> None:
        if self.upto < 1:
            raise ValueError(f"upto = {self.upto}: count at least to 1")


@dataclass(frozen=True, kw_only=True)
class Weights:
    a: float = 1.0
    b: float = 2.0


@dataclass(frozen=True, kw_only=True)
class SumsConfig:
    weights: Weights = field(default_factory=Weights)
    """What each partition counts for."""


@dataclass(frozen=True, kw_only=True)
class TotalConfig:
    label: str = "total"
    fails: bool = False


@dataclass(frozen=True, kw_only=True)
class TinyProfile:
    counts: CountsConfig = field(default_factory=CountsConfig)
    sums: SumsConfig = field(default_factory=SumsConfig)
    total: TotalConfig = field(default_factory=TotalConfig)
    gates: GateConfig = field(default_factory=GateConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)


def count(config: CountsConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    MADE.append(f"counts/{out.partition}")
    (out.payload / "counts.json").write_text(json.dumps(list(range(config.upto))))
    lost = [
        {"item": str(i), "stage": "counts", "reason": "odd one out"} for i in range(config.broken)
    ]
    write_table(out.payload / "quarantine.parquet", lost, QUARANTINE)
    return {"numbers": config.upto, "nested": {"broken": config.broken}, "listed": [1, 2]}


def add(config: SumsConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    MADE.append(f"sums/{out.partition}")
    numbers = json.loads((inputs["counts"].path / "counts.json").read_text())
    result = sum(numbers) * getattr(config.weights, str(out.partition))
    (out.payload / "sum.json").write_text(json.dumps(result))
    return {"sum": result}


def only_own_weight(config: SumsConfig, partition: str | None) -> SumsConfig:
    """A partition depends on its own weight alone."""
    return SumsConfig(weights=Weights(**{str(partition): getattr(config.weights, str(partition))}))


def add_all(config: TotalConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    MADE.append("total")
    if config.fails:
        raise ValueError("total: asked to fail")
    sums = [json.loads((p.path / "sum.json").read_text()) for p in inputs.parts("sums").values()]
    (out.payload / "total.json").write_text(json.dumps({config.label: sum(sums)}))
    return {"total": sum(sums)}


COUNTS = Stage("counts", version=1, config=CountsConfig, run=count)
SUMS = Stage("sums", version=3, config=SumsConfig, run=add, narrow=only_own_weight)
TOTAL = Stage("total", version=1, config=TotalConfig, run=add_all)

HERE = __name__
NODES = (
    Node("counts", "first", f"{HERE}:COUNTS", "counts", partitions=lambda _: ("a", "b", "c")),
    Node("sums", "first", f"{HERE}:SUMS", "sums", ("counts",), partitions=lambda _: ("a", "b")),
    Node("total", "last", f"{HERE}:TOTAL", "total", ("sums",)),
)


@noun
def counts(made: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """Numbers from zero."""
    return {"sheet": b"\x89PNG not really"}


@noun
def sums(made: Artifact, inputs: Inputs) -> Mapping[str, bytes]:
    """The sum of a partition's numbers."""
    return {}


@noun
def total(made: Artifact, _: Inputs) -> Mapping[str, bytes]:
    """The sum of sums."""
    return {}


def small(artifact: Artifact, config: GateConfig) -> Verdict:
    lost = artifact.metrics["nested"]["broken"]
    return Verdict(lost < 3, f"{lost} set aside, at most 2", {"lost": lost})


@dataclass
class House:
    """The tiny house of one test; its Dagster keeps its records in memory."""

    folder: Path
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "store"))

    def deployed(self, *settings: str) -> Deployment:
        environment = {
            "VJEPA2_STORE": str(self.folder / "store"),
            "VJEPA2_HOME": str(self.folder / "home"),
        }
        return deployment("tiny", settings, environment=environment)

    def walk(self, *wanted: str, settings: tuple[str, ...] = ()) -> tuple[Outcome, str, list[str]]:
        """(outcome, what was printed, which stages ran)."""
        MADE.clear()
        told = io.StringIO()
        outcome = walk(self.deployed(*settings), self.store, self.instance, wanted, told)
        return outcome, told.getvalue(), list(MADE)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    nodes = {node.asset: node for node in NODES}
    before = dict(graph.GRAPH)
    monkeypatch.setattr(graph, "NODES", NODES)
    monkeypatch.setitem(profiles.PROFILES, "tiny", TinyProfile())
    monkeypatch.setitem(gates.GATES, "counts", (Gate("few_broken", "few are broken", small),))
    monkeypatch.setattr(definitions, "NOUNS", (counts, sums, total))
    monkeypatch.setattr(definitions, "JOBS", {"tiny": (("total",), "The tiny house's one job.")})
    graph.GRAPH.clear()
    graph.GRAPH.update(nodes)
    try:
        yield House(tmp_path)
    finally:
        graph.GRAPH.clear()
        graph.GRAPH.update(before)
