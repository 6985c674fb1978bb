"""What the training loop asks of whatever it trains: a task, and how it is to be trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from models.transformer import Checkpointing
from pipelines.execution import ExecutionConfig
from pipelines.settings import Count, Momentum, Natural, Positive, settings
from pipelines.training.distributed import is_power_of_two
from pipelines.training.reductions import Reduction


class Task(Protocol):
    """What is trained. Everything is a function of (step, shard): step 0 is the first."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """What a checkpoint holds, one safetensors file per name."""
        ...

    @property
    def trained(self) -> tuple[str, ...]:
        """Those of the networks that AdamW updates (parameters without gradients excepted)."""
        ...

    @property
    def start_from(self) -> Path | None:
        """A checkpoint folder whose weights and optimizer moments the first step starts from."""
        ...

    def schedule(self, step: int, /) -> dict[str, float]:
        """Numbers of this step for the log; "lr" and "weight_decay" drive AdamW."""
        ...

    def batch(self, step: int, shard: int, /) -> Any:
        """The shard's inputs in host memory. Threads may call it ahead of time, side by side."""
        ...

    def loss(self, batch: Any, step: int, shard: int, /) -> tuple[Tensor, dict[str, Tensor]]:
        """The shard's loss [] and further scalars [] for the log (same names for every shard)."""
        ...

    def after_step(self, step: int, /) -> None:
        """What follows the optimizer's step, e.g. the moving average of the target encoder."""
        ...

    def diagnose(self) -> dict[str, float]:
        """Slower measurements of the networks as they are now, for the log."""
        ...

    def architecture(self) -> dict[str, Any]:
        """What a reader needs to build the networks again."""
        ...


@runtime_checkable
class DrawsFromSources(Protocol):
    """A task whose samples come from several sources."""

    @property
    def drawn(self) -> Mapping[str, int]:
        """Source -> samples of it that this worker has trained on in this session."""
        ...


Build = Callable[[torch.device], Task]
"""Makes a task on a device: a functools.partial of a top-level function (it must pickle)."""


class _HasPrecision(Protocol):
    @property
    def precision(self) -> str: ...


Config = TypeVar("Config", bound=_HasPrecision)


def with_real_precision(config: Config, execution: ExecutionConfig) -> Config:
    """The config with the precision that its device computes in: float32 on a CPU."""
    if execution.device == "cpu":
        return dataclasses.replace(config, precision="float32")  # type: ignore[type-var]
    return config


class _TrainingConfig(Protocol):
    """What the config of every training has."""

    @property
    def batch(self) -> int: ...
    @property
    def gradient_shards(self) -> int: ...
    @property
    def reduction(self) -> Reduction: ...
    @property
    def checkpoint_every(self) -> int: ...
    @property
    def diagnose_every(self) -> int: ...
    @property
    def precision(self) -> Literal["bfloat16", "float32"]: ...


@settings
class LoopSettings:
    """What the loop needs to know about a training besides its task."""

    noun: str
    """What is being trained, for messages."""
    steps: Count
    samples_per_step: Count
    """Size of the global batch."""
    gradient_shards: Count
    """Parts of the batch whose gradients are computed apart: a power of two."""
    reduction: Reduction = "tree"
    """How gradients of all workers become one."""
    checkpoint_every: Count
    diagnose_every: Count
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic on a GPU: float32, or bfloat16 (autocast). A CPU always computes in float32."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    max_gradient_norm: Positive | None = None
    """Longer gradients are shortened to this norm; None: they stay as they are."""
    activation_checkpointing: Checkpointing = "off"
    """What of a block is computed again in the backward pass; never changes a result."""
    loader_threads: Natural = 0
    """Threads that prepare batches ahead; 0: each is made when its turn comes."""
    loader_depth: Count = 2
    """Batches that threads keep ready, at most; never changes a result."""
    tensorboard: Path | None = None
    """A folder for curves, as TensorBoard reads them."""
    mlflow: str | None = None
    """The tracking URI of an MLflow that is told the curves too."""

    def __post_init__(self) -> None:
        check_shards("samples_per_step", self.samples_per_step, self.gradient_shards)

    @classmethod
    def of(cls, noun: str, config: _TrainingConfig, steps: int, **more: Any) -> Self:
        """The loop of a stage's config."""
        return cls(
            noun=noun,
            steps=steps,
            samples_per_step=config.batch,
            gradient_shards=config.gradient_shards,
            reduction=config.reduction,
            checkpoint_every=config.checkpoint_every,
            diagnose_every=config.diagnose_every,
            precision=config.precision,
            **more,
        )

    def run_by(self, execution: ExecutionConfig) -> Self:
        """The same training, run as it is said there."""
        return dataclasses.replace(
            self,
            activation_checkpointing=execution.activation_checkpointing,
            loader_threads=execution.threads,
            loader_depth=execution.loader_depth,
            tensorboard=execution.tensorboard,
            mlflow=execution.mlflow,
        )


def check_shards(name: str, batch: int, shards: int) -> None:
    """Refuse a number of gradient shards that no batch, or not this one, divides into.

    Raises ValueError that begins with the name of a setting: gradient_shards, or the batch's.
    """
    if not is_power_of_two(shards):
        raise ValueError(
            f"gradient_shards = {shards}: must be a power of two, because shards are summed in a "
            "binary tree"
        )
    if batch % shards:
        raise ValueError(
            f"{name}: a batch of {batch} does not divide into gradient_shards = {shards}"
        )
