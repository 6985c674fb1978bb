"""Reading files in the official layout: dictionaries of weights pickled by torch.

Layouts, as released:
- pretraining: {encoder, predictor, target_encoder, …}, names under ``module.backbone.``
- action-conditioned: {encoder, predictor, …}, names under ``module.``
- probes: {classifiers: [weights, …], …}, names under ``module.``

Reading never runs code from a file (weights only), strips prefixes at the start of names alone, and
loads strictly. What shapes cannot tell is asked for: the head count decides how a projection is
cut into heads, and a wrong one loads without a complaint and gives wrong numbers.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.attentive_probe import AttentiveProbe
from models.checkpoints import empty, load_into
from models.encoder import PUBLISHED, Encoder, EncoderConfig
from models.predictor import Predictor, PredictorConfig
from models.rotary import Numerics
from models.world_model import WorldModel, WorldModelConfig

_PREFIXES = ("module.", "backbone.")
_POSITIONS = frozenset({"pos_embed", "predictor_pos_embed"})
NORMALISERS = ("action_mean", "action_std", "state_mean", "state_std")


def read_official(path: Path | str) -> dict[str, Any]:
    """The dictionary in a ``.pt`` file, on the CPU; ValueError if it is no such file, or unsafe."""
    with Path(path).open("rb") as file:
        start = file.read(2)
    if start != b"PK" and not start.startswith(b"\x80"):
        raise ValueError(f"{path} is not a checkpoint: neither a zip of tensors nor a pickle")
    try:
        # Mapped, since optimizer states in these files are often larger than the weights wanted.
        mapped = zipfile.is_zipfile(path)
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is refused: it is damaged, or holds more than tensors and plain values, which "
            f"could run code on loading{_refused(str(error))}"
        ) from error
    except _DAMAGED as error:
        raise ValueError(f"{path} is not a readable checkpoint: {error}") from error
    if isinstance(held, dict):
        return held
    raise ValueError(f"{path} holds a {type(held).__name__}; a checkpoint is a dictionary")


_DAMAGED = (
    AssertionError, AttributeError, EOFError, IndexError, KeyError, OSError, RuntimeError,
    TypeError, ValueError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What torch.load raises of a file whose bytes were changed."""


def _refused(message: str) -> str:
    """Which name torch refused, if its message tells; else how that begins."""
    named = re.search(r"GLOBAL\s+([\w.]+)", message)
    return f": {named[1] if named else message.splitlines()[0]}"


def part_of(checkpoint: Mapping[str, Any], key: str) -> dict[str, Tensor]:
    """Weights under a key, names without prefixes, without the stray position tables.

    Raises ValueError if the key is missing, if it holds no weights, or if two names become one.
    """
    found = checkpoint.get(key)
    state: dict[str, Tensor] = {}
    for name, tensor in found.items() if isinstance(found, Mapping) else ():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{key!r} holds {name!r}, a {type(tensor).__name__}, and no weights")
        plain = _plain(name)
        if plain in state:
            raise ValueError(f"two names become {plain!r} without their prefixes")
        if plain not in _POSITIONS:
            state[plain] = tensor
    if not state:
        raise ValueError(f"no weights under {key!r}; the file has {sorted(map(str, checkpoint))}")
    return state


def load_official_encoder(
    path: Path | str,
    *,
    key: str = "target_encoder",
    heads: int | None = None,
    size: int = 256,
    frames: int = 64,
    numerics: Numerics = "official",
) -> Encoder:
    """An encoder from a released file.

    `key` ``target_encoder`` is the averaged one, ``encoder`` the online one; `heads` is needed
    where shapes allow several (ViT-g: 22).
    """
    state = part_of(read_official(path), key)
    config = encoder_config(state, heads=heads, size=size, frames=frames, numerics=numerics)
    encoder = empty(Encoder, config)
    load_into(encoder, state, f"{key!r} of {path}")
    return encoder


def encoder_config(
    state: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    size: int = 256,
    frames: int = 64,
    numerics: Numerics = "official",
) -> EncoderConfig:
    """The architecture that weights belong to, from their shapes and the published sizes."""
    kernel = _shape(state, "patch_embed.proj.weight", 5)
    width, depth = kernel[0], _depth(state, "blocks")
    hidden = _shape(state, "blocks.0.mlp.fc1.weight", 2)[0]
    fitting = {
        (name, config.heads)
        for name, config in PUBLISHED.items()
        if (config.width, config.depth, config.mlp_hidden) == (width, depth, hidden)
    }
    return EncoderConfig(
        width=width,
        depth=depth,
        heads=_heads(heads, fitting, f"an encoder of width {width} and depth {depth}"),
        mlp_hidden=hidden,
        patch=kernel[3],
        tubelet=kernel[2],
        frames=frames,
        size=size,
        numerics=numerics,
    )


def load_official_predictor(
    path: Path | str,
    *,
    heads: int | None = None,
    mask_tokens: int | None = None,
    numerics: Numerics = "official",
) -> Predictor:
    """The predictor of a released pretraining file.

    `heads` is needed unless the width is the published 384 (12 heads). `mask_tokens` keeps the
    first so many mask tokens, or adds zeros, where a file with 10 must continue as a run with 6.
    """
    state = part_of(read_official(path), "predictor")
    config = predictor_config(state, heads=heads, numerics=numerics)
    if mask_tokens is not None:
        state = with_mask_tokens(state, mask_tokens)
        config = replace(config, mask_tokens=mask_tokens)
    predictor = empty(Predictor, config)
    load_into(predictor, state, f"'predictor' of {path}")
    return predictor


