"""A folder and a bucket behave alike: whole reads and writes, sorted keys, and of many callers who
create one key exactly one is told that he was first. A place that cannot be used says so in one
line, soon."""

from __future__ import annotations

import errno
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from storage import places, s3
from storage.places import LocalPlace, Place, PlaceError, open_place, write_file


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return open_place(str(tmp_path / "store"))
    return open_place(request.getfixturevalue("s3_store"))


def test_bytes_come_back_as_they_were_put(place: Place) -> None:
    place.write("a/b.json", b"\x00\xff one")
    assert place.read("a/b.json") == b"\x00\xff one"
    place.write("a/b.json", b"two")
    assert place.read("a/b.json") == b"two"
    place.write("a/empty", b"")
    assert place.read("a/empty") == b""


def test_a_free_key_is_a_key_error_by_every_door(place: Place, tmp_path: Path) -> None:
    place.write("a/b", b"x")
    for key in ("c", "a", "a/b/c", "a/bb"):
        assert not place.exists(key)
        with pytest.raises(KeyError):
            place.read(key)
        with pytest.raises(KeyError):
            place.download(key, tmp_path / "target")
    assert list(tmp_path.glob("*target*")) == []


def test_keys_are_sorted_and_start_with_the_prefix(place: Place) -> None:
    names = ["m/ab/1", "m/ab/2", "m/abc/1", "m/b", "n/1", "m/a-", "m/a.", "m/ü", "m/z"]
    for name in names:
        place.write(name, b"x")
    assert list(place.keys("")) == sorted(names)
    assert list(place.keys("m/")) == sorted(name for name in names if name[0] == "m")
    assert list(place.keys("m/ab")) == ["m/ab/1", "m/ab/2", "m/abc/1"]
    assert list(place.keys("m/ab/")) == ["m/ab/1", "m/ab/2"]
    assert list(place.keys("nothing/")) == []


def test_all_pages_of_a_listing_are_read(s3_store: str) -> None:
    place = open_place(s3_store)
    names = [f"k/{index:02d}" for index in range(25)]
    for name in names:
        place.write(name, b"")
    pages: list[str] = []

    def small(params: dict[str, object], **_: object) -> dict[str, object]:
        pages.append("page")
        return params | {"MaxKeys": 10}

    place.client.meta.events.register("provide-client-params.s3.ListObjectsV2", small)  # type: ignore[attr-defined]
    assert list(place.keys("k/")) == names
    assert len(pages) == 3


def test_create_does_not_replace(place: Place) -> None:
    assert place.create("manifests/a.json", b"first")
    assert not place.create("manifests/a.json", b"second")
    assert place.read("manifests/a.json") == b"first"
    place.remove("manifests/a.json")
    assert place.create("manifests/a.json", b"third")


def test_of_many_who_create_one_key_exactly_one_is_first(place: Place) -> None:
    for race in range(10):
        start = threading.Barrier(8)

        def contend(who: int, race: int = race, start: threading.Barrier = start) -> bool:
            start.wait()
            return place.create(f"race/{race}", b"%d" % who)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(contend, range(8)))
        assert sum(won) == 1
        assert place.read(f"race/{race}") == b"%d" % won.index(True)


