"""Hugging Face folders, in and out, against `transformers` itself (SDPA, float32).

- A VJEPA2Model's folder, in one file or in shards, loads here and gives its numbers: encoder whole,
  predictor with partial and unsorted masks.
- A VJEPA2ForVideoClassification's probe gives its numbers with its heads and epsilon.
- What we write, VJEPA2Model.from_pretrained opens without a missing or unknown weight and gives our
  numbers; so do the classifier and the video processor's config; a round trip is exact.
- A corrected model leaves with its own rotation: AutoModel gives our numbers, and VJEPA2Model,
  which would not, is told apart by the model type.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2Model

from models.attentive_probe import AttentiveProbe
from models.checkpoints import load_weights, save_weights
from models.encoder import PUBLISHED, Encoder, EncoderConfig
from models.export import huggingface_config, ratio, save_huggingface
from models.huggingface import (
    encoder_to_huggingface,
    load_huggingface,
    load_huggingface_probe,
    predictor_to_huggingface,
)
from models.predictor import Predictor, PredictorConfig
from tests.models import peers
from tests.models.test_parity_official import GRID, clip, close, encoders, predictors, some_tokens

CONFIG = {
    "crop_size": 32,
    "patch_size": 8,
    "frames_per_clip": 8,
    "hidden_size": 96,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "mlp_ratio": 48 / 11,
    "pred_hidden_size": 64,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 2,
    "pred_num_mask_tokens": 4,
    "num_pooler_layers": 2,
    "num_labels": 5,
}


def theirs(kind: type[torch.nn.Module], seed: int = 0) -> torch.nn.Module:
    return peers.scatter(kind(VJEPA2Config(**CONFIG, attn_implementation="sdpa")).eval(), seed)


def video(batch: int = 2) -> torch.Tensor:
    return clip(batch, 3, 8, 32, 32)


@torch.no_grad()
def agree(encoder: Encoder, predictor: Predictor, model: torch.nn.Module) -> None:
    """Our encoder and predictor give the model's numbers, on masks of every kind."""
    frames, everything = video().transpose(1, 2), torch.arange(64).repeat(2, 1)
    masks = [
        (everything, everything),
        (some_tokens(2, 20, 64, 1).sort().values, some_tokens(2, 31, 64, 2).sort().values),
        (some_tokens(2, 20, 64, 3), some_tokens(2, 31, 64, 4)),
    ]
    tokens = encoder(video())
    for context, target in masks:
        out = model(frames, context_mask=[context], target_mask=[target])
        close(tokens, out.last_hidden_state)
        seen = tokens.gather(1, context[..., None].expand(-1, -1, tokens.shape[-1]))
        predicted = predictor(seen, context, target, GRID, 1)
        close(predicted, out.predictor_output.last_hidden_state)


@pytest.mark.parametrize("shards", [False, True])
def test_reads_a_folder(shards: bool, tmp_path: Path) -> None:
    model = theirs(VJEPA2Model)
    model.save_pretrained(tmp_path, max_shard_size="300KB" if shards else "1GB")
    assert (tmp_path / "model.safetensors").exists() is not shards
    encoder, predictor = load_huggingface(tmp_path)
    assert encoder.config.numerics == predictor.config.numerics == "official"
    assert encoder.config.mlp_hidden == int(96 * 48 / 11)
    agree(encoder, predictor, model)


@torch.no_grad()
def test_reads_a_classifier(tmp_path: Path) -> None:
    model = theirs(VJEPA2ForVideoClassification)
    model.save_pretrained(tmp_path)
    encoder, predictor = load_huggingface(tmp_path)
    agree(encoder, predictor, model.vjepa2)
    probe = load_huggingface_probe(tmp_path, heads=2, eps=1e-6)
    close(probe(encoder(video())), model(video().transpose(1, 2)).logits)
    # With the documented epsilon of the trained probes the numbers are others, if barely.
    trained = load_huggingface_probe(tmp_path, heads=2)
    assert not torch.equal(trained(encoder(video())), probe(encoder(video())))


