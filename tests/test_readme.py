"""The README is true. Claims:

- every `vjepa2` command in it runs (in a tiny house), every `make` target in it exists;
- every path in its "where is…" table exists, and so does every room it names.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from storage.artifacts import ArtifactStore
from tests.tiny import ROOT, TINY, vjepa2

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.strip()
]
VJEPA2 = [c.removeprefix(".venv/bin/vjepa2 ") for c in COMMANDS if c.startswith(".venv/bin/vjepa2")]
SERVED = "ui"  # does not end by itself: tests/assets/test_ui.py drives it
LONG = (
    "feature_study",
    "robot_study",
    "laptop",
    "benchmark_report",
)  # minutes, even in a tiny house


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny house made up to the world model."""
    folder = tmp_path_factory.mktemp("home")
    vjepa2("run", "world_model", home=folder)
    return folder


@pytest.fixture(scope="module")
def my_videos(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: some of the generated videos of another source, under other names."""
    folder = tmp_path_factory.mktemp("my-videos")
    store = ArtifactStore(str(home / "store"))
    for partition in ("howto100m", "kinetics", "coin"):
        manifest = store.ref("raw_videos", partition)
        assert manifest is not None
        raw = store.open(manifest)
        for path in raw.files("media/"):
            if (file := raw.file(path)).name != "labels.csv":
                shutil.copyfile(file, folder / f"{partition}-{file.name}")
    return folder


def stand_ins(home: Path, my_videos: Path, tmp_path: Path) -> dict[str, str]:
    """What the README's example names stand for in this house."""
    store = ArtifactStore(str(home / "store"))
    encoder, raw = store.ref("encoder"), store.ref("raw_videos", "yt1b-00")
    assert encoder is not None and raw is not None
    checkpoint = next(store.open(encoder).folder().rglob("target_encoder.safetensors"))
    videos = store.open(raw).table("videos.parquet")
    return {
        "path/to/target_encoder.safetensors": str(checkpoint),
        "path/to/one.mp4": videos[0]["path"],
        "/my/videos": str(my_videos),
        "my-store": str(tmp_path / "my-store"),
        "lineage.html": str(tmp_path / "lineage.html"),
        "encoder-to-publish": str(tmp_path / "encoder-to-publish"),
        "encoder.decay_steps=200": "encoder.decay_steps=4",
        "cooled_encoder.from_step=550": "cooled_encoder.from_step=4",
    }


def commands() -> list[Any]:
    """Those that end by themselves; the long ones are among the long proofs."""
    heavy = pytest.mark.heavy(small="test_command_runs")
    return [
        pytest.param(c, marks=heavy) if any(word in c for word in LONG) else c
        for c in VJEPA2
        if c != SERVED
    ]


@pytest.mark.parametrize("command", commands())
def test_command_runs(command: str, home: Path, my_videos: Path, tmp_path: Path) -> None:
    for name, stand_in in stand_ins(home, my_videos, tmp_path).items():
        command = command.replace(name, stand_in)
    assert vjepa2(*shlex.split(command), home=home, settings=TINY).strip()


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    asked = [c.split()[1] for c in COMMANDS if c.startswith("make ")]
    assert {"demo", "test"} <= set(asked)
    for target in asked:
        assert re.search(rf"^{target}:.*## ", makefile, re.M), target
    assert not [c for c in COMMANDS if not c.startswith(("make ", ".venv/bin/vjepa2 "))]


def test_where_is_table_is_true() -> None:
    table = README.split("## Where is…")[1].split("\n## ")[0]
    paths = re.findall(r"`([\w./]+)`", table)
    assert len(paths) > 12
    for path in paths:
        name = path if "/" in path else f"pipelines/curation/{path}"
        assert (ROOT / name).exists(), path
