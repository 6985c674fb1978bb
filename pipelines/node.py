"""Declarations: what an asset is, which partitions of others it reads, and what a graph is.

A node is declared once, beside its stage, in the folder of its group:

    Node(stage=retrieval.STAGE, group="curation", partitions=of_sources(POOL),
         reads=(same("scenes"), whole("clusters")), description="The YT1B scenes that are kept ...")

The asset, its section of the settings and its stage have one name. A graph is a value: a deployment
owns one, and another graph (with one more source or asset) is another value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass
from functools import cached_property
from typing import Any, Literal

from pipelines.execution import ExecutionConfig
from pipelines.gates import Gate, thresholds
from pipelines.stage import Stage
from storage.artifacts import Artifact

Profile = Any
"""One scale of a graph: a frozen dataclass with a section per asset (its stage's config), `gates`
(a threshold per gate) and `execution`. Its class is made by the graph: see `Graph.profile`."""
Keys = tuple[str | None, ...]
Partitions = Callable[[Profile], tuple[str, ...]]
SCALES = ("demo", "laptop", "paper")
# A scale that a node says nothing of is that of another one, or else the stage's own defaults,
# which are the paper's numbers.
_DERIVED = {"laptop": "demo"}


@dataclass(frozen=True)
class Read:
    """One edge: which partitions of an upstream asset one partition is made from."""

    asset: str
    """The upstream asset."""
    keys: Callable[[str | None, Keys, Profile], Keys]
    """(partition, all keys of the upstream, profile) -> the keys that are read."""


def same(asset: str, *, only: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Read:
    """The same partition; `only` for the partitions of some sources, or of all but some."""

    def keys(partition: str | None, above: Keys, _: Profile) -> Keys:
        source = source_of(str(partition))
        if (only and source not in only) or source in without:
            return ()
        if partition not in above:
            raise ValueError(f"{asset} has no partition {partition}, which is to be read from it")
        return (partition,)

    return Read(asset, keys)


def whole(asset: str) -> Read:
    """The whole of an asset that has no partitions."""

    def keys(_: str | None, above: Keys, __: Profile) -> Keys:
        if above != (None,):
            raise ValueError(f"{asset} has partitions: read every one, or those of some sources")
        return above

    return Read(asset, keys)


def every(asset: str) -> Read:
    """Every partition of an asset."""
    return Read(asset, lambda _, above, __: above)


def those_of(asset: str, sources: Callable[[str | None, Profile], Iterable[str]]) -> Read:
    """The partitions of the sources that `sources(partition, profile)` names.

    Other sources never make what reads them stale.
    """

    def keys(partition: str | None, above: Keys, profile: Profile) -> Keys:
        named = set(sources(partition, profile))
        return tuple(key for key in above if source_of(str(key)) in named)

    return Read(asset, keys)


def source_of(partition: str) -> str:
    """The source that a partition belongs to: `yt1b-03` -> `yt1b`."""
    name, _, bucket = partition.rpartition("-")
    return name if name and bucket.isdigit() else partition


Lines = Iterable[tuple[str, str]]
"""(heading, line) of what a summary says of an artifact."""


@dataclass(frozen=True)
class Held:
    """Where an asset says which videos, recordings or scenes it holds."""

    path: str
    """A table of its payload; `{}` is the partition that lists the file."""
    column: str
    """Names the video, the recording or the scene."""
    row: str
    """What one row is, for people."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One asset: what makes it, what it is made from, when it is good enough, what people read."""

    stage: Stage
    """What makes it; its name is the asset's, and its config the section of the settings."""
    group: str
    """Where it stands on the page."""
    description: str
    """What it is and what is in its payload, for people: one sentence, a blank line, the rest."""
    reads: tuple[Read, ...] = ()
    partitions: Partitions | None = None
    """Its partition keys under a profile; None for an asset that is whole."""
    gates: tuple[Gate, ...] = ()
    """What it must pass before anything is made from it."""
    scales: Mapping[str, Any] = field(default_factory=dict)
    """Scale -> its config where that is not the stage's default."""
    check: Callable[[Profile], None] | None = None
    """Raises SettingError where settings of several assets cannot go together; asked before any of
    a run is made."""
    seconds: float = 1.0
    """What one partition takes at DEMO on two CPU cores, for the expected end of a first run."""
    summary: Callable[[Artifact], Lines] | None = None
    """What the summary of a run says of it."""
    moved: Callable[[Artifact, Artifact], Mapping[str, Any]] | None = None
    """(what was shown before, what is shown now) -> what is another, counted, for people; both were
    made by the same version of the stage."""
    held: Held | None = None
    """Where it says what of a video it holds, for whoever asks who has seen one."""
    costs: Literal["by_hour", "by_step"] | None = None
    """What its cost grows with: hours of video, or steps of a training, whatever there is."""
    on_request: bool = False
    """Whether it is made only when it is named (a study, which takes long): not by a run of all."""

    @property
    def asset(self) -> str:
        """The asset's name."""
        return self.stage.name

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of the assets that it is made from, each once."""
        return tuple(dict.fromkeys(read.asset for read in self.reads))

    def keys(self, profile: Profile) -> Keys:
        """Partition keys, or (None,) for an asset without partitions."""
        return self.partitions(profile) if self.partitions else (None,)

    def config(self, scale: str) -> Any:
        """Its section of a scale."""
        if scale in self.scales:
            return self.scales[scale]
        return self.config(_DERIVED[scale]) if scale in _DERIVED else self.stage.config()


@dataclass(frozen=True)
class Graph:
    """Nodes, upstream first, and the scales they can be run at.

    Raises:
        ValueError: a name stands twice, a node reads what is not declared before it or has a config
            for a scale that there is not, or two gates of one name have other thresholds.
    """

    nodes: tuple[Node, ...]
    execution: Mapping[str, ExecutionConfig] = field(
        default_factory=lambda: {
            **dict.fromkeys(SCALES, ExecutionConfig()),
            "paper": ExecutionConfig(workers=128, device="cuda"),
        }
    )
    """Scale -> how its stages are run."""

    def __post_init__(self) -> None:
        known: set[str] = set()
        limits: dict[str, float | None] = {}
        for node in self.nodes:
            if unknown := sorted(set(node.scales) - {*self.execution, *SCALES}):
                raise ValueError(f"{node.asset} has a config for {unknown[0]!r}, which is no scale")
            for gate in node.gates:
                if limits.setdefault(gate.name, gate.threshold) != gate.threshold:
                    raise ValueError(f"two gates called {gate.name} have other thresholds")
            if node.asset in known:
                raise ValueError(f"two nodes are called {node.asset}: their recipes would be one")
            if later := [name for name in node.upstream if name not in known]:
                raise ValueError(f"{node.asset} reads {later[0]}, which is not declared before")
            known.add(node.asset)

    def __getitem__(self, asset: str) -> Node:
        return self.by_name[asset]

    def keys(self, asset: str, profile: Profile) -> Keys:
        """The partition keys of an asset, made once for a profile."""
        known = self._known_keys.setdefault(id(profile), (profile, {}))[1]
        if asset not in known:
            known[asset] = self[asset].keys(profile)
        return known[asset]

    @cached_property
    def _known_keys(self) -> dict[int, tuple[Profile, dict[str, Keys]]]:
        # The profile is kept with its keys: nothing else may get its id.
        return {}

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Asset -> node, upstream first."""
        return {node.asset: node for node in self.nodes}

    @cached_property
    def thresholds(self) -> type:
        """The dataclass of the section `gates`."""
        return thresholds(gate for node in self.nodes for gate in node.gates)

    @cached_property
    def profile_class(self) -> type:
        """The dataclass of this graph's profiles: a section an asset, `gates` and `execution`."""
        sections: list[Any] = [(node.asset, node.stage.config) for node in self.nodes]
        sections += [("gates", self.thresholds), ("execution", ExecutionConfig)]
        made = make_dataclass("Profile", sections, frozen=True, kw_only=True)
        made.__doc__ = "One scale of a graph: a section per asset, gates and execution."
        return made

    @cached_property
    def profiles(self) -> Mapping[str, Profile]:
        """Scale -> its complete profile."""
        return {scale: self._profile(scale) for scale in self.execution}

    def _profile(self, scale: str) -> Profile:
        sections = {node.asset: node.config(scale) for node in self.nodes}
        return self.profile_class(
            **sections, gates=self.thresholds(), execution=self.execution[scale]
        )
