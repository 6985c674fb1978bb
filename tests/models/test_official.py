"""Files in the official layout, written here by the official sources themselves.

- Encoder, predictor, world model and probes load, and give the official outputs.
- The key is chosen by name, `target_encoder` by default; prefixes go at the start of names only;
  stray position tables are dropped; 6 or 10 mask tokens are taken as they come or as asked.
- What shapes cannot tell, the head count, is asked for, with the reason.
- A round trip through our writer is exact, and the official model loads what we write, strictly.
- A file that would run code is refused, as are damaged files and files of another size.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.encoder import PUBLISHED, Encoder
from models.export import save_official, save_official_world_model
from models.official import (
    encoder_config,
    load_official_encoder,
    load_official_predictor,
    load_official_probe,
    load_official_world_model,
    part_of,
    read_official,
    with_mask_tokens,
)
from models.world_model import WorldModel
from tests.models import peers
from tests.models.test_parity_official import (
    FRAMES,
    GRID,
    SIZE,
    clip,
    close,
    encoders,
    predictors,
    some_tokens,
    world_models,
)
from tests.models.test_world_model import TINY as TINY_WORLD

HERE = {"size": SIZE, "frames": FRAMES}


def prefixed(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A pretraining file as released: two encoders, a predictor, a stray table, an optimizer."""
    online, target = (encoders(seed=seed)[1].state_dict() for seed in (0, 9))
    target["pos_embed"] = torch.zeros(1, 64, 96)
    checkpoint = {
        "encoder": prefixed(online, "module.backbone."),
        "target_encoder": prefixed(target, "module.backbone."),
        "predictor": prefixed(predictors()[1].state_dict(), "module.backbone."),
        "opt": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]},
        "scaler": None,
        "epoch": 12,
        "lr": 5e-4,
    }
    torch.save(checkpoint, tmp_path / "vit.pt")
    return tmp_path / "vit.pt"


@torch.no_grad()
def test_encoder(released: Path) -> None:
    video = clip(1, 3, FRAMES, SIZE, SIZE)
    default = load_official_encoder(released, heads=2, **HERE)
    assert default.config.numerics == "official"
    close(default(video), encoders(seed=9)[1](video))
    online = load_official_encoder(released, key="encoder", heads=2, **HERE)
    close(online(video), encoders(seed=0)[1](video))


@torch.no_grad()
def test_predictor(released: Path) -> None:
    ours = load_official_predictor(released, heads=2)
    assert len(ours.mask_tokens) == 4
    context, target = some_tokens(1, 20, 64, 1), some_tokens(1, 9, 64, 2)
    tokens = clip(1, 20, 96)
    close(
        ours(tokens, context, target, GRID, 1),
        predictors()[1](tokens, context, target, mask_index=1),
    )


@pytest.mark.parametrize("held", [6, 10])
def test_six_or_ten_mask_tokens(held: int, tmp_path: Path) -> None:
    theirs = peers.predictor(96, 64, 1, 2, patch=8, frames=8, size=32, mask_tokens=held)
    peers.scatter(theirs, 0)
    torch.save({"predictor": prefixed(theirs.state_dict(), "module.backbone.")}, tmp_path / "p.pt")
    assert len(load_official_predictor(tmp_path / "p.pt", heads=2).mask_tokens) == held
    asked = 16 - held
    resized = load_official_predictor(tmp_path / "p.pt", heads=2, mask_tokens=asked)
    assert resized.config.mask_tokens == len(resized.mask_tokens) == asked
    for place, mask in enumerate(resized.mask_tokens):
        expected = theirs.mask_tokens[place] if place < held else torch.zeros(1, 1, 64)
        assert torch.equal(mask, expected)
    with pytest.raises(ValueError, match="at least 1 mask token; found 0"):
        load_official_predictor(tmp_path / "p.pt", heads=2, mask_tokens=0)


