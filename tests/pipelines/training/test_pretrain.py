"""Claims: rates, decay and momentum in the log are those of the schedule; the target encoder is the
moving average; two runs, resumed or not, give the same bytes; a cool-down goes on from any
checkpoint of the trunk, moments included, with its own size and rate; unreadable clips are counted.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoints import load_weights
from models.encoder import PUBLISHED, Encoder
from models.mask_mixture import TEMPORAL, MaskMixture
from pipelines.assignments import override
from pipelines.nodes import GRAPH
from pipelines.planner.weights import open_encoder
from pipelines.settings import SettingError
from pipelines.stage import Inputs
from pipelines.training.checkpoints import load_networks
from pipelines.training.jepa import JepaTask, build_networks
from pipelines.training.pretrain import (
    PretrainConfig,
    build_cooldown,
    build_main,
    open_clips,
    run_cooldown,
    run_main,
)
from storage.artifacts import Artifact
from storage.errors import UserError
from storage.tables import read_table
from tests.pipelines.builders import artifact, workspace
from tests.pipelines.training import material

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return material.mixture(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(scope="module")
def trunk(mixture: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A main phase of four steps."""
    out = workspace(tmp_path_factory.mktemp("trunk"))
    metrics = run_main(material.pretrain_config(), Inputs(mixture), out)
    assert metrics["steps"] == 4 and metrics["clips"] == 16
    return artifact(out.payload, "encoder")


def test_defaults_are_the_paper() -> None:
    config = PretrainConfig()
    assert config.networks.encoder == replace(PUBLISHED["vit_giant_xformers"], frames=16, size=256)
    assert (config.batch, config.weight_decay, config.ema) == (3072, 0.04, 0.99925)
    rates = [p.start for p in config.phases] + [p.end for p in config.phases]
    assert rates == [1e-4, 5.25e-4, 5.25e-4, 5.25e-4]
    assert config.warmup_steps + config.constant_steps + 12_000 == 252_000


def test_log_holds_the_schedule(trunk: Artifact) -> None:
    log = trunk.table("log.parquet")
    assert [row["step"] for row in log] == [1, 2, 3, 4]
    # Two steps of warm-up from 0 to 0.001, the first one half way, then constant.
    assert [row["lr"] for row in log] == pytest.approx([5e-4, 1e-3, 1e-3, 1e-3])
    assert {row["weight_decay"] for row in log} == {0.04} and {row["ema"] for row in log} == {0.9}
    assert all(np.isfinite([row["loss"], row["gradient_norm"]]).all() for row in log)
    measured = [row["step"] for row in log if row["effective_rank"] is not None]
    assert measured == [1, 2, 4]


def test_target_encoder_is_the_moving_average(mixture: dict[str, Artifact], tmp_path: Path) -> None:
    out = workspace(tmp_path)
    config = material.pretrain_config(constant_steps=1, warmup_steps=1, checkpoint_every=1)
    run_main(config, Inputs(mixture), out)
    expected = build_networks(config.networks, config.seed)[0].state_dict()
    for step in (1, 2):
        folder = out.payload / "checkpoints" / f"step-{step:06d}"
        online = load_weights(folder / "encoder.safetensors")
        target = load_weights(folder / "target_encoder.safetensors")
        for name, value in online.items():
            expected[name] = 0.9 * expected[name] + 0.1 * value
            torch.testing.assert_close(target[name], expected[name], rtol=1e-5, atol=1e-7)
        assert any(not torch.equal(target[name], online[name]) for name in online)


def test_resumed_run_has_the_same_bytes(
    trunk: Artifact, mixture: dict[str, Artifact], tmp_path: Path
) -> None:
    out = workspace(tmp_path)
    run_main(material.pretrain_config(constant_steps=1), Inputs(mixture), out)
    assert json.loads((out.payload / "model.json").read_text())["step"] == 3
    # What a run killed after step 2 leaves behind: its checkpoint, and one half written.
    half = out.scratch / "training" / "checkpoints" / "step-000003"
    half.rename(half.with_name(".step-000003.77.aside"))
    run_main(material.pretrain_config(), Inputs(mixture), out)
    assert material.digests(out.payload) == material.digests(trunk.payload.root)


def test_threads_and_depth_of_the_loader_change_no_byte(
    trunk: Artifact, mixture: dict[str, Artifact], tmp_path: Path
) -> None:
    for threads, depth in ((1, 1), (4, 3)):
        out = workspace(tmp_path / f"{threads}")
        execution = replace(out.execution, loader_threads=threads, loader_depth=depth)
        run_main(material.pretrain_config(), Inputs(mixture), replace(out, execution=execution))
        assert material.digests(out.payload) == material.digests(trunk.payload.root)


