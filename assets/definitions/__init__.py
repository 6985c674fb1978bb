"""What Dagster loads: every asset with its checks, jobs, sensors, the execution config.

`vjepa2 ui` (or `dagster dev -m assets.definitions`) serves it; profile, store and settings come
from the environment, see assets/deployment.py.
"""

from __future__ import annotations

import dagster as dg

from assets.definitions.asset import asset_definition, execution_resource
from assets.definitions.freshness import freshness_job, freshness_sensor
from assets.definitions.outside import new_files_sensor, observed
from assets.definitions.upkeep import verify_job, verify_schedule
from assets.definitions.walks import WALKS, walk
from assets.deployment import Deployment, deployment
from pipelines.node import Graph

# The assets of such a job share their partitions; those of the whole graph are walks.
JOBS: dict[str, tuple[tuple[str, ...], str]] = {
    "ingest": (("raw_videos", "scenes"), "Probe the files of one source and cut its videos."),
    "record": (
        ("droid_episodes", "episode_shards"),
        "Robot episodes of one lab, and their shards.",
    ),
    "encode": (("frame_features",), "Features of every robot frame of one lab."),
    "train": (("encoder", "cooled_encoder", "world_model"), "All three networks in a row."),
    "probe": (("probe_report",), "What the encoder's features know of the clips of one source."),
    "evaluate": (
        ("planning_report", "planner_bundle"),
        "What the planner is worth, and the planner to take away.",
    ),
}


def jobs_of(graph: Graph) -> dict[str, tuple[tuple[str, ...], str]]:
    """The jobs whose assets are all in a graph."""
    return {name: job for name, job in JOBS.items() if set(job[0]) <= set(graph.by_name)}


def build(deployed: Deployment) -> dg.Definitions:
    """All definitions of one deployment."""
    jobs = [
        dg.define_asset_job(name, dg.AssetSelection.assets(*names), description=text)
        for name, (names, text) in jobs_of(deployed.graph).items()
    ]
    look, verify = freshness_job(deployed), verify_job(deployed)
    outside = list(observed(deployed))
    sensors = [new_files_sensor(deployed)] if outside else []
    return dg.Definitions(
        assets=[
            *outside,
            *(asset_definition(node, deployed) for node in deployed.graph.nodes),
        ],
        jobs=[*jobs, *(walk(name, deployed) for name in WALKS), look, verify],
        sensors=[freshness_sensor(deployed, look), *sensors],
        schedules=[verify_schedule(verify)],
        resources={"execution": execution_resource(deployed.profile)},
        # Steps run one after another in one process; a stage spreads its own work over the cores.
        executor=dg.in_process_executor,
        metadata={
            "profile": deployed.profile_name,
            "settings": " ".join(deployed.settings) or "none",
            "store": deployed.store_at,
            "deployment": deployed.name,
        },
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The deployment that the environment describes."""
    return build(deployment())
