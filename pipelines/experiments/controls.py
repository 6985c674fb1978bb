"""Encoders that the robot's loop is tried with, each by one recipe from several seeds.

An arm is how an encoder came to be:

    pretrained   the main phase and the cool-down, as the graph's own
    stills       the same on clips whose frames are all one: what pictures teach, without motion
    random       the same architecture, never trained
    raw          no encoder: the pixels of each patch, layer-normed

A partition is an arm and a seed (`stills-1`). The assets follow each other as the graph's own do:
`control_encoder`, `control_cooled_encoder`, `control_frame_features`, `control_world_model`,
`control_planning`; the last three are made by the very stages of the graph, with other inputs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, field, replace
from typing import Annotated, Any

from models.checkpoints import save_weights
from models.encoder import Encoder
from models.seeds import raw_patches, seeded_encoder
from pipelines.evaluation import planning
from pipelines.execution import ExecutionConfig
from pipelines.planner.weights import open_encoder
from pipelines.settings import DIFFERENT, NOT_EMPTY, Natural, settings
from pipelines.stage import Inputs, Stage, Workspace
from pipelines.training import frame_features, posttrain
from pipelines.training.checkpoints import checkpoint_name
from pipelines.training.frame_features import FrameFeaturesConfig
from pipelines.training.posttrain import PosttrainConfig
from pipelines.training.pretrain import CooldownConfig, PretrainConfig, run_cooldown, run_main
from pipelines.training.tasks import with_real_precision
from storage.artifacts import Artifact

ARMS = ("pretrained", "random", "stills", "raw")
TRAINED = ("pretrained", "stills")


def arm_of(partition: str | None) -> tuple[str, int]:
    """Arm and seed of a partition: `stills-1` -> stills, 1."""
    arm, _, seed = str(partition).rpartition("-")
    return arm, int(seed)


@settings
class ControlEncoderConfig:
    """How the encoders of all arms come to be."""

    main: PretrainConfig = field(default_factory=PretrainConfig)
    """The main phase; untrained arms take its architecture and initialisation."""
    seeds: Annotated[tuple[Natural, ...], NOT_EMPTY, DIFFERENT] = (0, 1, 2)
    """Every arm is made with each."""

    @property
    def partitions(self) -> tuple[str, ...]:
        """Every arm with every seed, a whole round of arms first."""
        return tuple(f"{arm}-{seed}" for seed in self.seeds for arm in ARMS)


@settings
class EncoderArm:
    """What one partition depends on."""

    arm: str
    main: PretrainConfig


@settings
class CooledArm:
    """What the cool-down of one partition depends on; of an untrained arm, on nothing."""

    arm: str
    cooldown: CooldownConfig | None


def encoder_arm(config: ControlEncoderConfig, partition: str | None) -> EncoderArm:
    """The part of the config that a partition depends on."""
    arm, seed = arm_of(partition)
    main = replace(config.main, seed=seed)
    if arm == "stills":
        # A still loses all of itself when it is centred over time.
        main = replace(main, clip=replace(main.clip, still=True), centre="none")
    return EncoderArm(arm=arm, main=main)


def cooled_arm(config: CooldownConfig, partition: str | None) -> CooledArm:
    """The part of the config that a partition depends on."""
    arm, seed = arm_of(partition)
    if arm not in TRAINED:
        return CooledArm(arm=arm, cooldown=None)
    cooldown = replace(config, seed=seed)
    if arm == "stills":
        cooldown = replace(cooldown, clip=replace(config.clip, still=True), centre="none")
    return CooledArm(arm=arm, cooldown=cooldown)


def run_encoder(config: EncoderArm, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Train the main phase of a trained arm; publish the weights of an untrained one."""
    main = config.main
    if config.arm in TRAINED:
        return run_main(main, inputs, out)
    if config.arm == "raw":
        return publish_untrained(raw_patches(main.encoder), out)
    return publish_untrained(seeded_encoder(main.encoder, main.seed, main.initialisation), out)


