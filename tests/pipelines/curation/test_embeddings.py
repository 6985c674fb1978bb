"""Claims: photographs of the same thing lie closer than others; a scene's vector does not depend on
workers or on what is embedded beside it; of a target, no more scenes are embedded than asked for,
training ones first, and growing changes few of them; DINOv2 gives the class token of a local model,
an encoder of this graph its mean token; a folder that holds neither is refused in one line; what
cannot be decoded is quarantined.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoints import save_weights
from models.encoder import Encoder, EncoderConfig
from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from pipelines.curation import embeddings
from pipelines.curation.embedders import Embedder, EmbedderError, embed, load_embedder
from pipelines.curation.embeddings import (
    EmbeddingsConfig,
    centre_square,
    chosen_scenes,
    observe,
    partition_config,
    run,
)
from pipelines.execution import ExecutionConfig
from pipelines.stage import Inputs, Workspace
from storage.frames import middle_frame
from storage.tables import read_table
from storage.video import decode_image, encode, encode_image, probe
from tests.pipelines.builders import map_in_turn, workspace
from tests.pipelines.curation.builders import content, inputs, moving, raw_videos, scene, scenes

LITE = EmbeddingsConfig(model="efficientnet_lite0", size=64)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Three videos of two scenes, one still, one file that is no video."""
    root = tmp_path_factory.mktemp("given")
    files = {f"v{n}.mp4": encode(moving(50, n), 25.0).data for n in range(3)}
    files |= {"photo.png": encode_image(moving(1, 9)[0], "png"), "broken.mp4": b"no video"}
    raw = raw_videos(root / "raw", files)
    spans = [(f"v{n}.mp4", start, start + 1.0) for n in range(3) for start in (0.0, 1.0)]
    spans += [("photo.png", 0.0, 0.0), ("broken.mp4", 0.0, 1.0)]
    return inputs(raw_videos=raw, scenes=scenes(root / "scenes", raw, spans))


def test_photographs_of_the_same_thing_lie_closer(real_data: Path) -> None:
    folder = real_data / "images_similarity"
    names = ("cheetah1.jpg", "cheetah2.jpg", "lion.jpg", "tower.jpg")
    squares = [centre_square(decode_image((folder / name).read_bytes(), 128)) for name in names]
    network = load_embedder("efficientnet_lite0", None)
    vectors = np.concatenate([embed(square[None], network) for square in squares])
    near = vectors @ vectors.T
    assert np.allclose(np.diag(near), 1, atol=1e-5)
    cats = near[0, 1]
    assert cats > 0.4
    assert all(cats > near[a, b] + 0.05 for a, b in ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3)))
    assert min(near[0, 2], near[1, 2]) > max(near[0, 3], near[1, 3])


def test_the_same_video_in_another_encoding_is_the_nearest(real_data: Path) -> None:
    groups = json.loads((real_data / "near_duplicates.json").read_text())["groups"][:6]
    network = load_embedder("efficientnet_lite0", None)
    vectors = []
    for path in (name for group in groups for name in group):
        data = (real_data / path).read_bytes()
        frame = middle_frame(data, 0.0, probe(data).seconds, 128)
        vectors.append(embed(centre_square(frame)[None], network)[0])
    near = np.stack(vectors) @ np.stack(vectors).T - 2 * np.eye(len(vectors))
    twins = [row ^ 1 for row in range(12)]  # groups of two: 0 and 1, 2 and 3, ...
    assert near.argmax(axis=1).tolist() == twins


