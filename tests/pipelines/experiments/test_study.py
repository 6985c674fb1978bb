"""Studies.

- An arm is the base with its changes, a tenth of its steps as warm-up; what cannot be is refused.
- Every arm is trained with every seed and read out on the same clips; the report has each seed's
  rate, Student's interval and the gain over the reference, and comes out the same again.
- An arm with a curriculum goes on from the weights, moments and clips of its first half.
- An arm of no steps is the untrained encoder of its seed.
- A study is made only when it is named.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assets.selection import chosen
from models.mask_mixture import TEMPORAL, MaskMixture
from models.seeds import seeded_encoder
from pipelines.curation.mixture import write_mapped
from pipelines.evaluation.metrics import seed_interval
from pipelines.experiments import arms, learning_curve
from pipelines.experiments.arms import Arm, arm_configs
from pipelines.experiments.learning_curve import LearningCurveConfig
from pipelines.experiments.nodes import robot_lines, study_lines
from pipelines.experiments.study import StudyConfig, describe, run
from pipelines.experiments.worlds import ReadoutConfig
from pipelines.nodes import GRAPH, PROFILES
from pipelines.settings import SettingError, plain
from pipelines.stage import Inputs, Workspace
from pipelines.training.pretrain import build_main, run_main
from storage.artifacts import Artifact
from storage.errors import InputError
from storage.shards import ShardWriter
from storage.tables import read_table, write_table
from storage.video import encode
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.experiments.material import robots, study_of
from tests.pipelines.training import material

BASE = material.pretrain_config(
    clip=material.ClipConfig(frames=4, crop=32, scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0),
    encoder=replace(material.ENCODER, tubelet=1),
    masks=MaskMixture(short_range=None, long_range=None, temporal=TEMPORAL),
    centre="time",
)
CONFIG = StudyConfig(
    base=BASE,
    arms={"temporal": Arm(steps=2), "no centre": Arm(changes=("centre=none",), steps=2),
          "untrained": Arm(steps=0)},
    reference="untrained",
    seeds=(0, 1),
    readout=ReadoutConfig(sources=("ssv2",), labels=(4, 8), test=8),
)  # fmt: skip


def clip(number: int) -> list[np.ndarray]:
    """A bright bar crosses a grey picture to the right, or to the left for odd numbers."""
    way = np.linspace(0, 24, 8).astype(int)
    frames = []
    for left in way if number % 2 == 0 else way[::-1]:
        frame = np.full((32, 32, 3), 40 + number, np.uint8)
        frame[:, left : left + 8] = 220
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Sixteen labelled clips and a mixture that draws the training half of them."""
    folder = tmp_path_factory.mktemp("study")
    rows: list[dict[str, Any]] = []
    with ShardWriter(folder / "part" / "shards") as writer:
        for number in range(16):
            data = encode(clip(number), 4.0).data
            span = writer.write(f"clip{number:02d}", {"mp4": data, "json": {}})["mp4"]
            rows.append({
                "key": f"clip{number:02d}", "source": "ssv2", "partition": "ssv2",
                "shard": span.shard, "offset": span.offset, "size": span.size,
                "digest": span.digest, "kind": "video",
                "fps": 4.0, "frames": 8, "weight": float(number < 8), "width": 32, "height": 32,
                "label": ("right", "left")[number % 2],
                "split": "train" if number < 8 else "validation",
            })  # fmt: skip
    kinds = {"fps": "float64", "weight": "float64"} | dict.fromkeys(
        ("offset", "size", "digest", "frames", "width", "height"), "int64"
    )
    schema = {name: kinds.get(name, "string") for name in rows[0]}
    for name in ("part", "mix"):
        write_table(folder / name / "index.parquet", rows, schema)
    write_mapped(folder / "mix" / "index.arrow", folder / "mix" / "index.parquet")
    (folder / "mix" / "mixture.json").write_text(json.dumps({"weights": {"ssv2": 1.0}}))
    return {
        "videomix22m": artifact(folder / "mix", "videomix22m"),
        "clip_shards/ssv2": artifact(folder / "part", "clip_shards/ssv2"),
    }


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)


