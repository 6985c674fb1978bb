"""Claims: a window is a function of (seed, step, slot) inside one episode, evenly strided; its
actions lead from each state to the next; an episode's side of the held-out split depends on its key
alone; cached features are those of the encoder, frame by frame, whatever the grouping.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.encoder import Encoder, encode_frames
from models.preprocessing import Preprocessing, prepare
from pipelines.execution import ExecutionConfig
from pipelines.robot.episode_shards import load_episode
from pipelines.robot.poses import apply_action
from pipelines.training import frame_features
from pipelines.training.frame_features import (
    FrameFeatures,
    FrameFeaturesConfig,
    Part,
    encode_group,
    packed,
    unpacked,
)
from pipelines.training.jepa import Networks
from pipelines.training.robot_windows import (
    Episode,
    WindowSampler,
    all_actions,
    read_episodes,
    split_held_out,
)
from storage.artifacts import Artifact
from storage.work import LocalWork, noting_kept
from tests.pipelines.builders import finished_training
from tests.pipelines.training import material


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("robot")
    return {lab: material.episodes(folder / lab, lab, 5) for lab in ("lab-a", "lab-b")}


@pytest.fixture(scope="module")
def episodes(shards: dict[str, Artifact]) -> list[Episode]:
    return read_episodes(shards)


def test_episodes_are_numbered_without_gaps(episodes: list[Episode]) -> None:
    assert [e.lab for e in episodes] == ["lab-a"] * 5 + ["lab-b"] * 5
    assert [e.first for e in episodes] == [8 * n for n in range(10)]


def test_windows_are_a_function_of_the_place(episodes: list[Episode]) -> None:
    sampler = WindowSampler(episodes, 3, (1, 2, 3), seed=4)
    again = WindowSampler(episodes, 3, (1, 2, 3), seed=4)
    other = WindowSampler(episodes, 3, (1, 2, 3), seed=5)
    places = [(step, slot) for step in range(20) for slot in range(10)]
    rows = [sampler.window(*place).rows.tolist() for place in places]
    assert rows == [again.window(*place).rows.tolist() for place in reversed(places)][::-1]
    assert rows != [other.window(*place).rows.tolist() for place in places]
    strides = {tuple(np.diff(row)) for row in rows}
    assert strides == {(1, 1), (2, 2), (3, 3)}
    starts = {(row[0] % 8, row[1] - row[0]) for row in rows}
    assert {start for start, stride in starts if stride == 3} == {0, 1}  # 7 of 8 frames
    assert {start for start, stride in starts if stride == 1} == {0, 1, 2, 3, 4, 5}
    assert {row[0] // 8 for row in rows} == set(range(10))


def test_actions_lead_along_the_window(episodes: list[Episode]) -> None:
    window = WindowSampler(episodes, 3, (2,), seed=0).window(1, 2)
    for state, action, after in zip(window.states, window.actions, window.states[1:], strict=False):
        np.testing.assert_allclose(apply_action(state, action), after, atol=1e-9)
    # Over two frames of 5 cm each the hand goes further than one allows.
    spread = np.abs(all_actions(episodes, (1,))[:, :3]).max()
    assert spread <= 0.05 < np.abs(all_actions(episodes, (2,))[:, :3]).max()


def test_too_short_episodes_are_said_to_be(episodes: list[Episode]) -> None:
    with pytest.raises(
        ValueError, match=r"3 frames, 4 apart, need 9 frames; the longest of 10 .* 8"
    ):
        WindowSampler(episodes, 3, (1, 4), seed=0)


def test_held_out_split_depends_on_the_key(episodes: list[Episode]) -> None:
    training, held_out = split_held_out(episodes, 0.5, seed=2)
    assert {e.key for e in training} | {e.key for e in held_out} == {e.key for e in episodes}
    assert not {e.key for e in training} & {e.key for e in held_out}
    fewer = [episode for episode in episodes if episode.lab == "lab-a"]
    alone = split_held_out(fewer, 0.5, seed=2)[1]
    assert [e.key for e in alone] == [e.key for e in held_out if e.lab == "lab-a"]
    with pytest.raises(ValueError, match=r"held_out = 0\.0 leaves 10 of 10 episodes for training"):
        split_held_out(episodes, 0.0, seed=1)


def test_no_episode_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no robot episode in lab-c"):
        read_episodes({"lab-c": material.episodes(tmp_path, "lab-c", 0)})


def test_features_are_the_encoders(
    episodes: list[Episode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoder = Encoder(material.ENCODER).eval()
    trained = encoder_artifact(tmp_path, encoder)
    preprocessing = Preprocessing(size=24, antialias=False)
    monkeypatch.setattr(frame_features, "_FRAMES", 3)
    work, parts = LocalWork(tmp_path / "payload", tmp_path / "scratch"), []
    config = FrameFeaturesConfig(preprocessing=preprocessing, dtype="float32")
    for number, group in enumerate((episodes[:3], episodes[3:])):
        wanted = frame_features.Group(
            trained, tuple(group), config, ExecutionConfig().device, work, f"{number}"
        )
        with noting_kept() as kept:
            assert encode_group(wanted) == 8 * len(group)
        parts += kept
    cached = FrameFeatures([Part(work.file(part)) for part in parts])
    rows = np.array([[0, 23], [24, 79]])  # either side of the groups' border, and the ends
    found = cached[rows]
    assert found.shape == (2, 2, 9, 24)
    for place, row in zip(found.flatten(0, 1), rows.flatten(), strict=True):
        frames, _ = load_episode(episodes[row // 8].artifact, episodes[row // 8].row)
        picture = prepare(torch.from_numpy(frames[row % 8][None]), preprocessing)
        with torch.no_grad():
            expected = encode_frames(encoder, picture[:, :, None])[0]
        torch.testing.assert_close(place, expected, rtol=1e-4, atol=1e-5)


def test_half_and_quarter_precision_keep_what_they_promise() -> None:
    features = torch.nn.functional.layer_norm(torch.randn(5, 9, 24) * 3, (24,))
    features[0, 0, 0] = 40.0  # one loud value spoils its own token alone
    halves, none = packed(features, "float16")
    quarters, scale = packed(features, "float8")
    assert none is None and scale is not None and scale.shape == (5, 9)
    assert (halves.dtype, quarters.dtype) == (np.float16, np.uint8)
    assert (unpacked(halves, None) - features).abs().max() <= 40 * 2**-11
    off = (unpacked(quarters, scale) - features).abs()
    largest = features.abs().amax(-1, keepdim=True)
    assert bool((off <= features.abs() * 2**-4 + largest * 2**-9 / 448 * 8).all())
    exact, _ = packed(features, "float32")
    assert torch.equal(unpacked(exact, None), features)


def encoder_artifact(folder: Path, encoder: Encoder) -> Artifact:
    """A finished training that holds this encoder."""
    networks = Networks(encoder.config, material.pretrain_config().networks.predictor)
    return finished_training(
        folder / "encoder", "cooled_encoder", {"target_encoder": encoder}, **networks.record()
    )
