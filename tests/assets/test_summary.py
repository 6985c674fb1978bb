"""What a walk's summary says: sizes and digests, what was set aside and why, numbers beside what
they have to beat, checks that are not passed, and where the planner is."""

from __future__ import annotations

import io
import json
from pathlib import Path

from assets.cli.summary import summarise
from assets.deployment import deployment
from storage.digests import digest_json
from storage.tables import write_table

WIDTH = {"architecture": {"encoder": {"width": 128}}}


def seal(house, name: str, files: dict[str, object]) -> Path:
    """Put an artifact with some payload under `asset` or `asset/partition`; returns its folder."""
    asset, _, part = name.partition("/")
    store, recipe_inputs = house.store, {"stage": name, "config": {}}
    recipe = digest_json(recipe_inputs)
    with store.work(recipe) as work:
        payload = work / "payload"
        payload.mkdir(exist_ok=True)
        for name, content in files.items():
            if name.endswith(".parquet"):
                rows = list(content)
                kinds = {str: "string", float: "float64", int: "int64", type(None): "float64"}
                write_table(payload / name, rows, {k: kinds[type(v)] for k, v in rows[0].items()})
            else:
                (payload / name).write_text(json.dumps(content))
        draft = {
            "asset": asset, "partition": part or None, "recipe_inputs": recipe_inputs,
            "recipe": recipe, "parents": {}, "record": {"metrics": {}},
        }  # fmt: skip
        manifest = store.seal(work, draft)
    store.set_ref(asset, part or None, manifest)
    return store.open(manifest).folder()


def told(house, *assets: str) -> str:
    out = io.StringIO()
    home = {"VJEPA2_HOME": str(house.folder / "home")}
    deployed = deployment("demo", store=house.store.place.location, environment=home)
    keys = [(name, part or None) for name, _, part in (asset.partition("/") for asset in assets)]
    summarise(deployed, house.store, keys, out)
    return out.getvalue()


def test_training_is_told_from_its_first_step_to_its_last(house):
    rows = [
        {"step": 1, "loss": 1.5, "effective_rank": 60.0, "feature_std": 0.8},
        {"step": 90, "loss": 0.25, "effective_rank": 30.0, "feature_std": 0.9},
    ]
    seal(house, "encoder", {"log.parquet": rows, "model.json": WIDTH})
    line = "loss 1.5000 → 0.2500 in 90 steps, effective rank 60.00 → 30.00, spread 0.80 → 0.90"
    assert line in told(house, "encoder")


def test_collapsed_features_are_named_as_a_check_that_is_not_passed(house):
    rows = [{"step": 1, "loss": 1.5, "effective_rank": 2.0, "feature_std": 0.8}]
    seal(house, "encoder", {"log.parquet": rows, "model.json": WIDTH})
    text = told(house, "encoder")
    assert "Checks not passed\n  encoder does not pass features_not_collapsed" in text


def probed(low: float, rate) -> dict[str, object]:
    """A probe's report, the lower end of its gain at `low`."""
    at = {
        "labels": 1000,
        "variants": {
            name: {"accuracy": rate(successes)}
            for name, successes in (("pretrained", 12), ("random", 7), ("still", 3))
        },
        "pretrained_minus_random": {"gain": 0.25, "low": low, "high": 0.4},
    }
    readouts = {readout: [at] for readout in ("attentive", "knn", "linear")}
    return {"source": "ssv2", "readouts": readouts, "chance": 0.125, "test_clips": 20}


def test_evaluations_stand_beside_their_baselines(house):
    def rate(successes: int) -> dict[str, float]:
        return {
            "successes": successes,
            "trials": 20,
            "rate": successes / 20,
            "low": 0.1,
            "high": 0.9,
        }

    interval = {"mean": 2.0, "low": 1.5, "high": 2.5}
    seal(house, "world_model", {
        "ranking.json": {"rank": interval, "candidates": 48, "chance_rank": 23.5,
                         "shuffled_over_true": interval},
        "log.parquet": [{"step": 1, "loss": 1.0, "held_out_rank": 9.0}],
    })  # fmt: skip
    seal(house, "probe_report/ssv2", {"report.json": probed(-0.01, rate)})
    seal(house, "probe_report/kinetics", {"report.json": probed(-0.02, rate)})
    unseen = {"reached": rate(14), "passed": rate(15), "final_cm": {"median": 3.2}, "closed": 0.81}
    seen = {"reached": rate(19), "passed": rate(20), "final_cm": {"median": 1.2}, "closed": 0.97}
    seal(house, "planning_report", {"report.json": {
        "policies": {"planner": {"pooled": unseen, "seen": seen}},
        "tasks": {"pick_and_place cup": {"planner": {"pooled": unseen}}},
        "settings": {"success": 0.04},
    }})  # fmt: skip
    probes = ("probe_report/ssv2", "probe_report/kinetics")
    text = told(house, "world_model", *probes, "planning_report")
    assert "2.00 [1.50, 2.50] of 48 candidates (chance 23.5)" in text
    shares = "pretrained 60% [10%, 90%], random 35% [10%, 90%], still 15% [10%, 90%]: +25.0 points"
    assert f"probe_report/ssv2  linear, 1000 labels: {shares} [-1.0, 40.0]; attentive" in text
    assert f"k-NN, 1000 labels: {shares}" in text and "chance 12.5% on 20 clips" in text
    # Of the motion world it stops a run, of the other it is told as a warning.
    warned, refused = text.split("Warnings\n")[1].split("Checks not passed\n")
    assert warned.startswith("  probe_report/kinetics does not pass pretrained_beats_random")
    assert "probe_report/ssv2 does not pass pretrained_beats_random" in refused
    assert "ssv2" not in warned and "kinetics" not in refused
    assert "planner in unseen labs  ended within 4 cm 14 of 20 = 70% [10%, 90%], " in text
    assert "passed within 4 cm 15, ended 3.2 cm away (median), closed 81%" in text
    assert "pick and place cup      planner 14 of 20, passed 15" in text
    assert "planner in seen labs    ended within 4 cm 19 of 20 = 95%" in text


def test_the_planner_is_a_path_that_can_be_copied(house):
    folder = seal(house, "planner_bundle", {"planner.json": {}})
    assert str(folder) in told(house, "planner_bundle")


def test_reasons_are_counted_and_shown_with_an_example(house):
    rows = [
        {"item": f"{i}.mp4", "stage": "raw_videos", "reason": "no frame" if i < 3 else f"odd {i}"}
        for i in range(14)
    ]
    seal(house, "raw_videos", {
        "quarantine.parquet": rows, "videos.parquet": [{"video_id": str(i)} for i in range(20)],
    })  # fmt: skip
    text = told(house, "raw_videos")
    assert "3 x raw_videos: no frame (e.g. 0.mp4)" in text
    assert "4 x other reasons" in text


def test_buckets_of_a_source_are_judged_together(house):
    def bucket(number: int, kept: int, lost: int) -> None:
        rows = [{"item": f"{i}", "stage": "raw_videos", "reason": "broken"} for i in range(lost)]
        videos = [{"video_id": str(i)} for i in range(kept)]
        files = {"quarantine.parquet": rows, "videos.parquet": videos}
        seal(house, f"raw_videos/yt1b-0{number}", files)

    bucket(0, 2, 20)
    refused = "raw_videos/yt1b-00 does not pass quarantine_small: 20 of 22 items quarantined (90.9%"
    assert refused in told(house, "raw_videos/yt1b-00")
    bucket(1, 40, 1)
    assert "does not pass" not in told(house, "raw_videos/yt1b-00")
