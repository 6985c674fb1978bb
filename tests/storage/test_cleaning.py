"""What nothing refers to goes; what a manifest, a live run or a broken-off sealing needs stays."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from storage.artifacts import ArtifactStore
from storage.cleaning import remove, rubbish
from tests.storage.test_artifacts import answer, problems

RECIPE = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")


def found(store: ArtifactStore, days: float = 7) -> list[str]:
    places = (found.path.relative_to(store.local.parent) for found in rubbish(store, days))
    return [place.as_posix() for place in places]


def age(folder: Path, days: float = 8) -> None:
    for path in (*folder.rglob("*"), folder):
        then = path.stat().st_mtime - days * 86_400
        os.utime(path, (then, then))


def test_of_a_tidy_store_nothing_goes_shown_or_not(store: ArtifactStore) -> None:
    shown, hidden = answer(store, seed=1), answer(store, {"f": b"2"}, seed=2)
    store.set_ref("toy", None, shown)
    assert found(store) == []
    (store.local / hidden.key).write_bytes(b"{")  # one that cannot be read names its content
    assert found(store) == []


def test_objects_of_no_manifest_go(store: ArtifactStore) -> None:
    kept, lost = answer(store, seed=1), answer(store, {"f": b"2"}, seed=2)
    store.place.remove(lost.key)
    [one] = rubbish(store, 7)
    assert (one.path.name, one.size) == (lost.content, 1)
    assert remove(store, one)
    assert not one.path.exists()
    assert problems(store) == [] and found(store) == []
    assert store.open(kept).has("table.parquet")


def test_what_somebody_has_begun_to_need_stays(store: ArtifactStore) -> None:
    lost = answer(store)
    store.place.remove(lost.key)
    [one] = rubbish(store, 7)
    answer(store)
    assert not remove(store, one)
    assert problems(store) == []


def test_objects_whose_sealing_was_interrupted_stay(store: ArtifactStore) -> None:
    lost = answer(store)
    store.place.remove(lost.key)
    work = store.local / "work" / lost.recipe
    work.mkdir(parents=True)
    (work / "sealing.json").write_bytes(lost.to_json())
    assert found(store) == []
    assert answer(store) == lost


def test_old_work_goes_and_what_is_held_or_young_stays(store: ArtifactStore) -> None:
    for _ in range(2):
        with store.work(RECIPE) as work:
            (work / "scratch").mkdir()
            (work / "scratch" / "step-10.safetensors").write_bytes(b"weights")
        assert found(store) == [], "a training that was killed yesterday goes on from there"
        age(work)
        with store.work(RECIPE):
            assert found(store) == [], "another process holds it"
        [one] = rubbish(store, 7)
        assert one.path == work
        assert remove(store, one)
    assert not work.exists()


def test_old_notes_and_what_was_set_aside_go(store: ArtifactStore) -> None:
    manifest = answer(store)
    aside = store.local / "damaged" / "objects" / manifest.content
    shutil.copytree(store.local / "objects" / manifest.content, aside)
    assert found(store) == []
    age(aside)
    assert store.cache is not None
    age(store.cache)
    old = list(rubbish(store, 7))
    assert [one.why for one in old] == ["it was set aside", *["an old note of the cache"] * 2]
    assert all(remove(store, one) for one in old)
    assert problems(store) == [] and found(store) == []
