"""Claims: a path that a file names leads nowhere but below its folder, whatever it says and
whatever links stand on the way: manifests, indexes of shards, sources and objects of a store refuse
it in one line, before anything outside is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from storage.artifacts import ArtifactError, ArtifactStore
from storage.confined import PathError, check_path, inside
from storage.digests import digest_json
from storage.handles import Artifact
from storage.manifests import (
    FORMAT,
    FileEntry,
    Manifest,
    content_digest,
    list_files,
    parse_manifest,
)
from storage.media import MediaError, open_media
from storage.payloads import LocalPayload, read_span
from storage.places import open_place
from storage.shards import ShardWriter

SECRET = b"nobody outside may read this"
LEADS_OUT = ["../secret", "a/../../secret", "/etc/passwd", "", ".", "a//b", "a/./b", "a/",
             "..\\secret", "a\0b", "a\nb"]  # fmt: skip


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


@pytest.mark.parametrize("path", [*LEADS_OUT, None, 7, ["a"], b"a"])
def test_paths_of_anything_but_plain_names_are_refused(path: Any) -> None:
    with pytest.raises(PathError) as error:
        check_path(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["a", "a/b.tar", "..a/b..", "Fri_Jul__7_09:45:39_2023/ü ü.mp4"])
def test_plain_names_pass_as_they_are(path: str) -> None:
    assert check_path(path) == path


def test_where_a_path_leads_is_what_counts(tmp_path: Path, secret: Path) -> None:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "file").write_bytes(b"mine")
    (root / "out").symlink_to(secret)
    (root / "folder").symlink_to(tmp_path)
    (root / "twice").symlink_to(root / "out")
    (root / "loop").symlink_to(root / "loop")
    (root / "deep" / "in").symlink_to("../file")
    for path in ("out", "folder/secret", "twice", "loop", "../secret", str(secret), "a\0b"):
        with pytest.raises(PathError):
            inside(root, path)
    assert inside(root, "deep/in") == root.resolve() / "file"
    assert inside(root, "absent/too") == root.resolve() / "absent/too"
    (tmp_path / "alias").symlink_to(root)
    assert inside(tmp_path / "alias", "file").read_bytes() == b"mine"


# ------------------------------------------------------------------ manifests


def manifest(**changes: Any) -> bytes:
    """A manifest whose every digest fits what it says."""
    entry = {"path": "a", "size": len(SECRET), "digest": "0" * 64, **changes.pop("entry", {})}
    asked = {"stage": "toy"}
    fields = {
        "asset": "toy", "partition": None, "recipe_inputs": asked, "recipe": digest_json(asked),
        "content": digest_json([[entry["path"], entry["size"], entry["digest"]]]),
        "files": [entry], "parents": {}, "record": {}, "format": FORMAT,
    } | changes  # fmt: skip
    return json.dumps(fields | {"seal": digest_json(fields)}).encode()


def test_a_manifest_like_these_is_read_when_its_paths_are_plain() -> None:
    assert parse_manifest(manifest(), "here").files == (FileEntry("a", len(SECRET), "0" * 64),)


@pytest.mark.parametrize(
    "changes",
    [
        *({"entry": {"path": path}} for path in LEADS_OUT),
        {"entry": {"size": -1}},
        {"entry": {"size": True}},
        {"entry": {"digest": "../../secret"}},
        {"asset": "../toy"},
        {"partition": "../../secret"},
        {"parents": {"up": ["../../secret", "0" * 64]}},
        {"parents": {"up": ["0" * 64, "/etc/passwd"]}},
    ],
)
def test_manifests_that_name_paths_elsewhere_are_corrupt(changes: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="manifest here is corrupt") as error:
        parse_manifest(manifest(**changes), "here")
    assert "\n" not in str(error.value)


def sealed(store: ArtifactStore) -> Manifest:
    asked = {"stage": "toy"}
    recipe = digest_json(asked)
    with store.work(recipe) as work:
        (work / "payload" / "deep").mkdir(parents=True)
        (work / "payload" / "deep" / "file").write_bytes(bytes(len(SECRET)))
        draft = {"asset": "toy", "partition": None, "recipe_inputs": asked, "recipe": recipe}
        return store.seal(work, {**draft, "parents": {}, "record": {}})


@pytest.mark.parametrize("place", ["", "deep", "deep/file"])
def test_a_link_in_the_place_of_an_object_is_refused(
    tmp_path: Path, secret: Path, place: str
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    made = sealed(store)
    home = store.open(made).payload.root / place
    # The secret has the size that was sealed, and lies at the path that was sealed.
    outside = tmp_path / "outside"
    for parent in (outside, outside / "deep"):
        parent.mkdir()
        (parent / "file").write_bytes(SECRET)
    home.rename(tmp_path / "was")
    home.symlink_to({"": outside, "deep": outside / "deep", "deep/file": secret}[place])
    assert (store.local / "objects" / made.content / "deep" / "file").read_bytes() == SECRET
    with pytest.raises(ArtifactError, match="deep/file is a link; remove it"):
        store.open(made)
    with pytest.raises(ArtifactError, match="deep/file is a link; remove it"):
        store.handle(made).file("deep/file")
    [(found, problem)] = store.verify()
    assert found == made and "deep/file is a link" in problem
    # Made again, the link goes and what it led to stays.
    assert sealed(store) == made
    assert store.open(made).read("deep/file") == bytes(len(SECRET))
    assert secret.read_bytes() == (outside / "deep" / "file").read_bytes() == SECRET


def test_objects_may_lie_on_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "objects").symlink_to(tmp_path / "disk")
    store = ArtifactStore(str(tmp_path / "store"))
    assert store.open(sealed(store)).file("deep/file").is_file()


# ------------------------------------------------------------------ shards


def test_an_index_cannot_name_a_shard_elsewhere(tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "artifact" / "shards"
    with ShardWriter(folder) as writer:
        span = writer.write("key", {"bin": b"mine"})["bin"]
    files = list_files(tmp_path / "artifact")
    manifest = Manifest("shards", None, {}, "0" * 64, "0" * 64, files, {})
    artifact = Artifact(manifest, LocalPayload(tmp_path / "artifact"))
    assert artifact.span(f"shards/{span.shard}", span.offset, span.size) == b"mine"
    (folder / "000001.tar").symlink_to(secret)
    (tmp_path / "000000.tar").write_bytes(SECRET)
    for name in ("../../secret", str(secret), "000001.tar", "../../000000.tar", "", "000000.tar\n"):
        with pytest.raises(ArtifactError, match="has no file 'shards/") as error:
            artifact.span(f"shards/{name}", 0, 4)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("offset", "size"), [(-1, 4), (0, -1), (0, 1 << 60), (1 << 60, 4)])
def test_a_span_that_is_not_there_takes_no_memory(
    tmp_path: Path, secret: Path, offset: int, size: int
) -> None:
    with pytest.raises(ValueError, match="the shard is cut short, or its index is wrong"):
        read_span(secret, offset, size)


# ------------------------------------------------------------------ sources


def test_a_folder_gives_nothing_from_outside(tmp_path: Path, secret: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.mp4").write_bytes(b"mine")
    (source / "loop.mp4").symlink_to(source / "loop.mp4")
    (source / "labels.csv").symlink_to(secret)
    media = open_media(str(source))
    for path in ("../secret", str(secret), "labels.csv", "a\0b"):
        with pytest.raises(MediaError, match="leads out of its folder"):
            media.read(path)
    with pytest.raises(MediaError, match="leads in a circle"):
        media.read("loop.mp4")
    with pytest.raises(PathError):
        media.has("../secret")
    # Seen, so that it is refused and not passed over in silence.
    assert media.has("labels.csv")
    digests = media.digests(["a.mp4", "labels.csv", "loop.mp4"], tmp_path / "book")
    assert digests["labels.csv"] == digests["loop.mp4"] == "unreadable: MediaError"


def test_odd_keys_of_a_bucket_are_refused_one_by_one(s3_store: str) -> None:
    place: Any = open_place(s3_store)
    root = place.prefix.rsplit("/", 1)[0]
    for key in ("in/a.mp4", "in/deep/", "in/", "in/b//c.mp4", "secret"):
        place.client.put_object(Bucket=place.bucket, Key=f"{root}/{key}", Body=b"data")
    media = open_media(f"s3://{place.bucket}/{root}/in")
    assert media.listing().paths == ["a.mp4", "b//c.mp4"]
    assert media.read("a.mp4") == b"data"
    for path in ("b//c.mp4", "../secret", "deep/../../secret"):
        with pytest.raises(MediaError, match="is no path of plain names"):
            media.read(path)


def test_content_digest_is_that_of_the_entries() -> None:
    entry = FileEntry("a", len(SECRET), "0" * 64)
    assert content_digest((entry,)) == parse_manifest(manifest(), "here").content