@torch.no_grad()
def test_world_model(tmp_path: Path) -> None:
    _, theirs = world_models()
    torch.save({"predictor": prefixed(theirs.state_dict(), "module.")}, tmp_path / "ac.pt")
    ours = load_official_world_model(tmp_path / "ac.pt", heads=2, grid=(4, 4))
    tokens, actions, states = clip(1, 48, 96), clip(1, 3, 7), clip(1, 3, 7, seed=2)
    close(ours(tokens, actions, states), theirs(tokens, actions, states))
    with pytest.raises(ValueError, match="a world model of width 64 fits no published size"):
        load_official_world_model(tmp_path / "ac.pt")


@torch.no_grad()
def test_probe(tmp_path: Path) -> None:
    probes = [peers.scatter(peers.probe(96, 4, 3, 7), seed) for seed in (0, 1)]
    classifiers = [prefixed(probe.state_dict(), "module.") for probe in probes]
    torch.save({"classifiers": classifiers, "epoch": 20}, tmp_path / "ssv2.pt")
    tokens = clip(2, 30, 96)
    for place, theirs in enumerate(probes):
        ours = load_official_probe(tmp_path / "ssv2.pt", place=place, heads=4)
        close(ours(tokens), theirs(tokens))
    with pytest.raises(ValueError, match="2 probes under 'classifiers'; asked for 2"):
        load_official_probe(tmp_path / "ssv2.pt", place=2)


def test_head_counts() -> None:
    def shapes(name: str) -> dict[str, torch.Tensor]:
        with torch.device("meta"):
            return Encoder(replace(PUBLISHED[name])).state_dict()

    assert encoder_config(shapes("vit_large")).heads == 16
    assert encoder_config(shapes("vit_huge")).heads == 16
    giant = shapes("vit_giant_xformers")
    words = r"vit_giant has 16, vit_giant_xformers has 22.*wrong one gives wrong numbers"
    with pytest.raises(ValueError, match=words):
        encoder_config(giant)
    assert encoder_config(giant, heads=22).heads == 22


def test_unpublished_sizes_are_asked_for(released: Path) -> None:
    with pytest.raises(ValueError, match=r"depth 2 fits no published size.*say heads="):
        load_official_encoder(released)
    with pytest.raises(ValueError, match="a predictor of width 64 fits no published size"):
        load_official_predictor(released)


def test_prefixes_go_at_the_start_only() -> None:
    one = torch.ones(1)
    state = part_of({"k": {"module.backbone.a.module.b": one, "c.backbone.d": one}}, "k")
    assert set(state) == {"a.module.b", "c.backbone.d"}
    with pytest.raises(ValueError, match="two names become 'a'"):
        part_of({"k": {"module.a": one, "a": one}}, "k")


def test_missing_key(released: Path) -> None:
    with pytest.raises(ValueError, match=r"no weights under 'ema'; the file has \['encoder'"):
        load_official_encoder(released, key="ema")


def test_round_trip(released: Path, tmp_path: Path) -> None:
    encoder = load_official_encoder(released, key="encoder", heads=2, **HERE)
    target = load_official_encoder(released, heads=2, **HERE)
    predictor = load_official_predictor(released, heads=2)
    save_official(tmp_path / "ours.pt", encoder=encoder, target_encoder=target, predictor=predictor)
    before, after = read_official(released), read_official(tmp_path / "ours.pt")
    for key in ("encoder", "target_encoder", "predictor"):
        expected = dict(before[key])
        expected.pop("module.backbone.pos_embed", None)
        assert set(after[key]) == set(expected)
        assert all(torch.equal(after[key][name], value) for name, value in expected.items())


