"""A tiny house for tests: three real stages of a few bytes in a graph of their own.

    counts[a, b, c]  →  sums[a, b]  →  total

`counts` and `sums` differ in their partitions, `total` reads all of `sums`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.deployment import Deployment, deployment
from assets.materialize import Outcome, materialize_stale
from assets.previews import PREVIEWS
from pipelines.execution import ExecutionConfig
from pipelines.gates import Gate, Verdict
from pipelines.node import Graph, Node, every, same
from pipelines.stage import Inputs, Stage, Workspace
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
    lenient: tuple[str, ...] = ()
    """Partitions of which the gate only reports."""

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
    numbers = inputs["counts"].json("counts.json")
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
    sums = [p.json("sum.json") for p in inputs.parts("sums").values()]
    (out.payload / "total.json").write_text(json.dumps({config.label: sum(sums)}))
    return {"total": sum(sums)}


def only_what_is_counted(config: CountsConfig, _: str | None) -> CountsConfig:
    return replace(config, lenient=())


COUNTS = Stage("counts", version=1, config=CountsConfig, run=count, narrow=only_what_is_counted)
SUMS = Stage("sums", version=3, config=SumsConfig, run=add, narrow=only_own_weight)
TOTAL = Stage("total", version=1, config=TotalConfig, run=add_all)


def must_be_few(partition: str | None, profile: Any) -> bool:
    return partition not in profile.counts.lenient


def small(artifact: Artifact) -> Verdict:
    lost = artifact.metrics["nested"]["broken"]
    return Verdict(lost < 3, f"{lost} set aside, at most 2", {"lost": lost})


GRAPH = Graph(
    (
        Node(
            stage=COUNTS,
            group="first",
            description="Numbers from zero.",
            partitions=lambda _: ("a", "b", "c"),
            gates=(Gate("few_broken", "few are broken", small, blocks=must_be_few),),
        ),
        Node(
            stage=SUMS,
            group="first",
            description="The sum of a partition's numbers.",
            partitions=lambda _: ("a", "b"),
            reads=(same("counts"),),
        ),
        Node(stage=TOTAL, group="last", description="The sum of sums.", reads=(every("sums"),)),
    ),
    execution=dict.fromkeys(("tiny", "demo", "paper"), ExecutionConfig()),
)


def counts_sheet(made: Artifact, _: Inputs) -> Mapping[str, bytes]:
    return {"sheet": b"\x89PNG not really"}


@dataclass
class House:
    """The tiny house of one test; its Dagster keeps its records in memory."""

    folder: Path
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)
    settings: tuple[str, ...] = ()
    """Of a deployment whose page is used."""

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "store"))

    def deployed(self, *settings: str) -> Deployment:
        environment = {
            "VJEPA2_STORE": str(self.folder / "store"),
            "VJEPA2_HOME": str(self.folder / "home"),
            "VJEPA2_GRAPH": f"{__name__}:GRAPH",
            "VJEPA2_DEPLOYMENT": "default",
        }
        return deployment("tiny", settings, environment=environment)

    def run(self, *wanted: str, settings: tuple[str, ...] = ()) -> tuple[Outcome, str, list[str]]:
        """(outcome, what was printed, which stages ran)."""
        MADE.clear()
        told = io.StringIO()
        outcome = materialize_stale(
            self.deployed(*settings), self.store, self.instance, wanted, told
        )
        return outcome, told.getvalue(), list(MADE)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setitem(PREVIEWS, "counts", counts_sheet)
    return House(tmp_path)
