"""The asset of the group `planner`: the planner to take away."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.gates import Gate, Verdict
from pipelines.node import Node, every, whole
from pipelines.planner import bundle
from pipelines.planner.bundle import BundleError, load_planner
from storage.artifacts import Artifact

PLANNER_BUNDLE = """\
The planner as a folder that a robot's user takes home: weights, contract, settings, digests.

Needs torch and this project's `models` and `pipelines` alone, no Dagster, no Ray:
`load_planner(folder).plan(frame, state, goal_frame)`. The search settings are those that the
planning report measured, and its README repeats the numbers."""


def _bundle_loads(artifact: Artifact) -> Verdict:
    """Every file of the bundle is there and as sealed, and its networks can be rebuilt."""
    files = {"files": len(artifact.manifest.files)}
    try:
        load_planner(artifact.folder())
    except BundleError as refused:
        return Verdict(False, str(refused), files)
    return Verdict(True, "loads from its folder alone", files)


def folder_line(made: Artifact) -> Iterator[tuple[str, str]]:
    """Where the planner is."""
    yield "Planner", f"{made.location}  (its README says how to load it)"


NODES = (
    Node(
        stage=bundle.STAGE,
        group="planner",
        description=PLANNER_BUNDLE,
        reads=(
            whole("cooled_encoder"),
            whole("world_model"),
            every("probe_report"),
            whole("planning_report"),
        ),
        gates=(Gate("bundle_loads", "the planner can be used", _bundle_loads),),
        summary=folder_line,
    ),
)
