"""What `vjepa2 run` does.

- the first walk makes everything in order, upstream first; the second runs no stage at all;
- a change makes exactly what depends on it, and the reason is told;
- a name asks for its upstreams and nothing else; a wrong name is refused with the nearest one;
- a stage that fails or a gate that says no stops the walk, and what was made before stays;
- the runs are Dagster's: the page shows them, and learns of answers that it did not know.
"""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import subprocess
import sys
import threading
import time

import dagster as dg
import pytest

from assets import materialize
from assets.definitions.checks import GateError
from assets.deployment import ROOT
from assets.materialize import StageError
from assets.runs import fail_orphaned_runs, records
from assets.selection import UnknownAssetError, chosen
from pipelines.settings import SettingError
from tests.assets.conftest import GRAPH

ALL = ["counts/a", "counts/b", "counts/c", "sums/a", "sums/b", "total"]


def test_the_first_walk_makes_everything_and_the_second_nothing(house):
    _, told, made = house.run()
    assert made == ALL
    assert "6 to make" in told
    assert "[6/6] total …" in told
    _, told, made = house.run()
    assert made == []
    assert "all 6 artifacts are fresh: nothing to recompute" in told


def test_progress_has_a_number_a_rate_and_an_end(house):
    _, told, _ = house.run()
    first, *_, last = [line for line in told.splitlines() if line.startswith("[")]
    assert re.fullmatch(r"\[1/6\] counts a … \d+\.\d s, \d+\.\d/min, ends \d\d:\d\d", first)
    assert "ends" not in last


