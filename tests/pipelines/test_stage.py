"""A stage's recipe changes with what is asked (config, version, inputs, partition) and with nothing
else; an answer is found again; a stage that is killed in its middle continues and ends with the
bytes of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow.fs import FileSystem

from pipelines import provenance
from pipelines import stage as stages
from pipelines.execution import ExecutionConfig
from pipelines.stage import Inputs, Stage, Workspace, differences, recipe_inputs
from storage.artifacts import Artifact, ArtifactError, ArtifactStore
from storage.digests import digest_json
from storage.work import S3Work
from tests.interrupts import heeding_ctrl_c
from tests.pipelines.counting import ITEMS, CountingConfig, Inner, answer

ROOT = Path(__file__).resolve().parent.parent.parent
RUNS: list[str] = []


def write_size(config: CountingConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    RUNS.append(str(out.partition))
    (out.payload / "upto.txt").write_text(f"{config.upto}")
    return {"upto": config.upto}


PLAIN = Stage("plain", version=1, config=CountingConfig, run=write_size)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    RUNS.clear()
    return ArtifactStore(str(tmp_path / "store"))


# ------------------------------------------------------------------ the question


def recipe(
    stage: Stage = PLAIN,
    config: CountingConfig | None = None,
    contents: dict[str, str] | None = None,
    partition: str | None = None,
    execution: ExecutionConfig | None = None,
) -> str:
    asked = recipe_inputs(
        stage, config or CountingConfig(), contents or {}, partition, execution or ExecutionConfig()
    )
    return digest_json(asked)


def test_the_recipe_changes_with_everything_that_is_asked() -> None:
    recipes = [
        recipe(),
        recipe(replace(PLAIN, version=2)),
        recipe(replace(PLAIN, name="other")),
        recipe(config=CountingConfig(upto=4)),
        recipe(config=CountingConfig(name="x")),
        recipe(config=CountingConfig(sizes=(2, 1))),
        recipe(config=CountingConfig(inner=Inner(weight=0.71))),
        recipe(contents={"scenes": "aa"}),
        recipe(contents={"scenes": "bb"}),
        recipe(contents={"videos": "aa"}),
        recipe(contents={"scenes/a": "aa", "scenes/b": "bb"}),
        recipe(contents={"scenes/a": "bb", "scenes/b": "aa"}),
        recipe(partition="a"),
        recipe(partition="b"),
    ]
    assert len(set(recipes)) == len(recipes)


def test_where_something_lies_is_no_recipe_input_what_it_is_is_one(tmp_path: Path) -> None:
    def observed(config: CountingConfig, _: str | None, __: ExecutionConfig) -> dict[str, str]:
        return {"file": "digest"}

    stage = replace(PLAIN, observe=observed, paths=("upto",))
    one, moved = (recipe(stage, CountingConfig(upto=number)) for number in (1, 2))
    assert one == moved != recipe(replace(stage, observe=None))


def test_the_recipe_does_not_change_with_how_it_is_run(tmp_path: Path) -> None:
    for execution in (
        ExecutionConfig(workers=1),
        ExecutionConfig(workers=64),
        ExecutionConfig(device="cuda"),
        ExecutionConfig(cache=tmp_path),
    ):
        assert recipe(execution=execution) == recipe()


def test_the_recipe_does_not_change_with_the_order_of_inputs() -> None:
    assert recipe(contents={"a": "1", "b": "2"}) == recipe(contents={"b": "2", "a": "1"})


def test_a_partition_asks_with_the_part_of_the_config_that_it_depends_on() -> None:
    def only_inner(config: CountingConfig, partition: str | None) -> CountingConfig:
        return config if partition == "b" else replace(config, upto=0)

    narrow = replace(PLAIN, narrow=only_inner)
    more = CountingConfig(upto=9)
    assert recipe(narrow, more, partition="a") == recipe(narrow, partition="a")
    assert recipe(narrow, more, partition="b") != recipe(narrow, partition="b")


def test_what_lies_outside_the_store_is_part_of_the_question(tmp_path: Path) -> None:
    source = tmp_path / "user.txt"

    def look(
        config: CountingConfig, partition: str | None, execution: ExecutionConfig
    ) -> dict[str, str]:
        return {"user.txt": source.read_text()}

    watching = replace(PLAIN, observe=look)
    source.write_text("one")
    before = recipe(watching)
    assert recipe(watching) == before
    source.write_text("two")
    assert recipe(watching) != before


def test_differences_are_readable() -> None:
    old = recipe_inputs(
        PLAIN, CountingConfig(), {"scenes/a": "a" * 64, "gone": "g" * 64}, "a", ExecutionConfig()
    )
    new = recipe_inputs(
        replace(PLAIN, version=2),
        CountingConfig(upto=5, inner=Inner(weight=0.5), name="x" * 80),
        {"scenes/a": "b" * 64, "fresh": "f" * 64},
        "a",
        ExecutionConfig(workers=7),
    )
    assert list(differences(old, new)) == [
        "config.inner.weight: 0.7 -> 0.5",
        f"config.name: None -> {'x' * 57}...",
        "config.upto: 3 -> 5",
        "inputs.fresh is new",
        "inputs.gone is gone",
        f"inputs.scenes/a: {'a' * 12} -> {'b' * 12}",
        "version: 1 -> 2",
    ]
    assert list(differences(old, old)) == []


def test_a_question_read_back_from_its_manifest_has_no_differences(store: ArtifactStore) -> None:
    made = answer(store, stage=PLAIN, partition="a")
    asked = recipe_inputs(PLAIN, CountingConfig(), {}, "a", ExecutionConfig(workers=9))
    assert list(differences(made.artifact.manifest.recipe_inputs, asked)) == []


@pytest.mark.parametrize(("field", "value"), [("workers", 0), ("device", "tpu")])
def test_how_refuses_what_cannot_be(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"ExecutionConfig\.{field} = {value!r}: must be"):
        ExecutionConfig(**{field: value})


# ------------------------------------------------------------------ the answer


def test_an_answer_is_made_once_and_found_again(store: ArtifactStore) -> None:
    first = answer(store, stage=PLAIN)
    again = answer(store, stage=PLAIN, execution=ExecutionConfig(workers=5))
    assert (first.reused, again.reused) == (False, True)
    assert again.artifact == first.artifact
    assert RUNS == ["None"]
    assert store.ref("toy") == first.artifact.manifest


def test_going_back_to_an_earlier_config_recomputes_nothing(store: ArtifactStore) -> None:
    one = answer(store, CountingConfig(upto=1), stage=PLAIN)
    answer(store, CountingConfig(upto=2), stage=PLAIN)
    back = answer(store, CountingConfig(upto=1), stage=PLAIN)
    assert back.reused
    assert store.ref("toy") == one.artifact.manifest
    assert len(RUNS) == 2


def test_the_record_tells_how_it_was_made(store: ArtifactStore) -> None:
    above = answer(store, stage=PLAIN, asset="above").artifact
    made = answer(
        store, stage=PLAIN, inputs={"above": above}, execution=ExecutionConfig(workers=3)
    ).artifact
    record = made.record
    assert record["workers"] == 3
    assert record["device"] == "cpu"
    assert record["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["libraries"]["numpy"]
    assert record["torch"]
    assert record["metrics"] == made.metrics == {"upto": 3}
    assert record["resumed"] is False
    assert record["resumed_from"] == []
    assert len(record["source_digest"]) == 64
    assert made.manifest.parents == {"above": (above.manifest.recipe, above.content)}


def test_an_answer_whose_bytes_are_lost_is_made_again(store: ArtifactStore, capsys) -> None:
    first = answer(store, stage=PLAIN).artifact
    (first.file("upto.txt")).unlink()
    again = answer(store, stage=PLAIN)
    assert not again.reused
    assert again.artifact == first
    assert [problem for _, problem in store.verify()] == [""]
    assert "upto.txt is missing" in capsys.readouterr().err


def test_a_number_that_json_cannot_hold_is_told_before_sealing(store: ArtifactStore) -> None:
    def diverge(config: CountingConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
        return {"loss": {"last": float("nan")}}

    with pytest.raises(ArtifactError, match=r"stage plain returned.*value\.loss\.last: nan"):
        answer(store, stage=replace(PLAIN, run=diverge))
    assert list(store.manifests()) == []


def test_other_sources_under_the_same_version_give_a_warning(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answer(store, stage=PLAIN).warning == ""
    monkeypatch.setattr(stages, "source_digest", lambda _: "0" * 64)
    again = answer(store, stage=PLAIN)
    assert again.reused
    assert "toy was made by other sources of stage plain version 1" in again.warning
    assert "raise the version" in again.warning


def test_a_stage_resumed_after_a_change_of_its_sources_says_so(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(config: CountingConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(store, stage=replace(PLAIN, run=crash))
    begun = stages.source_digest(__name__)
    monkeypatch.setattr(stages, "source_digest", lambda _: "0" * 64)
    made = answer(store, stage=PLAIN)
    assert made.artifact.record["resumed_from"] == [begun]
    assert "was begun by other sources of stage plain" in made.warning


def test_a_stage_resumed_on_another_machine_says_so(
    s3_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(config: CountingConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(ArtifactStore(s3_store, tmp_path / "one"), stage=replace(PLAIN, run=crash))
    begun = stages.source_digest(__name__)
    monkeypatch.setattr(stages, "source_digest", lambda _: "0" * 64)
    made = answer(ArtifactStore(s3_store, tmp_path / "other"), stage=PLAIN)
    assert made.artifact.record["resumed"] and made.artifact.record["resumed_from"] == [begun]


def test_the_second_of_two_machines_that_make_one_artifact_shows_the_first_ones(
    s3_store: str, tmp_path: Path
) -> None:
    first, second = (ArtifactStore(s3_store, tmp_path / name) for name in ("first", "second"))

    def keep(config: CountingConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
        out.note_kept([out.work.put("payload/far", b"kept in the bucket")])
        if out.scratch.is_relative_to(tmp_path / "second"):  # the first one seals meanwhile
            answer(first, stage=stage)
            out.file("payload/far")
        return {}

    stage = replace(PLAIN, run=keep)
    made = answer(second, stage=stage)
    assert made.artifact.read("far") == b"kept in the bucket"
    assert len(list(second.manifests())) == 1 and list(second.place.keys("work/")) == []
    assert [problem for _, problem in second.verify()] == [""]
    assert not [path for path in (second.local / "work").iterdir() if path.is_dir()]


def test_the_source_digest_follows_imports_through_the_rooms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    for name, text in {
        "pipelines/a.py": "from storage.b import x\nimport json",
        "storage/__init__.py": "",
        "storage/b.py": "def f():\n    import models.c\nx = 1",
        "models/c.py": "y = 1\nPLAN = 'arm.xml'",
        "models/arm.xml": "<arm/>",
        "models/unnamed.xml": "<arm/>",
        "models/other.py": "z = 1",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def digest() -> str:
        provenance.read_source.cache_clear()
        return provenance.source_digest.__wrapped__("pipelines.a")

    before = digest()
    (tmp_path / "models/other.py").write_text("z = 2")
    (tmp_path / "models/unnamed.xml").write_text("<leg/>")
    assert digest() == before, "what is not imported or named does not count"
    (tmp_path / "models/arm.xml").write_text("<leg/>")
    named = digest()
    assert named != before, "a file beside a module that names it counts"
    (tmp_path / "models/c.py").write_text("y = 2\nPLAN = 'arm.xml'")
    assert digest() not in (named, before), "what an import inside a function imports counts"


def test_the_source_digest_follows_a_package_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "mine_for_once/__init__.py": "",
        "mine_for_once/stage.py": "from .parts import x\nfrom . import more\nimport json",
        "mine_for_once/parts.py": "x = 1",
        "mine_for_once/more.py": "y = 1",
        "mine_for_once/other.py": "z = 1",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def digest() -> str:
        provenance.read_source.cache_clear()
        return provenance.source_digest.__wrapped__("mine_for_once.stage")

    seen = [digest()]
    for name in ("stage", "parts", "more"):
        with (tmp_path / "mine_for_once" / f"{name}.py").open("a") as file:
            file.write("\nw = 2")
        seen.append(digest())
    assert len(set(seen)) == 4
    (tmp_path / "mine_for_once" / "other.py").write_text("z = 2")
    assert digest() == seen[-1]


def test_the_source_digest_looks_at_code_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    (tmp_path / "pipelines").mkdir()

    def digest(text: str) -> str:
        (tmp_path / "pipelines" / "a.py").write_text(text)
        provenance.read_source.cache_clear()
        return provenance.source_digest.__wrapped__("pipelines.a")

    plain = digest("class A:\n    x: int = 1\n    def f(self):\n        return 'text'\n")
    described = digest(
        '"""A module."""\n\n# why\nclass A:\n    """A class."""\n\n    x: int = 1\n'
        '    """A field."""\n\n    def f(self):\n        """A method."""\n'
        '        return (  # why\n            "text")\n'
    )
    assert described == plain, "comments, docstrings and layout answer nothing"
    assert digest("class A:\n    x: int = 1\n    def f(self):\n        return 'next'\n") != plain
    assert digest("class A:\n    x: int = 2\n    def f(self):\n        return 'text'\n") != plain
    assert digest('def f():\n    """Alone."""\n') == digest("def f():\n    pass\n")


# ------------------------------------------------------------------ inputs


def test_inputs_are_taken_by_name_and_by_partition(store: ArtifactStore) -> None:
    def made(asset: str, upto: int) -> Artifact:
        return answer(store, CountingConfig(upto=upto), stage=PLAIN, asset=asset).artifact

    inputs = Inputs(
        {"s/b": made("s", 1), "s/a": made("s", 2), "t/x": made("t", 3), "m": made("m", 4)}
    )
    assert list(inputs.parts("s")) == ["a", "b"]
    assert inputs.parts("nothing") == {}
    assert inputs["m"].metrics == {"upto": 4}
    assert inputs["s/b"].metrics == {"upto": 1}
    assert inputs["t"].metrics == {"upto": 3}, "the only partition goes by the asset's name"
    assert "s" in inputs and "t" in inputs and "x" not in inputs
    assert list(inputs) == ["m", "s/a", "s/b", "t/x"]
    with pytest.raises(KeyError, match=r"have.*s/a"):
        inputs["s"]


# ------------------------------------------------------------------ kill -9


class Run:
    """The counting stage in a process of its own, on a store that tests can look into."""

    def __init__(self, folder: Path, nap: float) -> None:
        self.mark = uuid.uuid4().hex
        environment = {**os.environ, "DIARY": str(folder / "diary"), "MARK": self.mark}
        command = [
            sys.executable,
            "-m",
            "tests.pipelines.counting",
            str(folder / "store"),
            str(nap),
        ]
        with heeding_ctrl_c():
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        self.store = folder / "store"

    def wait_for(self, items: int) -> list[str]:
        """The keys in the journal as soon as so many items are finished."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.communicate()[1]
            for journal in self.store.glob("work/*/scratch/toy-items.jsonl"):
                if (text := journal.read_text()).count("\n") >= items:
                    return [
                        json.loads(line)["key"]
                        for line in text.splitlines(keepends=True)
                        if "\n" in line
                    ]
            time.sleep(0.02)
        raise TimeoutError("the stage does not come on")

    def relatives(self) -> list[str]:
        """Processes that the run or its Ray cluster started and that are still there."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_text().replace("\0", " ")[:80])
            except OSError:
                continue
        return found


@pytest.fixture
def kill_later() -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.wait()


@pytest.mark.usefixtures("ray_cluster")
def test_killed_and_interrupted_stages_end_as_undisturbed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_later: list[Run]
) -> None:
    kill_later.append(killed := Run(tmp_path, nap=0.4))
    finished = killed.wait_for(2)
    killed.process.kill()
    killed.process.wait()

    kill_later.append(interrupted := Run(tmp_path, nap=1.0))
    interrupted.wait_for(4)
    # In the middle of naps: Ray itself aborts now and then where a task ends as it is cancelled.
    time.sleep(0.4)
    interrupted.process.send_signal(signal.SIGINT)
    _, told = interrupted.process.communicate(timeout=120)
    assert "KeyboardInterrupt" in told
    deadline = time.monotonic() + 60
    while interrupted.relatives() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert interrupted.relatives() == [], "Ctrl-C leaves processes behind"

    monkeypatch.setenv("DIARY", str(tmp_path / "diary"))
    rerun = answer(ArtifactStore(str(tmp_path / "store"))).artifact
    diary = (tmp_path / "diary").read_text().split()
    assert set(diary) == set(ITEMS)
    assert [diary.count(key) for key in finished] == [1] * len(finished), "finished, yet made again"
    assert rerun.record["resumed"] is True
    assert rerun.record["resumed_from"] == [], "resumed, and by the same sources"

    monkeypatch.setenv("DIARY", str(tmp_path / "other-diary"))
    undisturbed = answer(
        ArtifactStore(str(tmp_path / "other")), execution=ExecutionConfig(workers=1)
    ).artifact
    assert rerun.content == undisturbed.content
    assert len(rerun.manifest.files) == len(ITEMS) + 1
    assert list((tmp_path / "store" / "work").iterdir()) == []


@pytest.mark.parametrize("prefix", ["plain", "a b", "50% off", "a#b?c", "ü+"])
def test_ray_is_told_where_its_notes_go_whatever_the_prefix_is_called(
    prefix: str, tmp_path: Path
) -> None:
    work = S3Work(f"s3://house/{prefix}", "recipe", tmp_path)
    out = Workspace(tmp_path, tmp_path, None, ExecutionConfig(), work)
    # As Ray Train opens it; the region alone spares the question where the bucket is.
    _, path = FileSystem.from_uri(f"{out._ray_notes()}?region=us-east-1")
    assert path == f"house/{prefix}/work/recipe/scratch/ray"
