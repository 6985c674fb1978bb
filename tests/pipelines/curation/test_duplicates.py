"""Claims: equal files are found across buckets and sources; which copy is kept depends on what it
is and not on the order; held-out copies are never dropped, and what is held out anywhere is trained
on nowhere; who was left out for whom is written down."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation.duplicates import Copy, DuplicatesConfig, equal_files, left_out, run
from pipelines.curation.ingest import (
    RawVideosConfig,
    SourceConfig,
    generated,
    partition_config,
)
from pipelines.curation.ingest import run as ingest
from pipelines.curation.partitions import bucket_of
from pipelines.curation.probing import COLUMNS
from pipelines.stage import Inputs, Workspace
from storage.artifacts import Artifact
from storage.tables import read_table, write_table
from storage.video import encode
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.curation.builders import content, moving

Told = tuple[str | None, str | None]
TRAIN, HELD, NONE = ("x", "train"), ("x", "validation"), (None, None)


def copy(partition: str, path: str = "a.mp4", told: Told = NONE) -> Copy:
    return Copy("v", partition, path, *told)


@pytest.mark.parametrize(
    ("copies", "kept", "out"),
    [
        # By source, then by path, when nothing else tells them apart.
        ([copy("yt1b-00"), copy("howto100m")], "howto100m/a.mp4", ["yt1b-00/a.mp4"]),
        ([copy("yt1b-00", "b"), copy("yt1b-01", "a")], "yt1b-01/a", ["yt1b-00/b"]),
        # A label counts more.
        ([copy("coin"), copy("yt1b-00", told=TRAIN)], "yt1b-00/a.mp4", ["coin/a.mp4"]),
        # What is held out counts most: no copy of it is trained on.
        (
            [copy("kinetics", told=TRAIN), copy("ssv2", told=HELD), copy("yt1b-03")],
            "ssv2/a.mp4", ["kinetics/a.mp4", "yt1b-03/a.mp4"],
        ),
        # Two held-out copies answer for two sources.
        ([copy("kinetics", told=HELD), copy("ssv2", told=HELD)], "kinetics/a.mp4", []),
    ],
)  # fmt: skip
def test_which_copy_is_kept_does_not_depend_on_the_order(
    copies: list[Copy], kept: str, out: list[str]
) -> None:
    for order in itertools.permutations(copies):
        pairs = list(left_out(order))
        assert sorted(copy.name for copy, _ in pairs) == out
        assert {first.name for _, first in pairs} <= {kept}


def listed(root: Path, partition: str, files: dict[str, str], told: Told = NONE) -> Artifact:
    """raw_videos of path -> video id."""
    blank: dict[str, Any] = dict.fromkeys(COLUMNS)
    rows = [
        blank | {"video_id": f"{video:0>32}", "path": path, "label": told[0], "split": told[1]}
        for path, video in files.items()
    ]
    write_table(root / partition / "videos.parquet", rows, COLUMNS)
    return artifact(root / partition, f"raw_videos/{partition}")


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Artifact]:
    return {
        "howto100m": listed(tmp_path, "howto100m", {}),
        "kinetics": listed(tmp_path, "kinetics", {"k.mp4": "1", "l.mp4": "2"}, TRAIN),
        "yt1b-00": listed(tmp_path, "yt1b-00", {"a.mp4": "1", "b.mp4": "3"}),
        "yt1b-01": listed(tmp_path, "yt1b-01", {"c.mp4": "3", "d.mp4": "4", "ü\n.mp4": "1"}),
    }


def test_equal_files_are_found_over_buckets_and_sources(
    parts: dict[str, Artifact], tmp_path: Path
) -> None:
    found = equal_files(parts, tmp_path)
    assert {video[-1]: sorted(c.name for c in copies) for video, copies in found.items()} == {
        "1": ["kinetics/k.mp4", "yt1b-00/a.mp4", "yt1b-01/ü\n.mp4"],
        "3": ["yt1b-00/b.mp4", "yt1b-01/c.mp4"],
    }
    assert equal_files({}, tmp_path) == {}


def test_who_was_left_out_for_whom_is_written_down(
    parts: dict[str, Artifact], tmp_path: Path
) -> None:
    def answered(
        order: list[str], name: str, drop: bool = True
    ) -> tuple[Workspace, dict[str, Any]]:
        out = workspace(tmp_path / name)
        inputs = Inputs({f"raw_videos/{part}": parts[part] for part in order})
        return out, run(DuplicatesConfig(drop=drop), inputs, out)

    out, metrics = answered(list(parts), "out")
    assert metrics == {"partitions": 4, "files_in_several": 2, "copies": 5, "left_out": 3}
    rows = read_table(out.payload / "duplicates.parquet")
    assert [(r["partition"], r["path"], r["kept_partition"], r["kept_path"]) for r in rows] == [
        ("yt1b-00", "a.mp4", "kinetics", "k.mp4"),
        ("yt1b-01", "c.mp4", "yt1b-00", "b.mp4"),
        ("yt1b-01", "ü\n.mp4", "kinetics", "k.mp4"),
    ]
    aside = read_table(out.payload / "quarantine.parquet")
    assert aside[1] == {
        "item": "yt1b-01/c.mp4", "stage": "duplicates", "reason": "same bytes as yt1b-00/b.mp4",
    }  # fmt: skip
    again, _ = answered(list(reversed(parts)), "again")
    assert content(again) == content(out)
    all_kept, metrics = answered(list(parts), "kept", drop=False)
    assert read_table(all_kept.payload / "duplicates.parquet") == []
    assert (metrics["copies"], metrics["left_out"]) == (5, 0)


def test_from_files_to_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies in one bucket are one row of it; the next bucket and another source are told of."""
    monkeypatch.setattr(Workspace, "map", map_in_turn)
    data = encode(moving(8, 1), 10.0).data
    here = [n for n in range(20) if bucket_of(f"{n:02d}.mp4", 2) == 0][:2]
    there = next(n for n in range(20) if bucket_of(f"{n:02d}.mp4", 2) == 1)
    sources = {}
    for source, names in {"yt1b": (*here, there), "ssv2": (0,)}.items():
        (tmp_path / source).mkdir()
        for name in names:
            (tmp_path / source / f"{name:02d}.mp4").write_bytes(data)
        buckets = 2 if source == "yt1b" else 1
        sources[source] = SourceConfig(location=str(tmp_path / source), buckets=buckets)
    labels = f"path,label,split\n{here[1]:02d}.mp4,x,train\n"
    (tmp_path / "yt1b" / "labels.csv").write_text(labels)
    config, made = RawVideosConfig(sources=sources, internet=generated().internet), {}
    for partition in ("yt1b-00", "yt1b-01", "ssv2"):
        out = workspace(tmp_path / "work" / partition, partition)
        ingest(partition_config(config, partition), Inputs({}), out)
        made[partition] = artifact(out.payload, f"raw_videos/{partition}")
    # Of two in a bucket, the one with a label.
    assert [row["path"] for row in made["yt1b-00"].table("videos.parquet")] == [
        f"{here[1]:02d}.mp4"
    ]
    [reason] = [row["reason"] for row in made["yt1b-00"].table("quarantine.parquet")]
    assert reason == f"same bytes as {here[1]:02d}.mp4"
    [copies] = equal_files(made, tmp_path).values()
    names = {copy.name: kept.name for copy, kept in left_out(copies)}
    kept = f"yt1b-00/{here[1]:02d}.mp4"
    assert names == {"ssv2/00.mp4": kept, f"yt1b-01/{there:02d}.mp4": kept}
