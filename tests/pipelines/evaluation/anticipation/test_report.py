"""Claims: kitchens that were made are read as the real ones; encoder and predictor tokens lie side
by side at the place that is asked for; the three lines stand together, with controls; an action
without a clip is counted; the submission is whole."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import VJEPA2Config, VJEPA2Model

from assets.previews import PREVIEWS
from pipelines.evaluation.anticipation import films, report
from pipelines.evaluation.anticipation.encoding import anticipated
from pipelines.evaluation.anticipation.films import KitchenFilmsConfig
from pipelines.evaluation.anticipation.kitchens import NEVER_TRAINED, kitchens_of
from pipelines.evaluation.anticipation.nodes import anticipation_lines
from pipelines.evaluation.anticipation.protocol import AnticipationConfig
from pipelines.evaluation.anticipation.submission import check_submission
from pipelines.evaluation.probing import HeadConfig
from pipelines.evaluation.released_weights import ReleasedWeightsConfig
from pipelines.evaluation.released_weights import run as release
from pipelines.planner.weights import open_encoder, open_predictor
from pipelines.stage import Inputs, Workspace
from storage.artifacts import Artifact
from storage.errors import InputError
from storage.tables import read_table
from tests.models import peers
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.evaluation.benchmarks.test_report import HUGGING

SMALL = AnticipationConfig(
    frames=4, rate=4, size=16, train_views=1, ahead=0.5, train_ahead=(0.25, 1.0),
    head=HeadConfig(depth=1, heads=2, epochs=2, batch=8, initial="fan_in", standardise=True,
                    positions=True),
    lrs=(3e-3, 1e-3), weight_decays=(0.01,), held_out=0.25,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def at_once() -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Workspace, "map", map_in_turn)
        yield


@pytest.fixture(scope="module")
def theirs() -> VJEPA2Model:
    sizes = {**HUGGING, "crop_size": 16}
    return peers.scatter(VJEPA2Model(VJEPA2Config(**sizes, attn_implementation="sdpa")).eval(), 4)


@pytest.fixture(scope="module")
def made(theirs: VJEPA2Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    root = tmp_path_factory.mktemp("made")
    theirs.save_pretrained(root / "folder")
    out = workspace(root / "weights")
    told = release(ReleasedWeightsConfig(location=str(root / "folder")), Inputs({}), out)
    weights = artifact(out.payload, "released_weights", {"metrics": told})
    out = workspace(root / "films")
    told = films.run(KitchenFilmsConfig(train=6, validation=4), Inputs({}), out)
    kitchens = artifact(out.payload, "kitchen_films", {"media": told["media"], "metrics": told})
    return {"released_weights": weights, "kitchen_films": kitchens}


def test_made_kitchens_are_read_as_real_ones(made: dict[str, Artifact], tmp_path: Path) -> None:
    kitchens = made["kitchen_films"]
    rows = kitchens.table("segments.parquet")
    assert Counter(row["split"] for row in rows) == {"train": 24, "validation": 16}
    assert {row["fps"] for row in rows} == {60.0, 60000 / 1001, 50.0, 30.0}
    train = {(row["verb"], row["noun"]) for row in rows if row["split"] == "train"}
    assert not train & set(NEVER_TRAINED) and len(train) == 10
    late = [row for row in rows if row["fps"] == 50.0]
    assert late and all(abs(row["stop_frame"] - row["stop"] * 50) <= 1 for row in late)
    folder = tmp_path / "kitchens"
    for path in kitchens.files("media/"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(kitchens.read(path))
    gone = next(p for p in (folder / "media").rglob("*.MP4") if not p.stem.startswith("P18"))
    gone.unlink()
    out = workspace(tmp_path / "again")
    told = films.run(KitchenFilmsConfig(location=str(folder / "media")), Inputs({}), out)
    again = {row["name"]: row for row in read_table(out.payload / "segments.parquet")}
    assert again == {row["name"]: row for row in rows if row["video"] != gone.stem}
    missing = read_table(out.payload / "missing.parquet")
    assert {row["video"] for row in missing} == {gone.stem} and len(missing) == 4
    assert sum(told["missing"].values()) == 4


@torch.no_grad()
def test_tokens_are_those_of_transformers_at_the_asked_place(
    made: dict[str, Artifact], theirs: VJEPA2Model
) -> None:
    """Two clips, one predicted one step ahead, one two; there the grid has the nominal size."""
    weights = made["released_weights"]
    encoder, predictor = open_encoder(weights), open_predictor(weights)
    clips = torch.randn(2, 3, 4, 16, 16)
    found = anticipated(encoder, predictor, clips, [0, 1])
    assert found.shape == (2, 8 + 4, 48)
    for row, ahead in enumerate((0, 1)):
        here = torch.arange(8)[None]
        there = torch.arange(4)[None] + 8 + 4 * ahead
        context = theirs(clips[row : row + 1].transpose(1, 2), skip_predictor=True)
        told = theirs.predictor(context.last_hidden_state, [here], [there])
        torch.testing.assert_close(found[row, :8], context.last_hidden_state[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(found[row, 8:], told.last_hidden_state[0], atol=1e-4, rtol=0)


def test_three_lines_stand_together(made: dict[str, Artifact], tmp_path: Path) -> None:
    out = workspace(tmp_path)
    metrics = report.run(SMALL, Inputs(made), out)
    told = json.loads((out.payload / "report.json").read_text())
    assert set(told["lines"]) == {"pretrained", "random-0", "still", "most_frequent"}
    for lines in told["lines"].values():
        assert {"official", "leaderboard", "before_start"} <= set(lines)
        assert len(lines["leaderboard"]) == 9
        for kind in ("verb", "noun", "action"):
            found = lines["official"][kind]
            assert 0 <= found["low"] <= found["recall"] + 1e-9 <= found["high"] + 1e-9 <= 100 + 1e-9
    never = sum(pair in NEVER_TRAINED for k in kitchens_of(6, 4, 0) if k.split != "train"
                for pair in k.actions)  # fmt: skip
    assert told["dropped"] == never and told["asked"] == 16
    late = told["beyond"]["official"]
    assert late and all("(official mode)" in why for why in late.values()), "films of 30 a second"
    assert told["beyond"]["fixed"] == {}
    assert metrics["lines"]["pretrained"]["official"] == told["lines"]["pretrained"]["official"][
        "action"]["recall"]  # fmt: skip
    classes = json.loads((out.payload / "classes.json").read_text())
    assert len(classes["pairs"]) == told["classes"]["action"] == 10
    names = made["kitchen_films"].json("classes.json")["asked"]
    sent = json.loads((out.payload / "submission.json").read_text())
    check_submission(sent, names, verbs=4, nouns=3, actions=10)
    assert len(names) == 16
    sealed = artifact(out.payload, "anticipation_report")
    drawn = PREVIEWS["anticipation_report"](sealed, Inputs({}))
    drawn = {**drawn, **PREVIEWS["kitchen_films"](made["kitchen_films"], Inputs({}))}
    assert set(drawn) == {"recall, official", "recall, before_start", "actions"}
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())
    [first, *_] = [text for _, text in anticipation_lines(sealed)]
    assert first.startswith("EPIC-KITCHENS-100 anticipation (format-faithful synthetic) ")


def test_weights_without_a_predictor_are_refused(
    made: dict[str, Artifact], trainings: dict[str, Artifact], tmp_path: Path
) -> None:
    out = workspace(tmp_path / "weights")
    release(ReleasedWeightsConfig(), Inputs({"cooled_encoder": trainings["cooled_encoder"]}), out)
    bare = artifact(out.payload, "released_weights")
    with pytest.raises(InputError, match="released_weights: its weights have no predictor"):
        report.run(SMALL, Inputs(made | {"released_weights": bare}), workspace(tmp_path / "out"))
