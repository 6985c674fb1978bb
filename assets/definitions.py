"""What Dagster loads: every asset, its checks, the jobs, the machine.

`vjepa2 ui` (or `dagster dev -m assets.definitions`) serves it; profile, store and settings come
from the environment, see assets/deployment.py.
"""

from __future__ import annotations

import dagster as dg

from assets import curation, evaluation, robot, training
from assets.deployment import Deployment, deployment
from assets.nouns import Noun, built, machine

NOUNS: tuple[Noun, ...] = (*curation.NOUNS, *robot.NOUNS, *training.NOUNS, *evaluation.NOUNS)

JOBS = {
    "curate": (("curation",), "Raw videos to the VideoMix22M mixture."),
    "record": (("robot",), "DROID episodes to episode shards."),
    "train": (("training",), "Encoder, cool-down, world model."),
    "evaluate": (("evaluation", "planner"), "Probe, planning, and the planner to take away."),
}


def build(deployed: Deployment) -> dg.Definitions:
    """All definitions of one deployment."""
    jobs = [
        dg.define_asset_job(name, dg.AssetSelection.groups(*groups), description=text)
        for name, (groups, text) in JOBS.items()
    ]
    everything = dg.define_asset_job(
        "everything", dg.AssetSelection.all(), description="From raw files to an exported planner."
    )
    return dg.Definitions(
        assets=[built(noun, deployed) for noun in NOUNS],
        jobs=[*jobs, everything],
        resources={"machine": machine(deployed.profile)},
        # Steps run one after another in one process; a stage spreads its own work over the cores.
        executor=dg.in_process_executor,
        metadata={
            "profile": deployed.profile_name,
            "settings": " ".join(deployed.settings) or "none",
            "store": deployed.store_at,
        },
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The deployment that the environment describes."""
    return build(deployment())
