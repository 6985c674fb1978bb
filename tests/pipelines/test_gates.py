"""What gates say.

Each gate passes an artifact that is good enough, refuses one that is not, and sits exactly on its
threshold; the verdict says the number it rests on. Nothing is refused for being empty. Buckets of a
source are judged together, and only where there is enough to judge.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.gates import refusals
from pipelines.nodes import GRAPH, PROFILES
from storage.artifacts import Artifact
from storage.tables import QUARANTINE, write_table
from tests.pipelines.builders import artifact

DEMO = PROFILES["demo"]
LIMITS = DEMO.gates


def judged(found: Artifact, name: str, limits: Any = LIMITS, beside: Sequence[Artifact] = ()):
    [gate] = [gate for gate in GRAPH[found.manifest.asset].gates if gate.name == name]
    return gate.verdict(found, limits, lambda: beside)


def bucket(folder: Path, kept: int, lost: int, name: str = "raw_videos") -> Artifact:
    kind = {"video_id": "string"} if name.startswith("raw_videos") else {"episode": "string"}
    table = "videos.parquet" if name.startswith("raw_videos") else "episodes.parquet"
    [column] = kind
    write_table(folder / table, [{column: str(i)} for i in range(kept)], kind)
    rows = [{"item": str(i), "stage": name, "reason": "broken"} for i in range(lost)]
    write_table(folder / "quarantine.parquet", rows, QUARANTINE)
    return artifact(folder, name)


@pytest.mark.parametrize(
    ("kept", "lost", "passed"),
    [(10, 10, True), (9, 10, False), (1, 9, True), (0, 0, True), (0, 1, False), (5, 0, True)],
)
def test_at_most_half_of_a_source_may_be_set_aside_if_that_is_ten_or_all(
    tmp_path, kept, lost, passed
):
    verdict = judged(bucket(tmp_path, kept, lost), "quarantine_small")
    assert verdict.passed is passed
    assert verdict.numbers["quarantined"] == lost
    assert ("too few to tell" in verdict.summary) is ((kept, lost) == (1, 9))


@pytest.mark.parametrize(("kept", "lost", "passed"), [(3, 3, True), (3, 4, False), (0, 1, False)])
def test_a_lab_is_no_bucket_of_a_source(tmp_path, kept, lost, passed):
    good = bucket(tmp_path / "good", 99, 0, "droid_episodes/lab-001")
    found = bucket(tmp_path / "lab", kept, lost, "droid_episodes/lab-000")
    assert judged(found, "quarantine_small", beside=[good]).passed is passed


def test_one_bad_bucket_stops_no_good_source(tmp_path):
    """It is the source that is judged; what one bucket lost by bad luck stops nothing."""
    bad = bucket(tmp_path / "bad", 2, 20, "raw_videos/yt1b-00")
    others = [bucket(tmp_path / f"{n}", 20, 2, f"raw_videos/yt1b-0{n}") for n in (1, 2, 3)]
    assert not judged(bad, "quarantine_small").passed
    verdict = judged(bad, "quarantine_small", beside=others)
    assert verdict.passed and verdict.summary.startswith("26 of 88 items in 4 buckets quarantined")
    worse = [bucket(tmp_path / f"w{n}", 2, 9, f"raw_videos/yt1b-0{n}") for n in (1, 2, 3)]
    verdict = judged(bad, "quarantine_small", beside=worse)
    assert not verdict.passed and verdict.numbers == {
        "kept": 8,
        "quarantined": 47,
        "share": 47 / 55,
    }


def test_a_bucket_that_is_good_enough_looks_at_no_other(tmp_path):
    def never() -> list[Artifact]:
        raise AssertionError("a thousand buckets would each open a thousand")

    for gate in GRAPH["raw_videos"].gates:
        assert gate.verdict(bucket(tmp_path, 12, 11), LIMITS, never).passed


@pytest.mark.parametrize(
    ("matched", "labels", "passed"),
    [(0, 0, True), (5, 5, True), (0, 3, False), (2, 5, True), (10, 20, True), (10, 21, False)],
)
def test_labels_name_files(tmp_path, matched, labels, passed):
    told = {"metrics": {"labels": labels, "labels_matched": matched}}
    verdict = judged(artifact(tmp_path, "raw_videos", told), "labels_match")
    assert verdict.passed is passed
    assert verdict.summary.startswith(f"{matched} of {labels} labels matched (at least 50%")
    lax = replace(LIMITS, labels_match=0.4)
    if labels == 21:
        assert judged(artifact(tmp_path, "raw_videos", told), "labels_match", lax).passed


def test_an_item_that_failed_twice_counts_once(tmp_path):
    """And a video that was cut into many scenes is one video."""
    write_table(
        tmp_path / "scenes.parquet",
        [{"video_id": "v"}] * 9 + [{"video_id": "w"}],
        {"video_id": "string"},
    )
    rows = [{"item": "x", "stage": "scenes", "reason": r} for r in ("no frame", "no end")]
    write_table(tmp_path / "quarantine.parquet", rows, QUARANTINE)
    verdict = judged(artifact(tmp_path, "scenes"), "quarantine_small")
    assert verdict.numbers == {"kept": 2, "quarantined": 1, "share": pytest.approx(1 / 3)}


def mixture(folder: Path, weights: dict[str, float], rows: list[tuple[str, float]]) -> None:
    (folder / "mixture.json").write_text(json.dumps({"weights": weights, "samples": {}}))
    table = [{"source": source, "weight": weight} for source, weight in rows]
    write_table(folder / "index.parquet", table, {"source": "string", "weight": "float64"})


@pytest.mark.parametrize(
    ("weights", "rows", "passed", "told"),
    [
        ({"a": 0.25, "b": 0.75}, [("a", 1.0), ("b", 2.0)], True, "sum 1"),
        ({"a": 0.25, "b": 0.75}, [("a", 1.0), ("b", 0.0)], False, "no clip to train on in b"),
        ({"a": 0.25, "b": 0.70}, [("a", 1.0), ("b", 1.0)], False, "sum 0.95"),
        ({"a": 1.0, "b": 0.0}, [("a", 1.0)], True, "b 0"),
    ],
)
def test_the_mixture_draws_as_asked(tmp_path, weights, rows, passed, told):
    mixture(tmp_path, weights, rows)
    verdict = judged(
        artifact(tmp_path, "videomix22m", config={"weights": weights}), "weights_match"
    )
    assert verdict.passed is passed
    assert told in verdict.summary


def test_a_mixture_by_other_weights_than_asked_is_refused(tmp_path):
    mixture(tmp_path, {"a": 0.5, "b": 0.5}, [("a", 1.0), ("b", 1.0)])
    asked = artifact(tmp_path, "videomix22m", config={"weights": {"a": 0.4, "b": 0.6}})
    assert not judged(asked, "weights_match").passed


def training(folder: Path, losses: list[float], ranks: list[float | None]) -> Artifact:
    rows = [
        {"step": i + 1, "loss": loss, "effective_rank": rank, "feature_std": 0.9}
        for i, (loss, rank) in enumerate(zip(losses, ranks, strict=True))
    ]
    kinds = {
        "step": "int64",
        "loss": "float64",
        "effective_rank": "float64",
        "feature_std": "float64",
    }
    write_table(folder / "log.parquet", rows, kinds)
    (folder / "model.json").write_text(json.dumps({"architecture": {"encoder": {"width": 128}}}))
    return artifact(folder, "encoder")


def test_a_loss_that_is_not_finite_is_refused_with_its_step(tmp_path):
    good = training(tmp_path, [1.0, 0.5], [50.0, 40.0])
    assert judged(good, "loss_finite").passed
    bad = training(tmp_path, [1.0, float("nan"), float("inf")], [50.0, 40.0, 40.0])
    verdict = judged(bad, "loss_finite")
    assert not verdict.passed
    assert "first not finite at step 2" in verdict.summary
    assert not judged(training(tmp_path, [], []), "loss_finite").passed


@pytest.mark.parametrize(("rank", "passed"), [(12.8, True), (12.7, False)])
def test_features_collapse_below_a_tenth_of_their_width(tmp_path, rank, passed):
    """The last rank that was taken counts; the loss may fall all the while."""
    run = training(tmp_path, [1.0, 0.1, 0.05], [60.0, rank, None])
    verdict = judged(run, "features_not_collapsed")
    assert verdict.passed is passed
    assert verdict.numbers["effective_rank"] == rank
    assert judged(
        run, "features_not_collapsed", replace(LIMITS, features_not_collapsed=0.05)
    ).passed


def test_a_rank_that_was_never_taken_is_no_rank_that_is_good_enough(tmp_path):
    assert not judged(training(tmp_path, [1.0], [None]), "features_not_collapsed").passed


def ranking(folder: Path, mean: float, low_ratio: float) -> Artifact:
    told = {
        "candidates": 21, "chance_rank": 10.0,
        "rank": {"mean": mean, "low": mean - 1, "high": mean + 1},
        "shuffled_over_true": {"mean": low_ratio + 0.1, "low": low_ratio, "high": low_ratio + 0.2},
    }  # fmt: skip
    (folder / "ranking.json").write_text(json.dumps(told))
    return artifact(folder, "world_model")


@pytest.mark.parametrize(("mean", "passed"), [(4.0, True), (4.1, False), (10.0, False)])
def test_the_true_action_must_rank_far_above_chance(tmp_path, mean, passed):
    assert judged(ranking(tmp_path, mean, 1.2), "ranks_true_action").passed is passed


@pytest.mark.parametrize(("low", "passed"), [(1.01, True), (1.0, False), (0.9, False)])
def test_shuffled_actions_must_predict_worse_beyond_the_interval(tmp_path, low, passed):
    assert judged(ranking(tmp_path, 1.0, low), "needs_true_actions").passed is passed


def test_a_bundle_that_lacks_its_weights_does_not_load(tmp_path):
    verdict = judged(artifact(tmp_path, "planner_bundle"), "bundle_loads")
    assert not verdict.passed
    assert verdict.summary


def test_refusals_name_the_artifact_the_gate_and_the_number(tmp_path):
    run = training(tmp_path, [1.0], [2.0])
    gates = GRAPH["encoder"].gates
    assert refusals(run, "encoder", gates, DEMO) == [
        "encoder does not pass features_not_collapsed: "
        "effective rank 2.0 of 128 (at least 12.8), spread 0.900"
    ]
    opened = replace(DEMO, gates=replace(LIMITS, features_not_collapsed=0.0))
    assert refusals(run, "encoder", gates, opened) == []
    assert refusals(run, "encoder", gates, DEMO, blocking=False) == []


def probe(folder: Path, low: float, source: str = "ssv2") -> Artifact:
    gain = {"gain": low + 0.05, "low": low, "high": low + 0.1}
    curve = [
        {"labels": 240, "pretrained_minus_random": {"gain": -1.0, "low": -1.0, "high": -1.0}},
        {"labels": 1000, "pretrained_minus_random": gain},
    ]
    (folder / "report.json").write_text(json.dumps({"readouts": {"linear": curve}}))
    return artifact(folder, f"probe_report/{source}")


@pytest.mark.parametrize(("low", "passed"), [(0.01, True), (0.0, False), (-0.2, False)])
def test_pretraining_must_gain_beyond_the_interval_with_the_most_labels(tmp_path, low, passed):
    verdict = judged(probe(tmp_path, low), "pretrained_beats_random")
    assert verdict.passed is passed
    assert "linear, 1000 labels" in verdict.summary and verdict.numbers["low"] == low
    opened = replace(LIMITS, pretrained_beats_random=-1)
    assert judged(probe(tmp_path, low), "pretrained_beats_random", opened).passed


def test_it_blocks_on_the_demos_motion_world_and_reports_elsewhere(tmp_path):
    gates = GRAPH["probe_report"].gates
    told = "does not pass pretrained_beats_random"
    blocking = [("demo", "ssv2"), ("laptop", "ssv2")]
    for scale in ("demo", "laptop", "paper"):
        for source in ("ssv2", "kinetics"):
            lost, name = probe(tmp_path, -0.1, source), f"probe_report/{source}"
            refused = refusals(lost, name, gates, PROFILES[scale])
            reported = refusals(lost, name, gates, PROFILES[scale], blocking=False)
            [line] = refused + reported
            assert line.startswith(f"{name} {told}: linear, 1000 labels")
            assert bool(refused) == ((scale, source) in blocking)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("quarantine_small", 1),
        ("labels_match", 1),
        ("features_not_collapsed", 1),
        ("ranks_true_action", 3),
        ("needs_true_actions", 1),
        ("pretrained_beats_random", 1),
    ],
)
def test_thresholds_have_a_range(name, most):
    with pytest.raises(ValueError, match=f"{name} = 3.5: must be from (0|-1) to {most}"):
        replace(LIMITS, **{name: 3.5})