def test_files_go_up_and_down_whole(place: Place, tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000  # 10 MB: more than one part of a multipart upload
    (tmp_path / "source").write_bytes(data)
    place.upload("objects/c/shards/0.tar", tmp_path / "source")
    place.download("objects/c/shards/0.tar", tmp_path / "new" / "target")
    assert (tmp_path / "new" / "target").read_bytes() == data
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["target"]


def test_remove_frees_a_key_and_forgives_a_free_one(place: Place) -> None:
    place.write("a", b"x")
    place.remove("a")
    place.remove("a")
    assert not place.exists("a")


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/passwd"])
def test_keys_that_leave_the_store_are_refused(place: Place, key: str) -> None:
    for call in (place.read, place.exists, place.remove, lambda k: place.write(k, b"x")):
        with pytest.raises(PlaceError, match="leaves the store"):
            call(key)


def test_prefixes_of_one_bucket_do_not_see_each_other(s3_store: str) -> None:
    one, other = open_place(f"{s3_store}/one/"), open_place(f"{s3_store}/one-more")
    one.write("key", b"1")
    assert list(other.keys("")) == []
    assert list(one.keys("")) == ["key"]
    assert one.location == f"{s3_store}/one"


def test_local_files_have_ordinary_rights_and_leave_nothing_aside(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path / "store")
    (tmp_path / "plain").write_bytes(b"x")
    place.write("refs/a", b"x")
    place.create("refs/b", b"x")
    place.upload("refs/c", tmp_path / "plain")
    ordinary = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    for path in (tmp_path / "store" / "refs").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == ordinary, "others must be able to read it"
    assert sorted(p.name for p in (tmp_path / "store" / "refs").iterdir()) == ["a", "b", "c"]


def test_what_a_crash_left_aside_is_not_a_key(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path)
    place.write("refs/a", b"x")
    (tmp_path / "refs" / ".aside-1234").write_bytes(b"half")
    assert list(place.keys("")) == ["refs/a"]


def test_write_file_replaces_whole(tmp_path: Path) -> None:
    write_file(tmp_path / "f" / "x", b"one")
    write_file(tmp_path / "f" / "x", b"two")
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["x"]
    assert (tmp_path / "f" / "x").read_bytes() == b"two"


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file" / "store", Path("/proc/store")):
        with pytest.raises(PlaceError) as caught:
            open_place(str(folder))
        assert str(folder) in one_line(caught.value)
        assert "choose another folder" in str(caught.value)


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(PlaceError, match=r"gs://x.*s3://bucket/prefix"):
        open_place("gs://x")


def test_a_bucket_that_is_not_there_is_named(s3_store: str) -> None:
    with pytest.raises(PlaceError) as caught:
        open_place("s3://no-such-bucket/prefix")
    assert "s3://no-such-bucket/prefix" in one_line(caught.value)
    assert "(404)" in str(caught.value)


def test_missing_credentials_are_one_line(s3_store: str, monkeypatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(PlaceError, match=r"NoCredentialsError.*check its name, the credentials"):
        open_place(s3_store)


def callers(server: socket.socket) -> Iterator[socket.socket]:
    """The connections that a listening socket was asked for and has not taken up."""
    server.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            yield server.accept()[0]


def test_a_bucket_that_does_not_answer_is_told_within_seconds(s3_store: str, monkeypatch) -> None:
    with socket.socket() as deaf:  # accepts connections, never says a word
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(PlaceError) as caught:
            open_place(s3_store)
        # Two tries of three seconds each.
        assert len(list(callers(deaf))) == 2
        assert s3._ASK.connect_timeout == s3._ASK.read_timeout == 3
    assert "the bucket does not answer (ReadTimeoutError)" in one_line(caught.value)
    assert "AWS_ENDPOINT_URL" in str(caught.value)


def test_a_server_that_goes_away_is_one_line(s3_store: str, monkeypatch, tmp_path: Path) -> None:
    place = open_place(s3_store)
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{gone.getsockname()[1]}"
    place.client.meta.events.register(  # type: ignore[attr-defined]
        "before-send.s3", lambda request, **_: setattr(request, "url", nobody)
    )
    (tmp_path / "source").write_bytes(b"x")
    for call in (
        lambda: place.read("a"),
        lambda: place.create("a", b"x"),
        lambda: place.upload("a", tmp_path / "source"),
        lambda: list(place.keys("")),
    ):
        with pytest.raises(PlaceError, match="check the connection") as caught:
            call()
        one_line(caught.value)


def test_a_disk_that_fails_is_a_place_error_by_every_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = LocalPlace(tmp_path / "store")
    place.write("a/b", b"x")

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def closed(folder: Path, onerror: Callable[[OSError], None]) -> Iterator[None]:
        onerror(PermissionError(errno.EACCES, "Permission denied", str(folder)))
        yield from ()

    monkeypatch.setattr(places.shutil, "copyfile", broken)
    monkeypatch.setattr(Path, "read_bytes", broken)
    monkeypatch.setattr(Path, "unlink", broken)
    monkeypatch.setattr(places.os, "walk", closed)
    for call in (
        lambda: place.read("a/b"),
        lambda: place.remove("a/b"),
        lambda: list(place.keys("a/")),
    ):
        with pytest.raises(PlaceError, match="check the disk and the folder's rights"):
            call()
    monkeypatch.undo()
    monkeypatch.setattr(places.shutil, "copyfile", broken)
    with pytest.raises(PlaceError, match=r"a/b: Input/output error; check the disk"):
        place.download("a/b", tmp_path / "target")


def test_the_home_of_nobody_is_named() -> None:
    with pytest.raises(PlaceError, match=r"^~no-such-user/store: .*give the folder by its whole"):
        open_place("~no-such-user/store")
