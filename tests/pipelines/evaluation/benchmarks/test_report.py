"""Claims: films of every benchmark's protocol become features, heads and a report, whose controls,
modes and intervals stand beside each number; features are encoded once and hold for any head, and
tokens that are kept or made anew give the same report; what does not fit is one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import VJEPA2Config, VJEPA2Model

from assets.previews import PREVIEWS
from pipelines.evaluation.benchmarks import features, report, videos
from pipelines.evaluation.benchmarks.nodes import report_lines
from pipelines.evaluation.benchmarks.protocol import (
    BenchmarkReportConfig,
    FeaturesConfig,
    HeadsConfig,
    ProtocolConfig,
    features_of,
    report_of,
)
from pipelines.evaluation.benchmarks.showing import Show, network_of, tokens_of
from pipelines.evaluation.benchmarks.videos import (
    BenchmarkVideosConfig,
    GeneratedConfig,
    PlaceConfig,
)
from pipelines.evaluation.probing import HeadConfig
from pipelines.evaluation.released_weights import ReleasedWeightsConfig
from pipelines.evaluation.released_weights import run as release
from pipelines.execution import ExecutionConfig
from pipelines.planner.weights import open_encoder
from pipelines.settings import SettingError, plain
from pipelines.stage import Inputs, Workspace
from storage.artifacts import Artifact
from storage.errors import InputError
from storage.tables import read_table, write_table
from tests.models import peers
from tests.pipelines.builders import artifact, map_in_turn, workspace

PROTOCOL = ProtocolConfig(frames=4, step=3, segments=2, views=2, size=32)
SHOWN = FeaturesConfig(
    protocols={"jester": PROTOCOL}, modes=("official", "fixed"), train_views=1, keep_tokens=True
)
HEADS = BenchmarkReportConfig(
    heads={"jester": HeadsConfig(
        head=HeadConfig(depth=1, heads=2, epochs=2, batch=8, initial="fan_in"),
        lrs=(3e-3,), weight_decays=(0.1, 0.01),
    )}, held_out=0.25,
)  # fmt: skip
MODES = ("fixed", "official")
HUGGING = {
    "crop_size": 32, "patch_size": 8, "frames_per_clip": 4, "hidden_size": 48,
    "num_attention_heads": 2, "num_hidden_layers": 3, "mlp_ratio": 2.0, "pred_hidden_size": 24,
    "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1, "pred_num_mask_tokens": 2,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def at_once() -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Workspace, "map", map_in_turn)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Films, and weights that came from a folder of transformers; `theirs` is that model."""
    root = tmp_path_factory.mktemp("made")
    config = VJEPA2Config(**HUGGING, attn_implementation="sdpa")
    theirs = peers.scatter(VJEPA2Model(config).eval(), 1)
    theirs.save_pretrained(root / "folder")
    out = workspace(root / "weights")
    told = release(ReleasedWeightsConfig(location=str(root / "folder")), Inputs({}), out)
    weights = artifact(out.payload, "released_weights", {"metrics": told})
    out = workspace(root / "videos", "jester")
    few = GeneratedConfig(train=32, validation=16)
    asked = BenchmarkVideosConfig(places={"jester": PlaceConfig()}, generated=few)
    told = videos.run(asked, Inputs({}), out)
    films = artifact(out.payload, "benchmark_videos/jester", {"media": "payload", "metrics": told})
    return {"weights": weights, "films": films, "theirs": theirs, "root": root}


def encoded(made: dict[str, Any], config: FeaturesConfig, root: Path) -> Artifact:
    out = workspace(root, "jester")
    given = {"released_weights": made["weights"], "benchmark_videos/jester": made["films"]}
    told = features.run(config, Inputs(given), out)
    return artifact(out.payload, "benchmark_features/jester", {"metrics": told}, plain(config))