def test_a_vector_depends_on_its_scene_alone(
    given: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = workspace(tmp_path / "a", "yt1b-00", workers=1)
    metrics = run(LITE, given, first)
    assert metrics == {"scenes": 7, "quarantined": 1, "width": 1280}
    monkeypatch.setattr(embeddings, "CHUNK", 3)
    second = workspace(tmp_path / "b", "yt1b-00", workers=2)
    run(LITE, given, second)
    assert content(first) == content(second)
    vectors = np.load(first.payload / "embeddings.npy")
    assert vectors.shape == (7, 1280) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # Two scenes of one video look alike, scenes of two videos do not.
    rows = read_table(first.payload / "rows.parquet")
    known = {row["scene_id"]: row for row in given["scenes"].table("scenes.parquet")}
    paths = [known[row["scene_id"]]["path"] for row in rows]
    near = vectors @ vectors.T
    same = [near[a, b] for a in range(7) for b in range(a) if paths[a] == paths[b]]
    other = [near[a, b] for a in range(7) for b in range(a) if paths[a] != paths[b]]
    assert len(same) == 3 and min(same) > max(other)


def test_no_more_scenes_of_a_target_are_embedded_than_asked_for(
    given: Inputs, tmp_path: Path
) -> None:
    few = replace(LITE, target_scenes=3)
    out = workspace(tmp_path, "coin", workers=1)
    assert run(few, given, out)["scenes"] + len(read_table(out.payload / "quarantine.parquet")) == 3
    assert partition_config(few, "coin") == few
    assert partition_config(few, "yt1b-03") == LITE, "the pool is embedded whole"


def test_chosen_scenes_of_either_kind_are_those_that_growing_leaves_in_place() -> None:
    rows = [
        scene(f"{n}", video_id=f"{97 * n % 200:03d}", split="validation" if n % 2 else "train")
        for n in range(200)
    ]
    chosen = chosen_scenes(rows[:100], 20, 5)
    assert [row["split"] for row in chosen].count("train") == 20
    assert [row["split"] for row in chosen].count("validation") == 5
    assert [row["video_id"] for row in chosen] == sorted(row["video_id"] for row in chosen)
    # The sample of twice as many takes what has the smallest hashes again, where it is still in.
    ids, more = ({r["scene_id"] for r in chosen_scenes(rows[:n], 20, 5)} for n in (100, 200))
    assert len(ids & more) > 0 and all(int(name) >= 100 for name in more - ids)
    assert len(chosen_scenes(rows[:100], 60, 0)) == 50
    assert len(chosen_scenes(rows, None, None)) == 200


def test_what_cannot_be_decoded_is_quarantined(given: Inputs, tmp_path: Path) -> None:
    out = workspace(tmp_path, "yt1b-00", workers=2)
    run(LITE, given, out)
    (row,) = read_table(out.payload / "quarantine.parquet")
    assert row["item"].startswith("broken.mp4 (") and row["stage"] == "scene_embeddings"
    assert row["reason"]


def test_a_rerun_continues_where_it_was(given: Inputs, tmp_path: Path) -> None:
    out = workspace(tmp_path / "work", "yt1b-00", workers=2)
    run(LITE, given, out)
    before = content(out)
    for path in out.payload.iterdir():
        path.unlink()
    # Nothing is read again: a source that is gone meanwhile does no harm.
    elsewhere = given["raw_videos"].payload.root.rename(tmp_path / "moved")
    try:
        run(LITE, given, out)
    finally:
        elsewhere.rename(given["raw_videos"].payload.root)
    assert content(out) == before


def tiny_dinov2(folder: Path) -> Any:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    settings = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    network = Dinov2Model(settings).eval()
    network.save_pretrained(folder)
    return network


def test_dinov2_is_the_class_token_of_a_local_model(tmp_path: Path) -> None:
    network = tiny_dinov2(tmp_path / "dino")
    frames = np.stack([picture[:56, :56] for picture in moving(3, 1)])
    found = embed(frames, load_embedder("dinov2", str(tmp_path / "dino")))
    images = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(
        3, 1, 1
    )
    with torch.no_grad():
        token = network(images).pooler_output
    expected = torch.nn.functional.normalize(token).numpy()
    assert found.shape == (3, 32)
    assert np.allclose(found, expected, atol=1e-6)


def tiny_encoder(folder: Path) -> Encoder:
    torch.manual_seed(0)
    config = EncoderConfig(width=32, depth=1, heads=2, mlp_hidden=32, frames=4, size=32)
    encoder = Encoder(config).eval()
    save_weights(folder / "target_encoder.safetensors", encoder.state_dict())
    told = {"architecture": {"encoder": asdict(config)}, "step": 4}
    (folder / "model.json").write_text(json.dumps(told))
    return encoder


def test_an_encoder_of_this_graph_embeds(
    given: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)
    encoder = tiny_encoder(tmp_path)
    frames = np.stack([picture[:64, :64] for picture in moving(2, 1)])
    found = embed(frames, load_embedder("vjepa2", str(tmp_path)))
    pixels = (
        torch.from_numpy(frames).permute(0, 3, 1, 2)[:, :, None].expand(-1, -1, 2, -1, -1) / 255
    )
    mean, spread = (torch.tensor(v).view(3, 1, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        expected = torch.nn.functional.normalize(encoder((pixels - mean) / spread).mean(1))
    assert np.allclose(found, expected.numpy(), atol=1e-6)
    config = EmbeddingsConfig(model="vjepa2", weights=str(tmp_path), size=64)
    out = workspace(tmp_path / "out", "yt1b-00")
    assert run(config, given, out) == {"scenes": 7, "quarantined": 1, "width": 32}
    told = json.loads((out.payload / "model.json").read_text())
    seen = observe(config, None, ExecutionConfig())
    assert told["weights_sha256"] == seen["weights_sha256"] != seen["settings_sha256"]


def test_folders_that_are_no_encoder_are_refused(tmp_path: Path) -> None:
    advice = r"; set scene_embeddings.weights to a checkpoint of this graph's encoder"
    with pytest.raises(EmbedderError, match=rf"scene_embeddings.weights is not set{advice}"):
        load_embedder("vjepa2", None)
    with pytest.raises(EmbedderError, match=rf"no .*model.json{advice}"):
        load_embedder("vjepa2", str(tmp_path))
    tiny_encoder(tmp_path)
    model = json.loads((tmp_path / "model.json").read_text())
    for wrong in ({}, {"encoder": {"widht": 3}}, {"encoder": {"depth": 2, "width": 32}}):
        (tmp_path / "model.json").write_text(json.dumps(model | {"architecture": wrong}))
        with pytest.raises(EmbedderError, match=rf"is no encoder: .*{advice}"):
            load_embedder("vjepa2", str(tmp_path))


def test_a_picture_of_nothing_gives_no_vector_that_is_not_a_number() -> None:
    network = Embedder(lambda images: torch.zeros(len(images), 4), 4, "0" * 64)
    assert embed(np.zeros((2, 32, 32, 3), np.uint8), network).tolist() == [[0.0] * 4] * 2


def test_folders_that_are_no_dinov2_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match=r"scene_embeddings.weights is not set"):
        load_embedder("dinov2", None)
    with pytest.raises(
        EmbedderError, match=r"no .*nowhere/config.json; set scene_embeddings.weights"
    ):
        load_embedder("dinov2", str(tmp_path / "nowhere"))
    tiny_dinov2(tmp_path / "dino")
    settings = tmp_path / "dino" / "config.json"
    real = json.loads(settings.read_text())
    settings.write_text(json.dumps(real | {"model_type": "vit"}))
    with pytest.raises(EmbedderError, match="model_type is 'vit', not 'dinov2'"):
        load_embedder("dinov2", str(tmp_path / "dino"))
    # One layer more than the file has weights for: transformers would invent them.
    settings.write_text(json.dumps(real | {"num_hidden_layers": 3}))
    with pytest.raises(EmbedderError, match=r"model.safetensors lacks \d+ tensors, first"):
        load_embedder("dinov2", str(tmp_path / "dino"))


def test_weights_that_cannot_be_loaded_are_refused(tmp_path: Path, given: Inputs) -> None:
    tiny_dinov2(tmp_path / "dino")
    settings, tensors = (tmp_path / "dino" / n for n in ("config.json", "model.safetensors"))
    config = EmbeddingsConfig(weights=str(tmp_path / "dino"), size=58)
    with pytest.raises(EmbedderError, match=r"size = 58: must be a multiple .* patch, \d+"):
        run(config, given, workspace(tmp_path / "out"))
    load_embedder.cache_clear()
    real = json.loads(settings.read_text())
    settings.write_text(json.dumps(real | {"hidden_size": 48, "num_attention_heads": 1}))
    with pytest.raises(EmbedderError, match=r"dino cannot be loaded: .*; set scene_embeddings"):
        load_embedder("dinov2", str(tmp_path / "dino"))
    tensors.write_bytes(b"no tensors")
    with pytest.raises(EmbedderError, match=r"dino cannot be loaded: .*; set scene_embeddings"):
        load_embedder("dinov2", str(tmp_path / "dino"))
    for text in ("{", "[]", "{}"):
        settings.write_text(text)
        with pytest.raises(EmbedderError, match=r"config.json is no model's config"):
            load_embedder("dinov2", str(tmp_path / "dino"))


def test_the_question_names_the_weights_not_their_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tiny_dinov2(tmp_path / name)
    seen = [
        observe(EmbeddingsConfig(weights=str(tmp_path / name)), "yt1b-00", ExecutionConfig())
        for name in ("a", "b")
    ]
    assert seen[0] == seen[1] and len(seen[0]["weights_sha256"]) == 64
    settings = tmp_path / "b" / "config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"num_attention_heads": 4}))
    other = observe(EmbeddingsConfig(weights=str(tmp_path / "b")), None, ExecutionConfig())
    assert other != seen[0], "heads are not visible in the weights"
    assert observe(EmbeddingsConfig(), None, ExecutionConfig()) == {}
    assert observe(LITE, None, ExecutionConfig()) == {
        "weights_sha256": load_embedder("efficientnet_lite0", None).weights_sha256
    }


@pytest.mark.parametrize(
    "change", [{"model": "resnet"}, {"size": 63}, {"size": 0}, {"batch": 0}, {"target_scenes": 0}]
)
def test_settings_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"EmbeddingsConfig.{next(iter(change))} = "):
        EmbeddingsConfig(**change)
