"""The Hugging Face layout of V-JEPA 2: names, configs, and reading a folder.

A folder holds config.json and model.safetensors (or shards with an index). Queries, keys and values
are three projections there and one here; mask tokens are one tensor there and a list here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.attentive_probe import AttentiveProbe
from models.checkpoints import empty, file_in, load_into, load_weights
from models.encoder import Encoder, EncoderConfig
from models.predictor import Predictor, PredictorConfig
from models.transformer import EPSILON

ROTATION_KEY = "rotary_numerics"
"""Key of config.json that names the rotation; absent in released folders, which are official."""

Renames = tuple[tuple[str, str], ...]
Inside = tuple[tuple[str, tuple[str, ...]], ...]

_ENCODER: Renames = (
    ("patch_embed.", "encoder.embeddings.patch_embeddings."),
    ("blocks.", "encoder.layer."),
    ("norm.", "encoder.layernorm."),
)
_PREDICTOR: Renames = (
    ("predictor_embed.", "predictor.embeddings.predictor_embeddings."),
    ("predictor_blocks.", "predictor.layer."),
    ("predictor_norm.", "predictor.layernorm."),
    ("predictor_proj.", "predictor.proj."),
)
_PROBE: Renames = (
    ("pooler.query_tokens", "pooler.query_tokens"),
    ("pooler.cross_attention_block.", "pooler.cross_attention_layer."),
    ("pooler.blocks.", "pooler.self_attention_layers."),
    ("linear.", "classifier."),
)
_INDEX = "model.safetensors.index.json"
_MASK_TOKENS = "predictor.embeddings.mask_tokens"
# Inside a block: (name here, names there); several names are stacked along the output axis.
_BLOCK: Inside = (
    (".attn.qkv.", (".attention.query.", ".attention.key.", ".attention.value.")),
    (".attn.proj.", (".attention.proj.",)),
)
_PROBE_BLOCK: Inside = (
    (".attn.qkv.", (".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj.")),
    (".attn.proj.", (".self_attn.out_proj.",)),
    (".xattn.q.", (".cross_attn.q_proj.",)),
    (".xattn.kv.", (".cross_attn.k_proj.", ".cross_attn.v_proj.")),
    (".norm1.", (".layer_norm1.",)),
    (".norm2.", (".layer_norm2.",)),
)


def encoder_to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of an encoder's weights as VJEPA2Model has them."""
    return _rename(state, _ENCODER, _BLOCK)


def encoder_from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights of a VJEPA2Model, under our names."""
    return _restore(_under(state, "encoder."), _ENCODER, _BLOCK)


def predictor_to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of a predictor's weights as VJEPA2Model has them; a context head has no place there."""
    masks = sorted(
        (name for name in state if name.startswith("mask_tokens.")),
        key=lambda name: int(name.partition(".")[2]),
    )
    kept = {
        name: value
        for name, value in state.items()
        if name not in masks and not name.startswith("predictor_proj_context.")
    }
    renamed = _rename(kept, _PREDICTOR, _BLOCK)
    renamed[_MASK_TOKENS] = torch.stack([state[name] for name in masks])
    return renamed


def predictor_from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The predictor's weights of a VJEPA2Model, under our names."""
    found = _under(state, "predictor.")
    if _MASK_TOKENS not in found:
        raise ValueError(f"the weights have no {_MASK_TOKENS!r}: is there a predictor in the file?")
    masks = found.pop(_MASK_TOKENS)
    restored = _restore(found, _PREDICTOR, _BLOCK)
    restored.update({f"mask_tokens.{place}": mask.clone() for place, mask in enumerate(masks)})
    return restored


def probe_to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of a probe's weights as VJEPA2ForVideoClassification has them."""
    return _rename(state, _PROBE, _PROBE_BLOCK)


def probe_from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The pooler and classifier of a VJEPA2ForVideoClassification, under our names."""
    found = {k: v for k, v in state.items() if k.startswith(("pooler.", "classifier."))}
    return _restore(found, _PROBE, _PROBE_BLOCK)


def read_huggingface(folder: Path | str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and all weights of a folder, sharded or not.

    ValueError if either is missing, or if a name in the index or a link leads out of the folder.
    """
    folder = Path(folder)
    described, index = (file_in(folder, name) for name in ("config.json", _INDEX))
    if not described.is_file():
        raise ValueError(f"{folder} has no config.json: it is no model folder")
    config: dict[str, Any] = json.loads(described.read_text())
    files = ["model.safetensors"]
    # One whole file goes before shards, as in transformers: an index may be a leftover beside it.
    if index.is_file() and not (folder / files[0]).is_file():
        files = sorted(set(map(str, _asked(json.loads(index.read_text()), "weight_map").values())))
    state: dict[str, Tensor] = {}
    for name in files:
        if not (file := file_in(folder, name)).is_file():
            raise ValueError(f"{folder} lacks {name} (only safetensors are read)")
        state.update(load_weights(file))
    return config, state


def load_huggingface(folder: Path | str) -> tuple[Encoder, Predictor]:
    """Encoder and predictor from the folder of a VJEPA2Model or a VJEPA2ForVideoClassification."""
    config, state = read_huggingface(folder)
    backbone = {name.removeprefix("vjepa2."): value for name, value in state.items()}
    known = ("encoder.", "predictor.", "pooler.", "classifier.")
    if stray := sorted(name for name in backbone if not name.startswith(known)):
        raise ValueError(f"{folder} holds weights of no part of V-JEPA 2: {stray[:3]}")
    encoder = empty(Encoder, encoder_config(config))
    load_into(encoder, encoder_from_huggingface(backbone), f"the encoder in {folder}")
    predictor = empty(Predictor, predictor_config(config))
    load_into(predictor, predictor_from_huggingface(backbone), f"the predictor in {folder}")
    return encoder, predictor


