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


Others = Callable[[], Iterable[Artifact]]
"""Opens what a deployment shows of the other partitions of an artifact's source."""


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
    """(artifact, threshold) -> verdict; (artifact) of a gate without a threshold. See `of_source`.
    """
    threshold: float | None = None
    """What is still good enough; `gates.<name>` of the settings. None: there is none to set."""
    least: float = 0.0
    most: float = 1.0
    """The threshold lies between these two."""
    blocks: Callable[[str | None, Any], bool] = lambda _, __: True
    """(partition, profile) -> whether nothing is made from an artifact that does not pass."""
    of_source: bool = False
    """Whether buckets of one source are judged together: `judge` gets the others, too, as a
    function that opens them."""

    def verdict(self, artifact: Artifact, limits: Any, others: Others = tuple) -> Verdict:
        """Judge an artifact under a profile's `gates`; `others`: the buckets beside it."""
        asked = () if self.threshold is None else (getattr(limits, self.name),)
        return self.judge(artifact, *asked, *((others,) if self.of_source else ()))


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


FEWEST = 10
"""Items that must be lost before a share of them says something."""


def quarantine_small(table: str, column: str, *, pooled: bool = True) -> Gate:
    """Few enough items were set aside. An empty partition passes: it lost nothing.

    Args:
        table: the payload's table with what was kept.
        column: its column that names items as `quarantine.parquet` does.
        pooled: whether partitions are buckets of a source, and it is the source that counts.
    """

    def count(artifact: Artifact) -> tuple[int, int]:
        kept = len(set(artifact.columns(table, [column])[column].tolist()))
        return kept, len({row["item"] for row in artifact.table("quarantine.parquet")})

    def judge(artifact: Artifact, most: float, others: Others = tuple) -> Verdict:
        kept, lost, share, buckets = _lost(artifact, others, count, most)
        few = pooled and _few(kept, lost)
        told = f"{lost} of {kept + lost} items{_of(buckets)} quarantined"
        doubt = "; too few to tell" if few and share > most else ""
        return Verdict(
            share <= most or few,
            f"{told} ({share:.1%}; at most {most:.0%}{doubt})",
            {"kept": kept, "quarantined": lost, "share": share},
        )

    claim = "few enough items were set aside"
    return Gate("quarantine_small", claim, judge, threshold=0.5, of_source=pooled)


def labels_match() -> Gate:
    """Enough labels of a source name a file that it has. One without labels passes."""

    def count(artifact: Artifact) -> tuple[int, int]:
        matched = int(artifact.metrics.get("labels_matched", 0))
        return matched, int(artifact.metrics.get("labels", 0)) - matched

    def judge(artifact: Artifact, least: float, others: Others) -> Verdict:
        matched, lost, share, buckets = _lost(artifact, others, count, 1 - least)
        told = f"{matched} of {matched + lost} labels{_of(buckets)} matched"
        few = share > 1 - least and _few(matched, lost)
        return Verdict(
            share <= 1 - least or few,
            f"{told} (at least {least:.0%}{'; too few to tell' if few else ''})",
            {"labels": matched + lost, "labels_matched": matched},
        )

    return Gate("labels_match", "labels name files", judge, threshold=0.5, of_source=True)


def _few(kept: int, lost: int) -> bool:
    return kept > 0 and lost < FEWEST


def _lost(
    artifact: Artifact, others: Others, count: Callable[[Artifact], tuple[int, int]], most: float
) -> tuple[int, int, float, int]:
    """(kept, lost, share that is lost, buckets that were counted).

    A bucket that lost more than `most` is judged by what its source has lost as a whole: buckets
    are random parts of it, and one may have bad luck. Any other one is judged by itself.
    """
    kept, lost = count(artifact)
    buckets, share = 1, lost / max(1, kept + lost)
    if share > most:
        for bucket in others():
            more = count(bucket)
            kept, lost, buckets = kept + more[0], lost + more[1], buckets + 1
        share = lost / max(1, kept + lost)
    return kept, lost, share, buckets


def _of(buckets: int) -> str:
    return f" in {buckets} buckets" if buckets > 1 else ""


def refusals(
    artifact: Artifact,
    name: str,
    gates: Iterable[Gate],
    profile: Any,
    *,
    blocking: bool = True,
    others: Others = tuple,
) -> list[str]:
    """One line for each gate that an artifact, called `name`, does not pass under a profile.

    Of those that block, or of those that only report. `others` as in `Gate.verdict`.
    """
    partition = artifact.manifest.partition
    asked = (gate for gate in gates if gate.blocks(partition, profile) is blocking)
    verdicts = ((gate, gate.verdict(artifact, profile.gates, others)) for gate in asked)
    return [
        f"{name} does not pass {gate.name}: {verdict.summary}"
        for gate, verdict in verdicts
        if not verdict.passed
    ]