def reported(
    made: dict[str, Any], found: Artifact, config: BenchmarkReportConfig, root: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    out = workspace(root, "jester")
    given = {
        "released_weights": made["weights"], "benchmark_videos/jester": made["films"],
        "benchmark_features/jester": found,
    }  # fmt: skip
    report.run(config, Inputs(given), out)
    told = json.loads((out.payload / "report.json").read_text())
    return told, read_table(out.payload / "predictions.parquet")


@pytest.fixture(scope="module")
def whole(made: dict[str, Any]) -> dict[str, Any]:
    found = encoded(made, SHOWN, made["root"] / "features")
    told, rows = reported(made, found, HEADS, made["root"] / "report")
    return {"features": found, "report": told, "rows": rows}


def test_every_number_has_its_mode_its_controls_and_its_interval(whole: dict[str, Any]) -> None:
    told = whole["report"]
    assert told["data"] == "format-faithful synthetic" and told["title"] == "Jester"
    assert (told["asked"], told["missing"], told["chance"]) == (16, 0, 1 / 8)
    assert set(told["modes"]) == {"official", "fixed"}
    for readouts in told["modes"].values():
        assert set(readouts) == {"attentive", "linear", "knn"}
        for name, found in readouts.items():
            assert set(found["variants"]) == {"pretrained", "random-0", "still"}
            for judged in found["variants"].values():
                rate = judged["accuracy"]
                assert rate["low"] <= rate["rate"] <= rate["high"] and rate["trials"] == 16
            assert np.sum(found["confusion"]) == 16 and len(found["per_class_recall"]) == 8
            assert {"gain", "low", "high"} == set(found["pretrained_minus_random"])
            if name == "attentive":
                best = found["variants"]["pretrained"]["optimistic"]
                assert best["best_epoch"] >= best["last_epoch"]
    assert told["paper"]["size"] is None and told["paper"]["accuracy"]["vit_large"] == 97.6
    assert len(whole["rows"]) == 2 * 3 * 3 * 16


def test_other_heads_need_no_other_features(made: dict[str, Any], whole: dict[str, Any]) -> None:
    again = encoded(made, SHOWN, made["root"] / "again")
    assert again.content == whole["features"].content, "the same bytes"
    more = replace(HEADS.heads["jester"], weight_decays=(0.1,))
    config = replace(HEADS, heads={"jester": more})
    told, _ = reported(made, whole["features"], config, made["root"] / "other")
    assert told["modes"]["official"]["linear"] == whole["report"]["modes"]["official"]["linear"]


def test_tokens_made_anew_give_the_same_report(made: dict[str, Any], whole: dict[str, Any]) -> None:
    """With one view a film, in the first epoch: later ones show other views, as they should."""
    shown, one = replace(SHOWN, modes=("official",)), HEADS.heads["jester"]
    once = replace(HEADS, heads={"jester": replace(one, head=replace(one.head, epochs=1))})
    anew = encoded(made, replace(shown, keep_tokens=False), made["root"] / "anew")
    assert not [path for path in anew.files() if "tokens" in path]
    kept = reported(made, whole["features"], once, made["root"] / "kept_once")[1]
    fresh = reported(made, anew, once, made["root"] / "fresh")[1]
    same = [row for row in kept if row["mode"] == "official"]
    agree = np.mean([a == b for a, b in zip(same, fresh, strict=True)])
    assert agree > 0.95, "but for the half precision in which tokens are kept"


@torch.no_grad()
def test_transformers_gives_the_same_features_and_score(made: dict[str, Any]) -> None:
    films, theirs = made["films"], made["theirs"]
    ours = open_encoder(made["weights"])
    show = Show(films, PROTOCOL, "official", 0)
    rows = films.table("items.parquet")
    views = torch.stack([show.views(row)[:1] for row in rows])

    def through_transformers(video: torch.Tensor) -> torch.Tensor:
        return theirs(video.transpose(1, 2), skip_predictor=True).last_hidden_state

    told = [tokens_of(network, views) for network in (ours, through_transformers)]
    torch.testing.assert_close(*told, atol=1e-5, rtol=0)
    numbers = np.array([row["number"] for row in rows])
    known = [n for n, row in enumerate(rows) if row["split"] == "train"]
    asked = [n for n, row in enumerate(rows) if row["split"] != "train"]
    answers = [
        report.read_out(features.pooled(tokens, 2), numbers, known, asked) for tokens in told
    ]
    for readout in ("linear", "knn"):
        assert (answers[0][readout].predicted == answers[1][readout].predicted).all()


def test_tokens_of_several_layers_lie_side_by_side(made: dict[str, Any]) -> None:
    ours = open_encoder(made["weights"])
    video = torch.randn(1, 3, 4, 32, 32)
    both, last = network_of(ours, (0, 2))(video), network_of(ours, ())(video)
    assert both.shape[1] == 2 * last.shape[1]
    torch.testing.assert_close(both[:, last.shape[1] :], last)
    layered = replace(SHOWN, protocols={"jester": replace(PROTOCOL, layers=(0, 2))}, still=False)
    layered = replace(layered, modes=("fixed",))
    found = encoded(made, layered, made["root"] / "layers")
    one = encoded(made, replace(layered, protocols=SHOWN.protocols), made["root"] / "one_layer")
    pooled = [features.Kept(f, "fixed").pooled("pretrained", "train") for f in (found, one)]
    np.testing.assert_allclose(*pooled, atol=1e-5)
    told, _ = reported(made, found, HEADS, made["root"] / "layers_report")
    assert set(told["modes"]["fixed"]["attentive"]["variants"]) == {"pretrained", "random-0"}


def test_a_film_of_one_frame_and_what_does_not_fit_are_one_line(made: dict[str, Any]) -> None:
    show = Show(made["films"], PROTOCOL, "official", 0)
    row = made["films"].table("items.parquet")[0]
    with pytest.raises(
        InputError, match=r"items.parquet of .*, item .*: it has 1 frame; a clip ne"
    ):
        show.views({**row, "frames": 1})
    for wrong, line in (
        ({"frames": 3}, r"protocols.jester.frames is 3; these weights need a multiple of 2"),
        ({"size": 36}, r"protocols.jester.size is 36; .* a multiple of 8"),
        ({"layers": (3,)}, "names block 3; these weights have 0 to 2"),
    ):  # fmt: skip
        config = replace(SHOWN, protocols={"jester": replace(PROTOCOL, **wrong)})  # type: ignore[arg-type]
        with pytest.raises(InputError, match=line):
            encoded(made, config, made["root"] / "wrong")
    with pytest.raises(
        SettingError, match=r"benchmark_features.protocols has no 'k400'; it has jes"
    ):
        features_of(SHOWN, "k400")
    with pytest.raises(SettingError, match=r"benchmark_report.heads has no 'k400'"):
        report_of(HEADS, "k400")


def test_what_is_missing_counts_as_wrong_beside(
    made: dict[str, Any], whole: dict[str, Any]
) -> None:
    films = made["films"]
    folder = made["root"] / "some"
    for path in films.files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(films.read(path))
    lost = {"key": "9", "label": "Swiping Up", "split": "validation", "reason": "there is no file"}
    write_table(folder / "missing.parquet", [lost], videos.MISSING)
    holes = artifact(folder, "benchmark_videos/jester", {"media": "payload"})
    told, _ = reported(made | {"films": holes}, whole["features"], HEADS, made["root"] / "holes")
    linear = told["modes"]["fixed"]["linear"]["variants"]["pretrained"]
    assert told["missing"] == 1
    assert (linear["accuracy"]["trials"], linear["missing_as_wrong"]["trials"]) == (16, 17)


def test_the_page_shows_scores_confusion_and_films(
    made: dict[str, Any], whole: dict[str, Any]
) -> None:
    sealed = artifact(made["root"] / "report" / "payload", "benchmark_report/jester")
    drawn = PREVIEWS["benchmark_report"](sealed, Inputs({"benchmark_videos/jester": made["films"]}))
    assert set(drawn) >= {"accuracy, official", "accuracy, fixed", "confusion", "named wrong"}
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())
    lines = [text.partition(":")[0] for _, text in report_lines(sealed)]
    assert lines == [f"Jester (format-faithful synthetic, {m}) attentive" for m in MODES]


