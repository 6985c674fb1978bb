"""Claims: every file of a folder, a bucket or the generated internet ends as a row or, with its
reason, in quarantine; equal bytes are listed once; links cannot lead out; labels come from
labels.csv; a partition's question holds its own settings and files alone; media are read back only
as they were ingested; bytes do not depend on workers; bad sources are refused in one line.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation import ingest
from pipelines.curation.ingest import (
    STAGE,
    InternetConfig,
    PartitionConfig,
    RawVideosConfig,
    SourceConfig,
    observe,
    partition_config,
    read_media,
    run,
)
from pipelines.curation.partitions import bucket_of
from pipelines.curation.sources import SOURCES
from pipelines.curation.themes import StyleConfig
from pipelines.execution import ExecutionConfig
from pipelines.gates import refusals
from pipelines.nodes import GRAPH, PROFILES
from pipelines.stage import Inputs, Workspace, recipe_inputs
from storage.artifacts import Artifact
from storage.digests import digest_bytes
from storage.media import MediaError
from storage.places import open_place
from storage.tables import read_table
from storage.video import encode, encode_image
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.curation.builders import content, moving

STYLE = StyleConfig(sides=(48, 64), shot_seconds=(0.5, 0.8), clip_seconds=(0.5, 0.8))
INTERNET = InternetConfig(
    counts={
        "ssv2": 9,
        "kinetics": 2,
        "howto100m": 1,
        "yt1b": 6,
        "imagenet": 4,
        "coin": 1,
        "epic_kitchens": 1,
        "robot_videos": 1,
    },
    style=STYLE,
)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)


def folder_config(location: object, **source: Any) -> RawVideosConfig:
    return RawVideosConfig(
        sources=RawVideosConfig().sources
        | {"yt1b": SourceConfig(location=str(location), **source)},
        internet=INTERNET,
    )


def ingested(
    config: RawVideosConfig, partition: str, root: Path, workers: int = 2
) -> tuple[Artifact, dict[str, str], dict[str, Any]]:
    """The artifact, its quarantine (item -> reason) and the metrics."""
    out = workspace(root, partition, workers=workers)
    metrics = run(partition_config(config, partition), Inputs({}), out)
    aside = read_table(out.payload / "quarantine.parquet")
    assert all(row["stage"] == "raw_videos" for row in aside)
    made = artifact(out.payload, f"raw_videos/{partition}", {"media": metrics["media"]})
    return made, {row["item"]: row["reason"] for row in aside}, metrics


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode(moving(20, 1), 10.0).data


@pytest.fixture
def folder(tmp_path: Path, clip: bytes) -> Path:
    """Three good files (one without an extension, one deep down), a copy, and what is none."""
    root = tmp_path / "mine"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.mp4").write_bytes(clip)
    (root / "z copy.mp4").write_bytes(clip)
    (root / "deep" / "er" / "b").write_bytes(
        encode(moving(12, 2), 12.0, container="webm", codec="libvpx-vp9").data
    )
    (root / "deep" / "c.png").write_bytes(encode_image(moving(1, 3)[0], "png"))
    (root / "notes.mp4").write_text("no video here")
    (root / ".hidden.mp4").write_bytes(clip)
    (root / ".git").mkdir()
    (root / ".git" / "d.mp4").write_bytes(clip)
    return root


def test_a_folder_is_walked_probed_and_sorted_out(
    folder: Path, tmp_path: Path, at_once: None, clip: bytes
) -> None:
    made, aside, metrics = ingested(folder_config(folder), "yt1b-00", tmp_path / "out")
    rows = {row["path"]: row for row in made.table("videos.parquet")}
    assert list(rows) == ["a.mp4", "deep/c.png", "deep/er/b"]
    assert aside == {
        "notes.mp4": "not a video or image: it is a text file",
        "z copy.mp4": "same bytes as a.mp4",
    }
    first = rows["a.mp4"]
    assert first["sha256"] == digest_bytes(clip) and first["video_id"] == first["sha256"][:32]
    assert (first["source"], first["kind"], first["bytes"]) == ("yt1b", "video", len(clip))
    assert (first["width"], first["height"], first["fps"], first["frames"]) == (128, 96, 10.0, 20)
    assert first["seconds"] == pytest.approx(2.0) and first["label"] is None
    assert (rows["deep/er/b"]["container"], rows["deep/er/b"]["codec"]) == ("matroska", "vp9")
    assert (rows["deep/c.png"]["kind"], rows["deep/c.png"]["frames"]) == ("image", 1)
    assert metrics == {
        "media": str(folder), "videos": 2, "images": 1, "quarantined": 2, "frames": 33,
        "bytes": sum(row["bytes"] for row in rows.values()), "seconds": 3.0,
        "labels": 0, "labels_matched": 0,
    }  # fmt: skip
    assert not (made.payload.root / "media").exists()
    for path, row in rows.items():
        assert read_media(made, row) == (folder / path).read_bytes()


def test_links_cannot_lead_out(folder: Path, tmp_path: Path, at_once: None, clip: bytes) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.mp4").write_bytes(encode(moving(5, 9), 10.0).data)
    (folder / "link.mp4").symlink_to(outside / "secret.mp4")
    (folder / "linked").symlink_to(outside)
    (folder / "round").symlink_to(folder)
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "inside.mp4").symlink_to(folder / "a.mp4")
    made, aside, _ = ingested(folder_config(folder), "yt1b-00", tmp_path / "out")
    assert len(made.table("videos.parquet")) == 3
    assert "leads out of its folder" in aside["link.mp4"]
    assert "leads out of its folder" in aside["linked"]
    assert "not followed" in aside["round"] and "missing" in aside["gone.mp4"]
    assert aside["inside.mp4"] == "same bytes as a.mp4"
    row = made.table("videos.parquet")[0]
    for path in ("link.mp4", "../outside/secret.mp4", str(outside / "secret.mp4")):
        with pytest.raises(MediaError, match="leads out"):
            read_media(made, row | {"path": path})


def test_media_are_read_back_only_as_they_were_ingested(
    folder: Path, tmp_path: Path, at_once: None
) -> None:
    made, _, _ = ingested(folder_config(folder), "yt1b-00", tmp_path / "out")
    row = made.table("videos.parquet")[0]
    data = bytearray((folder / "a.mp4").read_bytes())
    data[-1] ^= 1
    (folder / "a.mp4").write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.mp4 is no longer the file that was ingested"):
        read_media(made, row)
    (folder / "a.mp4").unlink()
    with pytest.raises(MediaError, match=r"a\.mp4 is missing; put the file"):
        read_media(made, row)


def test_damaged_files_go_on_only_when_they_are_accepted(
    real_data: Path, tmp_path: Path, at_once: None
) -> None:
    config = folder_config(real_data / "corrupt_derived")
    made, aside, _ = ingested(config, "yt1b-00", tmp_path / "strict")
    assert made.table("videos.parquet") == [] and len(aside) == 8
    assert aside["truncated_frog.webm"] == "damaged (0 of 122 frames bad): File ended prematurely"
    assert aside["bitflips_bottle.mp4"].startswith("damaged (334 of 1178 frames bad): ")
    assert "0 bytes" in aside["empty.mp4"] and "web page" in aside["html_error_page.mp4"]
    config = folder_config(real_data / "corrupt_derived", accept_damaged=True)
    made, aside, _ = ingested(config, "yt1b-00", tmp_path / "lax")
    assert sorted(row["path"] for row in made.table("videos.parquet")) == [
        "bitflips_bottle.mp4", "truncated_frog.webm", "truncated_tail_friday.mp4",
        "zeroed_hole_frog.webm",
    ]  # fmt: skip
    assert set(aside) == {
        "README.json", "empty.mp4", "head_cut_friday.mp4", "html_error_page.mp4",
    }  # fmt: skip


def test_labels_come_from_the_table(folder: Path, tmp_path: Path, at_once: None) -> None:
    (folder / "labels.csv").write_text(
        "\ufeffpath,label,split\n"
        'a.mp4,"to and fro, slowly",train\ndeep/er/b,spin,validation\nx,y,\nnotes.mp4,y,\n'
    )
    made, aside, metrics = ingested(folder_config(folder), "yt1b-00", tmp_path / "out")
    rows = {row["path"]: row for row in made.table("videos.parquet")}
    assert (rows["a.mp4"]["label"], rows["a.mp4"]["split"]) == ("to and fro, slowly", "train")
    assert (rows["deep/er/b"]["label"], rows["deep/er/b"]["split"]) == ("spin", "validation")
    assert (rows["deep/c.png"]["label"], rows["deep/c.png"]["split"]) == (None, None)
    assert "labels.csv" not in aside
    assert (metrics["labels"], metrics["labels_matched"]) == (4, 3)


def test_labels_that_match_nothing_are_counted_and_gated(
    folder: Path, tmp_path: Path, at_once: None
) -> None:
    (folder / "labels.csv").write_text("path,label\n" + "".join(f"{n}.avi,x\n" for n in range(9)))
    told = Counter[str]()
    for bucket in range(2):
        config = folder_config(folder, buckets=2)
        made, _, metrics = ingested(config, f"yt1b-{bucket:02d}", tmp_path / str(bucket))
        told.update({name: metrics[name] for name in ("labels", "labels_matched")})
        made = replace(made, manifest=replace(made.manifest, record={"metrics": metrics}))
        refused = refusals(made, "it", GRAPH["raw_videos"].gates, PROFILES["demo"])
        assert (
            f"it does not pass labels_match: 0 of {metrics['labels']} labels matched ("
            in refused[-1]
        )
    assert told == {"labels": 9, "labels_matched": 0}, "each label counts in one bucket"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (b"file,label\na.mp4,x\n", r"labels\.csv has no column \['path'\]; give path,label,split"),
        (b"path,label,split\na.mp4,x,test\n", r"line 2: split 'test' is not one of"),
        (b"path,label\na.mp4,\xff\xfe\n", r"labels\.csv cannot be read .*UTF-8"),
        (b"", r"has no column \['label', 'path'\]"),
        (b"label,path\nx\n", r"labels\.csv line 2: path is empty; name a file"),
    ],
)
def test_a_bad_table_is_one_clear_line(
    folder: Path, tmp_path: Path, at_once: None, table: bytes, says: str
) -> None:
    (folder / "labels.csv").write_bytes(table)
    with pytest.raises(MediaError, match=says) as error:
        ingested(folder_config(folder), "yt1b-00", tmp_path / "out")
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_bad_sources_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".a.mp4").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    cases = {
        "nowhere": "nowhere: does not exist; give a folder of videos",
        "file": "file: is no folder",
        "empty": "empty: no files there; put videos in it or set another location",
        "hidden": "hidden: no files there",
    }
    for name, says in cases.items():
        config = folder_config(tmp_path / name)
        for ask in (
            lambda c=config: observe(c, "yt1b-00", ExecutionConfig(cache=tmp_path / "cache")),
            lambda c=config, n=name: ingested(c, "yt1b-00", tmp_path / "out" / n),
        ):
            with pytest.raises(MediaError, match=says) as error:
                ask()
            assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"SourceConfig.buckets = 0: must be from 1 to 4096"):
        SourceConfig(buckets=0)
    with pytest.raises(ValueError, match=r"SourceConfig.location = '': must not be empty"):
        SourceConfig(location="")
    with pytest.raises(ValueError, match="has no partition 'yt2b-00'"):
        partition_config(RawVideosConfig(), "yt2b-00")


def test_buckets_share_a_folder_out_by_path(folder: Path, tmp_path: Path, at_once: None) -> None:
    config = folder_config(folder, buckets=3)
    seen: dict[str, int] = {}
    for bucket in range(3):
        partition = f"yt1b-{bucket:02d}"
        made, aside, _ = ingested(config, partition, tmp_path / partition)
        for path in [row["path"] for row in made.table("videos.parquet")] + [*aside]:
            assert seen.setdefault(path, bucket) == bucket == bucket_of(path, 3)
    assert set(seen) == {"a.mp4", "z copy.mp4", "deep/er/b", "deep/c.png", "notes.mp4"}
    assert len({bucket_of(f"clip-{n}.mp4", 8) for n in range(100)}) == 8


def test_the_question_holds_what_the_partition_depends_on(folder: Path, tmp_path: Path) -> None:
    execution = ExecutionConfig(cache=tmp_path / "cache")
    config = folder_config(folder, buckets=2)

    def asked(partition: str, changed: RawVideosConfig = config) -> dict[str, Any]:
        return recipe_inputs(STAGE, changed, {}, partition, execution)

    before = {partition: asked(partition) for partition in ("yt1b-00", "yt1b-01", "ssv2")}
    # Another count of one source is another question for that source alone.
    counts = INTERNET.counts | {"ssv2": 10}
    more = replace(config, internet=replace(INTERNET, counts=counts))
    assert asked("ssv2", more) != before["ssv2"]
    assert asked("yt1b-00", more) == before["yt1b-00"]
    # A new file, a changed file and new labels are other questions for their bucket alone.
    bucket = bucket_of("a.mp4", 2)
    (folder / "a.mp4").write_bytes(b"other")
    assert asked(f"yt1b-{bucket:02d}") != before[f"yt1b-{bucket:02d}"]
    assert asked(f"yt1b-{1 - bucket:02d}") == before[f"yt1b-{1 - bucket:02d}"]
    (folder / "labels.csv").write_text("path,label\na.mp4,x\n")
    assert asked(f"yt1b-{1 - bucket:02d}") != before[f"yt1b-{1 - bucket:02d}"]


def test_digests_are_remembered_until_a_file_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution, config = ExecutionConfig(cache=tmp_path / "cache"), folder_config(folder)
    first = observe(config, "yt1b-00", execution)
    assert first["a.mp4"] == digest_bytes((folder / "a.mp4").read_bytes())
    taken: list[Path] = []

    def counting(path: Path) -> str:
        taken.append(path)
        return digest_bytes(path.read_bytes())

    monkeypatch.setattr("storage.media.digest_file", counting)
    assert observe(config, "yt1b-00", execution) == first and taken == []
    (folder / "notes.mp4").write_text("NO VIDEO HERE")  # the size is the same
    os.utime(folder / "notes.mp4", ns=(1, 1))
    assert observe(config, "yt1b-00", execution) != first
    assert taken == [folder / "notes.mp4"]
    [book] = (tmp_path / "cache" / "digests").iterdir()
    book.write_text("{cut sh")
    assert len(observe(config, "yt1b-00", execution)) == 5 and len(taken) == 6


def test_a_bucket_gives_what_a_folder_gives(
    folder: Path, tmp_path: Path, at_once: None, s3_store: str
) -> None:
    (folder / "labels.csv").write_text("path,label,split\na.mp4,bounce,train\n")
    place = open_place(s3_store)
    for path in folder.rglob("*"):
        if path.is_file():
            place.write(path.relative_to(folder).as_posix(), path.read_bytes())
    there, there_aside, metrics = ingested(folder_config(s3_store), "yt1b-00", tmp_path / "s3")
    here, here_aside, _ = ingested(folder_config(folder), "yt1b-00", tmp_path / "disk")
    rows = there.table("videos.parquet")
    assert rows == here.table("videos.parquet") and there_aside == here_aside
    assert metrics["media"] == s3_store and rows[0]["label"] == "bounce"
    assert read_media(there, rows[0]) == (folder / "a.mp4").read_bytes()
    execution, config = ExecutionConfig(cache=tmp_path / "cache"), folder_config(s3_store)
    before = observe(config, "yt1b-00", execution)
    assert set(before) == {*observe(folder_config(folder), "yt1b-00", execution)}
    place.write("a.mp4", b"something else")
    after = observe(config, "yt1b-00", execution)
    assert {path for path in before if before[path] != after[path]} == {"a.mp4"}
    with pytest.raises(MediaError, match="no longer the file"):
        read_media(there, rows[0])
    place.remove("a.mp4")
    with pytest.raises(MediaError, match=r"a\.mp4 is missing; put the file back"):
        read_media(there, rows[0])
    with pytest.raises(MediaError, match="no files there"):
        observe(folder_config(f"{s3_store}-empty"), "yt1b-00", execution)


def test_generated_sources_are_real_files_the_same_for_any_workers(
    tmp_path: Path, ray_cluster: None
) -> None:
    config = RawVideosConfig(internet=INTERNET)
    made, aside, metrics = ingested(config, "yt1b-00", tmp_path / "two", workers=2)
    again, _, _ = ingested(config, "yt1b-00", tmp_path / "one", workers=1)
    assert made.manifest.content == again.manifest.content
    rows = made.table("videos.parquet")
    assert metrics["media"] == "payload" and len(rows) == 6 == metrics["videos"]
    assert len(aside) == 6 == metrics["quarantined"]
    for row in rows:
        assert read_media(made, row) == (made.payload.root / "media" / row["path"]).read_bytes()
        assert (row["label"], row["split"]) == (None, "train")


def test_generated_labels_are_read_like_anyone_elses(tmp_path: Path, at_once: None) -> None:
    made, aside, _ = ingested(RawVideosConfig(internet=INTERNET), "ssv2", tmp_path / "out")
    rows = made.table("videos.parquet")
    assert len(rows) == 9 and len(aside) == 6
    table = (made.payload.root / "media" / "labels.csv").read_text().splitlines()
    assert table[0] == "path,label,split" and len(table) == 10
    assert {f"{r['path']},{r['label']},{r['split']}" for r in rows} == set(table[1:])
    pictures, _, metrics = ingested(RawVideosConfig(internet=INTERNET), "imagenet", tmp_path / "i")
    assert metrics["images"] == 4 and metrics["seconds"] == 0.0
    assert len({row["label"] for row in pictures.table("videos.parquet")}) == 4


def test_a_killed_ingest_goes_on(
    tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = partition_config(RawVideosConfig(internet=INTERNET), "ssv2")
    whole = workspace(tmp_path / "whole", "ssv2", workers=2)
    run(config, Inputs({}), whole)
    cut = workspace(tmp_path / "cut", "ssv2", workers=2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ingest, "sorted_out", killed)
    with pytest.raises(KeyboardInterrupt):
        run(config, Inputs({}), cut)
    monkeypatch.undo()
    assert not (cut.payload / "videos.parquet").exists()
    stamps = {path: path.stat().st_mtime_ns for path in cut.payload.rglob("*.mp4")}
    run(config, Inputs({}), cut)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps  # nothing made twice
    assert content(cut) == content(whole)


def test_every_source_can_be_asked_for() -> None:
    for entry in SOURCES:
        source = entry.name
        narrow = partition_config(RawVideosConfig(internet=INTERNET), source)
        assert narrow == PartitionConfig(
            source=SourceConfig(),
            count=INTERNET.counts[source],
            broken=6 if source in ("yt1b", "ssv2") else 0,
            style=STYLE,
            theme=entry.theme,
        )


def test_a_table_of_labels_leads_nowhere(
    folder: Path, tmp_path: Path, at_once: None, clip: bytes
) -> None:
    """Paths in labels.csv only name files that are listed; the table itself is no link out."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(encode(moving(5, 9), 10.0).data)
    table = folder / "labels.csv"
    table.write_text(f"path,label\n../secret.mp4,a\n{secret},b\na.mp4,c\n")
    made, aside, _ = ingested(folder_config(folder), "yt1b-00", tmp_path / "out")
    rows = made.table("videos.parquet")
    assert {row["path"]: row["label"] for row in rows}.items() >= {"a.mp4": "c"}.items()
    assert digest_bytes(secret.read_bytes()) not in {row["sha256"] for row in rows}
    assert not [path for path in (*aside, *(r["path"] for r in rows)) if "secret" in path]
    for path in ("../secret.mp4", str(secret)):
        with pytest.raises(MediaError, match="leads out of its folder"):
            read_media(made, {"path": path, "sha256": digest_bytes(secret.read_bytes())})
    table.rename(tmp_path / "labels.csv")
    table.symlink_to(tmp_path / "labels.csv")
    with pytest.raises(MediaError, match=r"labels\.csv leads out of its folder"):
        ingested(folder_config(folder), "yt1b-00", tmp_path / "again")
