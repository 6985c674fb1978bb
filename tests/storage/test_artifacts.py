"""An artifact is there whole or not at all, on disk and on S3: a crash at any line of sealing is
finished by the next run, equal answers share their bytes, one flipped byte is named, and what a
store shows can be walked back to everything that it was made of."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from storage import verified
from storage.artifacts import ArtifactError, ArtifactStore, Manifest
from storage.digests import digest_bytes, digest_file, digest_json
from storage.manifests import list_files
from storage.places import LocalPlace, PlaceError

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = {"table.parquet": b"PAR1 rows PAR1", "shards/000000.tar": bytes(range(256)) * 20}


@pytest.fixture(params=["disk", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "store")
    return str(request.getfixturevalue("s3_store"))


@pytest.fixture
def store(location: str, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(location, tmp_path / "cache")


def recipe_inputs(seed: int = 0, **inputs: Manifest) -> dict[str, Any]:
    return {
        "stage": "toy",
        "config": {"seed": seed},
        "inputs": {n: m.content for n, m in inputs.items()},
    }


def found_under(store: ArtifactStore, recipe: str) -> Manifest | None:
    """The first manifest that is filed under a recipe."""
    return next(iter(store.manifests(f"{recipe}/")), None)


def answer(
    store: ArtifactStore,
    files: dict[str, bytes] | None = None,
    *,
    seed: int = 0,
    asset: str = "toy",
    partition: str | None = None,
    **inputs: Manifest,
) -> Manifest:
    """What a stage run does: find the answer, or finish its sealing, or make and seal it."""
    asked = recipe_inputs(seed, **inputs)
    recipe = digest_json(asked)
    if found := found_under(store, recipe):
        store.discard(recipe)
        return found
    with store.work(recipe) as work:
        if resumed := store.resume_sealing(work):
            return resumed
        for name, data in (FILES if files is None else files).items():
            (work / "payload" / name).parent.mkdir(parents=True, exist_ok=True)
            (work / "payload" / name).write_bytes(data)
        parents = {name: (m.recipe, m.content) for name, m in inputs.items()}
        draft = {"asset": asset, "partition": partition, "recipe_inputs": asked, "recipe": recipe}
        return store.seal(work, draft | {"parents": parents, "record": {"metrics": {"n": 1}}})


def problems(store: ArtifactStore) -> list[str]:
    return [problem for _, problem in store.verify() if problem]


def tamper(store: ArtifactStore, key: str, change: Callable[[bytes], bytes]) -> None:
    store.place.write(key, change(store.place.read(key)))


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


# ------------------------------------------------------------------ sealing and finding


def test_a_sealed_answer_is_found_opened_and_verified(store: ArtifactStore) -> None:
    manifest = answer(store)
    assert found_under(store, manifest.recipe) == manifest
    artifact = store.open(manifest)
    assert {e.path: artifact.read(e.path) for e in manifest.files} == FILES
    assert artifact.metrics == {"n": 1}
    assert store.open(manifest).read("table.parquet") == FILES["table.parquet"]
    assert list(store.verify()) == [(manifest, "")]
    assert list((store.local / "work").iterdir()) == [], "the work is gone when sealed"


def test_the_content_is_the_digest_of_paths_sizes_and_digests(store: ArtifactStore) -> None:
    manifest = answer(store)
    listed = [[name, len(FILES[name]), digest_bytes(FILES[name])] for name in sorted(FILES)]
    assert manifest.content == digest_json(listed)
    assert manifest.size == sum(map(len, FILES.values()))


def test_nothing_is_found_under_another_question(store: ArtifactStore) -> None:
    answer(store)
    assert found_under(store, digest_json(recipe_inputs(seed=1))) is None
    assert store.ref("toy") is None


def test_another_machine_finds_and_fetches_the_answer(s3_store: str, tmp_path: Path) -> None:
    manifest = answer(ArtifactStore(s3_store, tmp_path / "here"))
    there = ArtifactStore(s3_store, tmp_path / "there")
    assert found_under(there, manifest.recipe) == manifest
    there.open(manifest).file("table.parquet")
    fetched = [entry.path for entry in list_files(there.local / "objects" / manifest.content)]
    assert fetched == ["table.parquet"], "a table is read without fetching the shards"
    assert list_files(there.open(manifest).folder()) == manifest.files


def test_an_s3_store_needs_a_cache(s3_store: str) -> None:
    with pytest.raises(PlaceError, match="needs a local cache folder"):
        ArtifactStore(s3_store)


def test_equal_answers_share_bytes(store: ArtifactStore) -> None:
    one, two = answer(store, seed=1), answer(store, seed=2)
    assert one.recipe != two.recipe
    assert one.content == two.content
    assert len(list(store.place.keys("objects/"))) == len(FILES)
    assert len(list(store.manifests())) == 2
    assert problems(store) == []


def test_two_answers_to_one_question_are_both_kept(store: ArtifactStore) -> None:
    recipe = digest_json(recipe_inputs())
    for text in (b"one", b"two"):
        with store.work(recipe) as work:
            (work / "payload").mkdir()
            (work / "payload" / "f").write_bytes(text)
            draft = {
                "asset": "toy",
                "partition": None,
                "recipe_inputs": recipe_inputs(),
                "recipe": recipe,
            }
            store.seal(work, draft | {"parents": {}})
    assert len(list(store.manifests(f"{recipe}/"))) == 2


def test_a_damaged_home_is_replaced_by_the_next_equal_answer(store: ArtifactStore) -> None:
    one = answer(store, seed=1)
    home = store.local / "objects" / one.content / "shards/000000.tar"
    home.write_bytes(flip(home.read_bytes()))
    tamper(store, f"objects/{one.content}/table.parquet", flip)
    answer(store, seed=2)
    assert problems(store) == []
    assert home.read_bytes() == FILES["shards/000000.tar"]


def test_the_first_record_stands_when_two_machines_answer_alike(
    s3_store: str, tmp_path: Path
) -> None:
    here, there = (ArtifactStore(s3_store, tmp_path / name) for name in ("here", "there"))
    recipe = digest_json(recipe_inputs())
    with there.work(recipe) as work:
        first = answer(here)
        for name, data in FILES.items():
            (work / "payload" / name).parent.mkdir(parents=True, exist_ok=True)
            (work / "payload" / name).write_bytes(data)
        draft = {
            "asset": "toy",
            "partition": None,
            "recipe_inputs": recipe_inputs(),
            "recipe": recipe,
        }
        assert there.seal(work, draft | {"parents": {}, "record": {"late": True}}) == first


def test_links_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    with (
        pytest.raises(ArtifactError, match=r"payload a/link: a link cannot be sealed"),
        store.work("r") as work,
    ):
        (work / "payload" / "a").mkdir(parents=True)
        (work / "payload" / "a" / "link").symlink_to(tmp_path)
        store.seal(work, {})


def test_files_that_a_kill_left_half_written_are_not_sealed(store: ArtifactStore) -> None:
    recipe = digest_json(recipe_inputs())
    half = store.local / "work" / recipe / "payload" / ".aside-0123"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"hal")
    assert [entry.path for entry in answer(store).files] == sorted(FILES)


# ------------------------------------------------------------------ crashes


TRACED = ("storage/artifacts.py", "storage/sealing.py", "storage/places.py")


def crash_at(line: int, run: Callable[[], object]) -> bool:
    """Run in a forked process that ends, without any clean-up, at the n-th new line of our code.

    Returns whether it got that far (False: it finished before).
    """
    child = os.fork()
    if child == 0:
        try:
            seen: set[tuple[str, int]] = set()

            def trace(frame: FrameType, event: str, _: Any) -> Any:
                name = frame.f_code.co_filename
                if not name.endswith(TRACED):
                    return None
                if event == "line":
                    seen.add((name, frame.f_lineno))
                if len(seen) == line:
                    os._exit(9)
                return trace

            sys.settrace(trace)
            run()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), "the answer failed on its own"
    return code == 9


def check_crashes(location: str, tmp_path: Path, step: int) -> int:
    """Crash at every `step`-th line, and check what is seen then and after the next run."""
    undisturbed = answer(ArtifactStore(str(tmp_path / "undisturbed")))
    line, crashes = 1, 0
    while True:
        where, cache = f"{location}/{line}", tmp_path / f"cache-{line}"

        def run(where: str = where, cache: Path = cache) -> Manifest:
            return answer(ArtifactStore(where, cache))

        if not crash_at(line, run):
            return crashes
        crashes += 1
        store = ArtifactStore(where, cache)
        assert problems(store) == [], f"half an answer after a crash at line {line}"
        assert answer(store) == undisturbed
        answer(store)  # sweeps what a crash after the manifest left
        assert list((store.local / "work").glob(undisturbed.recipe)) == []
        assert [m.key for m in store.manifests()] == [undisturbed.key]
        assert list_files(store.open(undisturbed).folder()) == undisturbed.files
        line += step


def crashes_checked(location: str, tmp_path: Path, step: int) -> int:
    # In a process of its own: one without the threads of an S3 client or of Ray forks safely.
    code = (
        "import sys; from pathlib import Path; from tests.storage.test_artifacts import *;"
        "print(check_crashes(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))"
    )
    command = [sys.executable, "-c", code, location, str(tmp_path), str(step)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_crash_at_any_line_on_disk_is_finished_by_the_next_run(tmp_path: Path) -> None:
    assert crashes_checked(str(tmp_path / "store"), tmp_path, step=1) > 60


def test_a_crash_on_the_way_to_s3_is_finished_by_the_next_run(
    s3_store: str, tmp_path: Path
) -> None:
    assert crashes_checked(s3_store, tmp_path, step=14) > 2


def test_bytes_taken_away_between_crash_and_rerun_are_made_again(
    tmp_path: Path, monkeypatch
) -> None:
    store = ArtifactStore(str(tmp_path))

    def crash(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store.place, "create", crash)
        with pytest.raises(KeyboardInterrupt):
            answer(store)
    (home,) = (store.local / "objects").iterdir()
    for path in sorted(home.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    home.rmdir()
    answer(store)
    assert problems(store) == []


def test_work_is_in_one_process_at_a_time(tmp_path: Path) -> None:
    one, other = ArtifactStore(str(tmp_path)), ArtifactStore(str(tmp_path))
    refused = pytest.raises(ArtifactError, match="in the hands of another process")
    with one.work("recipe"), refused, other.work("recipe"):
        raise AssertionError("two hold one lock")
    with other.work("recipe"):
        one.discard("recipe")  # leaves alone what another holds
        assert (tmp_path / "work" / "recipe").is_dir()


# ------------------------------------------------------------------ what the deployment shows


def test_refs_show_one_answer_each_and_can_move_on(store: ArtifactStore) -> None:
    one, two = answer(store, seed=1), answer(store, {"f": b"2"}, seed=2)
    store.set_ref("toy", None, one)
    store.set_ref("scenes", "yt1b-00", one)
    store.set_ref("scenes", "ssv2", two)
    assert list(store.refs()) == [("scenes", "ssv2"), ("scenes", "yt1b-00"), ("toy", None)]
    assert store.ref("scenes", "ssv2") == two
    store.set_ref("toy", None, two)
    assert store.ref("toy") == two
    assert problems(store) == []


@pytest.mark.parametrize("pointer", [b"{", b"[]", b'{"recipe": "x"}', b"\xff"])
def test_a_corrupt_ref_is_told_never_taken_for_missing(
    store: ArtifactStore, pointer: bytes
) -> None:
    store.place.write("refs/default/toy", pointer)
    with pytest.raises(ArtifactError, match=r"^refs/default/toy is corrupt \(.*\); run toy$"):
        store.ref("toy")
    assert len(problems(store)) == 1


def test_a_ref_to_nothing_is_told(store: ArtifactStore) -> None:
    manifest = answer(store)
    store.set_ref("toy", None, manifest)
    store.place.remove(manifest.key)
    with pytest.raises(ArtifactError, match=f"{manifest.recipe}.*is missing"):
        store.ref("toy")


# ------------------------------------------------------------------ tampering


@pytest.mark.parametrize("name", sorted(FILES))
def test_verify_names_the_file_with_a_flipped_byte(store: ArtifactStore, name: str) -> None:
    manifest = answer(store)
    tamper(store, f"objects/{manifest.content}/{name}", flip)
    ((told, problem),) = store.verify()
    assert told == manifest
    assert problem == f"objects/{manifest.content}/{name} does not fit its digest"


def test_verify_names_cut_missing_and_added_files(store: ArtifactStore) -> None:
    manifest = answer(store)
    folder = f"objects/{manifest.content}"
    tamper(store, f"{folder}/table.parquet", lambda data: data[:-1])
    store.place.remove(f"{folder}/shards/000000.tar")
    store.place.write(f"{folder}/shards/000001.tar", b"smuggled in")
    (problem,) = problems(store)
    assert f"{folder}/table.parquet has 13 bytes, sealed were 14" in problem
    assert f"{folder}/shards/000000.tar is missing" in problem
    assert f"{folder}/shards/000001.tar was not sealed" in problem


def test_a_cut_or_missing_payload_is_not_opened(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    manifest = answer(store)
    tamper(store, f"objects/{manifest.content}/table.parquet", lambda data: data[:-1])
    with pytest.raises(ArtifactError, match=r"toy: .*table\.parquet is missing or not 14 bytes"):
        store.open(manifest)


def test_what_is_opened_is_checked_and_set_aside_when_it_does_not_fit(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    manifest = answer(store)
    path = store.open(manifest).file("table.parquet")
    shutil.rmtree(tmp_path / "cache")
    verified._KNOWN.clear()
    path.write_bytes(flip(path.read_bytes()))
    assert store.trouble(manifest) == "", "nothing is known of it, and nothing read to know"
    with pytest.raises(ArtifactError, match=r"toy: .*table.parquet did not fit its digest and was"):
        store.open(manifest).file("table.parquet")
    assert "table.parquet is missing" in store.trouble(manifest)
    aside = tmp_path / "store" / "damaged" / "objects" / manifest.content / "table.parquet"
    assert aside.read_bytes() == flip(FILES["table.parquet"])


def test_unchanged_files_are_read_once_for_their_digest(tmp_path: Path, monkeypatch) -> None:
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    manifest = answer(store)
    read: list[Path] = []
    monkeypatch.setattr(verified, "digest_file", lambda p: read.append(p) or digest_file(p))
    for _ in range(2):
        verified._KNOWN.clear()  # another process
        store.open(manifest).file("table.parquet")
    assert read == []
    shutil.rmtree(tmp_path / "cache")
    for _ in range(2):
        verified._KNOWN.clear()
        store.open(manifest).file("table.parquet")
    assert len(read) == 1


def test_what_verify_found_damaged_is_not_taken_for_known(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    manifest = answer(store)
    path = store.open(manifest).file("table.parquet")
    path.write_bytes(flip(path.read_bytes()))
    store.handle(manifest).payload.verified.remember(path, manifest.file("table.parquet").digest)
    assert store.trouble(manifest) == "", "a disk that lost a bit changed no time"
    assert len(problems(store)) == 1
    assert "table.parquet does not fit its digest" in store.trouble(manifest)


def test_what_comes_from_s3_is_checked_on_the_way_in(s3_store: str, tmp_path: Path) -> None:
    manifest = answer(ArtifactStore(s3_store, tmp_path / "here"))
    there = ArtifactStore(s3_store, tmp_path / "there")
    tamper(there, f"objects/{manifest.content}/table.parquet", flip)
    for _ in range(2):  # the bad copy is not kept
        with pytest.raises(ArtifactError, match=r"table\.parquet does not fit its digest"):
            there.open(manifest).file("table.parquet")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[: len(data) // 2], "JSONDecodeError"),
        (lambda data: b"", "JSONDecodeError"),
        (lambda data: b"\xff" + data, "UnicodeDecodeError"),
        (lambda data: b"[1]", "TypeError|AttributeError"),
        (lambda data: b'{"seal": "x", "format": 2}', "KeyError: 'files'"),
        (lambda data: data.replace(b'"asset"', b'"assett"'), "TypeError.*assett"),
        (lambda data: data.replace(b'"toy"', b'"joy"', 1), "seal does not fit"),
        (lambda data: data.replace(b'"n": 1', b'"n": 2'), "seal does not fit"),
        (lambda data: data.replace(b'"n": 1', b'"n": NaN'), "TypeError.*nan"),
    ],
)
def test_a_corrupt_manifest_is_one_clear_line(
    tmp_path: Path, change: Callable[[bytes], bytes], reason: str
) -> None:
    store = ArtifactStore(str(tmp_path))
    manifest = answer(store)
    tamper(store, manifest.key, change)
    line = rf"^manifest {manifest.key} is corrupt \(.*({reason}).*\); restore the file, or run its"
    for call in (
        lambda: found_under(store, manifest.recipe),
        lambda: store.manifest(manifest.recipe, manifest.content),
    ):
        with pytest.raises(ArtifactError, match=line) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert len(problems(store)) == 1


def resealed(manifest: Manifest, **changes: Any) -> bytes:
    return dataclasses.replace(manifest, **changes).to_json()


def test_a_manifest_with_a_forged_seal_does_not_fit_its_question(store: ArtifactStore) -> None:
    manifest = answer(store)
    store.place.write(manifest.key, resealed(manifest, recipe_inputs=recipe_inputs(seed=5)))
    with pytest.raises(ArtifactError, match="recipe or content does not fit"):
        found_under(store, manifest.recipe)
    other = dataclasses.replace(manifest.files[0], digest="0" * 64)
    store.place.write(manifest.key, resealed(manifest, files=(other, *manifest.files[1:])))
    with pytest.raises(ArtifactError, match="recipe or content does not fit"):
        found_under(store, manifest.recipe)


def test_a_manifest_whose_parents_are_not_its_inputs_is_refused(store: ArtifactStore) -> None:
    raw, other = answer(store, {"f": b"raw"}, asset="raw"), answer(store, {"f": b"o"}, seed=1)
    top = answer(store, {"f": b"top"}, asset="top", raw=raw)
    assert problems(store) == []
    pair, others = (raw.recipe, raw.content), (other.recipe, other.content)
    for forged in ({}, {"raw": others}, {"raw": pair, "other": others}, {"renamed": pair}):
        store.place.write(top.key, resealed(top, parents=forged))
        [problem] = problems(store)
        assert "its parents are not its recipe's inputs: " in problem
        with pytest.raises(ArtifactError, match="parents are not its recipe's inputs"):
            store.manifest(top.recipe, top.content)


def test_a_manifest_under_another_name_is_not_believed(store: ArtifactStore) -> None:
    manifest = answer(store)
    wrong = f"manifests/{'0' * 64}/{manifest.content}.json"
    store.place.write(wrong, manifest.to_json())
    assert problems(store) == [f"manifest {wrong} lies under another recipe than its own"]
    with pytest.raises(ArtifactError, match=f"is that of {manifest.key}"):
        store.manifest("0" * 64, manifest.content)


# ------------------------------------------------------------------ walks


def test_ancestors_come_nearest_first_each_once(store: ArtifactStore) -> None:
    raw = answer(store, {"f": b"raw"}, asset="raw")
    left = answer(store, {"f": b"left"}, asset="left", raw=raw)
    right = answer(store, {"f": b"right"}, asset="right", raw=raw, seed=1)
    top = answer(store, {"f": b"top"}, asset="top", left=left, right=right)
    assert [m.asset for m in store.ancestors(top)] == ["left", "right", "raw"]
    assert store.ancestors(raw) == []


def test_a_missing_ancestor_is_told(store: ArtifactStore) -> None:
    raw = answer(store, {"f": b"raw"}, asset="raw")
    top = answer(store, {"f": b"top"}, asset="top", raw=raw)
    store.place.remove(raw.key)
    with pytest.raises(ArtifactError, match=rf"{raw.key} is missing"):
        store.ancestors(top)
    assert problems(store) == ["the manifest of raw, which it was made from, is missing"]


def test_holders_are_found_by_recipe_content_and_file_digest(store: ArtifactStore) -> None:
    one = answer(store, {"same": b"same", "f": b"1"}, seed=1)
    two = answer(store, {"same": b"same", "f": b"2"}, seed=2)
    both = sorted((one, two), key=lambda m: m.recipe)
    assert store.holders(digest_bytes(b"same")) == both
    assert store.holders(digest_bytes(b"1")) == [one]
    assert store.holders(two.recipe[:16]) == [two]
    assert store.holders(one.content) == [one]
    assert store.holders("f" * 64) == []


def test_manifests_are_readable_by_a_person(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    manifest = answer(store, partition="yt1b-00")
    text = (tmp_path / manifest.key).read_text()
    assert len(text.splitlines()) > 20
    assert json.loads(text)["recipe_inputs"]["config"] == {"seed": 0}
    assert isinstance(store.place, LocalPlace)
    assert manifest.name == "toy/yt1b-00"
