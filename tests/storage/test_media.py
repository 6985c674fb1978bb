"""A source is looked at once a walk, however many buckets it has, and what goes wrong meanwhile is
told in a line: a bucket's errors come as PlaceError, a file that vanished becomes a row."""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import pytest

from pipelines.curation.ingest import RawVideosConfig, SourceConfig, observe
from pipelines.curation.probing import File, probed
from pipelines.execution import ExecutionConfig
from storage import media
from storage.buckets import Bucket
from storage.media import Folder, MediaError, listings_kept, open_media
from storage.places import PlaceError
from storage.s3 import S3Place

BUCKETS = 1024


@pytest.fixture
def bucket(s3_store: str) -> str:
    place = S3Place(s3_store)
    for number in range(40):
        place.write(f"videos/{number}.mp4", b"%d" % number)
    place.write("labels.csv", b"path,label\n")
    return s3_store


def requests_of(found: Bucket) -> Counter[str]:
    """Counts what the bucket's client asks the server from now on."""
    asked: Counter[str] = Counter()

    def count(model: object, **_: object) -> None:
        asked[str(getattr(model, "name", model))] += 1

    found.place.client.meta.events.register("before-call.s3", count)
    return asked


def test_a_thousand_buckets_of_a_source_cost_one_listing(bucket: str, tmp_path: Path) -> None:
    found = open_media(bucket)
    assert isinstance(found, Bucket)
    asked = requests_of(found)
    source = SourceConfig(location=bucket, buckets=BUCKETS)
    config = RawVideosConfig(sources={"yt1b": source})
    execution = ExecutionConfig(cache=tmp_path)
    with listings_kept():
        seen = [observe(config, f"yt1b-{n:04d}", execution) for n in range(BUCKETS)]
    assert asked == {"ListObjectsV2": 1}
    listed = [path for digests in seen for path in digests if path != "labels.csv"]
    assert sorted(listed) == sorted(f"videos/{number}.mp4" for number in range(40))
    assert all("labels.csv" in digests for digests in seen)
    # Outside of a walk each look is a look: what is new is seen.
    S3Place(bucket).write("videos/new.mp4", b"new")
    assert "videos/new.mp4" in found.listing().paths


def test_a_folder_is_walked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    walks = []

    def walk(root: Path, **how: Any):
        walks.append(root)
        return before(root, **how)

    before = media.os.walk
    monkeypatch.setattr(media.os, "walk", walk)
    with listings_kept():
        for _ in range(3):
            assert Folder(str(tmp_path)).listing().paths == ["a.mp4"]
        (tmp_path / "b.mp4").write_bytes(b"b")
        with listings_kept():  # a walk inside a walk sees what the outer one saw
            assert Folder(str(tmp_path)).listing().paths == ["a.mp4"]
        assert len(walks) == 1
    assert Folder(str(tmp_path)).listing().paths == ["a.mp4", "b.mp4"]


def test_a_file_that_vanished_becomes_a_row_and_no_key_error(bucket: str, tmp_path: Path) -> None:
    found = open_media(bucket)
    seen = found.digests(["videos/0.mp4", "videos/gone.mp4"], tmp_path / "book")
    assert seen["videos/gone.mp4"] == "unreadable: missing"
    assert not seen["videos/0.mp4"].startswith("unreadable")


def test_an_error_of_the_bucket_is_one_line(s3_server: str, s3_store: str) -> None:
    client = boto3.session.Session().client("s3")
    client.create_bucket(Bucket="short-lived")
    found = Bucket("s3://short-lived/videos")
    client.delete_bucket(Bucket="short-lived")
    for ask in (found.listing, lambda: found.digests(["a.mp4"], Path("book"))):
        with pytest.raises(PlaceError, match="NoSuchBucket") as error:
            ask()
        assert "\n" not in str(error.value)


def test_an_object_replaced_since_it_was_listed_is_not_read_for_the_one_listed(bucket: str) -> None:
    found = open_media(bucket)
    mark = found.listing().marks["videos/7.mp4"]
    assert found.read("videos/7.mp4", mark) == b"7"
    S3Place(bucket).write("videos/7.mp4", b"replaced")
    told = r"videos/7\.mp4 changed since it was listed; run again"
    with pytest.raises(MediaError, match=told):
        found.read("videos/7.mp4", mark)
    with pytest.raises(MediaError, match=told):  # no quarantine row: the recipe names the old bytes
        probed(File(bucket, "videos/7.mp4", mark))
    assert found.read("videos/7.mp4") == b"replaced"


def test_a_folder_that_cannot_be_listed_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    closed = tmp_path / "closed"
    closed.mkdir()
    scan = os.scandir

    def scandir(path: Any) -> Any:  # rights would not keep root out
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(media.os, "scandir", scandir)
    with pytest.raises(MediaError, match=r"closed cannot be listed \(Permission denied\); make it"):
        Folder(str(tmp_path)).listing()


def test_the_home_of_nobody_is_no_source() -> None:
    with pytest.raises(PlaceError, match=r"^~no-such-user/videos: "):
        open_media("~no-such-user/videos")