def test_unreadable_clips_are_replaced_and_counted(
    mixture: dict[str, Artifact], trunk: Artifact
) -> None:
    task = build_main(material.pretrain_config(), Inputs(mixture), CPU)
    counted = [sum(task.batch(step, shard).replaced for shard in (0, 1)) for step in range(4)]
    lost = {(r.step, r.slot) for r in task.clips.replacements}
    assert sum(counted) == len(lost) > 0
    log = trunk.table("log.parquet")
    assert [row["replaced_clips"] for row in log] == counted


def test_clips_are_drawn_from_the_sources_that_are_named(
    mixture: dict[str, Artifact], tmp_path: Path
) -> None:
    clips = open_clips(material.pretrain_config(sources=("imagenet",)), Inputs(mixture))
    assert {clips.sampler.source(step, slot) for step in range(4) for slot in range(8)} == {
        "imagenet"
    }
    for build, config in (
        (run_main, material.pretrain_config(sources=("ssv2", "imagnet"))),
        (run_cooldown, material.cooldown_config(sources=("imagnet",))),
    ):
        with pytest.raises(UserError, match="nothing from 'imagnet'; did you mean imagenet"):
            build(config, Inputs(mixture), workspace(tmp_path / build.__name__))


@pytest.mark.parametrize("step", [2, None])
def test_cooldown_branches_off_a_checkpoint(
    step: int | None, trunk: Artifact, mixture: dict[str, Artifact], tmp_path: Path
) -> None:
    inputs = Inputs({**mixture, "encoder": trunk})
    config = material.cooldown_config(from_step=step)
    task = build_cooldown(config, inputs, CPU)
    assert isinstance(task, JepaTask) and task.start_from is not None
    assert task.start_from.name == f"step-{step or 4:06d}"
    assert task.grid == (3, 6, 6) and task.encoder.config.size == 48
    # Clips go on where the trunk stood, and are not those of the trunk's first step.
    assert task.first_step == (step or 4)
    out = workspace(tmp_path)
    run_cooldown(config, inputs, out)
    log = read_table(out.payload / "log.parquet")
    assert [row["lr"] for row in log] == pytest.approx([5e-4, 0.0])
    model = json.loads((out.payload / "model.json").read_text())
    assert model["architecture"]["first_step"] == (step or 4)
    assert model["architecture"]["encoder"]["frames"] == 6
    moments = load_weights(out.payload / model["final"] / "optimizer.safetensors")
    # Two steps here on top of the trunk's: the moments came along.
    assert moments["encoder.norm.weight/step"].item() == (step or 4) + 2


def test_cooldown_names_the_checkpoints_there_are(
    trunk: Artifact, mixture: dict[str, Artifact], tmp_path: Path
) -> None:
    inputs = Inputs({**mixture, "encoder": trunk})
    config = material.cooldown_config(from_step=3)
    with pytest.raises(ValueError, match=r"no checkpoint after step 3 .* there are: 2, 4"):
        run_cooldown(config, inputs, workspace(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 41}, r"^cooled_encoder\.clip: .*41"),
        ({"frames": 3}, r"^cooled_encoder\.clip: .*3"),
        ({"crop": 8}, r"^cooled_encoder: masks.short_range: 8 blocks"),
    ],
)
def test_a_cooldown_that_cannot_be_is_told_before_workers_start(
    change: dict[str, int], message: str, trunk: Artifact, mixture: dict[str, Artifact],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("pipelines.training.pretrain.run_training", lambda *_: pytest.fail("began"))
    clip = material.ClipConfig(**({"frames": 6, "crop": 48} | change))
    with pytest.raises(UserError, match=message):
        run_cooldown(
            material.cooldown_config(clip=clip),
            Inputs({**mixture, "encoder": trunk}),
            workspace(tmp_path),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradient_shards": 3}, "encoder: gradient_shards = 3: must be a power of two"),
        ({"batch": 15}, "encoder: batch: a batch of 15 does not divide into gradient_shards = "),
    ],
)
def test_shards_that_no_batch_divides_into_are_refused_as_settings(
    change: dict[str, int], message: str
) -> None:
    [(name, value)] = change.items()
    for section in ("encoder", "cooled_encoder", "world_model"):
        with pytest.raises(SettingError, match=message.replace("encoder", section, 1)):
            override(GRAPH.profiles["demo"], [f"{section}.{name}={value}"])


