"""Checkpoints of one training: written aside, forced to disk, renamed; weights only.

    <folder>/checkpoints/step-000040/encoder.safetensors ...   one file per network
                                     optimizer.safetensors     AdamW's moments, by parameter name
                                     model.json                architecture and step
                                     rows.json                 log since the checkpoint before

A folder named step-NNNNNN is complete by construction, so the newest one is where a killed run
goes on. `publish` turns the run's folder into the payload of an artifact.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn, optim

from models.checkpoints import load_into, load_weights, save_weights
from storage.errors import InputError
from storage.tables import write_table

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


def pick_checkpoint(folder: Path, step: int | None) -> Path:
    """The checkpoint after `step` steps of a finished training, or its last one for None.

    Raises:
        ValueError: there is none, naming the steps that there are.
    """
    found = list_checkpoints(folder)
    if not found:
        raise InputError(f"{folder / 'checkpoints'}: no checkpoint here; was this a training run?")
    if step is None:
        return found[max(found)]
    if step not in found:
        steps = ", ".join(map(str, found))
        raise InputError(f"no checkpoint after step {step} in {folder}; there are: {steps}")
    return found[step]


def write_checkpoint(
    folder: Path,
    step: int,
    networks: Mapping[str, nn.Module],
    optimizer: Mapping[str, Tensor],
    architecture: Mapping[str, Any],
    rows: Sequence[Row],
) -> Path:
    """Write the checkpoint after `step` steps crash-safely, and return its folder.

    One that is complete already is kept: the same run would write the same bytes.
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
        _force_to_disk(path)
    _force_to_disk(aside)
    try:
        aside.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(aside)
    _force_to_disk(final.parent)
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
    saved = load_weights(checkpoint / "optimizer.safetensors")
    for label, value in saved.items():
        name, key = label.rsplit("/", 1)
        if name not in names:
            raise InputError(f"{checkpoint}/optimizer.safetensors has {name}, unknown to this run")
        optimizer.state[names[name]][key] = value.to(names[name].device)


def logged_rows(folder: Path, up_to: int) -> list[Row]:
    """The log of the first `up_to` steps, from the checkpoints that cover them."""
    rows: list[Row] = []
    for step, path in list_checkpoints(folder).items():
        if step <= up_to:
            rows += json.loads((path / "rows.json").read_text())
    return rows


def publish(folder: Path, payload: Path, columns: Mapping[str, str]) -> Path:
    """Write a finished run's checkpoints, log.parquet and model.json into an artifact's payload.

    Safe to repeat. Returns the final checkpoint inside the payload.
    """
    shutil.rmtree(payload / "checkpoints", ignore_errors=True)
    final = Path()
    for step, source in list_checkpoints(folder).items():
        final = payload / "checkpoints" / checkpoint_name(step)
        final.mkdir(parents=True)
        for path in sorted(source.iterdir()):
            if path.name != "rows.json":
                _link_or_copy(path, final / path.name)
    model = json.loads((final / "model.json").read_text())
    model["final"] = final.relative_to(payload).as_posix()
    (payload / "model.json").write_text(json.dumps(model, indent=2, sort_keys=True) + "\n")
    rows = [{name: row.get(name) for name in columns} for row in logged_rows(folder, model["step"])]
    write_table(payload / "log.parquet", rows, columns)
    return final


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _force_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
