"""Checkpoints of one training: written aside, forced to disk, renamed; weights only.

    <folder>/checkpoints/step-000040/encoder.safetensors ...   one file per network
                                     optimizer.safetensors     AdamW's moments, by parameter name
                                     model.json                architecture and step
                                     rows.json                 log since the checkpoint before

A folder named step-NNNNNN is complete by construction, so the newest one is where a killed run
goes on. `publish` makes the run's checkpoints the payload of an artifact.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn, optim

from models.checkpoints import load_into, load_weights, save_weights
from pipelines.stage import Workspace
from storage.artifacts import Artifact
from storage.errors import InputError, curable
from storage.places import sync
from storage.tables import write_table
from storage.work import KeptFile, Work

Row = dict[str, Any]
_NAME = re.compile(r"step-(\d{6,})")


def checkpoint_name(step: int) -> str:
    """Folder name of the checkpoint after `step` steps, e.g. step-000040."""
    return f"step-{step:06d}"


def list_checkpoints(folder: Path) -> dict[int, Path]:
    """The complete checkpoints under folder/checkpoints: steps done -> folder, in that order."""
    found = {}
    for path in (folder / "checkpoints").glob("step-*"):
        if match := _NAME.fullmatch(path.name):
            found[int(match.group(1))] = path
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint of a training in progress; its files are opened one at a time."""

    step: int
    work: Work
    files: Mapping[str, KeptFile]
    """File name, e.g. encoder.safetensors -> where it is kept."""

    def file(self, name: str) -> Path:
        """One file on this machine."""
        return self.work.file(self.files[name])

    @property
    def model(self) -> dict[str, Any]:
        """What its model.json says: architecture and step."""
        return dict(json.loads(self.file("model.json").read_text()))


def published_checkpoints(trained: Artifact) -> dict[int, str]:
    """Steps done -> path of that checkpoint in a finished training, the earliest first."""
    folders = {path.split("/")[1] for path in trained.files("checkpoints/")}
    found = {int(m.group(1)): m.group(0) for name in folders if (m := _NAME.fullmatch(name))}
    if not found:
        raise InputError(f"{trained.manifest.name}: no checkpoint here; was this a training run?")
    return {step: f"checkpoints/{found[step]}" for step in sorted(found)}


def pick_checkpoint(trained: Artifact, step: int | None) -> str:
    """The path, in a finished training, of the checkpoint after `step` steps; None: the last one.

    Raises:
        ValueError: there is none, naming the steps that there are.
    """
    found = published_checkpoints(trained)
    if step is not None and step not in found:
        steps = ", ".join(map(str, found))
        name = trained.manifest.name
        raise InputError(f"no checkpoint after step {step} in {name}; there are: {steps}")
    return found[max(found) if step is None else step]


def write_checkpoint(
    folder: Path,
    step: int,
    networks: Mapping[str, nn.Module],
    optimizer: Mapping[str, Tensor],
    architecture: Mapping[str, Any],
    rows: Sequence[Row],
) -> Path:
    """Write the checkpoint after `step` steps crash-safely, and return its folder.

    One that is complete already is kept: the same run would write the same bytes, on the same
    device type and CPU capability.
    """
    final = folder / "checkpoints" / checkpoint_name(step)
    if final.is_dir():
        return final
    # Two runs may overlap for a moment, when one was killed and its workers have not noticed yet.
    aside = folder / "checkpoints" / f".{final.name}.{os.getpid()}.aside"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, network in networks.items():
        save_weights(aside / f"{name}.safetensors", _on_cpu(network.state_dict()))
    save_weights(aside / "optimizer.safetensors", _on_cpu(optimizer))
    model = {"architecture": dict(architecture), "step": step}
    (aside / "model.json").write_text(json.dumps(model, indent=2, sort_keys=True) + "\n")
    (aside / "rows.json").write_text(json.dumps(list(rows)))
    for path in sorted(aside.iterdir()):
        sync(path)
    sync(aside)
    try:
        aside.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(aside)
    sync(final.parent)
    return final


def load_networks(checkpoint: Path, networks: Mapping[str, nn.Module]) -> None:
    """Load every network's weights from a checkpoint folder, strictly.

    Raises:
        ValueError: a file is missing, or its tensors are not those of the network.
    """
    for name, network in networks.items():
        path = checkpoint / f"{name}.safetensors"
        if not path.is_file():
            raise InputError(f"{checkpoint}: no {path.name} here")
        with curable("checkpoint"):
            load_into(network, load_weights(path), str(path))


def optimizer_tensors(
    optimizer: optim.Optimizer, names: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """AdamW's state as `<parameter>/<step|exp_avg|exp_avg_sq>` -> tensor."""
    return {
        f"{name}/{key}": value
        for name, parameter in names.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(
    checkpoint: Path, optimizer: optim.Optimizer, names: Mapping[str, nn.Parameter]
) -> None:
    """Put AdamW's saved moments back, matched by parameter name.

    Raises:
        ValueError: the file has state of a parameter that this training does not have.
    """
    with curable("checkpoint"):
        saved = load_weights(checkpoint / "optimizer.safetensors")
    for label, value in saved.items():
        name, key = label.rsplit("/", 1)
        if name not in names:
            raise InputError(f"{checkpoint}/optimizer.safetensors has {name}, unknown to this run")
        optimizer.state[names[name]][key] = value.to(names[name].device)


def logged_rows(checkpoints: Iterable[Checkpoint]) -> list[Row]:
    """The log, from the checkpoints that cover it, in order."""
    return [row for found in checkpoints for row in json.loads(found.file("rows.json").read_text())]


def publish(
    checkpoints: Mapping[int, Checkpoint], out: Workspace, columns: Mapping[str, str]
) -> Checkpoint:
    """Make a finished run's checkpoints, log.parquet and model.json an artifact's payload.

    Safe to repeat. Weights that workers left in a bucket do not pass through this machine.

    Args:
        checkpoints: steps done -> checkpoint, in that order.
        out: the stage's workspace.
        columns: of log.parquet, name -> type.

    Returns:
        The final checkpoint.
    """
    shutil.rmtree(out.payload / "checkpoints", ignore_errors=True)
    for step, found in checkpoints.items():
        for name, kept in found.files.items():
            if name != "rows.json":
                out.publish(kept, f"checkpoints/{checkpoint_name(step)}/{name}")
    final = checkpoints[max(checkpoints)]
    model = final.model | {"final": f"checkpoints/{checkpoint_name(final.step)}"}
    (out.payload / "model.json").write_text(json.dumps(model, indent=2, sort_keys=True) + "\n")
    logged = logged_rows(checkpoints.values())
    rows = [{name: row.get(name) for name in columns} for row in logged]
    write_table(out.payload / "log.parquet", rows, columns)
    return final


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
