"""One arm of a study: an encoder trained in one way from one seed, and read out on labelled clips.

Arms differ from a base recipe by assignments (`masks.use=one`). Each trains for as many steps as
cost about the same CPU seconds on one thread, by the loop that trains everything here; an arm of no
steps is an encoder that was never trained. Then its target encoder is frozen and read out by the
probe's linear and nearest-neighbour readouts.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from models.encoder import Encoder
from models.seeds import seeded_encoder
from pipelines.assignments import override
from pipelines.experiments.worlds import ReadoutConfig, load_encoder, read_out_worlds
from pipelines.settings import Natural, SettingError, settings
from pipelines.stage import Inputs
from pipelines.training.checkpoints import list_checkpoints
from pipelines.training.distributed import Workers
from pipelines.training.jepa import loop_settings
from pipelines.training.loop import one_thread_on, train
from pipelines.training.pretrain import PretrainConfig, build_main
from pipelines.training.runs import Run
from storage.artifacts import Artifact
from storage.work import LocalWork, Work


@settings
class Arm:
    """One way to train, as it differs from the study's base."""

    changes: tuple[str, ...] = ()
    """Assignments to settings of the base, e.g. "masks.use=one"."""
    steps: Natural
    """Steps that cost about as many CPU seconds as those of the other arms; 0: never trained."""


def arm_config(base: PretrainConfig, arm: Arm, seed: int) -> PretrainConfig:
    """The recipe of an arm: a tenth of its steps warm up, the others follow half a cosine.

    Raises:
        SettingError: a change names no setting of the base, or one that cannot be.
    """
    steps = max(1, arm.steps)
    warm = max(1, steps // 10)
    return replace(
        override(base, arm.changes),
        seed=seed,
        warmup_steps=warm,
        constant_steps=0,
        decay_steps=steps - warm,
        checkpoint_every=steps,
        diagnose_every=steps,
    )


@dataclass(frozen=True)
class ArmTask:
    """One arm from one seed, and the clips that it is read out on; pickles."""

    config: PretrainConfig
    trained: bool
    inputs: Mapping[str, Artifact]
    readout: ReadoutConfig
    work: Work


def run_arm(task: ArmTask) -> dict[str, Any]:
    """Train and read out.

    Returns:
        cpu_seconds: of the training; rows: source, readout, labels, successes, trials.
    """
    cpu = torch.device("cpu")
    with one_thread_on(cpu):
        started = time.process_time()
        encoder = trained_encoder(task, cpu)
        spent = time.process_time() - started
        rows = read_out_worlds(encoder, task.config.clip, task.inputs, task.readout)
    return {"cpu_seconds": spent, "rows": rows}


def trained_encoder(task: ArmTask, device: torch.device) -> Encoder:
    """What was trained, frozen: the target encoder, or the student of a fixed teacher."""
    config = task.config
    if not task.trained:
        untrained = seeded_encoder(config.encoder, config.seed, config.initialisation)
        return untrained.eval().requires_grad_(False)
    with task.work.room() as room:
        run = Run(LocalWork(room / "payload", room / "scratch"))
        build = functools.partial(build_main, config, Inputs(task.inputs))
        train(build, loop_settings("arm", config, config.steps), run, Workers(), device)
        final = list_checkpoints(run.folder)[config.steps]
        # A teacher that stands still has learned nothing: its student is what was trained.
        stands = config.ema == 1 and config.ema_end in (None, 1)
        learned = "encoder" if stands else "target_encoder"
        return load_encoder(final / f"{learned}.safetensors", config.encoder)


def check_arms(base: PretrainConfig, arms: Mapping[str, Arm]) -> None:
    """Refuse an arm whose changes cannot be: ValueError that begins with `arms`."""
    for name, arm in arms.items():
        try:
            arm_config(base, arm, 0)
        except SettingError as refused:
            raise ValueError(f"arms.{name}: {refused}") from None
