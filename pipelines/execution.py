"""Execution: how stages are run, as the settings and the launchpad say it.

It stands apart from `pipelines.stage`, which an exported planner imports where there is no
pydantic.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pipelines.provenance import default_home
from pipelines.settings import Count, Natural, between, settings


@settings
class ExecutionConfig:
    """How a stage is run: recorded beside the artifact, never part of the recipe."""

    workers: Count = 2
    """Ray workers of a stage."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where tensors live: cpu or cuda."""
    activation_checkpointing: Literal["off", "selective", "full"] = "off"
    """What trainings, whichever, compute again in the backward pass: nothing; all of a block but
    its matrix products and attention; all of it. Less memory, equal numbers."""
    stream_mb: Annotated[int, between(1, 1 << 20)] = 64
    """Megabytes of vectors, or of rows of a table, that a stage reads at a time."""
    loader_threads: Natural | None = None
    """Threads of each training worker that prepare batches ahead; None: two beside a GPU, none on a
    CPU, whose cores compute."""
    loader_depth: Count = 2
    """Batches that these threads keep ready, at most; never changes a batch."""
    tensorboard: Path | None = None
    """A folder for the curves of trainings, as TensorBoard reads them; needs the extra
    `tensorboard`."""
    mlflow: str | None = None
    """The tracking URI of an MLflow that is told the curves too; needs the extra `mlflow`. Name and
    password belong in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""
    cache: Path = field(default_factory=lambda: default_home() / "cache")
    """A folder for what may be lost: digests of source files, copies of S3 objects."""
    unsigned: Literal["accept", "tell", "refuse"] = "tell"
    """What a run does with an artifact of the store that neither this deployment's key nor a
    trusted one signed: use it, use it and tell, or make its own."""
    takedowns: str | None = None
    """The list of files that must never be used again; None: the one of the deployment, in its
    store."""

    ledger: str | None = None
    """Where it is written down what became of each file of a source; None: the ledger of the
    deployment, in its store."""

    def __post_init__(self) -> None:
        if self.mlflow and "@" in urlsplit(self.mlflow).netloc:
            raise ValueError(
                "mlflow: a name or password in the URI would be shown with the settings; give them "
                "in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )

    @property
    def threads(self) -> int:
        """Threads of each training worker that prepare batches."""
        if self.loader_threads is None:
            return 2 if self.device == "cuda" else 0
        return self.loader_threads
