"""Items on Ray: results in the order of the items whatever the number of workers, a journal that
outlives a kill and a cut line, errors that name their item, and a cluster that listens to nobody
but this machine."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines import compute
from pipelines.compute import WorkersDiedError, map_items, start, train_on_ray
from pipelines.execution import ExecutionConfig
from pipelines.stage import Workspace
from pipelines.training.distributed import WorkerLostError
from storage.errors import UserError
from tests.absent import skip_at_home
from tests.pipelines.builders import workspace

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def out(tmp_path: Path) -> Workspace:
    return workspace(tmp_path, workers=2)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def last_if_asked(item: tuple[int, str]) -> dict[str, Any]:
    """Item 0 finishes after item 3 when a folder is given to wait in."""
    index, folder = item
    if folder and index == 0:
        wait_for(Path(folder) / "3")
    if folder:
        (Path(folder) / str(index)).touch()
    return {"item": index, "third": index / 3}


def refuse_three(item: int) -> int:
    if item == 3:
        raise ValueError("three is not welcome")
    return item


def die_at_three(item: int) -> int:
    if item == 3:
        os._exit(1)
    return item


def tell_when(item: int) -> tuple[float, float]:
    began = time.monotonic()  # one clock for all processes of a machine
    time.sleep(0.15)
    return began, time.monotonic()


def fail_or_write_late(item: tuple[str, str]) -> None:
    do, folder = item
    if do == "fail":
        (Path(folder) / "failing").touch()
        raise ValueError("as asked")
    wait_for(Path(folder) / "failing")
    time.sleep(3)  # to stop a task may take a while on a busy machine
    (Path(folder) / "late").touch()


def not_for_json(item: int) -> Any:
    return {"kept": {1, 2}}


def worst_numbers(item: int) -> list[float]:
    return [0.1 + 0.2, 1e-300, math.inf, 5e-324]


def must_not_run(item: int) -> int:
    raise AssertionError("was finished before")


def test_results_come_in_the_order_of_the_items_with_any_number_of_workers(tmp_path: Path) -> None:
    keys = {f"k{index}": index for index in range(6)}
    alone = {key: (index, "") for key, index in keys.items()}
    raced = {key: (index, str(tmp_path)) for key, index in keys.items()}
    one = map_items(last_if_asked, alone, workspace(tmp_path / "one"), noun="things")
    two = map_items(last_if_asked, raced, workspace(tmp_path / "two", workers=2), noun="things")
    assert list(one) == list(two) == list(keys)
    assert one == two == {key: {"item": i, "third": i / 3} for key, i in keys.items()}
    journal = (tmp_path / "two" / "scratch" / "things.jsonl").read_text().splitlines()
    assert json.loads(journal[0])["key"] != "k0", "the first item was not the first to finish"


def test_no_more_items_at_a_time_than_workers(tmp_path: Path) -> None:
    items = {f"k{index}": index for index in range(4)}
    spans = map_items(tell_when, items, workspace(tmp_path), noun="things").values()
    ordered = sorted(spans)
    for (_, ended), (began, _) in itertools.pairwise(ordered):
        assert began >= ended


def test_a_rerun_computes_only_what_the_journal_lacks(out: Workspace) -> None:
    items = {f"k{index}": index for index in range(4)}
    with pytest.raises(RuntimeError, match=r"refuse_three failed on k3: three is not welcome"):
        map_items(refuse_three, items, out, noun="big things")
    journal = out.scratch / "big-things.jsonl"
    finished = [json.loads(line)["key"] for line in journal.read_text().splitlines()]
    assert finished
    again = map_items(must_not_run, {k: items[k] for k in finished}, out, noun="big things")
    assert again == {key: items[key] for key in finished}


def test_a_line_that_a_kill_cut_short_is_computed_again(out: Workspace) -> None:
    journal = out.scratch / "things.jsonl"
    journal.write_text(
        '{"key": "k0", "result": 70}\n{"key": "k1", "result": 71}\n{"key": "k2", "re'
    )
    items = {f"k{index}": index for index in range(3)}
    assert map_items(refuse_three, items, out, noun="things") == {"k0": 70, "k1": 71, "k2": 2}
    assert [json.loads(line)["result"] for line in journal.read_text().splitlines()] == [70, 71, 2]


@pytest.mark.parametrize("text", ["nonsense\n", '{"kay": 1}\n', "[1]\n"])
def test_a_journal_that_cannot_be_read_is_named(out: Workspace, text: str) -> None:
    (out.scratch / "things.jsonl").write_text(text)
    with pytest.raises(RuntimeError, match=r"things\.jsonl cannot be read .*; remove it") as caught:
        map_items(refuse_three, {"k0": 0}, out, noun="things")
    assert "\n" not in str(caught.value)


def test_a_worker_that_dies_is_told_with_its_item(out: Workspace) -> None:
    with pytest.raises(RuntimeError, match="die_at_three died on k3") as caught:
        map_items(die_at_three, {"k2": 2, "k3": 3}, out, noun="things")
    assert isinstance(caught.value, UserError) and "fewer execution.workers" in str(caught.value)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (compute.ray.exceptions.ActorDiedError(), WorkersDiedError),
        (WorkerLostError("an exchange broke off"), WorkersDiedError),
        (KeyError("a bug"), RuntimeError),
    ],
)
def test_dead_workers_are_told_with_what_to_do_and_bugs_as_bugs(
    failure: Exception, told: type[Exception], out: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray is imported by its own room first, which sets what Ray reads then.
    from ray.train import WorkerGroupError
    from ray.train.torch import TorchTrainer

    def fit(_: object) -> None:
        raise WorkerGroupError(f"Traceback ...\n{failure!r}", {0: failure})

    monkeypatch.setattr(TorchTrainer, "fit", fit)
    with pytest.raises(told, match="gave up after 3 restarts") as caught:
        train_on_ray(print, execution=out.execution, world=1, notes=f"{out.scratch}/notes")
    curable = told is WorkersDiedError
    assert type(caught.value) is told and isinstance(caught.value, UserError) == curable
    assert ("fewer execution.workers" in str(caught.value)) == curable
    assert ("Traceback" in str(caught.value)) != curable


def test_what_json_cannot_hold_is_told_with_its_item(out: Workspace) -> None:
    with pytest.raises(TypeError, match=r"not_for_json returned for k0: .*set"):
        map_items(not_for_json, {"k0": 0}, out, noun="things")


def test_numbers_pass_through_the_journal_unchanged(out: Workspace) -> None:
    first = map_items(worst_numbers, {"k": 0}, out, noun="things")
    again = map_items(must_not_run, {"k": 0}, out, noun="things")
    assert first == again == {"k": worst_numbers(0)}


def test_when_one_item_fails_the_others_are_stopped(out: Workspace, tmp_path: Path) -> None:
    items = {"slow": ("write", str(tmp_path)), "bad": ("fail", str(tmp_path))}
    with pytest.raises(RuntimeError, match="failed on bad: as asked"):
        map_items(fail_or_write_late, items, out, noun="things")
    time.sleep(3.5)
    assert not (tmp_path / "late").exists(), "a task outlived its stage and disturbs the rerun"


def test_no_items_need_no_cluster_and_no_journal(out: Workspace) -> None:
    assert map_items(must_not_run, {}, out, noun="things") == {}
    assert list(out.scratch.iterdir()) == []


def test_progress_tells_count_rate_and_end(out: Workspace, capfd: pytest.CaptureFixture) -> None:
    map_items(refuse_three, {"a": 0, "b": 1}, out, noun="brave things")
    (line,) = capfd.readouterr().err.splitlines()
    told = line.split()
    assert told[:3] == ["brave", "things", "2/2,"]
    assert told[3].endswith("/s,") and float(told[3][:-3]) > 0
    time.strptime(told[-1], "%H:%M:%S")


def test_starting_twice_is_starting_once() -> None:
    before = compute.ray.get_runtime_context().gcs_address
    start(ExecutionConfig(workers=2))
    assert compute.ray.get_runtime_context().gcs_address == before


def listening(pids: set[int]) -> set[str]:
    """Hexadecimal addresses at which some processes listen (Linux: /proc)."""
    inodes = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(handle).removeprefix("socket:[").removesuffix("]"))
            except FileNotFoundError:
                continue
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # 0A: LISTEN
                addresses.add(fields[1].split(":")[0])
    return addresses


def family(root: int) -> set[int]:
    """A process and all below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rsplit(")")[-1].split()[1]
            )
        except FileNotFoundError:
            continue
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def test_the_cluster_listens_on_the_loopback_interface_only() -> None:
    if "RAY_ADDRESS" in os.environ:
        skip_at_home("the cluster is somebody else's: unset RAY_ADDRESS")
    if not Path("/proc/net/tcp").exists():
        skip_at_home("open ports are read in /proc: run on Linux")
    addresses = listening(family(os.getpid()))
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert addresses, "Ray listens somewhere"
    assert addresses <= loopback