def test_a_released_probe_is_asked_as_it_is(made: dict[str, Any], whole: dict[str, Any]) -> None:
    """Named by its file, it needs no training, and answers as the official code's own module."""
    theirs = peers.scatter(peers.probe(48, 16, 2, 8), 9).eval()
    file = made["root"] / "probe.pt"
    torch.save({"classifiers": [{f"module.{k}": v for k, v in theirs.state_dict().items()}]}, file)
    config = replace(HEADS, heads={"jester": replace(HEADS.heads["jester"], released=str(file))})
    told, rows = reported(made, whole["features"], config, made["root"] / "with_probe")
    found = told["modes"]["official"]["released"]
    assert set(found["variants"]) == {"pretrained", "still"}
    assert found["pretrained_minus_random"] is None
    kept = features.Kept(whole["features"], "official")
    tokens = kept.tokens("pretrained", "validation", range(32))
    with torch.no_grad():
        chances = theirs(tokens).softmax(-1).unflatten(0, (16, 2)).mean(1)
    classes = told["classes"]
    said = [r["predicted"] for r in rows if (r["mode"], r["readout"], r["variant"]) == (
        "official", "released", "pretrained")]  # fmt: skip
    assert said == [classes[number] for number in chances.argmax(-1).tolist()]
    execution = ExecutionConfig(cache=made["root"] / "cache")
    assert list(report.observe(config, "jester", execution)) == ["probe.pt"]
    other = peers.probe(48, 16, 2, 7)
    torch.save({"classifiers": [other.state_dict()]}, file)
    with pytest.raises(InputError, match="knows 7 classes; these weights give 48, and the files l"):
        reported(made, whole["features"], config, made["root"] / "wrong_probe")
    file.unlink()
    with pytest.raises(InputError, match=r"heads.jester.released .*probe.pt: no such file"):
        report.observe(config, "jester", execution)
