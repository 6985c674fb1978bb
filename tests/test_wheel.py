"""A wheel built from the tree is the whole house: from an empty folder it makes assets, writes
below that folder and nowhere else, and its code has the digests of the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from pipelines.provenance import source_digest
from storage.artifacts import ArtifactStore
from tests.test_architecture import ROOMS, ROOT, modules
from tests.tiny import TINY

Vjepa2 = Callable[..., str]
SETTINGS = [word for setting in TINY for word in ("--set", setting)]
STAGES = ("pipelines.curation.ingest", "pipelines.robot.recorder", "pipelines.training.pretrain")
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("VJEPA2_", "DAGSTER")) and name != "PYTHONPATH"
}


def told(command: list[str], folder: Path, **environment: str) -> str:
    """What a command that runs in a folder prints."""
    done = subprocess.run(
        command, cwd=folder, env=CLEAN | environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what is committed or about to be, built where no earlier build left anything."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in told(listed, ROOT).splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    build = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
    told([sys.executable, "-c", build, str(out)], tree)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_rooms_their_data_and_the_settings_of_a_deployment(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
        settings = opened.read("dagster_home/dagster.yaml")
    data = {"pipelines/robot/franka.xml", "dagster_home/dagster.yaml"}
    assert names == data | set(modules(*ROOMS))
    assert settings == (ROOT / "dagster_home" / "dagster.yaml").read_bytes()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel, and nothing that it depends on, is installed."""
    folder = tmp_path_factory.mktemp("installed")
    alone = ["--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    told([sys.executable, "-m", "pip", "install", *alone, str(wheel)], folder)
    return folder


@pytest.fixture
def vjepa2(installed: Path, tmp_path: Path) -> Iterator[Vjepa2]:
    """vjepa2("status"): the installed command, in an empty folder; what it printed."""
    installed_before = {path: path.read_bytes() for path in files(installed)}

    def run(*words: str) -> str:
        command = [sys.executable, str(installed / "bin" / "vjepa2"), *words]
        return told(command, tmp_path, PYTHONPATH=str(installed), PYTHONDONTWRITEBYTECODE="1")

    yield run
    assert {path: path.read_bytes() for path in files(installed)} == installed_before


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_from_an_empty_folder_an_asset_is_made_and_lies_below_it(
    vjepa2: Vjepa2, tmp_path: Path
) -> None:
    home = tmp_path.resolve() / "dagster_home"
    assert f"cache = {home / 'cache'}" in vjepa2("settings")
    assert f"Store {home / 'store'}, deployment default, profile demo" in vjepa2(
        "status", *SETTINGS
    )
    vjepa2("run", "raw_videos/coin", *SETTINGS)
    assert ArtifactStore(str(home / "store")).ref("raw_videos", "coin") is not None
    assert yaml.safe_load((home / "dagster.yaml").read_text())["telemetry"] == {"enabled": False}
    assert [path.name for path in tmp_path.iterdir()] == ["dagster_home"]


def test_the_installed_code_has_the_digests_of_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    asked = (
        "import json, sys; from pipelines import provenance as p;"
        "print(json.dumps([p.__file__, p.environment(sys.argv[1])['git_commit'],"
        "                  [p.source_digest(name) for name in sys.argv[1:]]]))"
    )
    answer = told([sys.executable, "-c", asked, *STAGES], tmp_path, PYTHONPATH=str(installed))
    where, commit, digests = json.loads(answer)
    assert Path(where).is_relative_to(installed) and commit is None
    assert digests == [source_digest(stage) for stage in STAGES]


@pytest.mark.heavy(small="test_from_an_empty_folder_an_asset_is_made_and_lies_below_it")
def test_a_fresh_environment_walks_the_whole_graph(wheel: Path, tmp_path: Path) -> None:
    """Everything is installed anew, with the pinned versions: an index must answer."""
    told([sys.executable, "-m", "venv", str(tmp_path / "venv")], tmp_path)
    pins = ["-c", str(ROOT / ".constraints.txt")]
    told([f"{tmp_path}/venv/bin/pip", "install", "--quiet", *pins, f"{wheel}[cpu]"], tmp_path)
    (tmp_path / "empty").mkdir()
    told([f"{tmp_path}/venv/bin/vjepa2", "run", *SETTINGS], tmp_path / "empty")
    status = told([f"{tmp_path}/venv/bin/vjepa2", "status", *SETTINGS], tmp_path / "empty")
    assert " 0 stale, 0 missing. Store " in status
