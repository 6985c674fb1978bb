"""Claims: each benchmark's generated files are in its own format and are read as the real ones;
every listed item has its class number and side; one without a film is listed and counted, and no
other takes its place; what does not belong is one line with its place."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation.annotations.sheets import Sheets
from pipelines.evaluation.benchmarks.films import NAMES, annotation_files, filmed, films_of
from pipelines.evaluation.benchmarks.listing import listed
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.evaluation.benchmarks.videos import (
    BenchmarkVideosConfig,
    GeneratedConfig,
    PlaceConfig,
    observe,
    of_benchmark,
    run,
)
from pipelines.execution import ExecutionConfig
from pipelines.settings import SettingError
from pipelines.stage import Inputs, Workspace
from storage.media import MediaError
from storage.tables import read_table
from tests.pipelines.builders import map_in_turn, workspace

SMALL = GeneratedConfig(train=8, validation=4)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)


def laid_out(name: str, folder: Path, train: int = 8, validation: int = 4) -> Path:
    """A generated benchmark as files in a folder, as a user has the real one."""
    films = films_of(name, train, validation, 0)
    files = {f.path: filmed(f) for f in films} | annotation_files(name, films)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def made(name: str, place: PlaceConfig, root: Path) -> tuple[Path, dict[str, Any]]:
    config = of_benchmark(BenchmarkVideosConfig(places={name: place}, generated=SMALL), name)
    out = workspace(root, name)
    metrics = run(config, Inputs({}), out)
    return out.payload, metrics


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_generated_files_are_read_as_real_ones(name: str, tmp_path: Path, at_once: None) -> None:
    payload, metrics = made(name, PlaceConfig(), tmp_path / "generated")
    items, classes = (
        read_table(payload / "items.parquet"),
        json.loads((payload / "classes.json").read_text()),
    )
    assert metrics["listed"] == {"train": 8, "validation": 4} and metrics["missing"] == {}
    assert Counter(row["split"] for row in items) == {"train": 8, "validation": 4}
    assert {classes[row["number"]] == row["label"] for row in items} == {True}
    assert set(classes) == set(NAMES[name])
    known = {film.path: film.label for film in films_of(name, 8, 4, 0)}
    assert {row["path"]: row["label"] for row in items} == known
    again, _ = made(name, PlaceConfig(location=str(payload / "media")), tmp_path / "again")
    assert (again / "items.parquet").read_bytes() == (payload / "items.parquet").read_bytes()


def test_a_missing_or_broken_film_is_listed_and_not_replaced(tmp_path: Path, at_once: None) -> None:
    media = laid_out("jester", tmp_path / "media")
    (media / "3.mp4").unlink()
    (media / "10.mp4").write_bytes(b"<html>")
    payload, metrics = made("jester", PlaceConfig(location=str(media)), tmp_path / "out")
    missing = {row["key"]: row for row in read_table(payload / "missing.parquet")}
    assert metrics["missing"] == {"train": 1, "validation": 1} and metrics["listed"]["train"] == 8
    assert missing["3"]["reason"] == "there is no file of it" and missing["3"]["split"] == "train"
    assert "not a video" in missing["10"]["reason"]
    assert len(read_table(payload / "items.parquet")) == 10


def test_class_numbers_are_the_publishers(real_data: Path, tmp_path: Path) -> None:
    shared = real_data / "annotations"
    for name, number, label in (
        ("k400", 0, "abseiling"), ("jester", 0, "Swiping Left"),
    ):  # fmt: skip
        folder = {"k400": "kinetics", "jester": "jester"}[name]
        map_ = {"k400": "kinetics__label_map_k400", "jester": "jester__label_map"}[name]
        here = tmp_path / name
        here.mkdir()
        for file in (*(shared / folder).iterdir(), shared / "label_maps" / f"{map_}.txt"):
            (here / file.name).write_bytes(file.read_bytes())
        found = listed(BENCHMARKS[name], Sheets(BENCHMARKS[name].format, str(here)), [])
        assert found.classes[number] == label and len(found.classes) == BENCHMARKS[name].classes
        sides = Counter(item.split for item in found.items)
        assert sides["validation"] == BENCHMARKS[name].listed[1]
        assert len(found.missing) == len(found.items)


def test_what_does_not_belong_is_refused(tmp_path: Path) -> None:
    media = laid_out("k400", tmp_path / "media", 2, 2)
    sheets = Sheets("kinetics", str(media))
    with pytest.raises(MediaError, match="are both of x; keep one"):
        listed(BENCHMARKS["k400"], sheets, ["train/x.mp4", "val/x.webm"])
    (media / "my_label_map.txt").write_text("bowling\n")
    with pytest.raises(MediaError, match=r"train.csv line 2: label 'abseiling' is none of 1"):
        listed(BENCHMARKS["k400"], sheets, [])
    few = replace(BENCHMARKS["jester"], classes=3)
    jester = Sheets("jester", str(laid_out("jester", tmp_path / "jester", 2, 2)))
    with pytest.raises(MediaError, match="8 classes, and Jester has 3"):
        listed(few, jester, [])
    with pytest.raises(SettingError, match="places names 'k40'; there are"):
        BenchmarkVideosConfig(places={"k40": PlaceConfig()})
    with pytest.raises(SettingError, match="annotations_at is of files that there are"):
        observe(
            BenchmarkVideosConfig(places={"k400": PlaceConfig(annotations_at="/x")}), "k400",
            ExecutionConfig(cache=tmp_path),
        )  # fmt: skip


def test_another_annotation_file_is_another_question(tmp_path: Path) -> None:
    media = laid_out("jester", tmp_path / "media", 2, 2)
    config = BenchmarkVideosConfig(places={"jester": PlaceConfig(location=str(media))})
    execution = ExecutionConfig(cache=tmp_path / "cache")
    before = observe(config, "jester", execution)
    assert {"jester-v1-train.csv", "1.mp4"} <= set(before)
    with (media / "jester-v1-train.csv").open("a") as file:
        file.write("99;Swiping Up\n")
    assert observe(config, "jester", execution) != before