def pair(numerics: str = "official") -> tuple[Encoder, Predictor]:
    encoder, predictor = encoders()[0], predictors()[0]
    for model in (encoder, predictor):
        object.__setattr__(model.config, "numerics", numerics)
    return encoder, predictor


def opened(kind: type, folder: Path, **options: object) -> torch.nn.Module:
    model, report = kind.from_pretrained(folder, output_loading_info=True, **options)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    return model.eval()


def test_writes_a_folder(tmp_path: Path) -> None:
    encoder, predictor = pair()
    save_huggingface(tmp_path, encoder, predictor)
    agree(encoder, predictor, opened(VJEPA2Model, tmp_path))
    again = load_huggingface(tmp_path)
    for model, other in zip((encoder, predictor), again, strict=True):
        assert other.config == model.config
        for name, value in model.state_dict().items():
            assert torch.equal(other.state_dict()[name], value)


@torch.no_grad()
def test_writes_a_classifier(tmp_path: Path) -> None:
    encoder, predictor = pair()
    probe = AttentiveProbe(96, heads=2, depth=3, classes=5, eps=1e-6)
    peers.scatter(probe, 6)
    save_huggingface(tmp_path, encoder, predictor, probe)
    model = opened(VJEPA2ForVideoClassification, tmp_path)
    close(model(video().transpose(1, 2)).logits, probe(encoder(video())))
    again = load_huggingface_probe(tmp_path, heads=2, eps=1e-6)
    for name, value in probe.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_corrected_models_leave_with_their_rotation(tmp_path: Path) -> None:
    encoder, predictor = pair("corrected")
    save_huggingface(tmp_path, encoder, predictor)
    model = opened(AutoModel, tmp_path, trust_remote_code=True)
    agree(encoder, predictor, model)
    again = load_huggingface(tmp_path)
    assert again[0].config == encoder.config
    assert again[1].config == predictor.config
    stock = VJEPA2Model.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        wrong = stock(video().transpose(1, 2), skip_predictor=True).last_hidden_state
        assert (wrong - encoder(video())).abs().max() > 0.01
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] != "vjepa2"


def test_context_head_stays_behind(tmp_path: Path) -> None:
    encoder, predictor = pair()
    headed = Predictor(replace(predictor.config, context_head=True))
    headed.load_state_dict(predictor.state_dict(), strict=False)
    save_huggingface(tmp_path, encoder, headed)
    agree(encoder, headed, opened(VJEPA2Model, tmp_path))


PROCESSOR = """
import importlib.machinery, sys, types
import importlib.metadata as metadata

# The processor's configuration needs no torchvision, but its class asks for one to be there.
real = metadata.version
metadata.version = lambda name: "0.28.0" if name == "torchvision" else real(name)


class Named(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class Anything(types.ModuleType):
    __path__ = []
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Named(name, (), {})


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        return Anything(spec.name)
    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())
from transformers import VJEPA2VideoProcessor

processor = VJEPA2VideoProcessor.from_pretrained(sys.argv[1])
assert dict(processor.crop_size) == {"height": 384, "width": 384}, processor.crop_size
assert dict(processor.size)["shortest_edge"] == 438, processor.size
assert processor.do_resize and processor.do_center_crop and processor.do_normalize
assert list(processor.image_mean) == [0.485, 0.456, 0.406], processor.image_mean
assert list(processor.image_std) == [0.229, 0.224, 0.225], processor.image_std
assert processor.rescale_factor == 1 / 255, processor.rescale_factor
print("opened")
"""