def load_huggingface_probe(
    folder: Path | str, *, heads: int = 16, eps: float = 1e-5
) -> AttentiveProbe:
    """The probe from the folder of a VJEPA2ForVideoClassification.

    The published probes were trained with 16 heads and an epsilon of 1e-5; transformers runs them
    with the encoder's heads and 1e-6 (pass those to get its numbers).
    """
    config, state = read_huggingface(folder)
    _check_kind(config)
    found = probe_from_huggingface(state)
    if "linear.weight" not in found:
        raise ValueError(f"{folder} holds no classifier: is it a VJEPA2ForVideoClassification?")
    with torch.device("meta"):
        probe = AttentiveProbe(
            width=_asked(config, "hidden_size"),
            heads=heads,
            depth=_asked(config, "num_pooler_layers") + 1,
            classes=found["linear.weight"].shape[0],
            eps=eps,
        )
    probe.to_empty(device="cpu")
    load_into(probe, found, f"the probe in {folder}")
    return probe


def encoder_config(config: Mapping[str, Any]) -> EncoderConfig:
    """Our architecture from a config.json; ValueError where it is another than V-JEPA 2's."""
    _check_kind(config)
    return EncoderConfig(
        width=_asked(config, "hidden_size"),
        depth=_asked(config, "num_hidden_layers"),
        heads=_asked(config, "num_attention_heads"),
        mlp_hidden=int(_asked(config, "hidden_size") * _asked(config, "mlp_ratio")),
        patch=_asked(config, "patch_size"),
        tubelet=_asked(config, "tubelet_size"),
        frames=_asked(config, "frames_per_clip"),
        size=_asked(config, "crop_size"),
        numerics=config.get(ROTATION_KEY, "official"),
    )


def predictor_config(config: Mapping[str, Any]) -> PredictorConfig:
    """Our predictor's architecture from a config.json; ValueError as for the encoder."""
    _check_kind(config)
    return PredictorConfig(
        encoder_width=_asked(config, "hidden_size"),
        width=_asked(config, "pred_hidden_size"),
        depth=_asked(config, "pred_num_hidden_layers"),
        heads=_asked(config, "pred_num_attention_heads"),
        mlp_hidden=int(_asked(config, "pred_hidden_size") * _asked(config, "pred_mlp_ratio")),
        mask_tokens=_asked(config, "pred_num_mask_tokens"),
        numerics=config.get(ROTATION_KEY, "official"),
    )


_BUILT_IN = {"hidden_act": ("gelu",), "layer_norm_eps": (EPSILON,), "qkv_bias": (True,),
             "in_chans": (3,), "model_type": ("vjepa2", "vjepa2_rotation")}  # fmt: skip


def _check_kind(config: Mapping[str, Any]) -> None:
    """Refuse what our modules do not compute: shapes would fit, and numbers would be others."""
    for name, allowed in _BUILT_IN.items():
        if name in config and config[name] not in allowed:
            raise ValueError(
                f"config.json has {name} {config[name]!r}; these models have {allowed[0]!r}"
            )


def _asked(config: Mapping[str, Any], name: str) -> Any:
    if name not in config:
        raise ValueError(f"the folder's JSON lacks {name!r}; it has {sorted(config)[:40]}")
    return config[name]


def _rename(state: Mapping[str, Tensor], renames: Renames, inside: Inside) -> dict[str, Tensor]:
    """Our names to theirs; a stacked projection is cut into its parts."""
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        outer = _with_prefix(name, renames)
        ours, theirs = next((rule for rule in inside if rule[0] in outer), ("", ("",)))
        for part, piece in zip(theirs, value.chunk(len(theirs)), strict=True):
            renamed[outer.replace(ours, part) if ours else outer] = piece.contiguous()
    return renamed


def _restore(state: Mapping[str, Tensor], renames: Renames, inside: Inside) -> dict[str, Tensor]:
    """Their names to ours; parts of a projection are stacked."""
    whole = dict(state)
    for ours, theirs in inside:
        for name in [name for name in whole if theirs[0] in name]:
            parts = [name.replace(theirs[0], part) for part in theirs]
            missing = [part for part in parts if part not in whole]
            if missing:
                raise ValueError(f"the weights have {name!r} and lack {missing}")
            pieces = [whole.pop(part) for part in parts]
            if len({piece.shape for piece in pieces}) > 1:
                shapes = {part: list(p.shape) for part, p in zip(parts, pieces, strict=True)}
                raise ValueError(f"parts of one projection differ in shape: {shapes}")
            whole[name.replace(theirs[0], ours)] = torch.cat(pieces)
    back = tuple((theirs, ours) for ours, theirs in renames)
    return {_with_prefix(name, back): value for name, value in whole.items()}


def _with_prefix(name: str, renames: Renames) -> str:
    """The name with its prefix exchanged; an unknown one stays, for strict loading to report."""
    for before, after in renames:
        if name.startswith(before):
            return after + name.removeprefix(before)
    return name


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith(prefix)}
