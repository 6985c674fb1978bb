"""Profiles: every number of a scale as one Python value. PAPER is the defaults."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from models.encoder import EncoderConfig
from pipelines.curation.clip_shards import ClipShardsConfig
from pipelines.curation.clusters import ClustersConfig
from pipelines.curation.embeddings import EmbeddingsConfig
from pipelines.curation.ingest import RawVideosConfig, SourceConfig, SourcesConfig
from pipelines.curation.internet import CountsConfig, InternetConfig
from pipelines.curation.mixture import MixtureConfig
from pipelines.curation.retrieval import RetrievalConfig
from pipelines.curation.scenes import ScenesConfig
from pipelines.evaluation.features import ViewConfig
from pipelines.evaluation.planning import PlanningConfig
from pipelines.evaluation.probe import ProbeConfig
from pipelines.evaluation.probing import HeadConfig
from pipelines.gates import GateConfig
from pipelines.planner.bundle import BundleConfig
from pipelines.planner.cem import PlannerConfig
from pipelines.planner.world import Preprocessing
from pipelines.robot.episode_shards import EpisodeShardsConfig
from pipelines.robot.episodes import EpisodesConfig
from pipelines.stage import ExecutionConfig
from pipelines.training.clips import ClipConfig
from pipelines.training.posttrain import PosttrainConfig
from pipelines.training.pretrain import CooldownConfig, PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One scale of the whole graph: a section per stage, as `--set section.field` names it."""

    raw_videos: RawVideosConfig = field(default_factory=RawVideosConfig)
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    embeddings: EmbeddingsConfig = field(default_factory=EmbeddingsConfig)
    clusters: ClustersConfig = field(default_factory=ClustersConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    shards: ClipShardsConfig = field(default_factory=ClipShardsConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    episodes: EpisodesConfig = field(default_factory=EpisodesConfig)
    episode_shards: EpisodeShardsConfig = field(default_factory=EpisodeShardsConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    cooldown: CooldownConfig = field(default_factory=CooldownConfig)
    posttrain: PosttrainConfig = field(default_factory=PosttrainConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    planning: PlanningConfig = field(default_factory=PlanningConfig)
    planner: BundleConfig = field(default_factory=BundleConfig)
    gates: GateConfig = field(default_factory=GateConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)


BUCKETS = {"yt1b": 1024, "howto100m": 64, "kinetics": 16, "ssv2": 4, "imagenet": 16}
"""Partitions of the paper's sources: none of more than about twenty thousand files."""

DROID_LABS = (
    "AUTOLab", "CLVR", "GuptaLab", "ILIAD", "IPRL", "IRIS", "PennPAL", "RAD", "RAIL", "REAL",
    "RPL", "TRI", "WEIRD",
)  # fmt: skip


def _paper() -> Profile:
    """The paper's run. The data has to be there: every source names its folder or bucket."""
    sources = {
        source.name: SourceConfig(
            location=f"/data/{source.name}", buckets=BUCKETS.get(source.name, 1)
        )
        for source in fields(SourcesConfig)
    }
    return Profile(
        raw_videos=RawVideosConfig(sources=SourcesConfig(**sources)),
        embeddings=EmbeddingsConfig(weights="/data/dinov2-large", batch=256),
        episodes=EpisodesConfig(location="/data/droid", labs=DROID_LABS),
        execution=ExecutionConfig(workers=128, device="cuda"),
    )


def _demo_pretrain() -> PretrainConfig:
    """A ViT of 0.8 million parameters on clips of 8 frames of 64 pixels."""
    return PretrainConfig(
        clip=ClipConfig(frames=8, crop=64),
        encoder=EncoderConfig(
            width=128, depth=4, heads=4, mlp_hidden=512, patch=8, frames=8, size=64
        ),
        predictor_width=64,
        predictor_depth=2,
        predictor_heads=2,
        batch=16,
        gradient_shards=2,
        warmup_steps=20,
        constant_steps=140,
        lr_start=1e-4,
        lr=1e-3,
        ema=0.996,
        context_weight=0.5,
        checkpoint_every=60,
        diagnose_every=20,
    )


def _demo_cooldown() -> CooldownConfig:
    """More frames and higher resolution, as in the paper; a tenth of the steps."""
    return CooldownConfig(
        clip=ClipConfig(frames=12, crop=80),
        batch=8,
        gradient_shards=2,
        steps=24,
        lr=1e-3,
        lr_end=2e-6,
        ema=0.996,
        context_weight=0.5,
        checkpoint_every=12,
        diagnose_every=6,
    )


def _demo_posttrain() -> PosttrainConfig:
    """A small world model leaves the plateau of copying by these options (see PosttrainConfig)."""
    return PosttrainConfig(
        width=128,
        depth=3,
        heads=4,
        residual=True,
        token_merge=2,
        preprocessing=Preprocessing(size=64),
        frames=3,
        strides=(1, 2, 3, 4),
        batch=24,
        gradient_shards=2,
        rollout_from=1200,
        change_weight=0.7,
        normalise=True,
        warmup_steps=50,
        constant_steps=900,
        decay_steps=650,
        lr_start=6e-5,
        lr=3e-3,
        lr_end=6e-5,
        cache="float32",
        checkpoint_every=400,
        diagnose_every=400,
    )


def _demo_probe() -> ProbeConfig:
    """A probe of one block: a few hundred clips do not train the paper's four."""
    return ProbeConfig(
        views=ViewConfig(
            frames=8, size=64, segments=1, train_views=2, views=1, crop_scale=(0.6, 1.0)
        ),
        head=HeadConfig(
            depth=1,
            heads=4,
            epochs=30,
            batch=16,
            warmup=0.1,
            initial="fan_in",
            standardise=True,
            positions=True,
        ),
        lrs=(1e-3, 3e-3),
        weight_decays=(0.1,),
    )


def _demo() -> Profile:
    """The whole graph in minutes on two CPU cores, with no network."""
    return Profile(
        raw_videos=RawVideosConfig(sources=SourcesConfig(yt1b=SourceConfig(buckets=4))),
        scenes=ScenesConfig(min_seconds=2.0),
        embeddings=EmbeddingsConfig(model="efficientnet_lite0", size=128),
        clusters=ClustersConfig(clusters=40, iterations=20),
        retrieval=RetrievalConfig(budget=200),
        shards=ClipShardsConfig(short_side=80, shard_samples=100),
        episodes=EpisodesConfig(episodes=200, frames=12, hz=4.0, frame_size=128),
        episode_shards=EpisodeShardsConfig(size=64, min_seconds=2.0, codec="png"),
        pretrain=_demo_pretrain(),
        cooldown=_demo_cooldown(),
        posttrain=_demo_posttrain(),
        probe=_demo_probe(),
        planning=PlanningConfig(
            search=PlannerConfig(
                samples=64,
                iterations=4,
                gripper=False,
                solution="best",
                momentum_mean=0.0,
                momentum_std=0.0,
                workspace=(0.30, -0.30, 0.02, 0.68, 0.30, 0.48),
                stop_margin=0.0,
            ),
            trials=15,
            frame_size=128,
            landscape_points=15,
        ),
    )


def _laptop(demo: Profile) -> Profile:
    """An evening: DEMO's models, five times the data, ten times the steps."""
    counts = CountsConfig(ssv2=1600, kinetics=120, howto100m=40, yt1b=500, imagenet=80)
    return replace(
        demo,
        raw_videos=replace(demo.raw_videos, internet=InternetConfig(counts=counts)),
        clusters=replace(demo.clusters, clusters=200),
        retrieval=replace(demo.retrieval, budget=1000),
        episodes=replace(demo.episodes, episodes=1000),
        pretrain=replace(
            demo.pretrain, warmup_steps=200, constant_steps=1800, ema=0.998, checkpoint_every=200
        ),
        cooldown=replace(demo.cooldown, steps=240, ema=0.998, checkpoint_every=60),
        posttrain=replace(
            demo.posttrain, warmup_steps=500, constant_steps=12_000, decay_steps=4_000,
            rollout_from=10_000, checkpoint_every=2_000,
        ),
        planning=replace(demo.planning, trials=50),
    )  # fmt: skip


PAPER = _paper()
DEMO = _demo()
LAPTOP = _laptop(DEMO)
PROFILES = {"demo": DEMO, "laptop": LAPTOP, "paper": PAPER}
