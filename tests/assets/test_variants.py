"""What variants promise.

- what is made under a name is kept beside what the deployment shows, with refs of its own; nothing
  that is shown changes, and what is equal is shared;
- a variant remembers its settings;
- `compare` tells the settings that differ and no others, lays the curves over each other in the
  terminal and in a picture, and the page of the asset has both.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets import cli
from assets.cli.compare import compare
from assets.cli.plot import plotted
from assets.runs import records
from pipelines.execution import ExecutionConfig
from pipelines.node import Graph, Node, whole
from pipelines.stage import Inputs, Stage, Workspace
from storage.artifacts import ArtifactStore
from storage.tables import write_table
from tests.assets.conftest import House


@dataclass(frozen=True, kw_only=True)
class MaterialConfig:
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    lr: float = 0.1
    steps: int = 20


def make_material(config: MaterialConfig, _: Inputs, out: Workspace) -> dict[str, Any]:
    (out.payload / "seed.txt").write_text(str(config.seed))
    return {}


def train(config: TrainingConfig, _: Inputs, out: Workspace) -> dict[str, Any]:
    rows = [
        {"step": t + 1, "loss": float(np.exp(-config.lr * t)), "lr": config.lr}
        for t in range(config.steps)
    ]
    write_table(
        out.payload / "log.parquet", rows, {"step": "int64", "loss": "float64", "lr": "float64"}
    )
    return {"last_loss": rows[-1]["loss"]}


GRAPH = Graph(
    (
        Node(stage=Stage("material", 1, MaterialConfig, make_material), group="a",
             description="What is trained on."),
        Node(stage=Stage("training", 1, TrainingConfig, train), group="a",
             description="A training.", reads=(whole("material"),)),
    ),
    execution=dict.fromkeys(("tiny", "demo", "paper"), ExecutionConfig()),
)  # fmt: skip


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    """Run the command line on the graph above: its stdout, or its one line on stderr."""
    for name, value in {"STORE": tmp_path / "store", "HOME": tmp_path / "home", "PROFILE": "tiny",
                        "DEPLOYMENT": "default", "GRAPH": f"{__name__}:GRAPH"}.items():  # fmt: skip
        monkeypatch.setenv(f"VJEPA2_{name}", str(value))
    monkeypatch.delenv("VJEPA2_SET", raising=False)

    def asked(*words: str, code: int = 0) -> str:
        try:
            left = cli.main(words)
        except SystemExit as refused:
            left = int(refused.code or 0)
        told = capsys.readouterr()
        assert left == code, told.out + told.err
        return told.out if code == 0 else told.err

    return asked


def stored(tmp_path, variant: str | None = None) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), variant=variant)


def test_a_variant_is_kept_beside_what_is_shown_and_remembers_its_settings(ask, tmp_path):
    ask("run")
    shown = stored(tmp_path).ref("training")
    ask("run", "training", "--as", "big-lr", "--set", "training.lr=0.5")
    assert stored(tmp_path).ref("training") == shown
    big = stored(tmp_path, "big-lr")
    assert big.ref("training").recipe_inputs["config"]["lr"] == 0.5
    # What is equal is shared: the variant has a ref of the training alone.
    assert list(big.refs()) == [("training", None)]
    assert big.ref("material") == stored(tmp_path).ref("material")
    # A new setting joins those that it was made with.
    ask("run", "training", "--as", "big-lr", "--set", "training.steps=10")
    config = stored(tmp_path, "big-lr").ref("training").recipe_inputs["config"]
    assert (config["lr"], config["steps"]) == (0.5, 10)

    assert "all 2 artifacts are fresh" in ask("run", "training", "--as", "big-lr")
    assert "all 2 artifacts are fresh" in ask("run")
    assert "2 fresh" in ask("status") and "Beside it: big-lr" in ask("status")


def test_the_page_shows_a_variant_as_an_observation_and_no_other_state(ask, tmp_path):
    ask("run")
    ask("run", "training", "--as", "big-lr", "--set", "training.lr=0.5")
    with records(tmp_path / "home") as instance:
        key = dg.AssetKey("training")
        assert len(instance.fetch_materializations(key, limit=10).records) == 1
        [seen] = instance.fetch_observations(key, limit=10).records
    told = seen.asset_observation.metadata
    assert told["variant"].value == "big-lr"
    assert told["settings"].value == "training.lr=0.5"
    assert told["metrics/last_loss"].value == pytest.approx(np.exp(-0.5 * 19))


def test_compare_tells_what_differs_and_lays_curves_over_each_other(ask, tmp_path):
    ask("run")
    ask("run", "training", "--as", "big-lr", "--set", "training.lr=0.5")
    told = ask("compare", "training", "big-lr")
    settings = told.split("Settings that differ")[1].split("Numbers")[0]
    assert settings.split() == ["training", "big-lr", "lr", "0.1", "0.5"]
    assert "last_loss" in told and "steps 1 to 20   o training   + big-lr" in told
    [picture] = (tmp_path / "home" / "compare").iterdir()
    assert picture.name == "training-big-lr.png" and picture.read_bytes().startswith(b"\x89PNG")
    with records(tmp_path / "home") as instance:
        newest = instance.fetch_observations(dg.AssetKey("training"), limit=1).records[0]
    metadata = newest.asset_observation.metadata
    assert "| lr | 0.1 | 0.5 |" in metadata["settings that differ"].value
    assert "data:image/png;base64" in metadata["picture/compared"].value


def test_two_variants_are_compared_by_the_training_that_they_have(ask, tmp_path):
    ask("run", "--as", "one", "--set", "training.lr=0.2")
    ask("run", "--as", "two", "--set", "training.lr=0.3")
    assert "lr  0.2  0.3" in ask("compare", "one", "two")
    digest = stored(tmp_path, "one").ref("training").content[:12]
    assert "lr  0.3" in ask("compare", "training@two", digest)


REFUSED = {
    ("compare", "training", "big"): "big: no asset, no variant, no digest; did you mean big",
    ("compare", "training@big", "training"): "training@big: no such variant; did you mean",
    ("compare", "training", "material"): "material is of material: compare two artifacts",
    ("compare", "training", "0000"): "0000: names no artifact; give asset@variant",
    ("run", "--as", "training"): "--as training: is the name of an asset",
    ("run", "--as", "a/b"): "'a/b' cannot name a deployment, asset or partition",
}


def test_what_cannot_be_compared_is_one_line(ask):
    ask("run")
    ask("run", "training", "--as", "big-lr", "--set", "training.lr=0.5")
    for words, line in REFUSED.items():
        told = ask(*words, code=2)
        assert line in told and told.count("\n") == 1


def test_artifacts_without_curves_are_compared_by_their_settings(house: House):
    house.run()
    house.run(settings=("counts.upto=3",))
    other = house.store.ref("counts", "a").content
    house.run()
    told = io.StringIO()
    assert compare(house.deployed(), ("counts/a", other[:16]), told) is None
    assert "upto" in told.getvalue() and "5" in told.getvalue() and "3" in told.getvalue()


def test_a_plot_has_its_extremes_where_they_are():
    steps = np.arange(1, 101)
    lines = plotted({"up": (steps, steps / 100.0), "down": (steps, 1 - steps / 100.0)}, 20, 5)
    assert lines[0].startswith("1 |") and lines[4].startswith("0 |")
    assert lines[4].split("|")[1][0] == "o" and lines[0].rstrip().endswith("o")
    assert lines[0].split("|")[1][0] == "+" and lines[4].rstrip().endswith("+")
    assert lines[5].endswith("steps 1 to 100   o up   + down")
