"""Previews: what people would rather look at than numbers, drawn from a sealed artifact.

A preview takes an artifact and its inputs and gives title -> PNG. An asset without one shows its
numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from assets.previews import (
    anticipation,
    benchmarks,
    curation,
    evaluation,
    experiments,
    robot,
    training,
    video_qa,
)
from pipelines.stage import Inputs
from storage.artifacts import Artifact

Preview = Callable[[Artifact, Inputs], Mapping[str, bytes]]
"""Draws an artifact (its inputs beside it): title -> PNG."""

PREVIEWS: Mapping[str, Preview] = {
    preview.__name__: preview
    for preview in (
        curation.raw_videos,
        curation.scenes,
        curation.scene_embeddings,
        curation.clusters,
        curation.near_duplicates,
        curation.leakage_guard,
        curation.curated_scenes,
        curation.curation_report,
        curation.clip_shards,
        curation.videomix22m,
        robot.droid_episodes,
        robot.episode_shards,
        training.encoder,
        training.cooled_encoder,
        training.world_model,
        evaluation.probe_report,
        evaluation.planning_report,
        evaluation.planner_bundle,
        experiments.mask_study,
        experiments.feature_study,
        experiments.learning_curve,
        experiments.robot_study,
        benchmarks.benchmark_videos,
        benchmarks.benchmark_report,
        anticipation.kitchen_films,
        anticipation.anticipation_report,
        video_qa.video_qa_report,
    )
}
"""Asset -> its preview."""
