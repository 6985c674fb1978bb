"""Claims: every policy meets the same goals; who knows the goal reaches it, who stays does not;
counts and distances are those of the trials, unseen labs and seen ones apart; the report comes out
the same again and resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.evaluation.manipulation import TaskConfig
from pipelines.evaluation.planning import STAGE, PlanningConfig, run, summarise, within_reach
from pipelines.evaluation.reaching import (
    Trial,
    energy_landscape,
    laid_out,
    least_motion,
    run_trial,
)
from pipelines.nodes import PROFILES
from pipelines.planner.cem import PlannerConfig
from pipelines.stage import Inputs, Workspace
from storage.manifests import content_digest, list_files
from storage.tables import read_table
from storage.work import LocalWork
from tests.pipelines.builders import map_in_turn, workspace

SEARCH = PlannerConfig(samples=8, iterations=2, elites=3, gripper=False)
CONFIG = PlanningConfig(
    search=SEARCH,
    labs=("lab-500",),
    trials=1,
    steps=4,
    frame_size=32,
    films=1,
    landscape_points=5,
    landscape_volume=3,
    tasks=TaskConfig(names=()),
)


HERE = Path()


def a_trial(
    trainings, policy: str, config: PlanningConfig = CONFIG, folder=HERE, film=None
) -> Trial:
    trained = trainings["cooled_encoder"], trainings["world_model"]
    work = LocalWork(folder / "payload", folder / "scratch")
    return Trial("lab-500", policy, 0, config, *trained, "cpu", work, film)


def test_knowing_the_goal_reaches_it_and_staying_does_not(trainings):
    config = replace(CONFIG, steps=8)
    straight = run_trial(a_trial(trainings, "straight", config))
    still = run_trial(a_trial(trainings, "still", config))
    random = run_trial(a_trial(trainings, "random", config))
    starts = {result["distances"][0] for result in (straight, still, random)}
    assert len(starts) == 1 and 0.2 <= starts.pop() <= 0.3  # the same layout and goal
    assert straight["distances"][-1] < 0.01 and len(straight["distances"]) == 9
    assert abs(still["distances"][-1] - still["distances"][0]) < 0.01 and all(still["stayed"])
    assert random["distances"][-1] > 0.04 and not any(random["stayed"])


def test_trials_depend_on_seed_and_number_alone(trainings):
    one = run_trial(a_trial(trainings, "planner"))
    assert run_trial(a_trial(trainings, "planner")) == one
    other = run_trial(replace(a_trial(trainings, "planner"), number=1))
    assert other["distances"][0] != one["distances"][0]


def test_who_does_not_look_moves_as_if_he_did(trainings, tmp_path):
    for policy in ("straight", "random", "still"):
        filmed = a_trial(trainings, policy, folder=tmp_path, film=f"payload/{policy}.npz")
        assert run_trial(filmed) == run_trial(replace(filmed, film=None))


def test_a_film_shows_start_motions_and_goal(trainings, tmp_path):
    run_trial(a_trial(trainings, "straight", folder=tmp_path, film="payload/film.npz"))
    kept = np.load(tmp_path / "payload" / "film.npz")
    assert kept["frames"].shape == (5, 32, 32, 3) and kept["frames"].dtype == np.uint8
    assert kept["distances_cm"].shape == (5,) and kept["distances_cm"][0] > 20

    def difference(frame):
        return np.abs(frame.astype(int) - kept["goal"].astype(int)).mean()

    assert difference(kept["frames"][-1]) < difference(kept["frames"][0])


def test_summary_by_hand():
    results = [
        {"distances": [0.25, 0.03, 0.05], "stayed": [False, True]},
        {"distances": [0.20, 0.10, 0.02], "stayed": [False, False]},
    ]
    found = summarise(results, success=0.04)
    assert (found["reached"]["successes"], found["reached"]["trials"]) == (1, 2)
    assert found["passed"]["successes"] == 2
    assert found["final_cm"]["mean"] == pytest.approx(3.5)
    assert found["closed"] == pytest.approx((0.8 + 0.9) / 2)
    assert found["stayed"] == 0.25


def test_landscape_is_centred_on_the_motion_that_was_made(trainings, tmp_path):
    trial = a_trial(trainings, "planner", folder=tmp_path, film="payload/landscape.npz")
    errors = energy_landscape(trial)
    grids = np.load(tmp_path / trial.film)
    assert grids["energy_xz"].shape == grids["energy_xy"].shape == (5, 5)
    assert np.abs(grids["truth_cm"]).max() < 7.5 and np.ptp(grids["energy_xz"]) > 0
    off = np.linalg.norm(grids["least_cm"] - grids["truth_cm"])
    assert errors == {"error_cm": pytest.approx(off, abs=1e-6)}


def test_report_has_every_number_and_comes_out_the_same(trainings, tmp_path, monkeypatch):
    monkeypatch.setattr(Workspace, "map", map_in_turn)
    both, digests = replace(CONFIG, seen_labs=("lab-000",)), set()
    for name in ("one", "two"):
        out = workspace(tmp_path / name)
        metrics = run(both, Inputs(trainings), out)
        digests.add(content_digest(list_files(out.payload)))
    assert len(digests) == 1
    report = json.loads((out.payload / "report.json").read_text())
    assert set(report["policies"]) == {"planner", "random", "still", "straight"}
    still = report["policies"]["still"]
    assert set(still) == {"pooled", "lab-500", "seen", "lab-000"}
    assert still["pooled"] == still["lab-500"] != still["seen"] == still["lab-000"]
    assert still["pooled"]["reached"]["successes"] == still["seen"]["passed"]["successes"] == 0
    assert metrics["still_reached_in_seen_labs"] == metrics["still_passed"] == 0
    assert report["settings"]["search"]["samples"] == 8
    rows = read_table(out.payload / "trials.parquet")
    assert len(rows) == 2 * 4 * 5
    planner = [row for row in rows if (row["policy"], row["lab"]) == ("planner", "lab-500")]
    last = planner[-1]["distance"]
    assert metrics["planner_final_cm_mean"] == pytest.approx(100 * last)
    assert sorted(p.name for p in out.payload.rglob("*.npz")) == [
        "lab-000-000.npz",
        "lab-500-000.npz",
        "landscape-lab-000.npz",
        "landscape-lab-500.npz",
    ]


def test_runs_on_ray_and_resumes_from_what_is_done(trainings, tmp_path):
    config = replace(CONFIG, steps=2, films=0)
    out = workspace(tmp_path / "ray")
    run(config, Inputs(trainings), out)
    before = content_digest(list_files(out.payload))
    journal = out.scratch / "trials.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2]) + lines[2][:10])  # as a kill leaves it
    again = replace(out, payload=tmp_path / "again")
    again.payload.mkdir()
    run(config, Inputs(trainings), again)
    assert content_digest(list_files(again.payload)) == before


def test_bad_settings_say_what_is_allowed():
    with pytest.raises(ValueError, match="0 < success < nearest"):
        PlanningConfig(success=0.5)
    with pytest.raises(ValueError, match=r"labs = \(\): must name at least one"):
        PlanningConfig(labs=())
    for lab, role in (("lab-000", "recording"), ("lab-999", "pretraining")):
        with pytest.raises(
            ValueError,
            match=rf"PlanningConfig\.labs names '{lab}', a lab for {role}: choose from lab-400 to "
            "lab-599$",
        ):
            PlanningConfig(labs=("lab-500", lab))
    with pytest.raises(ValueError, match="seen_labs names 'lab-500', a lab for evaluation: choose"):
        PlanningConfig(seen_labs=("lab-500",))
    with pytest.raises(ValueError, match="labs names 'hall', which is no lab: choose from lab-400"):
        PlanningConfig(labs=("hall",))
    with pytest.raises(ValueError, match="nearest <= farthest"):
        PlanningConfig(nearest=0.4)
    assert STAGE.config().trials == 10  # the paper's


def test_the_least_energy_is_sought_over_all_three_axes():
    """A valley that leans: at the true y its lowest point is the truth, its real one is not."""
    lowest = np.array([0.031, -0.055, 0.018])

    def energy(motions):
        x, y, z = (motions[:, 0, axis].numpy() - lowest[axis] for axis in range(3))
        return torch.from_numpy(1 + x**2 + z**2 + 3 * y**2)

    best = least_motion(energy, 0.075, 9)
    assert np.abs(best - lowest).max() < 0.075 / 32  # half a cell of the second grid
    edge = least_motion(lambda motions: -motions[:, 0, 1], 0.075, 5)
    assert edge[1] == pytest.approx(0.075)


def test_the_camera_stands_at_the_azimuth_that_is_asked_for(trainings):
    films = {}
    for azimuth in (None, 40.0, 80.0):
        trial = a_trial(trainings, "planner", replace(CONFIG, camera_azimuth=azimuth))
        environment = laid_out(trial)
        films[azimuth], _ = environment.reset()
        where, _ = environment.simulator.view.extrinsics()
        camera = environment.simulator.lab.camera
        turn = np.degrees(np.arctan2(where[1] - camera.target[1], where[0] - camera.target[0]))
        assert abs(turn - camera.azimuth) <= 8.001 and azimuth in (None, camera.azimuth)
    assert (films[40.0] != films[80.0]).any()
    with pytest.raises(ValueError, match=r"camera_azimuth = 200.0: must be .* 180"):
        replace(CONFIG, camera_azimuth=200.0)


def test_a_workspace_beyond_the_simulators_is_refused():
    for name in ("demo", "laptop"):
        box = PROFILES[name].planning_report.search.workspace
        assert box is not None and within_reach(box)
    search = replace(SEARCH, workspace=(0.3, -0.3, 0.02, 0.68, 0.3, 0.48))
    with pytest.raises(ValueError, match=r"search\.workspace is .* the simulator stops the hand"):
        replace(CONFIG, search=search)


def test_tasks_are_tried_by_every_policy_with_the_same_layouts(trainings, tmp_path, monkeypatch):
    monkeypatch.setattr(Workspace, "map", map_in_turn)
    search = replace(SEARCH, gripper=True)
    config = replace(
        CONFIG, trials=1, steps=1, landscape_points=3,
        tasks=TaskConfig(things=("box",), trials=1, search=search),
    )  # fmt: skip
    out = workspace(tmp_path)
    metrics = run(config, Inputs(trainings), out)
    report = json.loads((out.payload / "report.json").read_text())
    rows = read_table(out.payload / "tasks.parquet")
    names = [f"{task} box" for task in ("grasp", "reach_with_object", "pick_and_place")]
    assert sorted(report["tasks"]) == sorted(names)
    for name in names:
        told = report["tasks"][name]
        assert set(told) == {"planner", "random", "still", "expert"}
        assert told["still"]["pooled"] == told["still"]["lab-500"]
        assert told["expert"]["pooled"]["reached"]["successes"] == 1
        assert told["still"]["pooled"]["passed"]["successes"] == 0
        starts = {
            row["distance"] for row in rows if row["step"] == 0 and f"{row['task']} box" == name
        }
        assert len(starts) == 1  # one layout for all
        assert metrics[f"planner_{name.replace(' ', '_')}"] in (0.0, 1.0)
    films = sorted(path.name for path in (out.payload / "films").glob("*box*"))
    assert films == sorted(f"{name.replace(' ', '-')}-lab-500-000.npz" for name in names)
    kept = np.load(out.payload / "films" / "pick_and_place-box-lab-500-000.npz")
    assert len(kept["frames"]) == len(kept["distances_cm"]) == 19


def test_tasks_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"things names 'spoon': choose from cup"):
        TaskConfig(things=("spoon",))
    with pytest.raises(ValueError, match=r"search\.gripper is false"):
        TaskConfig(search=SEARCH)
    with pytest.raises(ValueError, match="names"):
        TaskConfig(names=("juggle",))