def test_the_end_follows_the_effort_of_what_is_left(monkeypatch):
    """Two quick steps say little about a training: its effort does."""
    now = [1_000.0]
    monkeypatch.setattr(materialize.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(materialize.time, "time", lambda: 0.0)
    monkeypatch.setattr(materialize.time, "localtime", time.gmtime)
    left = {("scenes", "a"): None, ("scenes", "b"): 30.0, ("encoder", None): None}
    clock = materialize.Clock(left, {"scenes": 1.0, "encoder": 65.0})
    now[0] += 4  # 64 seconds for an effort of 61: 68 for the encoder, and 30 as before for scenes/b
    assert clock.tick(("scenes", "a")) == "4.0 s, 15.0/min, ends 00:01"
    now[0] += 596  # 660 for 62: this machine is slow, the encoder will need 692
    assert clock.tick(("scenes", "b")).endswith("ends 00:11")
    now[0] += 900
    assert clock.tick(("encoder", None)) == "900.0 s, 0.1/min"


def test_a_changed_setting_makes_exactly_what_depends_on_it(house):
    house.run()
    outcome, told, made = house.run(settings=("sums.weights.b=5",))
    assert made == ["sums/b", "total"]
    assert len(outcome.fresh) == 4
    assert "sums/b is stale: config.weights.b: 2.0 -> 5.0" in told
    _, _, made = house.run()
    assert made == [], "the answers to the old question are still there"


def test_an_upstream_that_comes_out_the_same_remakes_nothing_below(house):
    house.run()
    _, _, made = house.run(settings=("counts.broken=1", "counts.upto=5"))
    assert made == []
    _, _, made = house.run(settings=("counts.upto=6",))
    assert made == ALL


def test_a_name_asks_for_its_upstreams_and_nothing_else(house):
    assert house.run("sums/b")[2] == ["counts/b", "sums/b"]
    assert house.run("counts")[2] == ["counts/a", "counts/c"]
    assert chosen(["total"], GRAPH, house.deployed().profile) == [
        ("counts", "a"), ("counts", "b"), ("sums", "a"), ("sums", "b"), ("total", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("count", "count: no such asset; did you mean counts?"),
        ("sums/z", "sums/z: no such partition of sums; choose from a, b"),
        ("total/a", "total/a: no such partition of total; it has no partitions"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest_one(house, name, message):
    with pytest.raises(UnknownAssetError) as refusal:
        house.run(name)
    assert message in str(refusal.value)


def test_a_failing_stage_stops_the_walk_and_the_next_one_goes_on(house):
    with pytest.raises(StageError, match=r"^total: asked to fail$"):
        house.run("total", settings=("total.fails=true",))
    _, _, made = house.run()
    assert made == ["counts/c", "total"]


def test_a_gate_that_says_no_stops_what_follows(house):
    settings = ("counts.broken=3",)
    with pytest.raises(GateError, match="counts/a does not pass few_broken: 3 set aside"):
        house.run("sums/a", settings=settings)
    # The refused answer is sealed and fresh: the gate itself has to keep what follows from it.
    with pytest.raises(GateError, match="counts/a does not pass few_broken"):
        house.run("sums/a", settings=settings)
    assert house.store.ref("counts", "a") is not None, "what was refused can still be looked at"
    assert house.store.ref("sums", "a") is None


def test_a_gate_that_only_reports_stops_nothing(house):
    lenient = ("counts.broken=3", "counts.lenient=a,c")
    _, _, made = house.run("sums/a", settings=lenient)
    assert made == ["counts/a", "sums/a"]
    with pytest.raises(GateError, match="counts/b does not pass few_broken"):
        house.run(settings=lenient)
    _, _, made = house.run("sums/b", settings=("counts.broken=3", "counts.lenient=b"))
    assert made == ["sums/b"], "whether a gate blocks is no question of the recipe"


def test_settings_that_cannot_go_together_are_refused_before_anything_is_made(house, monkeypatch):
    def never(profile):
        raise SettingError(f"counts.upto = {profile.counts.upto}: too few for sums")

    odd = dataclasses.replace(GRAPH["sums"], check=never)
    monkeypatch.setitem(GRAPH.by_name, "sums", odd)
    with pytest.raises(SettingError, match="upto = 5: too few for sums"):
        house.run()
    assert house.run("counts")[2] == ["counts/a", "counts/b", "counts/c"]


def test_the_page_shows_the_same_runs(house):
    with records(house.folder / "home") as instance:
        house.instance = instance
        house.run("sums/b")
    with records(house.folder / "home") as instance:
        runs = instance.get_runs()
        assert [run.tags["dagster/partition"] for run in runs] == ["b", "b"]
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        [record] = instance.fetch_materializations(dg.AssetKey("sums"), limit=9).records
    told = record.asset_materialization
    assert told.tags["dagster/data_version"] == house.store.ref("sums", "b").content
    assert told.tags["dagster/code_version"] == "3"
    assert told.metadata["metrics/sum"].value == 20.0


def test_a_page_that_lost_its_records_learns_them_again_without_recomputing(house):
    house.run()
    house.instance = dg.DagsterInstance.ephemeral()
    outcome, _, made = house.run()
    assert (len(outcome.made), made) == (6, [])
    outcome, _, _ = house.run()
    assert len(outcome.fresh) == 6


def test_a_killed_command_line_leaves_no_run_that_seems_to_go_on(house):
    """Its process is gone: the next walk says so on the run's page, and leaves others alone."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    tags = {"vjepa2/host": socket.gethostname(), "vjepa2/process": str(gone.pid)}
    ours = {**tags, "vjepa2/process": str(os.getpid())}
    elsewhere = {**tags, "vjepa2/host": "another-machine"}
    started = [
        house.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=each)
        for each in (tags, ours, elsewhere)
    ]
    again = house.instance.create_run_for_job(  # from the page, with the tags that it had
        job, status=dg.DagsterRunStatus.STARTED, tags=tags,
        parent_run_id=started[1].run_id, root_run_id=started[1].run_id,
    )  # fmt: skip
    assert fail_orphaned_runs(house.instance) == [started[0].run_id]
    assert house.instance.get_run_by_id(again.run_id).status == dg.DagsterRunStatus.STARTED
    states = [house.instance.get_run_by_id(run.run_id).status for run in started]
    assert states == [
        dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTED,
    ]  # fmt: skip


@dg.job
def job():
    pass


# ------------------------------------------------------------------ several at a time

WALK = """
import io, os, sys, time
sys.path.insert(0, os.getcwd())
from tests.assets import conftest
real = conftest.count
def slow(config, inputs, out):
    print("in", flush=True)
    sys.stdin.readline()
    return real(config, inputs, out)
import dataclasses
stage = dataclasses.replace(conftest.COUNTS, run=slow)
counts, *others = conftest.GRAPH.nodes
nodes = (dataclasses.replace(counts, stage=stage), *others)
conftest.GRAPH = dataclasses.replace(conftest.GRAPH, nodes=nodes)
from pathlib import Path
from assets.runs import records
house = conftest.House(Path(sys.argv[1]))
with records(house.folder / "home") as instance:
    house.instance = instance
    print("made", house.run("counts/a")[2], flush=True)
"""


@pytest.fixture
def walker(house):
    """Another process that makes counts/a of the same house, and waits in the middle of it."""
    other = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WALK, str(house.folder)], cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout.readline() == "in\n"
    yield other
    other.kill()
    other.communicate()


def test_the_second_of_two_walks_waits_and_takes_the_answer(house, walker, capfd):
    """Another home on the same store: no pool is between them."""
    done = []
    second = threading.Thread(target=lambda: done.append(house.run("counts/a")))
    second.start()
    time.sleep(3)
    assert not done
    walker.stdin.write("go\n")
    walker.stdin.flush()
    second.join(60)
    outcome, _, made = done[0]
    assert outcome.made == [("counts", "a")] and made == []
    log = house.instance.all_logs(house.instance.get_runs()[0].run_id)
    told = [entry.message for entry in log if "waits for" in entry.message]
    assert len(told) == 1
    assert re.search(rf"waits for run \w{{8}}, process {walker.pid} on ", told[0])


def test_a_walk_obeys_the_pool_of_the_deployment_and_says_who_holds_it(house, walker):
    with records(house.folder / "home") as instance:
        house.instance = instance
        [held] = instance.get_runs()
        done = []
        second = threading.Thread(target=lambda: done.append(house.run("counts/b")))
        second.start()
        time.sleep(3)
        assert not done and not (house.folder / "store" / "refs" / "default" / "counts").exists()
        walker.stdin.write("go\n")
        walker.stdin.flush()
        second.join(90)
    told = done[0][1]
    assert f"[1/1] counts b … waits for run {held.run_id[:8]} (counts)" in told


def test_a_place_in_the_pool_comes_back_from_a_run_that_died(house, walker):
    walker.kill()
    walker.wait()
    with records(house.folder / "home") as instance:
        house.instance = instance
        assert house.run("counts/a")[2] == ["counts/a"]


def test_a_clock_that_runs_backwards_is_told_and_decides_nothing(house, monkeypatch):
    house.run("counts/a")
    now = time.time()
    monkeypatch.setattr(materialize.time, "time", lambda: now - 7200)
    outcome, told, made = house.run("counts/a", "sums/a")
    assert "this machine's clock runs backwards: counts/a was made at " in told
    assert made == ["sums/a"] and outcome.fresh == [("counts", "a")]
    assert house.store.ref("sums", "a").record["seconds"] >= 0
