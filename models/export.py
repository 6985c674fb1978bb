"""Leaving: our models written in the official layout and as Hugging Face folders.

Weights are never changed, so a round trip is exact. ``official`` models run as they are under the
official code and ``transformers``. ``corrected`` models cannot: no arrangement of weights turns the
tiled rotation into a true one. Their folder for ``transformers`` brings thirty lines of code with
it, and the official layout, which cannot, refuses them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.attentive_probe import AttentiveProbe
from models.encoder import Encoder
from models.huggingface import (
    ROTATION_KEY,
    encoder_to_huggingface,
    predictor_to_huggingface,
    probe_to_huggingface,
)
from models.official import NORMALISERS
from models.predictor import Predictor
from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from models.transformer import EPSILON
from models.world_model import WorldModel

_ROTATION_MODULE = "modeling_vjepa2_rotation"
_ROTATION_CODE = '''"""V-JEPA 2 with rotary positions that are a true rotation.

Open with AutoModel.from_pretrained(folder, trust_remote_code=True): the stock VJEPA2Model would
load these weights and rotate them as the released models need it, which is another function.
"""

import torch
from transformers import VJEPA2Config, VJEPA2Model
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention


class VJEPA2RotationConfig(VJEPA2Config):
    model_type = "vjepa2_rotation"


class TrueRotation(VJEPA2RopeAttention):
    def apply_rotary_embeddings(self, qk, pos_ids):
        turned, start = [], 0
        for position, width in zip(pos_ids, (self.d_dim, self.h_dim, self.w_dim)):
            steps = torch.arange(width // 2, dtype=torch.float32, device=qk.device)
            angle = position.unsqueeze(-1) / 10000.0 ** (steps / max(1, width // 2))
            cos, sin = angle.cos().to(qk.dtype), angle.sin().to(qk.dtype)
            even, odd = qk[..., start : start + width].unflatten(-1, (-1, 2)).unbind(-1)
            pair = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
            turned.append(pair.flatten(-2))
            start += width
        return torch.cat([*turned, qk[..., start:]], dim=-1)


class VJEPA2RotationModel(VJEPA2Model):
    config_class = VJEPA2RotationConfig

    def __init__(self, config):
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, VJEPA2RopeAttention):
                module.__class__ = TrueRotation
'''


def save_official(
    path: Path | str,
    *,
    encoder: Encoder | None = None,
    target_encoder: Encoder | None = None,
    predictor: Predictor | None = None,
) -> None:
    """Write a pretraining file in the official layout: what is given, under its key.

    A predictor's context head, used in training only, is left out: the layout has no place for it.
    Raises ValueError for ``corrected`` models.
    """
    parts = {"encoder": encoder, "target_encoder": target_encoder, "predictor": predictor}
    given: dict[str, Any] = {}
    for key, part in parts.items():
        if part is not None:
            _check_numerics(key, part.config.numerics)
            given[key] = _prefixed(part, "module.backbone.")
    for name in [name for name in given.get("predictor", ()) if "predictor_proj_context." in name]:
        del given["predictor"][name]
    torch.save({**given, "epoch": 0}, path)


def save_official_world_model(path: Path | str, world_model: WorldModel, encoder: Encoder) -> None:
    """Write a V-JEPA 2-AC file in the official layout: encoder and world model.

    Raises ValueError for what that layout cannot say: residual prediction, merged tokens,
    normalised actions and states, ``corrected`` rotation.
    """
    config = world_model.config
    _check_numerics("world_model", config.numerics)
    _check_numerics("encoder", encoder.config.numerics)
    if config.residual or config.token_merge != 1 or not config.extrinsics_width:
        raise ValueError(
            f"the official layout has neither residual prediction nor merged tokens, and has an "
            f"extrinsics encoder; found residual={config.residual}, "
            f"token_merge={config.token_merge}, extrinsics_width={config.extrinsics_width}"
        )
    state = _prefixed(world_model, "module.")
    for name in NORMALISERS:
        if (state.pop(f"module.{name}") != (1.0 if name.endswith("std") else 0.0)).any():
            raise ValueError(f"the official layout has no {name}; this world model normalises")
    torch.save({"encoder": _prefixed(encoder, "module."), "predictor": state}, path)


def save_huggingface(
    folder: Path | str,
    encoder: Encoder,
    predictor: Predictor,
    probe: AttentiveProbe | None = None,
) -> None:
    """Write a folder that ``transformers`` opens: config, weights, video processor config.

    ``official``: VJEPA2Model.from_pretrained(folder), or VJEPA2ForVideoClassification with a probe.
    ``corrected``: AutoModel.from_pretrained(folder, trust_remote_code=True); no probe.
    A predictor's context head, used in training only, is left out: the layout has no place for it.
    transformers runs a probe with the encoder's heads and an epsilon of 1e-6: one trained with
    1e-5, as the published ones were, gives logits there that differ by about 1e-4, and one of 16
    heads on a ViT-g of 22, as published too, cannot go there at all.
    Raises ValueError if encoder, predictor and probe differ in numerics, widths or heads, and for a
    probe of several queries.
    """
    numerics = encoder.config.numerics
    if predictor.config.numerics != numerics or (probe and numerics != "official"):
        raise ValueError(
            f"one folder has one rotation, and a probe needs the official one; found encoder "
            f"{numerics}, predictor {predictor.config.numerics}"
        )
    _check_widths(encoder, predictor, probe)
    state = encoder_to_huggingface(encoder.state_dict())
    state |= predictor_to_huggingface(predictor.state_dict())
    config = huggingface_config(encoder, predictor)
    if probe is not None:
        state = {f"vjepa2.{name}": value for name, value in state.items()}
        state |= probe_to_huggingface(probe.state_dict())
        config |= _probe_config(probe)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in sorted(state.items())}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)  # of shards that it replaces
    _write_json(folder / "config.json", config)
    _write_json(folder / "video_preprocessor_config.json", processor_config(encoder.config.size))
    if numerics == "corrected":
        (folder / f"{_ROTATION_MODULE}.py").write_text(_ROTATION_CODE)


def _check_widths(encoder: Encoder, predictor: Predictor, probe: AttentiveProbe | None) -> None:
    width, heads = encoder.config.width, encoder.config.heads
    if predictor.config.encoder_width != width:
        raise ValueError(
            f"the predictor takes features of width {predictor.config.encoder_width}; the "
            f"encoder's are {width} wide"
        )
    if probe is None:
        return
    queries, found = probe.pooler.query_tokens.shape[1:]
    own_heads = probe.pooler.cross_attention_block.xattn.heads
    if (queries, found, own_heads) != (1, width, heads):
        raise ValueError(
            f"transformers runs a probe with 1 query, and with the width and the heads of its "
            f"encoder, here {width} and {heads}; found {queries} queries, width {found}, "
            f"{own_heads} heads"
        )


def huggingface_config(encoder: Encoder, predictor: Predictor) -> dict[str, Any]:
    """config.json of the pair."""
    ours, theirs = encoder.config, predictor.config
    config: dict[str, Any] = {
        "model_type": "vjepa2",
        "architectures": ["VJEPA2Model"],
        "dtype": "float32",
        "patch_size": ours.patch,
        "crop_size": ours.size,
        "frames_per_clip": ours.frames,
        "tubelet_size": ours.tubelet,
        "in_chans": 3,
        "hidden_size": ours.width,
        "num_attention_heads": ours.heads,
        "num_hidden_layers": ours.depth,
        "mlp_ratio": ratio(ours.mlp_hidden, ours.width),
        "hidden_act": "gelu",
        "qkv_bias": True,
        "layer_norm_eps": EPSILON,
        "pred_hidden_size": theirs.width,
        "pred_num_attention_heads": theirs.heads,
        "pred_num_hidden_layers": theirs.depth,
        "pred_mlp_ratio": ratio(theirs.mlp_hidden, theirs.width),
        "pred_num_mask_tokens": theirs.mask_tokens,
        "pred_zero_init_mask_tokens": True,
    }
    if ours.numerics == "corrected":
        config |= {
            "model_type": "vjepa2_rotation",
            "architectures": ["VJEPA2RotationModel"],
            "auto_map": {
                "AutoConfig": f"{_ROTATION_MODULE}.VJEPA2RotationConfig",
                "AutoModel": f"{_ROTATION_MODULE}.VJEPA2RotationModel",
            },
            ROTATION_KEY: "corrected",
        }
    return config


def processor_config(size: int) -> dict[str, Any]:
    """video_preprocessor_config.json: short side to 256/224 of the crop, centre crop, normalise."""
    return {
        "video_processor_type": "VJEPA2VideoProcessor",
        "do_resize": True,
        "size": {"shortest_edge": int(size * 256 / 224)},
        "resample": 2,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    }


def ratio(hidden: int, width: int) -> float:
    """The ratio from which int(width * ratio) gives the hidden width again."""
    exact = hidden / width
    return exact if int(width * exact) == hidden else exact + 0.25 / width


def _probe_config(probe: AttentiveProbe) -> dict[str, Any]:
    classes = probe.linear.out_features
    names = {place: f"LABEL_{place}" for place in range(classes)}
    return {
        "architectures": ["VJEPA2ForVideoClassification"],
        "num_pooler_layers": len(getattr(probe.pooler, "blocks", ())),
        "id2label": {str(place): name for place, name in names.items()},
        "label2id": {name: place for place, name in names.items()},
    }


def _check_numerics(name: str, numerics: str) -> None:
    if numerics != "official":
        raise ValueError(
            f"{name} has {numerics} numerics; official code would run its weights with the tiled "
            f"rotation and give other numbers: train with numerics='official' to leave this way"
        )


def _prefixed(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value.detach().cpu() for name, value in module.state_dict().items()}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
