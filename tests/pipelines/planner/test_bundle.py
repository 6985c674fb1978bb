"""Claims: a bundle works from its folder alone in a fresh process and gives the same plan; it holds
no pickle; one changed byte is named; equal inputs make equal bytes; the page tells the numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from pipelines.execution import ExecutionConfig
from pipelines.planner.bundle import BundleConfig, BundleError, load_planner, run
from pipelines.planner.cem import PlannerConfig
from pipelines.planner.control import Planner
from pipelines.planner.weights import open_encoder, open_world
from pipelines.provenance import ROOT
from pipelines.settings import plain
from pipelines.stage import Inputs, Workspace
from storage.artifacts import ArtifactError
from storage.digests import digest_file
from storage.manifests import content_digest, list_files
from tests.pipelines.builders import artifact, finished_training

SEARCH = PlannerConfig(
    samples=16, iterations=3, elites=4, gripper=False, workspace=(0.3, -0.3, 0.02, 0.68, 0.3, 0.48)
)
STATE = np.array([0.5, 0.0, 0.3, 3.1, 0.0, 0.2, 0.0])
RATE = {"successes": 3, "trials": 4, "rate": 0.75, "low": 0.3, "high": 0.95}


def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (48, 40, 3), dtype=np.uint8) for _ in range(2)]


@pytest.fixture
def upstream(tmp_path, tiny_world) -> Inputs:
    world, other = tiny_world(1), tiny_world(2)
    seen, imagined = tmp_path / "cooled_encoder", tmp_path / "world_model"
    weights = {"encoder": other.encoder, "target_encoder": world.encoder}
    finished_training(seen, "cooled_encoder", weights, encoder=asdict(world.encoder.config))
    finished_training(
        imagined,
        "world_model",
        {"world_model": world.world_model},
        world_model=asdict(world.world_model.config),
        preprocessing=asdict(world.preprocessing),
        pace={"clock": "control", "rate_hz": 4.0, "control_rate_hz": 4.0},
    )
    pooled = {"reached": RATE, "final_cm": {"median": 2.5}, "closed": 0.9}
    policies = ("planner", "random", "still", "straight")
    settings = {"seed": 11, "steps": 10, "nearest": 0.2, "farthest": 0.3, "success": 0.04,
                "labs": ["lab-500"]}  # fmt: skip
    planning = {
        "settings": settings | {"search": plain(SEARCH)},
        "policies": {policy: {"pooled": pooled} for policy in policies},
        "tasks": {
            "grasp cup": {
                policy: {"pooled": pooled | {"passed": RATE}}
                for policy in ("planner", "random", "still", "expert")
            }
        },
    }
    at = {
        "labels": 1000,
        "variants": {"pretrained": {"accuracy": RATE}, "random": {"accuracy": RATE}},
        "pretrained_minus_random": {"gain": 0.1, "low": -0.05, "high": 0.25},
    }
    reports = {"planning_report": planning}
    for source in ("ssv2", "kinetics"):
        probe = {"source": source, "chance": 0.125, "readouts": {"linear": [at], "knn": [at]}}
        reports[f"probe_report/{source}"] = probe
    for name, report in reports.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "report.json").write_text(json.dumps(report))
    names = ("cooled_encoder", "world_model", *reports)
    return Inputs({name: artifact(tmp_path / name, name) for name in names})


def exported(upstream: Inputs, folder: Path) -> Path:
    folder.mkdir()
    out = Workspace(folder, folder.parent / "scratch", None, ExecutionConfig(cache=folder.parent))
    metrics = run(BundleConfig(name="reacher"), upstream, out)
    assert metrics["files"] == 6 and metrics["parameters"] > 10_000
    return folder


def test_a_copy_elsewhere_gives_the_same_plan_in_a_fresh_process(upstream, tmp_path):
    bundle = exported(upstream, tmp_path / "bundle")
    frame, goal = pictures()
    here = Planner(
        open_world(upstream["cooled_encoder"], upstream["world_model"]), SEARCH, seed=11
    ).plan(frame, STATE, goal, step=2)
    assert np.abs(here[:3]).max() > 0
    elsewhere = tmp_path / "taken" / "home"
    shutil.copytree(bundle, elsewhere)
    shutil.rmtree(bundle)
    shutil.rmtree(upstream["cooled_encoder"].payload.root)
    np.savez(tmp_path / "views.npz", frame=frame, goal=goal, state=STATE)
    script = (
        "import sys, json, numpy as np\n"
        "from pipelines.planner.bundle import load_planner\n"
        "v = np.load(sys.argv[2])\n"
        "a = load_planner(sys.argv[1]).plan(v['frame'], v['state'], v['goal'], step=2)\n"
        "far = ('ray', 'dagster', 'mujoco', 'av', 'faiss', 'pydantic')\n"
        "heavy = [m for m in far if m in sys.modules]\n"
        "print(json.dumps({'action': a.tolist(), 'heavy': heavy}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(elsewhere), str(tmp_path / "views.npz")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    there = json.loads(done.stdout)
    assert there["action"] == here.tolist()
    assert there["heavy"] == []


def test_a_bundle_plans_by_the_surrogate_too(upstream, tmp_path):
    planning = upstream["planning_report"].payload.root / "report.json"
    told = json.loads(planning.read_text())
    told["settings"]["search"] |= {"method": "surrogate", "surrogate_samples": [16, 8]}
    planning.write_text(json.dumps(told))
    changed = artifact(planning.parent, "planning_report")
    bundle = exported(Inputs({**upstream, "planning_report": changed}), tmp_path / "bundle")
    found = load_planner(bundle).search(pictures()[0], STATE, pictures()[1])
    assert 16 + 8 < found.evaluations < 16 + 8 * 6 and found.energy <= found.staying
    assert "Search: surrogate, 16+8 candidates" in (bundle / "README.md").read_text()


def test_equal_inputs_make_equal_bytes_and_the_target_encoder_is_taken(upstream, tmp_path):
    one, two = (exported(upstream, tmp_path / name) for name in ("one", "two"))
    assert content_digest(list_files(one)) == content_digest(list_files(two))
    assert not [path for path in one.iterdir() if path.suffix in (".pt", ".pkl", ".bin")]
    mine = load_planner(one).world.encoder.state_dict()
    target = open_encoder(upstream["cooled_encoder"]).state_dict()
    assert all((mine[name] == target[name]).all() for name in target)


@pytest.mark.parametrize("name", ["encoder.safetensors", "planner.json", "README.md"])
def test_one_changed_byte_is_named(upstream, tmp_path, name):
    bundle = exported(upstream, tmp_path / "bundle")
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} is not what was exported"):
        load_planner(bundle)


def test_incomplete_bundles_say_what_is_missing(upstream, tmp_path):
    bundle = exported(upstream, tmp_path / "bundle")
    (bundle / "world_model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"world_model.safetensors is missing"):
        load_planner(bundle)
    with pytest.raises(BundleError, match="not a planner bundle"):
        load_planner(tmp_path / "nowhere")
    (bundle / "digests.json").write_text("{}")
    with pytest.raises(BundleError, match=r"does not list encoder.safetensors"):
        load_planner(bundle)


def test_the_contract_and_the_page_say_what_a_robot_needs(upstream, tmp_path):
    bundle = exported(upstream, tmp_path / "bundle")
    told = json.loads((bundle / "planner.json").read_text())
    assert [part["unit"] for part in told["state"]["layout"]][:4] == ["m", "m", "m", "rad"]
    assert told["search"]["samples"] == 16 and told["seed"] == 11
    assert told["preprocessing"]["size"] == 32 and told["frames_per_view"] == 2
    page = (bundle / "README.md").read_text()
    assert "3 of 4 | 75% | 30% to 95%" in page and "load_planner" in page
    assert "x 0.3 to 0.68 m" in page
    for source in ("ssv2", "kinetics"):
        row = f"| 4 of {source}, 12.5% by chance | linear, 1000 | 75.0% | 75.0% | -5.0 to +25.0 |"
        assert row in page
    for told in (
        "| grasp cup | 3 / 3 / 4 |", "pip install torch==", "vjepa2_house",
        "| licence | Apache-2.0", "| version | format 3", "not meant for",
        "CEM, 16 candidates, 3 refinements, 4 elites",
    ):  # fmt: skip
        assert told in page
    model = json.loads((bundle / "model.json").read_text())
    assert model["made_from"]["world_model"] == upstream["world_model"].content


@pytest.mark.parametrize(
    ("pace", "told"),
    [
        (("control", 3.75, 3.75), "next frame (0.267 s later"),
        (("control", 3.75, 3.75), "trained on 3.75 frames a second by the robot's own time stamps"),
        (("nominal", 4.0, 1.0), "next frame (1 s later"),
        (("nominal", 4.0, 1.0), "4 frames a second by the cameras' clock, which is 1 a second by"),
        (("nominal", 4.0, None), "the cameras' clock; how fast the robot went is not known"),
    ],
)
def test_the_pace_is_that_of_the_recordings(upstream, tmp_path, pace, told):
    trained = upstream["world_model"].payload.root
    model = json.loads((trained / "model.json").read_text())
    model["architecture"]["pace"] = dict(
        zip(("clock", "rate_hz", "control_rate_hz"), pace, strict=True)
    )
    (trained / "model.json").write_text(json.dumps(model))
    changed = Inputs({**upstream, "world_model": artifact(trained, "world_model")})
    bundle = exported(changed, tmp_path / "bundle")
    described = json.loads((bundle / "planner.json").read_text())
    assert tuple(described[n] for n in ("clock", "rate_hz", "control_rate_hz")) == pace
    assert told in (bundle / "README.md").read_text()
    del model["architecture"]["pace"]
    (trained / "model.json").write_text(json.dumps(model))
    with pytest.raises(ValueError, match="names no pace; make it again"):
        exported(
            Inputs({**upstream, "world_model": artifact(trained, "world_model")}),
            tmp_path / "without",
        )


@pytest.mark.parametrize("name", ["../secret", "{outside}", "deep/file", "..", "", "a\0b", "a\\b"])
def test_digests_name_files_of_the_folder_alone(upstream, tmp_path, name):
    bundle = exported(upstream, tmp_path / "bundle")
    secret = tmp_path / "secret"
    secret.write_bytes(b"nobody outside may read this")
    digests = json.loads((bundle / "digests.json").read_text())
    digests[name.format(outside=secret)] = digest_file(secret)
    (bundle / "digests.json").write_text(json.dumps(digests))
    with pytest.raises(BundleError, match="which is no plain file name") as error:
        load_planner(bundle)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["encoder.safetensors", "model.json", "digests.json"])
def test_a_bundle_holds_no_links_out(upstream, tmp_path, name):
    bundle = exported(upstream, tmp_path / "bundle")
    (bundle / name).rename(tmp_path / name)
    (bundle / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match=f"{name} is a link that leads elsewhere"):
        load_planner(bundle)


def test_digests_that_are_no_object_are_refused(upstream, tmp_path):
    bundle = exported(upstream, tmp_path / "bundle")
    (bundle / "digests.json").write_text("[]")
    with pytest.raises(BundleError, match="no list of names and digests"):
        load_planner(bundle)


@pytest.mark.parametrize("final", ["../elsewhere", "{outside}", "checkpoints/link", "", ".."])
def test_a_training_names_no_checkpoint_elsewhere(upstream, tmp_path, final):
    training = upstream["cooled_encoder"].payload.root
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(training / "checkpoints" / "step-000007", elsewhere)
    model = json.loads((training / "model.json").read_text())
    model["final"] = final.format(outside=elsewhere)
    (training / "model.json").write_text(json.dumps(model))
    trained = artifact(training, "cooled_encoder")
    (training / "checkpoints" / "link").symlink_to(elsewhere)
    told = r"has no file 'checkpoints/link|is no path of plain names"
    with pytest.raises((ValueError, ArtifactError), match=told):
        open_encoder(trained)