def predictor_config(
    state: Mapping[str, Tensor], *, heads: int | None = None, numerics: Numerics = "official"
) -> PredictorConfig:
    """The architecture that a predictor's weights belong to."""
    width, encoder_width = _shape(state, "predictor_embed.weight", 2)
    published = PredictorConfig()
    fitting = {("the published predictor", published.heads)} if width == published.width else set()
    return PredictorConfig(
        encoder_width=encoder_width,
        width=width,
        depth=_depth(state, "predictor_blocks"),
        heads=_heads(heads, fitting, f"a predictor of width {width}"),
        mlp_hidden=_shape(state, "predictor_blocks.0.mlp.fc1.weight", 2)[0],
        mask_tokens=_depth(state, "mask_tokens"),
        context_head="predictor_proj_context.weight" in state,
        numerics=numerics,
    )


def with_mask_tokens(state: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """The same predictor weights with so many mask tokens: the first ones, then zeros."""
    if number < 1:
        raise ValueError(f"a predictor needs at least 1 mask token; found {number}")
    kept = {name: value for name, value in state.items() if not name.startswith("mask_tokens.")}
    held = _depth(state, "mask_tokens")
    if lacking := [n for n in range(max(held, 1)) if f"mask_tokens.{n}" not in state]:
        raise ValueError(f"the weights lack mask_tokens.{lacking[0]}; they should have {held or 1}")
    first = state["mask_tokens.0"]
    for place in range(number):
        kept[f"mask_tokens.{place}"] = state.get(f"mask_tokens.{place}", torch.zeros_like(first))
    return kept


def load_official_world_model(
    path: Path | str,
    *,
    heads: int | None = None,
    grid: tuple[int, int] = (16, 16),
    numerics: Numerics = "official",
) -> WorldModel:
    """The world model of a released V-JEPA 2-AC file (its encoder: load_official_encoder).

    `heads` is needed unless the width is the published 1024 (16 heads).
    """
    state = part_of(read_official(path), "predictor")
    width, encoder_width = _shape(state, "predictor_embed.weight", 2)
    published = WorldModelConfig()
    fitting = {("V-JEPA 2-AC", published.heads)} if width == published.width else set()
    extrinsics = state.get("extrinsics_encoder.weight")
    config = WorldModelConfig(
        encoder_width=encoder_width,
        width=width,
        depth=_depth(state, "predictor_blocks"),
        heads=_heads(heads, fitting, f"a world model of width {width}"),
        mlp_hidden=_shape(state, "predictor_blocks.0.mlp.fc1.weight", 2)[0],
        grid=grid,
        action_width=_shape(state, "action_encoder.weight", 2)[1],
        extrinsics_width=0 if extrinsics is None else extrinsics.shape[1],
        numerics=numerics,
    )
    world_model = empty(WorldModel, config)
    own = world_model.state_dict()
    for name in NORMALISERS:
        identity = torch.ones_like if name.endswith("std") else torch.zeros_like
        state.setdefault(name, identity(own[name]))
    load_into(world_model, state, f"'predictor' of {path}")
    return world_model


def load_official_probe(
    path: Path | str, *, place: int = 0, heads: int = 16, eps: float = 1e-5
) -> AttentiveProbe:
    """One of the probes in a released file (they hold a grid of them, trained side by side).

    The published probes have 16 heads whatever the encoder's, and an epsilon of 1e-5.
    """
    probes = read_official(path).get("classifiers")
    if not isinstance(probes, list) or not 0 <= place < len(probes):
        number = len(probes) if isinstance(probes, list) else 0
        raise ValueError(f"{path} has {number} probes under 'classifiers'; asked for {place}")
    state = part_of({"classifiers": probes[place]}, "classifiers")
    _, queries, width = _shape(state, "pooler.query_tokens", 3)
    with torch.device("meta"):
        probe = AttentiveProbe(
            width=width,
            heads=heads,
            depth=_depth(state, "pooler.blocks") + 1,
            classes=_shape(state, "linear.weight", 2)[0],
            queries=queries,
            eps=eps,
        )
    probe.to_empty(device="cpu")
    load_into(probe, state, f"probe {place} of {path}")
    return probe


def _plain(name: str) -> str:
    """A name without the prefixes of wrappers, at its start only."""
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def _shape(state: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    if name not in state:
        raise ValueError(f"the weights have no {name!r}; they begin with {sorted(state)[:3]}")
    if state[name].dim() != axes:
        raise ValueError(f"{name} must have {axes} axes; found shape {list(state[name].shape)}")
    return tuple(state[name].shape)


def _depth(state: Mapping[str, Tensor], stem: str) -> int:
    """How many numbered children a stem has: 1 + the largest number; 0 if none."""
    pattern = re.compile(re.escape(stem) + r"\.(\d+)(\.|$)")
    numbers = [int(match[1]) for name in state if (match := pattern.match(name))]
    return 1 + max(numbers, default=-1)


def _heads(given: int | None, fitting: set[tuple[str, int]], what: str) -> int:
    """The head count: as given, or the only published one; never a guess."""
    if given is not None:
        return given
    counts = sorted({heads for _, heads in fitting})
    if len(counts) == 1:
        return counts[0]
    known = ", ".join(f"{name} has {heads}" for name, heads in sorted(fitting))
    raise ValueError(
        f"{what} fits {known or 'no published size'}; shapes do not tell the head count, and a "
        f"wrong one gives wrong numbers silently: say heads= (the released ViT-g has 22)"
    )
