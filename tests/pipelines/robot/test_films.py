"""Claims: a film shows an arm that moves, in a lab for pretraining alone, from many labs and
cameras; it depends on (seed, source, index) alone and carries no state; whoever makes no film of an
arm needs no simulator."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipelines.curation.internet import make, synthetic_videos
from pipelines.curation.sources import SOURCES
from pipelines.curation.themes import StyleConfig, Theme
from pipelines.robot.films import film, lab_of
from pipelines.robot.roles import role_of
from storage.frames import iterate
from storage.video import probe
from tests.tiny import ROOT

STYLE = StyleConfig(camera_seconds=(1.0, 1.2))
[ARM] = [source for source in SOURCES if source.theme.moves == "arm"]


def test_only_labs_for_pretraining_are_filmed_and_many_of_them() -> None:
    labs = [lab_of(index) for index in range(ARM.files)]
    assert {role_of(lab) for lab in labs} == {"pretraining"}
    assert len(set(labs)) == ARM.files > 300


def test_the_arm_moves_before_a_camera_that_does_not() -> None:
    for index in range(4):
        frames = np.stack(list(film(0, "robot_videos", index, 48, 8, 1.5))).astype(int)
        assert frames.shape == (12, 48, 48, 3)
        changed = np.abs(frames[4:] - frames[:-4]).max(axis=3) > 20
        assert 0.01 < changed.mean() < 0.4
        assert (~changed.any(axis=0)).mean() > 0.2


def test_cameras_differ_by_more_than_the_lab() -> None:
    same_lab = [next(film(0, "robot_videos", index, 32, 8, 1.0)) for index in (3, 403)]
    assert lab_of(3) == lab_of(403)
    assert np.abs(same_lab[0].astype(int) - same_lab[1]).mean() > 5


def test_a_file_depends_on_seed_source_and_index_alone() -> None:
    few, many = (list(synthetic_videos("robot_videos", ARM.theme, n, 0, STYLE)) for n in (2, 5))
    assert few == many[:2]
    data = make(few[1], STYLE)
    assert data == make(many[1], STYLE)
    assert data != make(many[2], STYLE)
    other = replace(STYLE, seed=1)
    assert make(replace(few[1], theme=ARM.theme), other) != data


def test_files_are_small_square_clips_without_labels() -> None:
    for video in synthetic_videos("robot_videos", ARM.theme, 6, 3, STYLE):
        found = probe(data := make(video, STYLE))
        assert (video.label, video.split, video.breakage) == (None, "train", None)
        assert 48 <= found.width == found.height <= 64
        assert round(found.fps) in STYLE.arm_rates and found.fault is None
        assert 0.9 < found.seconds < 1.4
        assert len(list(iterate(data))) == found.frames


@pytest.mark.parametrize(
    "odd",
    [{"backdrops": ("paper",)}, {"labels": "motion"}, {"edited": 1}],
    ids=str,
)
def test_a_theme_of_arms_has_nothing_else(odd) -> None:
    with pytest.raises(ValueError, match=r'^Theme\.moves = "arm" films laboratories, .*leave out'):
        Theme(moves="arm", **odd)
    with pytest.raises(ValueError, match=r"^Theme\.backdrops names none; there are "):
        Theme(labels="motion")


def test_other_videos_need_no_simulator() -> None:
    script = (
        "import sys; from pipelines.nodes import PROFILES\n"
        "from pipelines.curation.internet import *\n"
        "raw = PROFILES['demo'].raw_videos.internet\n"
        "make(next(synthetic_videos('ssv2', raw.themes['ssv2'], 1, 0, raw.style)), raw.style)\n"
        "print('mujoco' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
