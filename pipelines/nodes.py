"""The graph of this project: one line a group of assets, and what a deployment starts from.

raw_videos → scenes → scene_embeddings → clusters → curated_scenes → clip_shards → videomix22m
clusters → near_duplicates → leakage_guard → curated_scenes → curation_report
videomix22m → encoder → cooled_encoder → frame_features → world_model
droid_episodes → episode_shards → frame_features, world_model
cooled_encoder → probe_report;  world_model → planning_report;  all → planner_bundle
on request: mask_study, feature_study, learning_curve, robot_study
cooled_encoder (or a released file) → released_weights → benchmark_features ← benchmark_videos,
  benchmark_features → benchmark_report; released_weights → anticipation_report ← kitchen_films;
  video_qa_report: on request, too

Its profiles are the scales: PAPER is the defaults; DEMO (two CPU cores, minutes, no network) and
LAPTOP (an hour or two, by estimate) are declared beside each asset where they differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.curation import nodes as curation
from pipelines.curation.sources import SOURCES, Source, named_once
from pipelines.evaluation import nodes as evaluation
from pipelines.evaluation.anticipation import nodes as anticipation
from pipelines.evaluation.benchmarks import nodes as benchmarks
from pipelines.evaluation.video_qa import nodes as video_qa
from pipelines.experiments import nodes as experiments
from pipelines.node import Graph
from pipelines.planner import nodes as planner
from pipelines.robot import nodes as robot
from pipelines.training import nodes as training


def build_graph(sources: Sequence[Source] = SOURCES) -> Graph:
    """The graph over some sources."""
    return Graph(
        (
            *curation.nodes(named_once(sources)),
            *robot.NODES,
            *training.nodes(),
            *evaluation.NODES,
            *planner.NODES,
            *experiments.NODES,
            *benchmarks.NODES,
            *anticipation.NODES,
            *video_qa.NODES,
        )
    )


GRAPH = build_graph()
PROFILES = GRAPH.profiles
