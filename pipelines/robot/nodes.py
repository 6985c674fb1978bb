"""The assets of the group `robot`: recordings in the raw DROID layout, and their shards."""

from __future__ import annotations

from dataclasses import replace

from pipelines.gates import quarantine_small
from pipelines.node import Held, Node, Profile, same
from pipelines.robot import episode_shards, episodes
from pipelines.robot.roles import labs_of

DROID_EPISODES = """\
Robot episodes of one lab in the raw DROID layout, as they came from the robot.

Recorded in the simulator (a Franka arm with a parallel gripper on a table), or a folder that
you have: `--set droid_episodes.location=/my/droid`. Each episode is a metadata json, a
`trajectory.h5` with DROID's keys and the left exterior camera's mp4. Payload:
`episodes.parquet`, one row an episode with the digests of its files; `quarantine.parquet`,
episodes that cannot be used, each with its reason; the files themselves where they are
generated."""

EPISODE_SHARDS = """\
Episodes of one lab as WebDataset tars: frames at training size beside exact robot states.

Each sample is `<key>.mp4` (left exterior camera, near-lossless; small frames as one lossless
png, stacked), `<key>.states.npy` float64 [T, 7] (xyz in metres, Euler angles in radians,
gripper 0 open to 1 closed) and `<key>.json`, listed in `index.parquet` with the frames a second
by the clock that was asked for (`clock`) and by the robot's own (`control_fps`).
Frames and states are aligned row by row: actions are differences of neighbouring states."""

DROID_LABS = (
    "AUTOLab", "CLVR", "GuptaLab", "ILIAD", "IPRL", "IRIS", "PennPAL", "RAD", "RAIL", "REAL",
    "RPL", "TRI", "WEIRD",
)  # fmt: skip


def labs(profile: Profile) -> tuple[str, ...]:
    """One partition a lab: those of the simulator by their names, `AUTOLab` as `lab-AUTOLab`."""
    return tuple(f"lab-{lab.removeprefix('lab-')}" for lab in profile.droid_episodes.labs)


# Many labs, few episodes in each: what is learned must hold in labs that were never recorded, and
# there, in the tuning labs, labs counted for more than episodes.
SHORT = episodes.EpisodesConfig(
    labs=labs_of("recording", 24), episodes=16, frames=12, hz=4.0, frame_size=128, faulty=1
)
SMALL = episode_shards.EpisodeShardsConfig(size=64, min_seconds=2.0, min_frames=3, codec="png")

NODES = (
    Node(
        stage=episodes.STAGE,
        group="robot",
        description=DROID_EPISODES,
        partitions=labs,
        gates=(quarantine_small("episodes.parquet", "episode", pooled=False),),
        scales={
            "demo": SHORT,
            "laptop": replace(SHORT, labs=labs_of("recording", 100)),
            "paper": episodes.EpisodesConfig(location="/data/droid", labs=DROID_LABS),
        },
        seconds=2.0,
        held=Held("episodes.parquet", "episode", "recording"),
    ),
    Node(
        stage=episode_shards.STAGE,
        group="robot",
        description=EPISODE_SHARDS,
        partitions=labs,
        reads=(same("droid_episodes"),),
        gates=(quarantine_small("index.parquet", "key", pooled=False),),
        scales={"demo": SMALL},
        seconds=0.8,
        held=Held("index.parquet", "episode", "stored episode"),
    ),
)
