"""Claims: post-training ends in weights, a log and a rank test; a run resumed after a kill has the
bytes of an undisturbed one; the rollout joins when it should; normalisation is that of the training
episodes; the planner can open what was written; bad numbers are refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.encoder import Encoder, EncoderConfig
from models.objectives import world_model_loss
from models.preprocessing import Preprocessing
from pipelines.planner.weights import open_world
from pipelines.robot.pace import pace_of
from pipelines.stage import Inputs, Workspace
from pipelines.training import frame_features, posttrain
from pipelines.training.frame_features import FrameFeaturesConfig, stored_features
from pipelines.training.posttrain import PosttrainConfig, run
from pipelines.training.ranking import RankingConfig
from pipelines.training.robot_windows import all_actions, read_episodes, split_held_out
from storage.artifacts import Artifact
from storage.errors import InputError, UserError
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.training import material
from tests.pipelines.training.test_robot_windows import encoder_artifact

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "width": 16, "depth": 1, "heads": 2, "residual": True, "token_merge": 2, "normalise": True,
    "frames": 3, "strides": (1, 2), "batch": 4,
    "gradient_shards": 2, "warmup_steps": 1, "constant_steps": 2, "decay_steps": 1,
    "checkpoint_every": 2, "diagnose_every": 2, "held_out": 0.4, "change_weight": 0.5,
    "rollout_from": 2, "ranking": RankingConfig(pairs=8, candidates=5),
}  # fmt: skip


def config(**changes: Any) -> PosttrainConfig:
    return PosttrainConfig(**(SMALL | changes))


SEEN = FrameFeaturesConfig(preprocessing=Preprocessing(size=32), dtype="float32")


def features_of(upstream: Inputs, lab: str, folder: Path, seen: FrameFeaturesConfig) -> Artifact:
    """`frame_features` of a lab, made by its stage in this process."""
    names = ("cooled_encoder", f"episode_shards/{lab}")
    out = workspace(folder, lab)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Workspace, "map", map_in_turn)
        metrics = frame_features.run(seen, Inputs({n: upstream[n] for n in names}), out)
    # 4 episodes of 8 frames at 4 a second: 8 seconds.
    assert metrics["bytes_per_hour"] == round(metrics["bytes"] / 8 * 3600)
    return artifact(out.payload, f"frame_features/{lab}")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    torch.manual_seed(0)
    shards = {
        f"episode_shards/{lab}": material.episodes(folder / lab, lab, 4)
        for lab in ("lab-a", "lab-b")
    }
    encoder = encoder_artifact(folder, Encoder(material.ENCODER))
    seen = Inputs({"cooled_encoder": encoder, **shards})
    features = {
        f"frame_features/{lab}": features_of(seen, lab, folder / f"features-{lab}", SEEN)
        for lab in ("lab-a", "lab-b")
    }
    return Inputs({**seen, **features})


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encode in this process: what Ray adds has its own tests."""
    monkeypatch.setattr(Workspace, "map", map_in_turn)


def result(inputs: Inputs, folder: Path, **changes: Any) -> Artifact:
    out = workspace(folder)
    run(config(**changes), inputs, out)
    return artifact(out.payload, "world_model")


@pytest.mark.usefixtures("here")
def test_a_whole_run_and_a_resumed_one(inputs: Inputs, tmp_path: Path) -> None:
    whole = result(inputs, tmp_path / "whole")
    log = whole.table("log.parquet")
    assert [row["step"] for row in log] == [1, 2, 3, 4]
    assert [row["lr"] for row in log] == pytest.approx([4.25e-4, 4.25e-4, 4.25e-4, 0.0])
    assert [row["held_out_rank"] is not None for row in log] == [True, True, False, True]
    ranking = whole.json("ranking.json")
    assert (ranking["pairs"], ranking["chance_rank"]) == (8, 2.0)
    assert len(ranking["by_pair"]) == 8
    # Killed after step 2: the checkpoints after it, log and rank test are not there.
    out = workspace(tmp_path / "resumed")
    run(config(), inputs, out)
    for path in (out.scratch / "training" / "checkpoints").glob("step-000004/*"):
        path.unlink()
    (out.scratch / "training" / "checkpoints" / "step-000004").rmdir()
    run(config(), inputs, out)
    assert material.digests(out.payload) == material.digests(whole.payload.root)
    opened = open_world(inputs["cooled_encoder"], whole)
    assert opened.world_model.config.grid == (4, 4)


def task(inputs: Inputs, tmp_path: Path, **changes: Any) -> posttrain.PosttrainTask:
    """The task on the features that were made."""
    episodes = read_episodes(inputs.parts("episode_shards"))
    return posttrain.PosttrainTask(
        config(**changes), material.ENCODER, episodes, stored_features(inputs), CPU
    )


def test_another_learning_rate_encodes_nothing(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)
    monkeypatch.setattr("models.encoder.Encoder.forward", None)  # whoever calls it breaks
    metrics = run(config(lr=1e-3), inputs, workspace(tmp_path))
    assert metrics["clock"] == "control" and metrics["rate_hz"] == 4.0
    assert metrics["episodes_never_drawn"] == 0


