"""Weights at rest: safetensors in and out, never a pickle that runs code.

A file holds named tensors and one canonical JSON of metadata; equal weights give equal bytes.
Reading checks names and shapes before a model takes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)

_METADATA = "vjepa2"


def save_weights(
    path: Path | str, state: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write tensors and JSON-able metadata to one file, atomically.

    It is written beside its place, then renamed. TypeError if the metadata has no JSON form.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One key only: safetensors writes several in no fixed order, and bytes would differ.
    text = json.dumps(dict(metadata or {}), sort_keys=True, allow_nan=False)
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in sorted(state.items())}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    aside = path.with_name(path.name + ".partial")
    save_file(tensors, aside, metadata={_METADATA: text})
    aside.replace(path)


def file_in(folder: Path | str, name: str) -> Path:
    """Where a file lies that a model folder's own JSON names; it may be missing.

    Whoever wrote the JSON may not be trusted: ValueError unless it is a plain file name. A link
    may lead to another file of the folder or, in a snapshot of the Hugging Face cache, to the
    cache's blobs of the same model; ValueError where one leads elsewhere.
    """
    top = Path(folder).resolve()
    if not name.isprintable() or name in ("", ".", "..") or {"/", "\\"} & set(name):
        raise ValueError(f"{folder} names {name!r}, which is no plain file name; do not use it")
    file = Path(os.path.realpath(top / name))
    blobs = top.parent.parent / "blobs" if top.parent.name == "snapshots" else top
    if file.parent not in (top, blobs):
        raise ValueError(f"{folder}: {name} is a link that leads elsewhere; copy the file in")
    return file


def load_weights(path: Path | str) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU. ValueError if it is not one."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error


def load_metadata(path: Path | str) -> dict[str, Any]:
    """The metadata that save_weights put into a file; empty for files of others."""
    try:
        with safe_open(path, framework="pt") as file:
            held = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    loaded: dict[str, Any] = json.loads(held.get(_METADATA, "{}"))
    return loaded


def load_into(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Give a module its weights, strictly; `name` says in the error what was being loaded.

    Raises ValueError that lists missing and unknown names, expected and found shapes, and values
    that are no dense tensors of real numbers; the module then keeps its weights.
    """
    own = module.state_dict()
    held = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    odd = [
        f"{key} is {_kind(value)}"
        for key, value in sorted(state.items())
        if key not in held or not _dense_real(value)
    ]
    missing = sorted(set(own) - set(state))
    unknown = sorted(set(state) - set(own))
    shapes = [
        f"{key} is {list(own[key].shape)} in the model and {list(state[key].shape)} in the file"
        for key in sorted(set(own) & set(held))
        if own[key].shape != state[key].shape
    ]
    problems = []
    if missing:
        problems.append(f"the file lacks {_some(missing)}")
    if unknown:
        problems.append(f"the model has no {_some(unknown)}")
    if shapes:
        problems.append(_some(shapes))
    if odd:
        problems.append(f"{_some(odd)}, no dense tensor of real numbers")
    if problems:
        raise ValueError(f"{name} does not fit {type(module).__name__}: {'; '.join(problems)}")
    with torch.no_grad():
        module.load_state_dict(dict(state), strict=True)


def empty(kind: Callable[[Any], Model], config: Any) -> Model:
    """A module whose memory is not yet filled, to be loaded strictly."""
    with torch.device("meta"):
        module = kind(config)
    module.to_empty(device="cpu")
    return module


def _dense_real(value: Tensor) -> bool:
    real = not value.is_complex() and not value.is_quantized
    return real and value.layout == torch.strided and value.device.type != "meta"


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{value.dtype}, {value.layout}, on {value.device.type}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
