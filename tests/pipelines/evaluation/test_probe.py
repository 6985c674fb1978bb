"""Claims: real clips out of real shards are shown as documented; a probe on frozen random features
tells directions of motion apart and cannot do so on stills; heads are chosen without validation;
the report is complete and comes out the same again; what cannot be probed is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.evaluation import features
from pipelines.evaluation.features import ViewConfig, decoded, labelled_clips, views_of
from pipelines.evaluation.probe import Clips, ProbeConfig, on_held_out, run, task_of
from pipelines.evaluation.probing import HeadConfig
from pipelines.stage import Inputs, Workspace
from storage.manifests import content_digest, list_files
from storage.shards import ShardWriter
from storage.tables import read_table, write_table
from storage.video import encode
from storage.work import KeptFile, LocalWork
from tests.pipelines.builders import artifact, map_in_turn, workspace

SIDE, FRAMES = 32, 12
COLUMNS = {
    "key": "string", "source": "string", "shard": "string", "offset": "int64", "size": "int64",
    "kind": "string", "fps": "float64", "frames": "int32", "label": "string", "split": "string",
}  # fmt: skip
VIEWS = ViewConfig(
    frames=4, size=32, segments=1, views=1, crop_scale=(0.5, 0.8), crop_aspect=(1.0, 1.0)
)
HEAD = HeadConfig(
    depth=1, heads=4, epochs=16, batch=8, initial="fan_in", standardise=True, positions=True
)
CONFIG = ProbeConfig(views=VIEWS, head=HEAD, lrs=(3e-3,), weight_decays=(0.05,))


def moving(label: str, number: int) -> list[np.ndarray]:
    """A bright square crosses the picture left or right; where and how fast varies."""
    random = np.random.default_rng([number, 7])
    top, size = int(random.integers(4, 20)), int(random.integers(7, 11))
    way = np.linspace(0, SIDE - size, FRAMES) * random.uniform(0.8, 1.0)
    grey = int(random.integers(20, 60))
    frames = []
    for x in way if label == "right" else way[::-1]:
        frame = np.full((SIDE, SIDE + 8, 3), grey, dtype=np.uint8)
        frame[top : top + size, int(x) : int(x) + size] = 230
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip_shards")
    rows = []
    with ShardWriter(folder / "shards", shard_samples=20) as writer:
        for number in range(56):
            label = ("left", "right")[number % 2]
            data = encode(moving(label, number // 2), 4.0, options={"crf": "12"}).data
            span = writer.write(f"clip{number:03d}", {"mp4": data, "json": {"label": label}})["mp4"]
            rows.append(
                {
                    "key": f"clip{number:03d}", "source": "ssv2", "shard": span.shard,
                    "offset": span.offset, "size": span.size, "kind": "video", "fps": 4.0,
                    "frames": FRAMES, "label": label,
                    "split": "train" if number < 40 else "validation",
                }
            )  # fmt: skip
    write_table(folder / "index.parquet", rows, COLUMNS)
    return folder


@pytest.fixture
def inputs(trainings, shards) -> Inputs:
    named = {"cooled_encoder": trainings["cooled_encoder"]}
    return Inputs(named | {"clip_shards/ssv2": artifact(shards, "clip_shards")})


@pytest.fixture
def without_ray(monkeypatch):
    monkeypatch.setattr(Workspace, "map", map_in_turn)
    features.open_variant.cache_clear()


def test_validation_views_are_even_squares_and_stills_do_not_move(inputs):
    clip = labelled_clips(inputs.parts("clip_shards"), "ssv2")[-1]
    assert clip.split == "validation"
    execution = replace(VIEWS, views=3, segments=2)
    stored = decoded(clip)
    shown = views_of(clip, stored, execution, still=False)
    assert shown.shape == (3, 2, 3, 4, 32, 32)
    left, middle, right = (view[0, 0].sum(0) for view in shown)
    # The window slides right over the picture, so its contents slide left.
    assert torch.allclose(left[:, 8:30], right[:, :22], atol=0.6)
    assert not torch.allclose(left, middle, atol=0.1)
    still = views_of(clip, stored, execution, still=True)[1]
    assert torch.equal(still[:, :, :1].expand_as(still), still)
    assert not torch.equal(shown[1][0, :, 0], shown[1][0, :, -1])


def test_training_views_differ_and_are_never_mirrored(inputs):
    clip = labelled_clips(inputs.parts("clip_shards"), "ssv2")[1]
    assert (clip.split, clip.label) == ("train", "right")
    execution = replace(VIEWS, train_views=4)
    shown = views_of(clip, decoded(clip), execution, still=False)
    assert len(shown) == 4 and not torch.equal(shown[0], shown[1])
    for view in shown:
        bright = view[0, 0].clamp_min(0).sum(1)  # [T, W]
        seen = bright[bright.sum(1) > 0]
        where = (seen * torch.arange(32)).sum(1) / seen.sum(1)
        assert len(where) > 1 and where[-1] > where[0]
    assert torch.equal(views_of(clip, decoded(clip), execution, still=False), shown)


def test_probe_tells_directions_apart_and_stills_do_not(inputs, tmp_path, without_ray):
    out = workspace(tmp_path / "one")
    metrics = run(CONFIG, inputs, out)
    report = json.loads((out.payload / "report.json").read_text())
    trained = report["encoders"]["pretrained"]
    assert trained["train_accuracy"] > 0.9 and trained["accuracy"]["rate"] >= 0.75
    assert report["controls"]["still"]["accuracy"]["rate"] < trained["accuracy"]["rate"]
    assert np.sum(trained["confusion"]) == report["validation_clips"] == 16
    assert report["chance"] == 0.5 and report["classes"] == ["left", "right"]
    assert report["selected_on"].startswith("a held-out part")
    assert metrics["pretrained_accuracy"] == trained["accuracy"]["rate"]
    rows = read_table(out.payload / "predictions.parquet")
    right = sum(row["label"] == row["pretrained"] for row in rows)
    assert right == trained["accuracy"]["successes"] and len(rows) == 16
    assert {row["variant"] for row in read_table(out.payload / "log.parquet")} == {
        "pretrained", "random", "still",
    }  # fmt: skip


def test_equal_questions_have_equal_answers(inputs, tmp_path, without_ray):
    digests = set()
    for name in ("one", "two"):
        out = workspace(tmp_path / name)
        run(replace(CONFIG, head=replace(HEAD, epochs=2), still=False), inputs, out)
        digests.add(content_digest(list_files(out.payload)))
    assert len(digests) == 1


def test_heads_are_chosen_on_train_and_the_papers_way_is_named(inputs, tmp_path, without_ray):
    clips = Clips.of(labelled_clips(inputs.parts("clip_shards"), "ssv2"))
    files = {side: (KeptFile(f"scratch/{side}", 1),) for side in ("train", "validation")}
    work = LocalWork(tmp_path / "payload", tmp_path / "scratch")
    task = task_of(CONFIG, clips, work, files, (2, 4, 4), "cpu")
    part = on_held_out(task, CONFIG, clips)
    assert part.asked == files["train"] and not set(part.fit_clips) & set(part.asked_clips)
    assert sorted(part.fit_clips + part.asked_clips) == list(range(40))
    assert len(part.asked_clips) == 8
    config = replace(CONFIG, head=replace(HEAD, epochs=2), lrs=(1e-6, 3e-3))
    chosen = {}
    for selection in ("held_out", "validation"):
        out = workspace(tmp_path / selection)
        run(replace(config, selection=selection), inputs, out)
        report = json.loads((out.payload / "report.json").read_text())
        chosen[selection] = report["encoders"]["pretrained"]["lr"]
        assert report["controls"]["still"]["lr"] == chosen[selection]
        assert ("optimistic" in report["selected_on"]) == (selection == "validation")
    assert chosen["held_out"] == 3e-3  # at 1e-6 nothing is learned


def test_what_cannot_be_probed_says_why(shards, tmp_path):
    parts = {"ssv2": artifact(shards, "clip_shards")}
    with pytest.raises(ValueError, match="source kinetics cannot be probed"):
        labelled_clips(parts, "kinetics")
    rows = [r for r in read_table(shards / "index.parquet") if r["label"] == "left"]
    alien = [{**r, "label": "up"} for r in rows if r["split"] == "validation"]
    both = read_table(shards / "index.parquet") + alien
    (tmp_path / "odd").mkdir()
    write_table(tmp_path / "odd" / "index.parquet", both, COLUMNS)
    with pytest.raises(ValueError, match="class up is in validation and never in train"):
        labelled_clips({"ssv2": artifact(tmp_path / "odd", "clip_shards")}, "ssv2")
    with pytest.raises(ValueError, match="selection = 'best': must be 'held_out' or 'validation'"):
        ProbeConfig(selection="best")
    assert len(ProbeConfig().grid) == 20  # the paper's heads