def test_features_of_another_encoder_or_of_other_episodes_are_refused(
    inputs: Inputs, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    other = encoder_artifact(tmp_path, Encoder(material.ENCODER))
    with pytest.raises(InputError, match="frame_features/lab-a holds features of another encoder"):
        stored_features(Inputs({**inputs, "cooled_encoder": other}))
    changed = material.episodes(tmp_path / "more", "lab-a", 5)
    with pytest.raises(InputError, match="or of other episodes of lab-a; make it again"):
        stored_features(Inputs({**inputs, "episode_shards/lab-a": changed}))
    without = {name: inputs[name] for name in inputs if name != "frame_features/lab-b"}
    with pytest.raises(InputError, match="frame_features of lab-b are missing"):
        stored_features(Inputs(without))
    larger = FrameFeaturesConfig(preprocessing=Preprocessing(size=40), dtype="float8")
    odd = features_of(inputs, "lab-b", tmp_path / "larger", larger)
    with pytest.raises(InputError, match="lab-a and lab-b were prepared in different ways"):
        stored_features(Inputs({**inputs, "frame_features/lab-b": odd}))
    whole = Inputs({n: odd if n == "frame_features/lab-b" else inputs[n]
                    for n in inputs if "lab-a" not in n})  # fmt: skip
    assert stored_features(whole).open()[np.array([0, 31])].shape == (2, 25, 24)


def rows_of(**labs: tuple[str, float, float | None]) -> list[dict[str, Any]]:
    return [
        {"lab": lab, "clock": clock, "fps": fps, "control_fps": own}
        for lab, (clock, fps, own) in labs.items()
    ]


def test_clocks_are_told_and_never_mixed() -> None:
    pace = pace_of(rows_of(a=("nominal", 4.0, 1.0), b=("nominal", 4.0, None)))
    assert (pace.clock, pace.rate_hz, pace.control_rate_hz, pace.real_hz) == ("nominal", 4, 1, 1)
    assert pace_of(rows_of(a=("nominal", 4.0, None))).real_hz == 4
    with pytest.raises(InputError, match="a by the control clock and b by the nominal clock: make"):
        pace_of(rows_of(a=("control", 4.0, 4.0), b=("nominal", 4.0, 4.0)))
    with pytest.raises(InputError, match=r"frames of c are 2 a second, those of the labs 3\.75"):
        pace_of(
            rows_of(a=("control", 3.75, 3.75), b=("control", 3.8, 3.8), c=("control", 2.0, 2.0))
        )


def test_the_rollout_joins_at_its_step(inputs: Inputs, tmp_path: Path) -> None:
    made = task(inputs, tmp_path)
    batch = made.batch(0, 0)
    assert batch.features.shape == (2, 3 * 16, 24)
    assert batch.actions.shape == (2, 2, 7) and batch.states.shape == (2, 3, 7)

    out = world_model_loss(made.world_model, *batch, (4, 4), rollout_steps=2, change_weight=0.5)
    assert made.loss(batch, 1, 0)[0].item() == pytest.approx(out.teacher_forcing.item())
    together = out.teacher_forcing.item() + out.rollout.item()
    assert made.loss(batch, 2, 0)[0].item() == pytest.approx(together)


def test_normalisation_is_of_the_training_episodes(inputs: Inputs, tmp_path: Path) -> None:
    made = task(inputs, tmp_path)
    training, held_out = split_held_out(read_episodes(inputs.parts("episode_shards")), 0.4, 239)
    assert {e.key for e in made.held_out} == {e.key for e in held_out}
    states = np.concatenate([episode.states for episode in training])
    np.testing.assert_allclose(made.world_model.state_mean, states.mean(axis=0), atol=1e-5)
    spread = all_actions(training, (1, 2)).std(axis=0)[:3]
    np.testing.assert_allclose(made.world_model.action_std[:3], spread, rtol=1e-4)
    plain = task(inputs, tmp_path, normalise=False).world_model
    assert plain.state_mean.abs().sum() == 0 and (plain.action_std == 1).all()


def test_windows_come_from_training_episodes_only(inputs: Inputs, tmp_path: Path) -> None:
    made = task(inputs, tmp_path)
    held = {episode.key for episode in made.held_out}
    drawn = {made.windows.window(step, slot).episode.key for step in range(50) for slot in range(4)}
    assert drawn and not drawn & held


def test_bad_ways_to_keep_features_are_refused() -> None:
    with pytest.raises(ValueError, match="dtype = 'int8': must be 'float32' or 'float16' or"):
        FrameFeaturesConfig(dtype="int8")  # type: ignore[arg-type]


def test_defaults_are_the_paper() -> None:
    paper = PosttrainConfig()
    assert paper.steps == 94_500 and paper.batch == 256 and paper.frames == 16
    assert [p.end for p in paper.phases] == [4.25e-4, 4.25e-4, 0.0]
    assert paper.phases[0].start == 7.5e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strides": ()}, "strides = (): must name at least one"),
        ({"rollout_steps": 3}, "rollout_steps = 3: windows of 3 frames allow 1 to 2"),
    ],
)
def test_bad_configs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        config(**change)
    assert message in str(error.value)


def test_settings_that_no_network_fits_are_told_to_people() -> None:
    """The models know no UserError: what they refuse of a person's settings is told as one."""
    encoder = EncoderConfig(width=48, depth=1, heads=2, mlp_hidden=48, patch=8, frames=2, size=32)
    with pytest.raises(UserError, match=r"^world_model: .*heads"):
        config(heads=5).world_model(encoder, 32)
