"""Claims: an official file, a Hugging Face folder and a training of this graph leave as one kind of
artifact, with the numbers of the models they came from; what is wrong is one line; another file is
another recipe, wherever it lies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import VJEPA2Config, VJEPA2Model

from pipelines.evaluation.released_weights import ReleasedWeightsConfig, observe, run
from pipelines.execution import ExecutionConfig
from pipelines.planner.weights import open_encoder, open_predictor
from pipelines.stage import Inputs
from storage.artifacts import Artifact
from storage.errors import InputError
from tests.models import peers
from tests.models.test_huggingface import CONFIG
from tests.pipelines.builders import artifact, workspace
from tests.pipelines.evaluation.conftest import ENCODER


def released(root: Path, inputs: Inputs | None = None, **asked: object) -> Artifact:
    out = workspace(root)
    metrics = run(ReleasedWeightsConfig(**asked), inputs or Inputs({}), out)  # type: ignore[arg-type]
    return artifact(out.payload, "released_weights", {"metrics": metrics})


def official_file(path: Path, width: int = 48) -> torch.nn.Module:
    """A file as Meta released them, from the official code; its averaged encoder."""
    kept, sizes = {}, {"patch": 8, "frames": 8, "size": 32}
    for seed, key in enumerate(("encoder", "target_encoder")):
        network = peers.scatter(peers.encoder(width, 2, 4, 96, **sizes), seed)
        kept[key] = {f"module.backbone.{k}": v for k, v in network.state_dict().items()}
    guessing = peers.scatter(peers.predictor(width, 24, 2, 4, **sizes), 2)
    kept["predictor"] = {f"module.backbone.{k}": v for k, v in guessing.state_dict().items()}
    torch.save({**kept, "epoch": 3}, path)
    return network.eval()


@torch.no_grad()
def test_an_official_file_keeps_its_numbers(tmp_path: Path) -> None:
    theirs = official_file(tmp_path / "vitt.pt")
    found = released(
        tmp_path / "out", location=str(tmp_path / "vitt.pt"), heads=4, predictor_heads=4, size=32
    )
    video = torch.randn(2, 3, 8, 32, 32)
    torch.testing.assert_close(open_encoder(found)(video), theirs(video), atol=1e-5, rtol=0)
    assert open_predictor(found).config.width == 24
    other = released(
        tmp_path / "online", location=str(tmp_path / "vitt.pt"), heads=4, predictor_heads=4,
        size=32, key="encoder",
    )  # fmt: skip
    assert not torch.equal(open_encoder(other)(video), theirs(video))


@torch.no_grad()
def test_a_hugging_face_folder_keeps_its_numbers(tmp_path: Path) -> None:
    theirs = VJEPA2Model(VJEPA2Config(**CONFIG, attn_implementation="sdpa")).eval()
    peers.scatter(theirs, 5).save_pretrained(tmp_path / "folder")
    found = released(tmp_path / "out", location=str(tmp_path / "folder"))
    video = torch.randn(2, 3, 8, 32, 32)
    told = theirs(video.transpose(1, 2), skip_predictor=True).last_hidden_state
    torch.testing.assert_close(open_encoder(found)(video), told, atol=1e-5, rtol=0)
    assert found.record["metrics"]["kind"] == "huggingface"


@torch.no_grad()
def test_a_training_of_this_graph_keeps_its_numbers(
    tmp_path: Path, trainings: dict[str, Artifact]
) -> None:
    ours = trainings["cooled_encoder"]
    found = released(tmp_path / "out", Inputs({"cooled_encoder": ours}))
    video = torch.randn(1, 3, ENCODER.frames, ENCODER.size, ENCODER.size)
    assert torch.equal(open_encoder(found)(video), open_encoder(ours)(video))
    with pytest.raises(InputError, match="have no predictor"):
        open_predictor(found)


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    official_file(tmp_path / "a.pt")
    here, sizes = str(tmp_path / "a.pt"), {"heads": 4, "predictor_heads": 4}
    (tmp_path / "page.pt").write_bytes(b"<html>")
    (tmp_path / "empty").mkdir()
    folder = tmp_path / "folder"
    VJEPA2Model(VJEPA2Config(**CONFIG)).save_pretrained(folder)
    told = (folder / "config.json").read_text()
    (folder / "config.json").write_text(told.replace('"hidden_size": 96', '"hidden_size": 64'))
    for asked, line in (
        ({"location": here, **sizes, "width": 1024}, "is 48 wide, and .*width asks for 1024"),
        ({"location": here}, "shapes do not tell the head count"),
        ({"location": str(tmp_path / "page.pt")}, "is not a checkpoint"),
        ({"location": str(tmp_path / "empty")}, "has no config.json"),
        ({"location": str(folder)}, r"released_weights.location .*folder: .* in the model and "),
        ({"location": str(tmp_path / "gone.pt")}, "no such file or folder; give an official"),
    ):
        with pytest.raises((InputError, ValueError), match=line) as error:
            config = ReleasedWeightsConfig(**asked)  # type: ignore[arg-type]
            observe(config, None, ExecutionConfig(cache=tmp_path / "cache"))
            released(tmp_path / "out", **asked)
        assert "\n" not in str(error.value), str(error.value)


def test_another_file_is_another_recipe_wherever_it_lies(tmp_path: Path) -> None:
    execution = ExecutionConfig(cache=tmp_path / "cache")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "w.pt").write_bytes(b"the same")
    seen = [
        observe(ReleasedWeightsConfig(location=str(tmp_path / n / "w.pt")), None, execution)
        for n in ("a", "b")
    ]
    assert seen[0] == seen[1]
    (tmp_path / "b" / "w.pt").write_bytes(b"another one")
    changed = observe(ReleasedWeightsConfig(location=str(tmp_path / "b" / "w.pt")), None, execution)
    assert changed != seen[0]