def test_video_processor_opens(tmp_path: Path) -> None:
    encoder, predictor = pair()
    object.__setattr__(encoder.config, "size", 384)
    save_huggingface(tmp_path, encoder, predictor)
    done = subprocess.run(
        [sys.executable, "-c", PROCESSOR, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "opened", done.stderr[-2000:]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_sizes_survive_the_ratio(name: str) -> None:
    with torch.device("meta"):
        encoder = Encoder(PUBLISHED[name])
        predictor = Predictor(PredictorConfig(encoder_width=encoder.config.width))
    config = huggingface_config(encoder, predictor)
    assert int(config["hidden_size"] * config["mlp_ratio"]) == encoder.config.mlp_hidden
    assert all(
        int(width * ratio(h, width)) == h for width in (96, 1408, 49) for h in (49, 97, 6144)
    )


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config.json: it is no model folder"):
        load_huggingface(tmp_path)
    theirs(VJEPA2Model).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds no classifier"):
        load_huggingface_probe(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_size": 128}))
    with pytest.raises(ValueError, match=r"\[128\] in the model and \[96\] in the file"):
        load_huggingface(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks model.safetensors \(only safetensors are read\)"):
        load_huggingface(tmp_path)


def test_one_rotation_in_one_folder(tmp_path: Path) -> None:
    encoder, predictor = pair()
    object.__setattr__(encoder.config, "numerics", "corrected")
    with pytest.raises(ValueError, match="found encoder corrected, predictor official"):
        save_huggingface(tmp_path, encoder, predictor)


def test_shards_that_lie_about_do_not_come_back(tmp_path: Path) -> None:
    """Saved over a sharded folder, our weights are what is read, here and by transformers."""
    theirs(VJEPA2Model).save_pretrained(tmp_path, max_shard_size="300KB")
    encoder, predictor = pair()
    peers.scatter(encoder, 8)
    save_huggingface(tmp_path, encoder, predictor)
    assert not (tmp_path / "model.safetensors.index.json").exists()
    agree(*load_huggingface(tmp_path), opened(VJEPA2Model, tmp_path))
    assert torch.equal(load_huggingface(tmp_path)[0].norm.weight, encoder.norm.weight)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "relu"}, "config.json has hidden_act 'relu'; these models have 'gelu'"),
        ({"layer_norm_eps": 1e-3}, "layer_norm_eps 0.001; these models have 1e-06"),
        ({"model_type": "vit"}, "model_type 'vit'"),
        ({"hidden_size": None}, "the folder's JSON lacks 'hidden_size'"),
        ({"pred_num_mask_tokens": None}, "lacks 'pred_num_mask_tokens'"),
    ],
)
def test_configs_of_other_models(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    theirs(VJEPA2ForVideoClassification).save_pretrained(tmp_path)
    config = {**json.loads((tmp_path / "config.json").read_text()), **changes}
    kept = {name: value for name, value in config.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=words):
        load_huggingface(tmp_path)
    if "pred" not in words:
        with pytest.raises(ValueError, match=words):
            load_huggingface_probe(tmp_path)


def test_weights_of_no_part(tmp_path: Path) -> None:
    theirs(VJEPA2Model).save_pretrained(tmp_path)
    state = load_weights(tmp_path / "model.safetensors")
    save_weights(tmp_path / "model.safetensors", {**state, "foo.bar": torch.ones(1)})
    with pytest.raises(ValueError, match=r"weights of no part of V-JEPA 2: \['foo.bar'\]"):
        load_huggingface(tmp_path)
    narrow = {**state, "encoder.layer.0.attention.key.weight": torch.ones(96, 95)}
    save_weights(tmp_path / "model.safetensors", narrow)
    with pytest.raises(ValueError, match="parts of one projection differ in shape"):
        load_huggingface(tmp_path)


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (AttentiveProbe(96, heads=4, depth=2, classes=5), "96 and 2; found 1 queries, width 96, 4"),
        (AttentiveProbe(96, heads=2, depth=2, classes=5, queries=3), "found 3 queries"),
        (AttentiveProbe(48, heads=2, depth=2, classes=5), "width 48"),
    ],
)
def test_probes_that_transformers_would_run_otherwise(
    probe: AttentiveProbe, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        save_huggingface(tmp_path, *pair(), probe)
    other = Predictor(PredictorConfig(encoder_width=80, width=64, depth=1, heads=2))
    object.__setattr__(other.config, "numerics", "official")
    with pytest.raises(ValueError, match="features of width 80; the encoder's are 96 wide"):
        save_huggingface(tmp_path, pair()[0], other)


@pytest.mark.parametrize(("width", "heads", "hidden"), [(1024, 16, 4096), (1408, 22, 6144)])
@torch.no_grad()
def test_released_widths(width: int, heads: int, hidden: int) -> None:
    """Long sums round more: the widths of ViT-L and ViT-g, with weights as training begins."""
    torch.manual_seed(0)
    encoder = Encoder(
        EncoderConfig(
            width=width,
            depth=2,
            heads=heads,
            mlp_hidden=hidden,
            frames=4,
            size=64,
            numerics="official",
        )
    )
    predictor = Predictor(PredictorConfig(encoder_width=width, depth=2, numerics="official"))
    torch.nn.init.normal_(predictor.mask_tokens[1], std=0.02)
    config = VJEPA2Config(
        crop_size=64,
        frames_per_clip=4,
        hidden_size=width,
        num_attention_heads=heads,
        num_hidden_layers=2,
        mlp_ratio=hidden / width,
        pred_num_hidden_layers=2,
        attn_implementation="sdpa",
    )
    model = VJEPA2Model(config).eval()
    state = encoder_to_huggingface(encoder.state_dict())
    model.load_state_dict(state | predictor_to_huggingface(predictor.state_dict()))
    frames = clip(2, 3, 4, 64, 64)
    context, target = some_tokens(2, 12, 32, 1), some_tokens(2, 15, 32, 2)
    out = model(frames.transpose(1, 2), context_mask=[context], target_mask=[target])
    tokens = encoder(frames)
    close(tokens, out.last_hidden_state)
    seen = tokens.gather(1, context[..., None].expand(-1, -1, width))
    predicted = predictor(seen, context, target, (2, 4, 4), 1)
    close(predicted, out.predictor_output.last_hidden_state)


def sharded(folder: Path) -> dict[str, str]:
    """A folder in shards; its index."""
    theirs(VJEPA2Model).save_pretrained(folder, max_shard_size="300KB")
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 1
    return index


@pytest.mark.parametrize("name", ["../secret.safetensors", "{outside}", "sub/x.safetensors", ".."])
def test_an_index_names_shards_of_its_folder_alone(name: str, tmp_path: Path) -> None:
    folder, secret = tmp_path / "model", tmp_path / "secret.safetensors"
    index = sharded(folder)
    save_weights(secret, {"secret": torch.zeros(1)})
    index["secret"] = name.format(outside=secret)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(ValueError, match="which is no plain file name") as error:
        load_huggingface(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "shard"])
def test_links_out_of_a_folder_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    index = sharded(folder)
    file = folder / (min(index.values()) if name == "shard" else name)
    file.rename(tmp_path / file.name)
    file.symlink_to(tmp_path / file.name)
    with pytest.raises(ValueError, match=f"{file.name} is a link that leads elsewhere"):
        load_huggingface(folder)


def test_a_snapshot_of_the_cache_is_read_through_its_links(tmp_path: Path) -> None:
    """The cache of Hugging Face keeps files as blobs, and a snapshot is a folder of links."""
    snapshot = tmp_path / "models--some--model" / "snapshots" / "0123abcd"
    sharded(snapshot)
    straight = load_huggingface(snapshot)[0].state_dict()
    blobs = snapshot.parent.parent / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(snapshot.iterdir())):
        file.rename(blobs / str(number))
        file.symlink_to(f"../../blobs/{number}")
    linked = load_huggingface(snapshot)[0].state_dict()
    assert all(torch.equal(linked[key], straight[key]) for key in straight)
