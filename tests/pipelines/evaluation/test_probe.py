"""Claims: a probe of frozen random features tells directions of motion apart, on stills it does so
worse; what is read is the target encoder; random encoders are the trained one's likes; heads are
chosen without the test clips; the report is complete and comes out the same again; what cannot be
probed is refused before anything is encoded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoints import load_weights
from models.encoder import Encoder
from pipelines.evaluation import features, heads
from pipelines.evaluation.features import open_variant, pooled_features, random_variant
from pipelines.evaluation.heads import on_held_out, task_of
from pipelines.evaluation.probe import run
from pipelines.evaluation.probing import HeadConfig, ProbeTask
from pipelines.evaluation.protocol import ProbeConfig, of_source
from pipelines.evaluation.readouts import accuracies
from pipelines.evaluation.splits import Split, labelled_clips
from pipelines.evaluation.views import ViewConfig, shown
from pipelines.planner.weights import open_encoder, weights_file
from pipelines.stage import Inputs, Workspace
from storage.errors import InputError
from storage.manifests import content_digest, list_files
from storage.tables import read_table
from storage.work import KeptFile, LocalWork
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.evaluation.material import write_clips

VIEWS = ViewConfig(
    frames=4, size=32, segments=1, views=1, crop_scale=(0.5, 0.8), crop_aspect=(1.0, 1.0)
)
HEAD = HeadConfig(
    depth=1, heads=4, epochs=16, batch=8, initial="fan_in", standardise=True, positions=True
)
CONFIG = ProbeConfig(
    sources=("ssv2",), labels=(16, 40), views=VIEWS, head=HEAD, lrs=(3e-3,), weight_decays=(0.05,)
)
SHORT = replace(CONFIG, head=replace(HEAD, epochs=2))


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clip_shards"), {"train": 40, "validation": 16})


@pytest.fixture
def inputs(trainings, shards) -> Inputs:
    named = {"cooled_encoder": trainings["cooled_encoder"]}
    return Inputs(named | {"clip_shards/ssv2": artifact(shards, "clip_shards/ssv2")})


@pytest.fixture(autouse=True)
def without_ray(monkeypatch):
    monkeypatch.setattr(Workspace, "map", map_in_turn)
    features.open_variant.cache_clear()


def probed(config: ProbeConfig, inputs: Inputs, folder: Path) -> dict:
    out = workspace(folder, "ssv2")
    run(of_source(config, "ssv2"), inputs, out)
    return json.loads((out.payload / "report.json").read_text())


def test_the_report_tells_every_readout_and_stills_do_worse(inputs, tmp_path):
    report = probed(CONFIG, inputs, tmp_path / "one")
    assert report["source"] == "ssv2" and report["classes"] == ["left", "right"]
    assert (report["chance"], report["test_clips"]) == (0.5, 16)
    assert report["clips"] == {
        "train": {"left": 20, "right": 20}, "test": {"left": 8, "right": 8},
    }  # fmt: skip
    for readout, curve in report["readouts"].items():
        assert [at["labels"] for at in curve] == [16, 40], readout
        last = curve[-1]
        told = {name: found["accuracy"] for name, found in last["variants"].items()}
        if readout == "attentive":  # the others lose where in a picture it moves
            # All of 16 clips, and 7 to 11 of them by the seed of the head.
            assert told["pretrained"]["successes"] >= told["still"]["successes"] + 2
            assert told["pretrained"]["rate"] > 0.75
        assert told["pretrained"]["low"] < told["pretrained"]["rate"]
        assert np.sum(last["confusion"]) == 16 == told["random"]["trials"]
        assert np.trace(last["confusion"]) == told["pretrained"]["successes"]
        assert len(last["variants"]["random"]["seeds"]) == (1 if readout == "attentive" else 3)
        seeds = [seed["accuracy"]["rate"] for seed in last["variants"]["random"]["seeds"]]
        assert told["random"]["rate"] == pytest.approx(np.mean(seeds))
        gain = last["pretrained_minus_random"]
        assert gain["gain"] == pytest.approx(told["pretrained"]["rate"] - np.mean(seeds))
        assert -1 <= gain["low"] <= gain["gain"] <= gain["high"] <= 1
        assert last["variants"]["pretrained"]["chosen"]
    assert report["chosen_on"]["attentive"].startswith("a held-out part")
    rows = read_table(tmp_path / "one" / "payload" / "predictions.parquet")
    assert len(rows) == 16 * 2 * (2 * 5 + 3)
    right = sum(
        row["label"] == row["predicted"]
        for row in rows
        if (row["readout"], row["labels"], row["variant"]) == ("linear", 40, "pretrained")
    )
    last = report["readouts"]["linear"][-1]["variants"]["pretrained"]
    assert right == last["accuracy"]["successes"]
    log = read_table(tmp_path / "one" / "payload" / "log.parquet")
    assert {row["variant"] for row in log} == {"pretrained", "random-0", "still"}


def test_equal_questions_have_equal_answers(inputs, tmp_path):
    digests = set()
    for name in ("one", "two"):
        probed(replace(SHORT, still=False), inputs, tmp_path / name)
        digests.add(content_digest(list_files(tmp_path / name / "payload")))
    assert len(digests) == 1


def test_what_is_read_is_the_target_encoder(inputs):
    """Not the online encoder, whose weights lie beside it."""
    trained = inputs["cooled_encoder"]
    clips = labelled_clips(inputs.parts("clip_shards"), "ssv2")[-4:]
    read = open_variant("pretrained", trained, 0, "cpu")
    found = {"read": pooled_features(read, shown(clips, VIEWS), 2)}
    for name in ("target_encoder", "encoder"):
        network = Encoder(read.config).eval()
        network.load_state_dict(load_weights(weights_file(trained, name)))
        found[name] = pooled_features(network, shown(clips, VIEWS), 2)
    assert found["read"].shape == (4, 2, 24)
    assert np.allclose(found["read"], found["target_encoder"], atol=1e-4)
    assert not np.allclose(found["read"], found["encoder"], atol=0.01)


def test_a_study_in_memory_finds_what_the_report_says(inputs, tmp_path):
    """Clips shown once, a network, and the readouts as plain functions."""
    report = probed(SHORT, inputs, tmp_path)
    clips = labelled_clips(inputs.parts("clip_shards"), "ssv2")
    split = Split.of("ssv2", clips, labels=(16, 40), test=None, seed=0)
    views = torch.cat([shown(side, VIEWS) for side in (split.train, split.test)])
    pooled = pooled_features(open_encoder(inputs["cooled_encoder"]), views, 2)
    found = accuracies(
        pooled, np.array([*split.train_labels, *split.test_labels]),
        {budget: range(budget) for budget in split.budgets}, range(40, 56),
    )  # fmt: skip
    for readout, rates in found.items():
        for at in report["readouts"][readout]:
            told = at["variants"]["pretrained"]["accuracy"]
            # Sums in batches of another size may turn a tie.
            assert abs(rates[at["labels"]].successes - told["successes"]) <= 1
            assert rates[at["labels"]].trials == told["trials"] == 16


def test_random_encoders_differ_by_their_seed_alone(inputs):
    trained = inputs["cooled_encoder"]
    states = [
        open_variant(random_variant(number), trained, seed, "cpu").state_dict()
        for number, seed in ((0, 0), (1, 0), (0, 1))
    ]
    pretrained = open_encoder(trained).state_dict()
    assert [value.shape for value in states[0].values()] == [v.shape for v in pretrained.values()]
    name = "blocks.0.mlp.fc1.weight"
    for other in (*states[1:], pretrained):
        assert not torch.equal(states[0][name], other[name])
    # As the trained one was: the published start would have a deviation of 0.02.
    assert float(states[0][name].std()) == pytest.approx(24**-0.5, rel=0.1)
    open_variant.cache_clear()
    torch.manual_seed(77)
    again = open_variant(random_variant(0), trained, 0, "cpu").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in states[0].items())


def judged(task: ProbeTask) -> dict:
    """Instead of a training: of the heads tried, the one with a rate of 3e-3 is always right."""
    right = task.lr == 3e-3
    predicted = [number if right else 1 - number for number in task.asked_labels]
    return {"predicted": predicted, "fitted": list(task.fit_labels), "losses": [0.5]}


def test_heads_are_chosen_inside_the_labels_and_the_papers_way_is_named(
    inputs, tmp_path, monkeypatch
):
    clips = labelled_clips(inputs.parts("clip_shards"), "ssv2")
    split = Split.of("ssv2", clips, labels=(16, 40), test=None, seed=0)
    files = {side: (KeptFile(f"scratch/{side}", 1),) for side in ("train", "validation")}
    work = LocalWork(tmp_path / "payload", tmp_path / "scratch")
    for labels, held in ((16, 4), (40, 8)):
        task = task_of(CONFIG, split, labels, work, files, (2, 4, 4), "cpu")
        assert task.asked == files["validation"] and task.asked_labels == split.test_labels
        part = on_held_out(task, CONFIG, split)
        assert part.asked == files["train"] and not set(part.fit_clips) & set(part.asked_clips)
        assert sorted(part.fit_clips + part.asked_clips) == list(range(labels))
        assert len(part.asked_clips) == held
        assert part.asked_labels == tuple(split.train_labels[row] for row in part.asked_clips)
    monkeypatch.setattr(heads, "train_probe", judged)
    config = replace(SHORT, labels=(40,), lrs=(1e-6, 3e-3))
    for selection in ("held_out", "validation"):
        report = probed(replace(config, selection=selection), inputs, tmp_path / selection)
        [at] = report["readouts"]["attentive"]
        chosen = at["variants"]["pretrained"]["chosen"]
        assert at["variants"]["still"]["chosen"] == chosen
        told = report["chosen_on"]["attentive"]
        assert ("optimistic" in told) == (selection == "validation")
        assert chosen["lr"] == 3e-3


def test_too_few_labels_are_refused_before_anything_is_encoded(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(Workspace, "map", None)
    refused = {
        (16, 41): "asks for 41 labelled clips of ssv2, which has 40 to train on",
        (1, 40): "asks for 1 labelled clips of ssv2, fewer than its 2 classes",
    }
    for labels, told in refused.items():
        with pytest.raises(InputError, match=told):
            probed(replace(CONFIG, labels=labels), inputs, tmp_path)
    with pytest.raises(InputError, match=r"probe_report\.views: frames must be a multiple of 2"):
        probed(replace(CONFIG, views=replace(VIEWS, frames=3)), inputs, tmp_path)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="selection = 'best': must be 'held_out' or 'validation'"):
        ProbeConfig(selection="best")
    with pytest.raises(ValueError, match="want rising numbers"):
        ProbeConfig(labels=(1000, 240))
    with pytest.raises(ValueError, match="must_beat_random names 'coin', which sources does not"):
        ProbeConfig(must_beat_random=("coin",))
    with pytest.raises(ValueError, match=r"sources = .*: names 'ssv2' twice; want each once"):
        ProbeConfig(sources=("ssv2", "ssv2"))
    assert len(ProbeConfig().grid) == 20  # the paper's heads
    assert ProbeConfig().labels is None
