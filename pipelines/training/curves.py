"""Curves of a running training for TensorBoard and MLflow, where the settings ask for them.

The main worker writes each step's numbers as they come; nothing of it is part of an artifact. A
training that is resumed goes on in the same run, which is named by its recipe.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from storage.errors import InputError

EXTRAS = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
"""Setting of the execution -> the package that it needs; the extra has the setting's name."""
_RECIPE = "vjepa2.recipe"
_SEND_EVERY = 5.0  # seconds


class Curves(Protocol):
    """Somewhere that curves go."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Note the numbers of a step, counted from 1."""
        ...

    def close(self, finished: bool) -> None:
        """Have everything where it belongs, and say whether the training came to its end."""
        ...


def check_packages(tensorboard: Path | None, mlflow: str | None) -> None:
    """Refuse a setting whose package is not installed, before anything is trained.

    Raises:
        InputError: with the extra that brings it.
    """
    for name, value in {"tensorboard": tensorboard, "mlflow": mlflow}.items():
        if value is not None and importlib.util.find_spec(EXTRAS[name]) is None:
            raise InputError(
                f"execution.{name} = {value}: the package {EXTRAS[name]} is not installed; "
                f"install this project with the extra {name}"
            )


def open_curves(
    tensorboard: Path | None, mlflow: str | None, noun: str, recipe: str, done: int
) -> list[Curves]:
    """Where the curves of a training go that has `done` steps behind it."""
    opened: list[Curves] = []
    if tensorboard is not None:
        opened.append(_TensorBoard(tensorboard / f"{noun}-{recipe[:12]}", done))
    if mlflow is not None:
        opened.append(_Safe(mlflow, noun, recipe))
    return opened


class _TensorBoard:
    """An event file in the folder of a training."""

    def __init__(self, folder: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What an earlier session wrote beyond its last checkpoint is trained again.
        self._writer: Any = SummaryWriter(str(folder), purge_step=done + 1 if done else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, finished: bool) -> None:  # noqa: ARG002 (event files know no end)
        self._writer.close()


class _MlFlow:
    """A run of the experiment `vjepa2`, found again by its recipe."""

    def __init__(self, uri: str, noun: str, recipe: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Metric
        from mlflow.tracking import MlflowClient

        self._metric, self._client = Metric, MlflowClient(tracking_uri=uri)
        self._waiting: list[Any] = []
        self._sent = time.monotonic()
        known = self._client.get_experiment_by_name("vjepa2")
        place = known.experiment_id if known else self._client.create_experiment("vjepa2")
        wanted = f"tags.`{_RECIPE}` = '{recipe}'"
        found = self._client.search_runs([place], filter_string=wanted, max_results=1)
        run = found[0] if found else self._client.create_run(
            place, tags={_RECIPE: recipe}, run_name=f"{noun}-{recipe[:12]}"
        )  # fmt: skip
        self._run = run.info.run_id
        self._client.update_run(self._run, status="RUNNING")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._waiting += [self._metric(name, value, now, step) for name, value in values.items()]
        if time.monotonic() - self._sent >= _SEND_EVERY:
            self._send()

    def close(self, finished: bool) -> None:
        self._send()
        self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")

    def _send(self) -> None:
        for first in range(0, len(self._waiting), 1000):  # as many as a request may hold
            self._client.log_batch(self._run, metrics=self._waiting[first : first + 1000])
        self._waiting, self._sent = [], time.monotonic()


class _Safe:
    """MLflow, whose server may be away: that is told once on stderr, and ends no training."""

    def __init__(self, uri: str, noun: str, recipe: str) -> None:
        self._curves: _MlFlow | None = None
        self._try(lambda: setattr(self, "_curves", _MlFlow(uri, noun, recipe)))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if curves := self._curves:
            self._try(lambda: curves.write(step, values))

    def close(self, finished: bool) -> None:
        if curves := self._curves:
            self._try(lambda: curves.close(finished))

    def _try(self, call: Any) -> None:
        try:
            call()
        except Exception as error:  # whatever a server or its client may raise
            reason = " ".join(str(error).split())[:200]
            print(f"    MLflow has no curves of this run: {reason}", file=sys.stderr, flush=True)
            self._curves = None