def run_cooled(config: CooledArm, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Cool a trained arm down; hand an untrained one on."""
    encoder = inputs["control_encoder"]
    if config.cooldown is None:
        return publish_untrained(open_encoder(encoder), out)
    return run_cooldown(config.cooldown, Inputs({**inputs, "encoder": encoder}), out)


def publish_untrained(encoder: Encoder, out: Workspace) -> dict[str, Any]:
    """An encoder as the artifact of a training of no steps."""
    final = f"checkpoints/{checkpoint_name(0)}"
    save_weights(out.payload / final / "target_encoder.safetensors", encoder.state_dict())
    model = {"architecture": {"encoder": asdict(encoder.config)}, "final": final, "step": 0}
    (out.payload / "model.json").write_text(json.dumps(model, indent=2, sort_keys=True) + "\n")
    return {"steps": 0}


def _of_the_graph(inputs: Inputs) -> Inputs:
    """Inputs under the names that the graph's own stages know."""
    names = {
        "control_cooled_encoder": "cooled_encoder", "control_frame_features": "frame_features",
        "control_world_model": "world_model",
    }  # fmt: skip

    def name(key: str) -> str:
        asset, _, _ = key.partition("/")
        return names.get(asset, key)

    return Inputs({name(key): artifact for key, artifact in inputs.items()})


def run_features(config: FrameFeaturesConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """The graph's own features of every robot frame, by an arm's encoder."""
    return frame_features.run(config, _of_the_graph(inputs), out)


def run_world_model(config: PosttrainConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """The graph's own post-training on an arm's encoder."""
    return posttrain.run(config, _of_the_graph(inputs), out)


def run_planning(config: planning.PlanningConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """The graph's own trials with an arm's encoder and world model."""
    return planning.run(config, _of_the_graph(inputs), out)


def _with_seed(config: PosttrainConfig, partition: str | None) -> PosttrainConfig:
    return replace(config, seed=arm_of(partition)[1])


def _real_encoder(config: EncoderArm, execution: ExecutionConfig) -> EncoderArm:
    return replace(config, main=with_real_precision(config.main, execution))


def _real_cooldown(config: CooledArm, execution: ExecutionConfig) -> CooledArm:
    if config.cooldown is None:
        return config
    return replace(config, cooldown=with_real_precision(config.cooldown, execution))


ENCODER = Stage(
    "control_encoder", version=1, config=ControlEncoderConfig, run=run_encoder, narrow=encoder_arm,
    resolve=_real_encoder, on_device=True,
)  # fmt: skip
COOLED_ENCODER = Stage(
    "control_cooled_encoder", version=1, config=CooldownConfig, run=run_cooled, narrow=cooled_arm,
    resolve=_real_cooldown, on_device=True,
)  # fmt: skip
FEATURES = Stage(
    "control_frame_features", version=1, config=FrameFeaturesConfig, run=run_features,
    on_device=True,
)  # fmt: skip
WORLD_MODEL = Stage(
    "control_world_model", version=2, config=PosttrainConfig, run=run_world_model,
    narrow=_with_seed, resolve=with_real_precision, on_device=True,
)  # fmt: skip
PLANNING = Stage(
    "control_planning", version=3, config=planning.PlanningConfig, run=run_planning, on_device=True
)


def final_rates(report: Artifact) -> dict[str, Any]:
    """What a planning artifact says of the planner in unseen labs.

    Returns:
        reached, passed: successes and trials; final_cm: the median distance to the goal at the end;
        motion_error_cm: from the motion of least energy to the true one, the mean over landscapes.
    """
    told = report.json("report.json")
    planner = told["policies"]["planner"]["pooled"]
    errors = [found["error_cm"] for found in told["landscapes"].values()]
    return {kind: planner[kind] for kind in ("reached", "passed")} | {
        "final_cm": planner["final_cm"]["median"],
        "motion_error_cm": sum(errors) / len(errors),
    }
