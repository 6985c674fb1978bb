"""The algorithms of a graph: what one partition is made from, what is fresh, opening inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pipelines.node import Graph, Node, Profile, source_of
from pipelines.stage import differences, drift, recipe_inputs
from storage.artifacts import Artifact, ArtifactError, ArtifactStore, Manifest
from storage.media import listings_kept

Key = tuple[str, str | None]
"""An asset and one of its partitions (None: it is whole)."""


def upstream_keys(
    graph: Graph, node: Node, partition: str | None, profile: Profile
) -> tuple[Key, ...]:
    """What one partition of a node is made from."""
    return tuple(
        (read.asset, key)
        for read in node.reads
        for key in read.keys(partition, graph.keys(read.asset, profile), profile)
    )


def key_name(key: Key) -> str:
    """`asset` or `asset/partition`."""
    return f"{key[0]}/{key[1]}" if key[1] else key[0]


@dataclass(frozen=True)
class State:
    """Whether one asset (partition) is what today's recipe asks for."""

    asset: str
    partition: str | None
    state: str
    """fresh, stale or missing."""
    reason: str = ""
    """Why it is not fresh; of what is fresh, a warning when today's code is another."""
    manifest: Manifest | None = None


def statuses(
    graph: Graph, profile: Profile, store: ArtifactStore, wanted: Iterable[Key] | None = None
) -> Iterator[State]:
    """The state of every asset (partition), upstream first, each with the reason why; or only of
    those that are wanted, and of all that they are made from.

    Each source is listed once, however many partitions it has.
    """
    asked = None if wanted is None else with_upstream(graph, wanted, profile)
    states: dict[Key, State] = {}
    with listings_kept():
        for node in graph.nodes:
            for partition in graph.keys(node.asset, profile):
                if asked is not None and (node.asset, partition) not in asked:
                    continue
                above = upstream_keys(graph, node, partition, profile)
                state = _state(node, partition, profile, store, above, states)
                states[node.asset, partition] = state
                yield state


def with_upstream(graph: Graph, wanted: Iterable[Key], profile: Profile) -> set[Key]:
    """Some keys, and all that they are made from."""
    keys: set[Key] = set()
    todo = list(wanted)
    while todo:
        key = todo.pop()
        if key not in keys:
            keys.add(key)
            todo += upstream_keys(graph, graph[key[0]], key[1], profile)
    return keys


def _state(
    node: Node,
    partition: str | None,
    profile: Profile,
    store: ArtifactStore,
    above: tuple[Key, ...],
    states: Mapping[Key, State],
) -> State:
    try:
        manifest = store.ref(node.asset, partition)
    except ArtifactError as error:
        return State(node.asset, partition, "stale", f"its manifest cannot be read: {error}")
    if manifest is None:
        how = "; made only when it is named" if node.on_request else ""
        return State(node.asset, partition, "missing", f"never materialized{how}")
    if old := [key for key in above if states[key].state != "fresh"]:
        more = f" and {len(old) - 1} more" if len(old) > 1 else ""
        reason = f"upstream {key_name(old[0])} is {states[old[0]].state}{more}"
        return State(node.asset, partition, "stale", reason, manifest)
    contents = {key_name(key): _content(states[key]) for key in above}
    config = getattr(profile, node.asset)
    asked = recipe_inputs(node.stage, config, contents, partition, profile.execution)
    if changed := list(differences(manifest.recipe_inputs, asked)):
        more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
        return State(node.asset, partition, "stale", "; ".join(changed[:3]) + more, manifest)
    if problem := store.trouble(manifest):
        return State(node.asset, partition, "stale", problem, manifest)
    doubt = store.doubt(manifest)
    if doubt.refused:
        return State(node.asset, partition, "stale", doubt.told, manifest)
    told = "; ".join(filter(None, (drift(node.stage, manifest), doubt.told)))
    return State(node.asset, partition, "fresh", told, manifest)


def _content(state: State) -> str:
    assert state.manifest is not None
    return state.manifest.content


def others_of_source(
    graph: Graph, artifact: Artifact, profile: Profile, store: ArtifactStore
) -> Iterator[Artifact]:
    """What the deployment shows of the other buckets of the source that an artifact is one of."""
    asset, partition = artifact.manifest.asset, artifact.manifest.partition
    for key in graph.keys(asset, profile):
        if key is None or partition is None or key == partition:
            continue
        if source_of(key) == source_of(partition) and (manifest := store.legible_ref(asset, key)):
            yield store.handle(manifest)


def open_inputs(
    graph: Graph, node: Node, partition: str | None, profile: Profile, store: ArtifactStore
) -> dict[str, Artifact]:
    """The upstream artifacts that the deployment currently shows.

    Raises:
        ArtifactError: an upstream was never materialized; the message names it.
    """
    inputs: dict[str, Artifact] = {}
    for key in upstream_keys(graph, node, partition, profile):
        manifest = store.ref(*key)
        if manifest is None:
            name = key_name((node.asset, partition))
            raise ArtifactError(
                f"{name} is made from {key_name(key)}, which was never materialized: "
                f"run `vjepa2 run {node.asset}`, which makes what is missing first"
            )
        if (doubt := store.doubt(manifest)).refused:
            raise ArtifactError(f"{key_name(key)}: {doubt.told}")
        inputs[key_name(key)] = store.open(manifest)
    return inputs
