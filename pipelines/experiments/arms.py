"""One arm of a study: an encoder trained in one way from one seed, and read out on labelled clips.

Arms differ from a base recipe by assignments (`masks.use=one`). Each trains for as many steps as
cost about the same CPU seconds on one thread, by the loop that trains everything here; an arm of no
steps is an encoder that was never trained. Then its target encoder is frozen and read out by the
probe's linear and nearest-neighbour readouts. An arm with a curriculum trains half of its steps
under further changes, and the other half goes on from the weights and moments of the first.
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
    first: tuple[str, ...] = ()
    """A curriculum: what holds besides in the first half of the steps; () is none."""
    steps: Natural
    """Steps that cost about as many CPU seconds as those of the other arms; 0: never trained."""


def arm_configs(base: PretrainConfig, arm: Arm, seed: int) -> tuple[PretrainConfig, ...]:
    """The recipe of an arm, or of each half of one with a curriculum.

    A tenth of the steps of each warm up, the others follow half a cosine.

    Raises:
        SettingError: a change names no setting of the base, or one that cannot be.
    """
    if not arm.first:
        return (_recipe(base, arm.changes, max(1, arm.steps), seed),)
    half = max(1, arm.steps // 2)
    first = _recipe(base, (*arm.changes, *arm.first), half, seed)
    return first, _recipe(base, arm.changes, max(1, arm.steps - half), seed)


def _recipe(
    base: PretrainConfig, changes: tuple[str, ...], steps: int, seed: int
) -> PretrainConfig:
    warm = max(1, steps // 10)
    return replace(
        override(base, changes),
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

    configs: tuple[PretrainConfig, ...]
    trained: bool
    inputs: Mapping[str, Artifact]
    readout: ReadoutConfig
    work: Work

    @property
    def config(self) -> PretrainConfig:
        """What the encoder is, and how its clips are cut, when it is read out."""
        return self.configs[-1]


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
        done, behind = None, 0
        for number, phase in enumerate(task.configs):
            run = Run(LocalWork(room / f"payload-{number}", room / f"scratch-{number}"))
            build = functools.partial(
                build_main, phase, Inputs(task.inputs), first_step=behind, start_from=done
            )
            train(build, loop_settings("arm", phase, phase.steps), run, Workers(), device)
            done = list_checkpoints(run.folder)[phase.steps]
            behind += phase.steps
        assert done is not None
        # A teacher that stands still has learned nothing: its student is what was trained.
        stands = config.ema == 1 and config.ema_end in (None, 1)
        learned = "encoder" if stands else "target_encoder"
        return load_encoder(done / f"{learned}.safetensors", config.encoder)


def check_arms(base: PretrainConfig, arms: Mapping[str, Arm]) -> None:
    """Refuse an arm whose changes cannot be: ValueError that begins with `arms`."""
    for name, arm in arms.items():
        try:
            arm_configs(base, arm, 0)
        except SettingError as refused:
            raise ValueError(f"arms.{name}: {refused}") from None
