"""Claims: what was found out of a file is asked once: after one file of a bucket changed, one is
probed and that decoding serves its cuts, after one went none; other buckets, labels, lengths,
thresholds and paths ask nothing; what failed for want of time is asked again; and the bytes are
those of a build from nothing.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import isolation
from pipelines.curation import ingest, probing, scenes
from pipelines.curation.ingest import RawVideosConfig, SourceConfig
from pipelines.curation.probing import File, probed
from pipelines.curation.scenes import ScenesConfig
from pipelines.execution import ExecutionConfig
from pipelines.isolation import LimitError, Limits
from pipelines.stage import Workspace, materialize
from storage.artifacts import ArtifactStore
from storage.media import MediaError
from storage.places import open_place
from storage.results import Results
from storage.video import encode
from tests.pipelines.builders import map_in_turn
from tests.pipelines.curation.builders import moving

CUTTING = ScenesConfig(min_seconds=0.5)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is really worked on: `probed` and `cut`."""
    counts: Counter[str] = Counter()

    def counting(word: str) -> Callable:
        def isolated(function: Callable, item: Any, limits: Limits) -> Any:
            counts[word] += 1
            return isolation.isolated(function, item, limits)

        return isolated

    monkeypatch.setattr(Workspace, "map", map_in_turn)
    monkeypatch.setattr(probing, "isolated", counting("probed"))
    monkeypatch.setattr(scenes, "isolated", counting("cut"))
    return counts


@pytest.fixture(scope="module")
def clips() -> list[bytes]:
    return [encode(moving(12, seed), 10.0).data for seed in range(5)]


@pytest.fixture
def folder(tmp_path: Path, clips: list[bytes]) -> Path:
    """Four videos and a text."""
    root = tmp_path / "source"
    root.mkdir()
    for number in range(4):
        (root / f"{number}.mp4").write_bytes(clips[number])
    (root / "text.mp4").write_text("no video")
    return root


def curated(
    folder: Path, store: ArtifactStore, cutting: ScenesConfig = CUTTING, buckets: int = 1
) -> list[str]:
    """Contents of raw_videos and scenes of all buckets."""
    source = SourceConfig(location=str(folder), buckets=buckets)
    raw, execution = RawVideosConfig(sources={"yt1b": source}), ExecutionConfig(cache=folder.parent)
    contents = []
    for bucket in range(buckets):
        named: dict[str, Any] = {"partition": f"yt1b-{bucket:02d}", "execution": execution}
        files = materialize(store, ingest.STAGE, raw, {}, asset="raw_videos", **named).artifact
        above = {f"raw_videos/{named['partition']}": files}
        cut = materialize(store, scenes.STAGE, cutting, above, asset="scenes", **named).artifact
        contents += [files.content, cut.content]
    return contents


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "folder":
        return ArtifactStore(str(tmp_path / "store"))
    return ArtifactStore(request.getfixturevalue("s3_store"), tmp_path / "cache")


def test_one_file_that_changed_is_one_probe_and_one_cut(
    folder: Path, store: ArtifactStore, asked: Counter[str], clips: list[bytes], tmp_path: Path
) -> None:
    curated(folder, store)
    assert asked == {"probed": 5}, "what changes in a file is seen while it is probed"
    asked.clear()
    (folder / "2.mp4").write_bytes(clips[4])
    changed = curated(folder, store)
    assert asked == {"probed": 1}
    asked.clear()
    (folder / "1.mp4").unlink()
    without = curated(folder, store)
    assert asked == {}
    # What is put together from known parts is what a build from nothing gives.
    assert curated(folder, ArtifactStore(str(tmp_path / "anew"))) == without != changed