def test_a_damaged_checkpoint_of_the_trunk_is_told_to_people(
    trunk: Artifact, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(trunk.payload.root, folder)
    for name in ("encoder", "target_encoder"):
        (folder / "checkpoints" / "step-000004" / f"{name}.safetensors").write_bytes(b"no weights")
    told = "is not a readable safetensors file"
    with pytest.raises(UserError, match=f"^encoder: .*{told}"):
        open_encoder(artifact(folder, "encoder"))
    networks = {"encoder": Encoder(material.ENCODER)}
    with pytest.raises(UserError, match=told):
        load_networks(folder / "checkpoints" / "step-000004", networks)


def test_context_loss_is_learnt_and_logged(mixture: dict[str, Artifact], tmp_path: Path) -> None:
    out = workspace(tmp_path)
    config = material.pretrain_config(context_weight=0.5, constant_steps=1)
    run_main(config, Inputs(mixture), out)
    for row in read_table(out.payload / "log.parquet"):
        together = row["masked_loss"] + 0.5 * row["context_loss"]
        assert row["loss"] == pytest.approx(together, rel=1e-5)


SMALL = MaskMixture(short_range=None, long_range=None, temporal=TEMPORAL)
ONE_FRAME = replace(material.ENCODER, tubelet=1)


def test_ramps_clipping_and_terms_are_logged(mixture: dict[str, Artifact], tmp_path: Path) -> None:
    out = workspace(tmp_path)
    config = material.pretrain_config(
        encoder=ONE_FRAME, masks=SMALL, centre="time", initialisation="fan_in", warmup_steps=1,
        constant_steps=1, decay_steps=2, lr_end=1e-4, ema=0.5, ema_end=0.8, isotropy_weight=0.1,
        isotropy_directions=4, max_gradient_norm=1e-3,
    )  # fmt: skip
    run_main(config, Inputs(mixture), out)
    log = read_table(out.payload / "log.parquet")
    assert [row["lr"] for row in log] == pytest.approx([1e-3, 1e-3, 5.5e-4, 1e-4])
    assert [row["ema"] for row in log] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    for row in log:
        assert row["loss"] == pytest.approx(row["masked_loss"] + 0.1 * row["isotropy_loss"])
        assert row["gradient_norm"] > 1e-3  # as it was before it was shortened
    architecture = json.loads((out.payload / "model.json").read_text())["architecture"]
    assert architecture["initialisation"] == "fan_in"


def test_a_clip_may_stand_still(mixture: dict[str, Artifact]) -> None:
    config = material.pretrain_config()
    still = replace(config, clip=replace(config.clip, still=True))
    moving, stopped = (open_clips(c, Inputs(mixture)).batch(0, range(4)) for c in (config, still))
    assert torch.equal(stopped, stopped[:, :, :1].expand_as(stopped))
    assert not torch.equal(moving, moving[:, :, :1].expand_as(moving))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["masks.temporal.temporal_scale=[1.0, 1.0]"], r"masks\.temporal: 1 blocks of \(4, 4, 4\)"),
        (
            ["encoder.frames=1", "clip.frames=1", "centre=none"],
            r"masks\.temporal: 1 blocks of \(1, 4, 4\) tokens leave fewer than 1 context",
        ),
        (["encoder.frames=1", "clip.frames=1"], r"centre = 'time', but clip\.frames = 1"),
        (["encoder.tubelet=3"], "4 frames of 32 pixels do not divide into tubelets of 3"),
        (["masks.temporal=null"], "are all absent or weigh nothing"),
        (["masks.use=some"], r"masks\.use"),
    ],
)
def test_what_cannot_be_hidden_is_refused_as_a_setting(settings: list[str], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        override(GRAPH.profiles["demo"], [f"encoder.{setting}" for setting in settings])


def test_the_papers_masks_stay_its_own() -> None:
    for section in ("encoder", "cooled_encoder"):
        config = getattr(GRAPH.profiles["paper"], section)
        assert config.masks == MaskMixture() and config.centre == "none"
        assert config.isotropy_weight == 0 and config.max_gradient_norm is None
        assert config.ema_end is None
    assert GRAPH.profiles["paper"].encoder.initialisation == "published"


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"encoder\.frames, encoder\.size = 4, 32"):
        material.pretrain_config(clip=material.ClipConfig(frames=8, crop=32))
