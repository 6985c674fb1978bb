"""Weights at rest.

- What is saved comes back bit for bit, with its metadata; equal weights give equal bytes.
- A crash while writing leaves the file that was there.
- A damaged file, a checkpoint of another size, missing and unknown names are refused in one line
  that names them, and then the module keeps the weights it had.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import checkpoints
from models.checkpoints import empty, load_into, load_metadata, load_weights, save_weights
from models.encoder import Encoder
from models.world_model import WorldModel
from tests.models.test_encoder import TINY, tiny
from tests.models.test_world_model import TINY as TINY_WORLD


def test_round_trip(tmp_path: Path) -> None:
    encoder = tiny()
    save_weights(tmp_path / "deep" / "e.safetensors", encoder.state_dict(), {"step": 7, "a": [1]})
    other = empty(Encoder, TINY)
    load_into(other, load_weights(tmp_path / "deep" / "e.safetensors"), "e")
    for one, two in zip(encoder.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert two.requires_grad
    assert load_metadata(tmp_path / "deep" / "e.safetensors") == {"step": 7, "a": [1]}


def test_buffers_and_frozen_parameters_come_back(tmp_path: Path) -> None:
    model = WorldModel(TINY_WORLD)
    model.normalise_with(torch.randn(50, 7), torch.randn(50, 7))
    save_weights(tmp_path / "w", model.state_dict())
    other = empty(WorldModel, TINY_WORLD)
    load_into(other, load_weights(tmp_path / "w"), "w")
    assert torch.equal(other.action_mean, model.action_mean)
    assert not other.extrinsics_encoder.weight.requires_grad


def test_equal_weights_equal_bytes(tmp_path: Path) -> None:
    state = tiny().state_dict()
    turned = dict(reversed(list(state.items())))
    metadata = {str(number): number for number in range(20)}
    for number in range(4):
        given = dict(reversed(metadata.items())) if number % 2 else metadata
        save_weights(tmp_path / str(number), turned if number % 2 else state, given)
    assert len({(tmp_path / str(number)).read_bytes() for number in range(4)}) == 1


def test_views_and_shared_tensors(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    save_weights(tmp_path / "v", {"a": whole.T, "b": whole, "c": whole[1]})
    held = load_weights(tmp_path / "v")
    assert torch.equal(held["a"], whole.T)
    assert torch.equal(held["c"], whole[1])


def test_crash_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(tmp_path / "w", {"x": torch.ones(2)})

    def dies(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", dies)
    with pytest.raises(OSError, match="disk full"):
        save_weights(tmp_path / "w", {"x": torch.zeros(2)})
    assert load_weights(tmp_path / "w")["x"].tolist() == [1.0, 1.0]


def test_metadata_without_json_form(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_weights(tmp_path / "w", {"x": torch.ones(1)}, {"set": {1}})
    with pytest.raises(ValueError, match="JSON compliant"):
        save_weights(tmp_path / "w", {"x": torch.ones(1)}, {"loss": float("nan")})
    assert not (tmp_path / "w").exists()


def test_damaged_file(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", {"x": torch.ones(100)})
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:-9])
    for read in (load_weights, load_metadata):
        with pytest.raises(ValueError, match="w is not a readable safetensors file"):
            read(tmp_path / "w")
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path / "absent")


def test_other_size() -> None:
    wider = Encoder(replace(TINY, width=96))
    encoder = tiny()
    before = encoder.norm.weight.clone()
    words = r"the wide one does not fit Enc.*\[48, 48\] in the model and \[96, 96\] in the file"
    with pytest.raises(ValueError, match=words):
        load_into(encoder, wider.state_dict(), "the wide one")
    assert torch.equal(encoder.norm.weight, before)


def test_names() -> None:
    state = tiny().state_dict()
    state["extra"] = state.pop("norm.weight")
    with pytest.raises(ValueError, match=r"lacks norm.weight; the model has no extra"):
        load_into(tiny(), state, "it")
    deep = Encoder(replace(TINY, depth=3)).state_dict()
    with pytest.raises(ValueError, match=r"the model has no blocks.2.attn.proj.bias.* and 9 more"):
        load_into(tiny(), deep, "it")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            torch.ones(48).to_sparse(),
            "norm.weight is torch.float32, torch.sparse_coo, on cpu, no dense tensor",
        ),
        (
            torch.ones(48, dtype=torch.complex64),
            "norm.weight is torch.complex64, torch.strided, on cpu, no dense",
        ),
        (torch.ones(48, device="meta"), "on meta, no dense tensor of real numbers"),
        ("ones", "norm.weight is str"),
    ],
)
def test_values_that_are_no_weights(value: object, words: str) -> None:
    encoder = tiny()
    before = {name: held.clone() for name, held in encoder.state_dict().items()}
    state = {name: held + 1 for name, held in before.items()}
    with pytest.raises(ValueError, match=words):
        load_into(encoder, {**state, "norm.weight": value}, "it")
    assert all(torch.equal(held, before[name]) for name, held in encoder.state_dict().items())