def test_what_a_file_is_does_not_depend_on_what_is_around_it(
    folder: Path, asked: Counter[str], tmp_path: Path
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    curated(folder, store)
    asked.clear()
    (folder / "labels.csv").write_text("path,label\n1.mp4,x\n")
    (folder / "3.mp4").rename(folder / "renamed.mp4")
    curated(folder, store)
    curated(folder, store, buckets=3)
    curated(folder, store, replace(CUTTING, min_seconds=1.0, limits=Limits(seconds=99.0)))
    curated(folder, store, replace(CUTTING, threshold=20.0))
    curated(folder, store, replace(CUTTING, detector="adaptive"))
    assert asked == {}
    curated(folder, store, replace(CUTTING, side=32))
    assert asked == {"cut": 4}, "other frames to look at are another question"


def test_cuts_are_the_same_whoever_looked(
    folder: Path, asked: Counter[str], clips: list[bytes], tmp_path: Path
) -> None:
    """While it was probed, or afterwards in a decoding of its own, where nothing is known."""
    (folder / "cut.mp4").write_bytes(encode([*moving(12, 8), *moving(12, 9)], 10.0).data)
    store, cutting = ArtifactStore(str(tmp_path / "store")), replace(CUTTING, flash_frames=2)
    once = curated(folder, store, cutting)
    assert asked == {"probed": 6}
    shutil.rmtree(tmp_path / "store" / "results")
    shutil.rmtree(tmp_path / "store" / "manifests")
    source = SourceConfig(location=str(folder))
    raw, execution = RawVideosConfig(sources={"yt1b": source}), ExecutionConfig(cache=tmp_path)
    named: dict[str, Any] = {"partition": "yt1b-00", "execution": execution}
    files = materialize(store, ingest.STAGE, raw, {}, asset="raw_videos", **named).artifact
    shutil.rmtree(tmp_path / "store" / "results")
    cut = materialize(
        store, scenes.STAGE, cutting, {"raw_videos/yt1b-00": files}, asset="scenes", **named
    ).artifact
    assert asked == {"probed": 12, "cut": 5}
    assert [files.content, cut.content] == once and cut.metrics["scenes"] == 6


def test_what_took_too_long_is_asked_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(str(folder), "1.mp4", content="c" * 64, results=Results(str(tmp_path / "store")))

    def late(*_: object) -> None:
        raise LimitError("takes more than 1 s of CPU (limits.seconds)")

    with monkeypatch.context() as patch:
        patch.setattr(probing, "isolated", late)
        assert "1 s of CPU" in probed(file)["reason"]
    # The bytes are others than those that were listed: no row, and nothing is remembered of them.
    with pytest.raises(MediaError, match=r"1\.mp4 changed since it was listed; run again"):
        probed(file)
    assert not list((tmp_path / "store").rglob("results/*/*"))


def test_a_result_that_is_damaged_or_of_another_question_is_none(tmp_path: Path) -> None:
    results, question = Results(str(tmp_path)), {"item": "probe", "version": 1, "content": "a"}
    assert results.recall(question) is None
    results.keep(question, {"frames": 3, "fps": 0.1 + 0.2})
    assert results.recall(question) == {"frames": 3, "fps": 0.1 + 0.2}
    assert results.recall(question | {"version": 2}) is None
    [key] = open_place(str(tmp_path)).keys("results/")
    whole = (tmp_path / key).read_text()
    for text in ("", whole[:-5], "[]", json.dumps(json.loads(whole) | {"question": {}})):
        (tmp_path / key).write_text(text)
        assert results.recall(question) is None
    Results().keep(question, {"frames": 3})
    assert Results().recall(question) is None


def test_a_file_that_is_replaced_after_the_recipe_was_asked_makes_no_answer(
    folder: Path, tmp_path: Path, clips: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe names the old bytes: rows of the new ones would be under a wrong name."""
    monkeypatch.setattr(Workspace, "map", map_in_turn)

    def seen(*asked: Any) -> dict[str, str]:
        found = ingest.observe(*asked)
        (folder / "2.mp4").write_bytes(clips[4])
        return found

    store, late = ArtifactStore(str(tmp_path / "store")), replace(ingest.STAGE, observe=seen)
    raw = RawVideosConfig(sources={"yt1b": SourceConfig(location=str(folder))})
    named: dict[str, Any] = {
        "asset": "raw_videos", "partition": "yt1b-00", "execution": ExecutionConfig(cache=tmp_path),
    }  # fmt: skip
    with pytest.raises(MediaError, match=r"2\.mp4 changed since it was listed; run again"):
        materialize(store, late, raw, {}, **named)
    assert list(store.manifests()) == []
    assert materialize(store, ingest.STAGE, raw, {}, **named).artifact.metrics["videos"] == 4
