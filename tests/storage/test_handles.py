"""A handle fetches what is asked for and nothing more, and pickles; only what the manifest lists
can be opened; files that tasks left in a bucket are copied there when sealed and missed when gone;
refs belong to a deployment, manifests to a format."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import handles
from storage.artifacts import Artifact, ArtifactError, ArtifactStore, Manifest
from storage.cache import cache_folder
from storage.digests import digest_json
from storage.manifests import FORMAT, list_files
from storage.places import PlaceError
from storage.s3 import connected
from storage.tables import write_table
from storage.work import KeptFile, S3Work, noting_kept

ROWS = [{"key": f"k{n}", "part": f"p{n // 100}", "n": n} for n in range(400)]
SCHEMA = {"key": "string", "part": "string", "n": "int64"}


def draft(asset: str = "toy") -> dict[str, Any]:
    asked = {"stage": asset}
    return {
        "asset": asset, "partition": None, "recipe_inputs": asked, "recipe": digest_json(asked),
        "parents": {}, "record": {},
    }  # fmt: skip


def sealed(store: ArtifactStore) -> Manifest:
    with store.work(draft()["recipe"]) as work:
        write_table(work / "payload" / "index.parquet", ROWS, SCHEMA)
        (work / "payload" / "shards").mkdir()
        (work / "payload" / "shards" / "0.tar").write_bytes(bytes(range(256)) * 40)
        return store.seal(work, draft())


@pytest.fixture
def far(s3_store: str, tmp_path: Path) -> Iterator[Artifact]:
    """An artifact in a bucket, opened by a machine that has nothing of it."""
    manifest = sealed(ArtifactStore(s3_store, tmp_path / "maker"))
    yield ArtifactStore(s3_store, tmp_path / "reader").open(manifest)


def fetched(artifact: Artifact) -> list[str]:
    root = artifact.payload.root
    return [entry.path for entry in list_files(root)] if root.exists() else []


def test_a_span_is_one_ranged_read_and_leaves_no_file(far: Artifact) -> None:
    asked: list[str] = []
    client = connected(far.payload.store).client  # type: ignore[attr-defined]
    client.meta.events.register(
        "before-send.s3.GetObject", lambda request, **_: asked.append(request.headers["Range"])
    )
    assert far.span("shards/0.tar", 300, 5) == bytes(range(44, 49))
    assert asked == [b"bytes=300-304"] and fetched(far) == []
    with pytest.raises(ValueError, match="the shard is cut short, or its index is wrong"):
        far.span("shards/0.tar", 10_000, 500)


def test_columns_of_a_large_table_are_read_by_ranges(
    far: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "WHOLE", 16)
    found = far.columns("index.parquet", ["n"])
    np.testing.assert_array_equal(found["n"], [row["n"] for row in ROWS])
    assert fetched(far) == []
    monkeypatch.setattr(handles, "WHOLE", 1 << 20)
    assert far.table("index.parquet", ["key"])[7] == {"key": "k7"}
    assert fetched(far) == ["index.parquet"], "a small one comes whole, its digest checked"
    assert far.table("index.parquet") == ROWS


def test_a_handle_pickles_and_finds_a_cache_of_its_own(
    far: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = pickle.loads(pickle.dumps(far))
    assert there == far and hash(there) == hash(far)
    monkeypatch.setenv("VJEPA2_CACHE", str(tmp_path / "elsewhere"))
    assert there.file("shards/0.tar").is_relative_to(tmp_path / "elsewhere")
    monkeypatch.delenv("VJEPA2_CACHE")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    own = cache_folder(tmp_path / "of another machine")
    assert own.parent == tmp_path and own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o755)
    with pytest.raises(PlaceError, match="VJEPA2_CACHE"):
        cache_folder(None)


def test_a_handle_travels_without_what_no_task_reads(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    asked = {"stage": "toy", "external_inputs": {f"{n}.mp4": "0" * 64 for n in range(20_000)}}
    with store.work(digest_json(asked)) as work:
        (work / "payload").mkdir()
        (work / "payload" / "f").write_bytes(b"x")
        record = {"media": "s3://bucket/videos", "metrics": {"bytes": list(range(20_000))}}
        changes = {"recipe_inputs": asked, "recipe": digest_json(asked), "record": record}
        here = store.handle(store.seal(work, draft() | changes))
    assert here.has("f") and len(pickle.dumps(here)) < 2_000
    there = pickle.loads(pickle.dumps(here))
    assert there == here and there.read("f") == b"x"
    assert there.record == {"media": "s3://bucket/videos"}
    assert here.manifest.recipe_inputs == asked and "metrics" in here.record


@pytest.mark.parametrize("path", ["shards/1.tar", "../manifests", "/etc/passwd", "shards/../x"])
def test_only_what_the_manifest_lists_is_opened(far: Artifact, path: str) -> None:
    for ask in (far.file, far.read, far.table, lambda p: far.span(p, 0, 1)):
        with pytest.raises(ArtifactError, match="has no file"):
            ask(path)


def test_files_left_in_the_bucket_are_sealed_without_coming_here(
    s3_store: str, tmp_path: Path
) -> None:
    store, recipe = ArtifactStore(s3_store, tmp_path / "maker"), draft()["recipe"]
    with store.work(recipe) as folder:
        (folder / "payload").mkdir()
        (folder / "payload" / "near").write_bytes(b"near")
        work = pickle.loads(pickle.dumps(store.shared_work(folder)))
        assert isinstance(work, S3Work) and not work.shared
        with noting_kept() as kept:
            work.put("scratch/far", b"far away")
        assert work.lost(kept) == set()
        assert work.lost([KeptFile("scratch/gone", 3)]) == {"scratch/gone"}
        manifest = store.seal(folder, draft(), {"deep/far": kept[0]})
    assert not list((tmp_path / "maker").rglob("far")), "it passed through this machine"
    artifact = ArtifactStore(s3_store, tmp_path / "reader").open(manifest)
    assert (artifact.read("near"), artifact.read("deep/far")) == (b"near", b"far away")
    assert [problem for _, problem in store.verify()] == [""]
    assert list(store.place.keys("work/")) == []


def test_another_byte_in_the_bucket_is_not_taken_for_a_kept_file(
    s3_store: str, tmp_path: Path
) -> None:
    work = S3Work(s3_store, "recipe", tmp_path)
    kept = work.put("scratch/f", b"kept")
    assert work.file(kept).read_bytes() == b"kept"
    work.place.write(work.key(kept), b"kepT")
    work.file(kept).write_bytes(b"kepT")
    with pytest.raises(ArtifactError, match="is not what a worker left"):
        work.file(kept)


def test_a_late_upload_is_not_sealed_under_the_digest_of_another(
    s3_store: str, tmp_path: Path
) -> None:
    store, recipe = ArtifactStore(s3_store, tmp_path), draft()["recipe"]
    with store.work(recipe) as folder:
        (folder / "payload").mkdir()
        work = store.shared_work(folder)
        kept = work.put("scratch/far", b"recorded")
        work.put("scratch/far", b"too late")
        assert work.lost([kept]) == set() and work.file(kept).read_bytes() == b"recorded"
        manifest = store.seal(folder, draft(), {"far": kept})
    assert store.open(manifest).read("far") == b"recorded"
    assert [problem for _, problem in store.verify()] == [""]
    assert list(store.place.keys("work/")) == []


def test_a_sealing_given_up_leaves_no_list_for_the_next_one(
    s3_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, recipe = ArtifactStore(s3_store, tmp_path), draft()["recipe"]
    with store.work(recipe) as folder:
        (folder / "payload").mkdir()
        kept = store.shared_work(folder).put("scratch/f", b"far")
        with monkeypatch.context() as patched:
            patched.setattr(store, "_finish_sealing", lambda *_: None)
            store.seal(folder, draft(), {"f": kept})
        store.place.remove(f"work/{recipe}/scratch/f.{kept.digest[:16]}")
        assert store.resume_sealing(folder) is None
        (folder / "payload" / "f").write_bytes(b"near")
        manifest = store.seal(folder, draft())
    assert store.open(manifest).read("f") == b"near"


def test_what_a_machine_left_of_sealed_work_another_one_clears(
    s3_store: str, tmp_path: Path
) -> None:
    manifest = sealed(ArtifactStore(s3_store, tmp_path / "maker"))
    S3Work(s3_store, manifest.recipe, tmp_path).put("scratch/f", b"left by a crash")
    other = ArtifactStore(s3_store, tmp_path / "other")
    other.discard(manifest.recipe)
    assert list(other.place.keys("work/")) == []


def test_two_deployments_on_one_store_show_their_own(tmp_path: Path) -> None:
    ours = ArtifactStore(str(tmp_path))
    theirs = ArtifactStore(str(tmp_path), deployment="theirs")
    manifest = sealed(ours)
    ours.set_ref("toy", "a", manifest)
    assert theirs.ref("toy", "a") is None and list(theirs.refs()) == []
    assert list(ours.refs()) == [("toy", "a")]
    assert (tmp_path / "refs" / "default" / "toy" / "a").is_file()
    for name in ("", "..", "a/b", "ä", "a b"):
        with pytest.raises(PlaceError, match="cannot name a deployment"):
            ArtifactStore(str(tmp_path), deployment=name)


def test_a_manifest_of_another_format_says_so(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    manifest = sealed(store)
    document = json.loads(manifest.to_json())
    assert document["format"] == FORMAT == 2
    del document["format"]
    store.place.write(manifest.key, json.dumps(document).encode())
    with pytest.raises(ArtifactError, match=r"is of format 1; this version reads 2: "):
        store.manifest(manifest.recipe, manifest.content)