def test_world_model_round_trip(tmp_path: Path) -> None:
    ours, theirs = world_models()
    save_official_world_model(tmp_path / "ac.pt", ours, encoders()[0])
    written = read_official(tmp_path / "ac.pt")
    theirs.load_state_dict(part_of(written, "predictor"), strict=True)
    again = load_official_world_model(tmp_path / "ac.pt", heads=2, grid=(4, 4))
    for name, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_what_the_layout_cannot_say(tmp_path: Path) -> None:
    encoder, predictor = encoders()[0], predictors()[0]
    object.__setattr__(encoder.config, "numerics", "corrected")
    with pytest.raises(ValueError, match="encoder has corrected numerics; official code would run"):
        save_official(tmp_path / "x.pt", encoder=encoder)
    official = encoders()[0]
    residual = WorldModel(replace(TINY_WORLD, numerics="official", residual=True))
    with pytest.raises(ValueError, match="residual=True, token_merge=1"):
        save_official_world_model(tmp_path / "x.pt", residual, official)
    normalised = WorldModel(replace(TINY_WORLD, numerics="official"))
    normalised.normalise_with(torch.randn(9, 7), torch.randn(9, 7))
    with pytest.raises(ValueError, match="no action_mean; this world model normalises"):
        save_official_world_model(tmp_path / "x.pt", normalised, official)
    assert not (tmp_path / "x.pt").exists()
    save_official(tmp_path / "x.pt", predictor=predictor)


class Malice:
    """Pickles to a call of os.mkdir."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_pickle(zipped: bool, tmp_path: Path) -> None:
    file, trap = tmp_path / "evil.pt", tmp_path / "owned"
    checkpoint = {"target_encoder": {"x": torch.ones(1)}, "opt": Malice(trap)}
    torch.save(checkpoint, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"could run code on loading: (posix|nt)\.mkdir$"):
        load_official_encoder(file)
    assert not trap.exists()
    torch.load(file, weights_only=False)  # the file does bite whoever trusts it
    assert trap.exists()


def test_files_that_are_none(tmp_path: Path, released: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ValueError, match=r"text.pt is not a checkpoint: neither"):
        read_official(tmp_path / "text.pt")
    (tmp_path / "half.pt").write_bytes(released.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"half.pt is"):
        read_official(tmp_path / "half.pt")
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x02h\x65.")
    with pytest.raises(ValueError, match=r"pickle.pt is"):
        read_official(tmp_path / "pickle.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds a list; a checkpoint is a dictionary"):
        read_official(tmp_path / "list.pt")
    torch.save({"target_encoder": {"x": torch.ones(1)}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"no 'patch_embed.proj.weight'"):
        load_official_encoder(tmp_path / "other.pt")


@pytest.mark.filterwarnings("ignore")  # of torch, about protocols that the flips make up
@pytest.mark.parametrize("zipped", [True, False])
def test_flipped_bytes(zipped: bool, tmp_path: Path) -> None:
    """A file with a changed bit loads or is refused, in one way."""
    whole = tmp_path / "whole.pt"
    held = {"target_encoder": {"x": torch.ones(3), "y": torch.zeros(2, 2)}, "epoch": 3}
    torch.save(held, whole, _use_new_zipfile_serialization=zipped)
    data, refused = whole.read_bytes(), 0
    source = torch.Generator().manual_seed(0)
    for place in torch.randperm(len(data), generator=source)[:300].tolist():
        bad = bytearray(data)
        bad[place] ^= 1 << int(torch.randint(8, (1,), generator=source))
        (tmp_path / "bad.pt").write_bytes(bad)
        try:
            read_official(tmp_path / "bad.pt")
        except ValueError as error:
            assert "bad.pt" in str(error)
            refused += 1
    assert refused > 50


def test_what_is_no_weight_under_a_key() -> None:
    with pytest.raises(ValueError, match=r"'encoder' holds 'norm.weight', a float, and no weights"):
        part_of({"encoder": {"norm.weight": 1.0}}, "encoder")
    with pytest.raises(ValueError, match=r"'encoder' holds 3, a Tensor, and no weights"):
        part_of({"encoder": {3: torch.ones(1)}}, "encoder")


@pytest.mark.parametrize("place", [0, 1])
def test_a_mask_token_that_is_missing_is_told(place: int) -> None:
    state = dict(predictors()[1].state_dict())
    del state[f"mask_tokens.{place}"]
    with pytest.raises(ValueError, match=f"lack mask_tokens.{place}; they should have 4"):
        with_mask_tokens(state, 6)
