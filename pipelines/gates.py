"""Gates: when an artifact is good enough for what follows to be made from it.

A gate reads one sealed artifact and gives a verdict with the numbers it rests on. Each asset
declares its own, beside its stage. A threshold is no recipe input of any stage: changing one
(`--set gates.quarantine_small=0.9`) makes nothing stale. Dagster shows each gate as an asset check,
and nothing is made from an artifact whose blocking gate says no. Of some artifacts a gate only
reports: it warns, and stops nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pipelines.settings import between, settings
from storage.artifacts import Artifact

Number = float | int | str


@dataclass(frozen=True)
class Verdict:
    """Whether an artifact passed, why in one sentence, and the numbers of that sentence."""

    passed: bool
    summary: str
    numbers: Mapping[str, Number]


@dataclass(frozen=True)
class Gate:
    """One named test of an artifact."""

    name: str
    claim: str
    """What holds when it passes, for people."""
    judge: Callable[..., Verdict]
    """(artifact, threshold) -> verdict; (artifact) of a gate without a threshold."""
    threshold: float | None = None
    """What is still good enough; `gates.<name>` of the settings. None: there is none to set."""
    least: float = 0.0
    most: float = 1.0
    """The threshold lies between these two."""
    blocks: Callable[[str | None, Any], bool] = lambda _, __: True
    """(partition, profile) -> whether nothing is made from an artifact that does not pass."""

    def verdict(self, artifact: Artifact, limits: Any) -> Verdict:
        """Judge an artifact under a profile's `gates`."""
        if self.threshold is None:
            return self.judge(artifact)
        return self.judge(artifact, getattr(limits, self.name))


def thresholds(gates: Iterable[Gate]) -> type:
    """The dataclass of the thresholds of some gates: the section `gates` of a profile."""
    named = {gate.name: gate for gate in gates if gate.threshold is not None}
    kinds = {
        name: Annotated[float, between(gate.least, gate.most, about=f"{gate.claim}.")]
        for name, gate in named.items()
    }
    body: dict[str, Any] = {name: gate.threshold for name, gate in named.items()}
    body |= {"__annotations__": kinds, "__doc__": "What is still good enough, gate by gate."}
    return settings(type("Gates", (), body))


def quarantine_small(table: str, column: str) -> Gate:
    """Few enough items were set aside. An empty partition passes: it lost nothing.

    Args:
        table: the payload's table with what was kept.
        column: its column that names items as `quarantine.parquet` does.
    """

    def judge(artifact: Artifact, most: float) -> Verdict:
        kept = len(set(artifact.columns(table, [column])[column].tolist()))
        lost = len({row["item"] for row in artifact.table("quarantine.parquet")})
        share = lost / max(1, kept + lost)
        return Verdict(
            share <= most,
            f"{lost} of {kept + lost} items quarantined ({share:.1%}; at most {most:.0%})",
            {"kept": kept, "quarantined": lost, "share": share},
        )

    return Gate("quarantine_small", "few enough items were set aside", judge, threshold=0.5)


def refusals(
    artifact: Artifact, name: str, gates: Iterable[Gate], profile: Any, *, blocking: bool = True
) -> list[str]:
    """One line for each gate that an artifact, called `name`, does not pass under a profile.

    Of those that block, or of those that only report.
    """
    partition = artifact.manifest.partition
    asked = (gate for gate in gates if gate.blocks(partition, profile) is blocking)
    verdicts = ((gate, gate.verdict(artifact, profile.gates)) for gate in asked)
    return [
        f"{name} does not pass {gate.name}: {verdict.summary}"
        for gate, verdict in verdicts
        if not verdict.passed
    ]
