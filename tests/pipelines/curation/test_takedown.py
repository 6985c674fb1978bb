"""Claims: a file that was taken down is quarantined, with the reason, in every later ingest,
whichever name, bucket or source its bytes come under, of folders, object stores and the generator;
only partitions that have it are asked again; the list is never read wrong, and only grows.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation import ingest
from pipelines.curation.ingest import RawVideosConfig, SourceConfig
from pipelines.curation.partitions import bucket_of
from pipelines.execution import ExecutionConfig
from pipelines.stage import Workspace, materialize, recipe_inputs
from pipelines.takedown import ban
from storage.artifacts import Artifact, ArtifactError, ArtifactStore
from storage.digests import digest_bytes
from storage.places import open_place
from storage.takedowns import Takedown, TakedownError, add, takedowns
from storage.video import encode
from tests.pipelines.builders import map_in_turn
from tests.pipelines.curation.builders import moving
from tests.pipelines.curation.test_ingest import INTERNET

BUCKETS = 3
WHY = "the author asked"


class House:
    """A source under three buckets (or the generated internet), a store, and a list."""

    def __init__(self, root: Path, config: RawVideosConfig) -> None:
        self.config, self.store = config, ArtifactStore(str(root / "store"))
        self.listed_at = str(root / "store" / "takedowns" / "default.json")
        self.execution = ExecutionConfig(cache=root / "cache", takedowns=self.listed_at)

    def recipes(self, *partitions: str) -> dict[str, Any]:
        return {
            p: recipe_inputs(ingest.STAGE, self.config, {}, p, self.execution) for p in partitions
        }

    def ingested(self, partition: str) -> tuple[Artifact, dict[str, str]]:
        made = materialize(
            self.store, ingest.STAGE, self.config, {}, asset="raw_videos", partition=partition,
            execution=self.execution,
        ).artifact  # fmt: skip
        return made, {row["item"]: row["reason"] for row in made.table("quarantine.parquet")}

    def ban(self, video: str) -> Takedown:
        return ban(self.store, self.listed_at, video, WHY, "2026-01-31")


def names(bucket: int, count: int) -> list[str]:
    """Some file names of a bucket."""
    every = (f"{number}.mp4" for number in range(999))
    found = [name for name in every if bucket_of(name, BUCKETS) == bucket]
    return found[:count]


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {partition for partition in before if before[partition] != after[partition]}


PARTITIONS = tuple(f"yt1b-{bucket:02d}" for bucket in range(BUCKETS))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)


@pytest.fixture(scope="module")
def clips() -> list[bytes]:
    return [encode(moving(8, seed, 32, 48), 8.0).data for seed in range(BUCKETS)]


@pytest.fixture(params=["folder", "bucket"])
def source(request: pytest.FixtureRequest, tmp_path: Path, clips: list[bytes]) -> str:
    """One clip in each of three buckets."""
    on_s3 = request.param == "bucket"
    location = request.getfixturevalue("s3_store") if on_s3 else str(tmp_path / "source")
    for bucket, clip in enumerate(clips):
        open_place(location).write(names(bucket, 1)[0], clip)
    return location


def test_it_is_quarantined_under_every_name_and_nothing_else_is_asked_again(
    source: str, tmp_path: Path, clips: list[bytes]
) -> None:
    yt1b = SourceConfig(location=source, buckets=BUCKETS)
    house = House(tmp_path, RawVideosConfig(sources={"yt1b": yt1b}))
    before = house.recipes(*PARTITIONS)
    [first] = names(0, 1)
    assert [row["path"] for row in house.ingested("yt1b-00")[0].table("videos.parquet")] == [first]
    told = house.ban(first)
    assert told.sha256 == digest_bytes(clips[0]) and told.places == (("yt1b", first),)
    after = house.recipes(*PARTITIONS)
    assert changed(before, after) == {"yt1b-00"}
    assert after["yt1b-00"]["external_inputs"][ingest.TAKEN_DOWN] == {told.sha256: WHY}
    made, aside = house.ingested("yt1b-00")
    assert made.table("videos.parquet") == [] and aside == {first: f"taken down: {WHY}"}
    # The same bytes come back, under another name, in another bucket.
    again = names(1, 2)[1]
    open_place(source).write(again, clips[0])
    made, aside = house.ingested("yt1b-01")
    assert aside == {again: f"taken down: {WHY}"} and len(made.table("videos.parquet")) == 1
    assert house.recipes("yt1b-02")["yt1b-02"] == before["yt1b-02"]


def test_a_generated_file_is_no_longer_in_the_payload(tmp_path: Path) -> None:
    small = replace(INTERNET, counts={**INTERNET.counts, "coin": 2, "howto100m": 1})
    house = House(tmp_path, RawVideosConfig(internet=small))
    before = house.recipes("coin", "howto100m")
    made, _ = house.ingested("coin")
    gone, stays = (row["path"] for row in made.table("videos.parquet"))
    house.ban(gone)
    assert changed(before, house.recipes("coin", "howto100m")) == {"coin"}
    made, aside = house.ingested("coin")
    assert aside[gone] == f"taken down: {WHY}"
    assert [row["path"] for row in made.table("videos.parquet")] == [stays]
    assert not made.has(f"media/{gone}") and made.has(f"media/{stays}")


def test_a_file_is_named_by_its_bytes_or_by_a_digest_that_nobody_has_met(
    tmp_path: Path, clips: list[bytes]
) -> None:
    house = House(tmp_path, RawVideosConfig())
    (tmp_path / "a.mp4").write_bytes(clips[0])
    with pytest.raises(ArtifactError, match="give a video id, a sha256"):
        house.ban("unheard-of.mp4")
    with pytest.raises(ArtifactError, match="give a video id, a sha256"):
        house.ban("ab" * 16)  # of an id alone the bytes are not known
    assert house.ban(str(tmp_path / "a.mp4")).sha256 == digest_bytes(clips[0])
    assert house.ban("ab" * 32).places == ()
    assert [line.sha256 for line in takedowns(house.listed_at)] == sorted(
        ["ab" * 32, digest_bytes(clips[0])]
    )


def test_the_list_keeps_its_first_reason_and_learns_more_names(tmp_path: Path) -> None:
    listed_at = str(tmp_path / "takedowns" / "me.json")
    assert takedowns(listed_at) == takedowns(None) == ()
    add(listed_at, Takedown("a" * 64, "first", "2026-01-01", ("etag",)))
    told = add(listed_at, Takedown("a" * 64, "later", "2026-02-02", (), (("yt1b", "a.mp4"),)))
    assert told == Takedown("a" * 64, "first", "2026-01-01", ("etag",), (("yt1b", "a.mp4"),))
    assert takedowns(listed_at) == (told,)


@pytest.mark.parametrize(
    "text", ["", "{}x", '[{"sha256": "a"}]', json.dumps([{"sha256": "b" * 64, "reason": "r"}])]
)
def test_a_list_that_cannot_be_read_stops_the_ingest(tmp_path: Path, text: str) -> None:
    house = House(tmp_path, RawVideosConfig(internet=INTERNET))
    open_place(str(tmp_path / "store" / "takedowns")).write("default.json", text.encode())
    with pytest.raises(TakedownError, match=r"default\.json cannot be read .* restore it"):
        house.ingested("coin")
    with pytest.raises(TakedownError, match="restore it"):
        house.ban("ab" * 32)


def test_a_takedown_says_why(tmp_path: Path) -> None:
    house = House(tmp_path, RawVideosConfig())
    with pytest.raises(TakedownError, match="reason is empty; say why"):
        ban(house.store, house.listed_at, "ab" * 32, " ", "2026-01-31")