def test_every_arm_is_trained_with_every_seed(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    out = workspace(tmp_path / "first")
    told = run(CONFIG, Inputs(inputs), out)
    assert set(told) == {f"cpu_seconds, {name}" for name in CONFIG.arms}
    report = json.loads((out.payload / "report.json").read_text())
    assert report["chance"] == 0.5 and report["order"] == list(CONFIG.arms)
    for arm in CONFIG.arms:
        for readout in ("linear", "knn"):
            for labels in ("4", "8"):
                found = report["arms"][arm]["ssv2"][readout][labels]
                assert len(found["seeds"]) == 2
                assert found["low"] <= found["mean"] <= found["high"]
                if arm == "untrained":
                    assert found["gain"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    rates = read_table(out.payload / "rates.parquet")
    assert len(rates) == 3 * 2 * 2 * 2 and {row["trials"] for row in rates} == {8}
    again = workspace(tmp_path / "again")
    run(CONFIG, Inputs(inputs), again)
    assert material.digests(again.payload) == material.digests(out.payload)


def test_a_learning_curve_reads_out_every_checkpoint(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    trained, out = workspace(tmp_path / "encoder"), workspace(tmp_path / "curve")
    recipe = replace(BASE, warmup_steps=1, constant_steps=3, checkpoint_every=2)
    run_main(recipe, Inputs(inputs), trained)
    encoder = artifact(trained.payload, "encoder", config=plain(recipe))
    told = learning_curve.run(
        LearningCurveConfig(readout=CONFIG.readout), Inputs({**inputs, "encoder": encoder}), out
    )
    rows = read_table(out.payload / "curve.parquet")
    assert [row["step"] for row in rows] == [step for step in (0, 2, 4) for _ in range(4)]
    assert set(told) == {
        f"ssv2, {readout}, 8 labels, step {step}"
        for readout in ("linear", "knn")
        for step in (0, 4)
    }
    configs = arm_configs(BASE, Arm(steps=0), recipe.seed)
    first = arms.run_arm(arms.ArmTask(configs, False, inputs, CONFIG.readout, out.work))
    assert [{k: row[k] for k in row if k != "step"} for row in rows[:4]] == first["rows"]


def test_an_arm_of_no_steps_is_untrained(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    task = arms.ArmTask(
        arm_configs(BASE, Arm(steps=0), 3), False, inputs, CONFIG.readout, workspace(tmp_path).work,
    )  # fmt: skip
    found = arms.trained_encoder(task, torch.device("cpu")).state_dict()
    for name, value in seeded_encoder(BASE.encoder, 3).state_dict().items():
        assert torch.equal(found[name], value)


def test_the_student_of_a_teacher_that_stands_still_is_read_out(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    configs = arm_configs(BASE, Arm(changes=("ema=1.0", "ema_end=null"), steps=3), 3)
    task = arms.ArmTask(configs, True, inputs, CONFIG.readout, workspace(tmp_path).work)
    found = arms.trained_encoder(task, torch.device("cpu")).state_dict()
    untrained = seeded_encoder(BASE.encoder, 3).state_dict()
    assert not torch.equal(found["patch_embed.proj.weight"], untrained["patch_embed.proj.weight"])


def test_what_cannot_be_read_out_is_told_before_training(
    inputs: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "map", lambda *_, **__: pytest.fail("began"))
    with pytest.raises(InputError, match="labelled clips of ssv2, which has 8"):
        many = replace(CONFIG, readout=replace(CONFIG.readout, labels=(9,)))
        run(many, Inputs(inputs), workspace(tmp_path))


def test_an_arm_is_the_base_with_its_changes() -> None:
    (config,) = arm_configs(BASE, Arm(changes=("masks.use=one", "batch=8"), steps=40), 7)
    assert (config.seed, config.batch, config.masks.use) == (7, 8, "one")
    assert (config.warmup_steps, config.decay_steps, config.steps) == (4, 36, 40)
    assert arm_configs(BASE, Arm(steps=1), 7)[0].steps == 1
    (other,) = arm_configs(BASE, Arm(changes=("masks.use=one", "batch=8"), steps=40), 8)
    assert replace(other, seed=0) == replace(config, seed=0)


def test_a_curriculum_goes_on_from_its_first_half(
    inputs: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = arm_configs(BASE, Arm(changes=("batch=8",), first=("sources=('ssv2',)",), steps=5), 3)
    assert [(c.steps, c.sources, c.batch) for c in configs] == [(2, ("ssv2",), 8), (3, None, 8)]
    began = []

    def build(*args: Any, first_step: int, start_from: Path | None) -> Any:
        began.append((first_step, start_from and start_from.name))
        return build_main(*args, first_step=first_step, start_from=start_from)

    monkeypatch.setattr(arms, "build_main", build)
    task = arms.ArmTask(configs, True, inputs, CONFIG.readout, workspace(tmp_path).work)
    found = arms.trained_encoder(task, torch.device("cpu")).state_dict()
    assert began == [(0, None), (2, "step-000002")]
    # Its second half alone, from untrained weights, is another encoder.
    alone = replace(task, configs=configs[1:], work=workspace(tmp_path / "alone").work)
    other = arms.trained_encoder(alone, torch.device("cpu")).state_dict()
    assert not torch.equal(found["patch_embed.proj.weight"], other["patch_embed.proj.weight"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"arms": {"x": Arm(changes=("mask.use=one",), steps=1)}, "reference": "x"},
         r"arms\.x: .*no such setting; did you mean masks"),
        ({"arms": {"x": Arm(changes=("masks.temporal=null",), steps=1)}, "reference": "x"},
         r"arms\.x: .*are all absent"),
        ({"arms": {"x": Arm(first=("sauces=('ssv2',)",), steps=4)}, "reference": "x"},
         r"arms\.x: .*no such setting; did you mean sources"),
        ({"reference": "best"}, r"reference = 'best': must be one of temporal"),
        ({"seeds": (1, 1)}, r"seeds = \(1, 1\): names 1 twice; want each once"),
        ({"arms": {}}, "arms"),
    ],
)  # fmt: skip
def test_studies_that_cannot_be_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        # The clips of the larger budget would run on into those that are asked about.
        ({"labels": (1000, 240)}, r"labels = \(1000, 240\): want rising numbers"),
        ({"sources": ("ssv2", "ssv2")}, "sources = .*: names 'ssv2' twice"),
    ],
)
def test_readouts_that_would_mix_up_clips_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        ReadoutConfig(**change)


def test_intervals_are_students_over_seeds() -> None:
    found = seed_interval([0.5, 0.6, 0.7])
    # 4.3027 is Student's quantile of two degrees of freedom.
    half = 4.3027 * 0.1 / 3**0.5
    assert found == pytest.approx({"mean": 0.6, "low": 0.6 - half, "high": 0.6 + half}, rel=1e-4)
    assert seed_interval([0.4]) == {"mean": 0.4, "low": None, "high": None}


def test_gains_are_taken_seed_by_seed() -> None:
    rows = [
        {"arm": arm, "seed": seed, "source": "ssv2", "readout": "linear", "labels": 8,
         "successes": right, "trials": 10}
        for arm, rates in (("temporal", (6, 9)), ("no centre", (5, 5)), ("untrained", (2, 5)))
        for seed, right in enumerate(rates)
    ]  # fmt: skip
    gain = describe(CONFIG, rows)["arms"]["temporal"]["ssv2"]["linear"]["8"]["gain"]
    assert gain["mean"] == pytest.approx(0.4) and gain["low"] == pytest.approx(gain["high"])


@pytest.mark.parametrize("name", ["mask_study", "feature_study"])
def test_the_studies_differ_from_the_demo_by_what_they_say(name: str) -> None:
    config = getattr(PROFILES["demo"], name)
    assert config.base == PROFILES["demo"].encoder and len(config.seeds) == 3
    trained = [arm for arm in config.arms.values() if arm.steps]
    assert len({(arm.changes, arm.first) for arm in trained}) == len(trained)
    untrained = config.arms[config.reference]
    assert untrained.steps == 0


def test_studies_are_made_only_when_they_are_named() -> None:
    profile = PROFILES["demo"]
    usual = {asset for asset, _ in chosen([], GRAPH, profile)}
    assert "planner_bundle" in usual and not {"mask_study", "feature_study"} & usual
    assert "learning_curve" not in usual
    named = {asset for asset, _ in chosen(["mask_study"], GRAPH, profile)}
    assert {"mask_study", "videomix22m", "clip_shards"} <= named
    assert not {"encoder", "feature_study"} & named


def test_a_summary_tells_every_arm_with_its_gain_over_the_reference(tmp_path: Path) -> None:
    lines = [line for _, line in study_lines(study_of(tmp_path, "mask_study"))]
    assert len(lines) == len(PROFILES["demo"].mask_study.arms)
    assert lines[0].split()[:2] == ["mask_study", "temporal"]
    # Halves of 10 and 12 of 20 are 5 and 6: a gain of .25 and .3.
    assert "ssv2 55.0% (+27.5 [" in lines[0] and "; kinetics 55.0% (+27.5 [" in lines[0]
    assert "untrained" in lines[-1] and "ssv2 27.5% (+0.0 [0.0, 0.0])" in lines[-1]
    first = next(robot_lines(robots(tmp_path)))[1]
    assert "pretrained   reached 56 of 80 = 70.0% (+35.0 [" in first
