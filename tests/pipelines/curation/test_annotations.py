"""Claims: the published annotation files of each data set are read whole, with published counts;
what is wrong in one is one line that names the file and the place; what contradicts itself is not
believed; a source's files get their labels, and where clips are segments each segment is a scene.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation import scenes
from pipelines.curation.annotations import coin, imagenet
from pipelines.curation.annotations.documents import Document, seconds
from pipelines.curation.annotations.formats import FormatName
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.annotations.sheets import Sheets
from pipelines.curation.ingest import (
    RawVideosConfig,
    SourceConfig,
    observe,
    partition_config,
    run,
)
from pipelines.execution import ExecutionConfig
from pipelines.stage import Workspace
from storage.artifacts import Artifact
from storage.media import MediaError
from storage.tables import read_table
from storage.video import encode
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.curation.builders import inputs, moving

EPIC_VERBS = "id,key,instances,category\n0,take,\"['take']\",retrieve\n1,put,\"['put']\",leave\n"
EPIC_NOUNS = "id,key,instances,category\n0,tap,\"['tap']\",a\n1,plate,\"['plate']\",b\n"
EPIC_HEAD = "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"
SSV2_LABELS = json.dumps({"Holding something": "0", "Pushing something": "1"})


def written(folder: Path, **files: str | bytes) -> Path:
    """A folder of some files; `__` in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def copied(folder: Path, *files: Path) -> Path:
    folder.mkdir()
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def read(name: FormatName, folder: Path) -> Notes:
    return Sheets(name, str(folder)).read()


def by_split(notes: Notes) -> dict[str | None, int]:
    counts: dict[str | None, int] = {}
    for item in notes.known.values():
        for note in item.values():
            counts[note.split] = counts.get(note.split, 0) + 1
    return counts


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)


def ingested(
    name: str, source: SourceConfig, root: Path
) -> tuple[Artifact, dict[str, str], dict[str, Any]]:
    """The artifact of a source's only bucket, its quarantine and its metrics."""
    config = RawVideosConfig(sources=RawVideosConfig().sources | {name: source})
    out = workspace(root, name)
    metrics = run(partition_config(config, name), inputs(), out)
    aside = read_table(out.payload / "quarantine.parquet")
    made = artifact(
        out.payload, f"raw_videos/{name}", {"media": metrics["media"], "metrics": metrics}
    )
    return made, {row["item"]: row["reason"] for row in aside}, metrics


# --- the published files --------------------------------------------------------------------------


def test_epic_kitchens_has_the_published_segments(real_data: Path) -> None:
    folder = real_data / "annotations" / "epic_kitchens_100"
    notes = Sheets("epic-kitchens-100", "", str(folder)).read()
    # 67,217 to train on, 9,668 of validation and 13,092 of the test, in 700 videos.
    assert by_split(notes) == {"train": 67217, "validation": 9668 + 13092}
    assert (len(notes.known), notes.refused, notes.twice) == (700, {}, {})
    assert notes.known["P01_11"]["P01_11_0"] == Note(
        "take plate", "validation", "P01_11_0", (0.0, 1.89), 0, 2
    )
    first = next(iter(notes.known["P01_01"].values()))
    assert (first.label, first.verb, first.noun) == ("open cupboard", 3, 3), "said: door"
    assert first.span == pytest.approx((0.14, 3.37), abs=0.01), "as in EPIC_100_uda_source_train"
    used = [note for item in notes.known.values() for note in item.values()]
    assert {note.noun for note in used if note.noun is not None} <= set(range(300))
    assert len({note.verb for note in used if note.verb is not None}) == 97


def test_frame_lists_and_clock_times_tell_the_same(real_data: Path) -> None:
    """The frame list and the csv of the domain adaptation task share segments of P01_01 ff."""
    folder = real_data / "annotations" / "epic_kitchens_100"
    notes = Sheets("epic-kitchens-100", "", str(folder)).read()
    source = Document("", "uda.csv", (folder / "EPIC_100_uda_source_train.csv").read_bytes())
    compared = 0
    for place, row in source.rows("video_id", "start_timestamp", "stop_timestamp"):
        span = tuple(
            seconds(row[n], source, place, n) for n in ("start_timestamp", "stop_timestamp")
        )
        spans = [note.span for note in notes.known[row["video_id"]].values() if note.span]
        assert any(max(abs(s - span[0]), abs(e - span[1])) < 0.05 for s, e in spans), row
        compared += 1
    assert compared == 16_115


def test_something_something_has_the_published_videos(real_data: Path, tmp_path: Path) -> None:
    shared = real_data / "annotations"
    map_ = shared / "label_maps" / "sthv2__label_map.txt"
    folder = copied(tmp_path / "ssv2", *(shared / "ssv2").iterdir(), map_)
    notes = read("something-something-v2", folder)
    assert by_split(notes) == {"train": 168_913, "validation": 24_777}
    labels = {note.label for item in notes.known.values() for note in item.values()}
    assert len(labels) == 174
    assert notes.known["78687"][""] == Note("Holding something next to something", "train")


def test_kinetics_has_the_published_clips(real_data: Path, tmp_path: Path) -> None:
    shared = real_data / "annotations"
    folder = copied(
        tmp_path / "k400",
        shared / "kinetics" / "raivokoot__valid_processed.txt",
        shared / "label_maps" / "kinetics__label_map_k400.txt",
    )
    notes = read("kinetics", folder)
    assert by_split(notes) == {"validation": 19_877}
    assert notes.known["0wR5jVB-WPk_000417_000427"][""].label == "abseiling"
    assert len({n.label for item in notes.known.values() for n in item.values()}) == 400


def test_jester_has_the_published_gestures(real_data: Path, tmp_path: Path) -> None:
    shared = real_data / "annotations"
    map_ = shared / "label_maps" / "jester__label_map.txt"
    folder = copied(tmp_path / "jester", *(shared / "jester").iterdir(), map_)
    notes = read("jester", folder)
    assert by_split(notes) == {"validation": 14_787 + 14_743}
    labels = [note.label for item in notes.known.values() for note in item.values() if note.label]
    assert (len(labels), len(set(labels))) == (14_787, 27)
    assert labels.count("Doing other things") == 1_468, "the largest class"


def test_diving_48_has_the_published_dives(real_data: Path, tmp_path: Path) -> None:
    map_ = real_data / "annotations" / "label_maps" / "diving48__label_map.txt"
    folder = copied(tmp_path / "diving", map_)
    entries = [{"vid_name": f"v{n}", "label": n, "start_frame": 0, "end_frame": 9} for n in (0, 47)]
    written(folder, Diving48_V2_test__json=json.dumps(entries))
    known = read("diving-48", folder).known
    assert known["v0"][""] == Note("Back+15som+05Twis+FREE", "validation")
    assert len({known["v47"][""].label, *map_.read_text().split()}) == 48


def test_coin_has_the_published_taxonomy(real_data: Path) -> None:
    path = real_data / "annotations" / "coin" / "taxonomy.xlsx"
    found = coin.read_taxonomy(Document(str(path.parent), path.name, path.read_bytes()))
    assert (len(found.targets), len(found.actions), len(set(found.domains.values()))) == (
        180, 778, 12,
    )  # fmt: skip
    assert (found.targets["UseAnalyticalBalance"], found.targets["WrapGiftBox"]) == (0, 179)
    assert set(found.domains) == set(found.targets)


# --- each format ----------------------------------------------------------------------------------


def test_something_something_in_its_own_json(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        labels__json="\ufeff" + SSV2_LABELS,
        train__json=json.dumps([{"id": "7", "template": "Pushing [something]", "label": "x"}]),
        validation__json=json.dumps([{"id": 8, "template": "Holding [something]"}]),
        test__json=json.dumps([{"id": "9"}]),
    )
    known = read("something-something-v2", folder).known
    assert {item: notes[""] for item, notes in known.items()} == {
        "7": Note("Pushing something", "train"),
        "8": Note("Holding something", "validation"),
        "9": Note(None, "validation"),
    }  # fmt: skip


def test_kinetics_in_its_own_csv(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        train__csv="label,youtube_id,time_start,time_end,split,is_cc\r\n"
        '"tying knot (not on a tie)",-abc_123-XY,10,20,train,0\r\n',
        val__csv="\ufefflabel,youtube_id,time_start,time_end,split\nyoga,aaaaaaaaaaa,0,10,validate\n",
        test__csv="youtube_id,time_start,time_end,split\nbbbbbbbbbbb,1,11,test\n",
    )
    assert {item: notes[""] for item, notes in read("kinetics", folder).known.items()} == {
        "-abc_123-XY_000010_000020": Note("tying knot (not on a tie)", "train"),
        "aaaaaaaaaaa_000000_000010": Note("yoga", "validation"),
        "bbbbbbbbbbb_000001_000011": Note(None, "validation"),
    }


def test_lists_of_youtube_ids(tmp_path: Path) -> None:
    written(
        tmp_path,
        HowTo100M_v1__csv="video_id,category_1,category_2,rank,task_id\n"
        "nVbIUDjzWY4,Cars & Other Vehicles,Motorcycles,27,52907\n-vX,,,1,5\n-vX,Food,,2,6\n",
        yttemporal1b_ids_train__csv="video_id\n-abc\nboth\n",
        yttemporal1b_ids_val__csv="video_id\nboth\n",
    )
    howto = read("howto100m", tmp_path)
    assert by_split(howto) == {"train": 2} and not howto.twice
    pool = read("yt-temporal-1b", tmp_path)
    assert {item: notes[""].split for item, notes in pool.known.items()} == {
        "both": "validation", "-abc": "train",
    }  # fmt: skip


def test_imagenet_says_classes_in_its_folders(tmp_path: Path) -> None:
    assert imagenet.told_by_path("train/n01440764/n01440764_1.JPEG") == Note("n01440764", "train")
    assert imagenet.told_by_path("val/n01443537/x.JPEG") == Note("n01443537", "validation")
    assert imagenet.told_by_path("n01440764_10026.JPEG") == Note("n01440764", None)
    assert imagenet.told_by_path("val/ILSVRC2012_val_00000001.JPEG") is None
    table = "ImageId,PredictionString\nILSVRC2012_val_00000001,n01751748 111 108 365 340 \n"
    sheets = Sheets("imagenet", str(written(tmp_path, LOC_val_solution__csv=table)))
    flat, deep = "val/ILSVRC2012_val_00000001.JPEG", "train/n01440764/n01440764_1.JPEG"
    told = sheets.told([flat, deep], [flat, deep], lambda _: True)
    assert told.of_files() == {
        flat: ("n01751748", "validation"), deep: ("n01440764", "train"),
    }  # fmt: skip


def test_jester_and_diving_48_in_their_own_files(tmp_path: Path) -> None:
    gestures = {
        "jester-v1-train__csv": "1;Swiping Left\n", "jester-v1-test__csv": "2\n",
        "jester-v1-labels__csv": "Swiping Left\nSwiping Right\n",
    }  # fmt: skip
    assert read("jester", written(tmp_path / "jester", **gestures)).known == {
        "1": {"": Note("Swiping Left", "train")}, "2": {"": Note(None, "validation")},
    }  # fmt: skip
    dives = {
        "Diving48_vocab__json": '[["Back", "15som", "05Twis", "FREE"]]',
        "Diving48_V2_train__json": '[{"vid_name": "a_1", "label": 0}]',
    }
    assert read("diving-48", written(tmp_path / "diving", **dives)).known == {
        "a_1": {"": Note("Back+15som+05Twis+FREE", "train")}
    }


def test_coin_in_its_own_json(tmp_path: Path) -> None:
    entry = {"class": "WashHair", "subset": "testing", "recipe_type": 3, "annotation": []}
    notes = read("coin", written(tmp_path, COIN__json=json.dumps({"database": {"abc": entry}})))
    assert notes.known == {"abc": {"": Note("WashHair", "validation")}}


def test_clock_times_are_seconds() -> None:
    document = Document("x", "y.csv", b"")
    assert seconds("01:02:03.50", document, "line 2", "start") == 3723.5
    assert seconds("59.94", document, "line 2", "fps") == 59.94


# --- what is wrong --------------------------------------------------------------------------------

EPIC = {"EPIC_100_verb_classes__csv": EPIC_VERBS, "EPIC_100_noun_classes_v2__csv": EPIC_NOUNS}
CLIPS, SSV2 = "youtube_id,time_start,time_end\n", "something-something-v2"
EATING = '[{"id": "1", "template": "Eating"}]'
VAL = '{"database": {"a": {"class": "x", "subset": "val"}}}'
NO_CLASS, NO_TIME = "a_0,a,0:00:00,0:00:01,2,0\n", "a_0,a,0:00:02,0:00:01,0,0\n"


@pytest.mark.parametrize(
    ("name", "files", "told"),
    [
        ("kinetics", {}, "no files there"),
        ("kinetics", {"a__mp4": b"x"}, r"no annotation files of kinetics .*annotations_at"),
        ("kinetics", {"train__csv": "youtube_id,label\n"}, r"no column \['time_end', 'time_start'"),
        ("kinetics", {"train__csv": f"{CLIPS}a,5,5\n"}, "train.csv line 2: 'a' from 5 to 5 s"),
        ("kinetics", {"train__csv": f"{CLIPS}a,5,x\n"}, "train.csv line 2: time_end is 'x'"),
        ("kinetics", {"x_processed__txt": "a 0 9 710\n"}, "line 1: label is '710'; .* 0 to 709"),
        ("kinetics", {"train__csv": b"youtube_id\n\xff\xfe\n"}, "train.csv cannot be read .*UTF-8"),
        (SSV2, {"labels__json": '{"a": "174"}'}, "json label 'a': number is '174'; .* 0 to 173"),
        (
            SSV2,
            {"labels__json": SSV2_LABELS, "train__json": EATING},
            "train.json entry 1: template 'Eating' is none of 2 labels",
        ),
        (SSV2, {"train__json": '[\n{"id": }]'}, "train.json line 2: is no JSON"),
        (SSV2, {"train__json": "{}"}, "train.json holds dict, not a list"),
        ("howto100m", {"HowTo100M_v1__csv": "video_id\nx\n"}, "HowTo100M_v1.csv has no column"),
        ("yt-temporal-1b", {"my_ids__txt": "a\na://x\n"}, "my_ids.txt line 2: 'a://x' is no YouT"),
        (
            "imagenet",
            {"LOC_val_solution__csv": "ImageId,PredictionString\na,cat\n"},
            "line 2: class 'cat' is no WordNet id",
        ),
        ("coin", {"COIN__json": VAL}, "COIN.json video a: subset 'val' is not one of"),
        ("coin", {"taxonomy__xlsx": b"PK"}, "taxonomy.xlsx is no Excel file"),
        (
            "jester",
            {"jester-v1-train__csv": "1,Stop\n"},
            "train.csv line 1: is '1,Stop'; give id;l",
        ),
        (
            "jester",
            {"jester-v1-labels__csv": "Stop\n", "jester-v1-train__csv": "1;Stop\n2;Go\n"},
            "train.csv line 2: label 'Go' is none of 1 labels",
        ),
        (
            "diving-48",
            {"Diving48_V2_test__json": '[{"vid_name": "a", "label": 48}]'},
            "test.json entry 1: label is '48'; give a whole number, 0 to 47",
        ),
        (
            "diving-48",
            {"Diving48_V2_test__json": '[{"vid_name": "a", "label": 4, "score": 1}]'},
            r"entry 1: has \['label', 'score', 'vid_name'\]; give end_frame",
        ),
        ("epic-kitchens-100", {"EPIC_100_train__csv": EPIC_HEAD}, "verb_classes.csv is missing"),
        (
            "epic-kitchens-100",
            EPIC | {"EPIC_100_train__csv": EPIC_HEAD + NO_CLASS},
            "EPIC_100_train.csv line 2: verb_class is '2'; give a whole number, 0 to 1",
        ),
        (
            "epic-kitchens-100",
            EPIC | {"EPIC_100_train__csv": EPIC_HEAD + NO_TIME},
            "line 2: a_0 ends at 1 s, not after its start, 2 s",
        ),
        (
            "epic-kitchens-100",
            EPIC | {"EPIC_100_train_new__txt": "P/rgb/P01_01 1 2 0 0\n"},
            "line 1: EPIC_100_video_info.csv has no rate of P01_01",
        ),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(
    name: FormatName, files: dict[str, str | bytes], told: str, tmp_path: Path
) -> None:
    written(tmp_path, **files)
    with pytest.raises(MediaError, match=told) as error:
        read(name, tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_an_excel_file_is_not_unfolded_without_end(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "taxonomy.xlsx", "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/workbook.xml", b" " * (65 << 20))
    with pytest.raises(MediaError, match=r"taxonomy\.xlsx is too large for annotations"):
        read("coin", tmp_path)


def test_what_contradicts_itself_is_not_believed(tmp_path: Path) -> None:
    head = "label,youtube_id,time_start,time_end\n"
    rows = "yoga,a,0,10\nyoga,a,0,10\nyoga,b,0,10\nrunning,b,0,10\nskiing,b,0,10\n"
    notes = read("kinetics", written(tmp_path, train__csv=head + rows))
    assert list(notes.known) == ["a_000000_000010"]
    assert notes.twice == {
        "b_000000_000010": "train.csv names it twice, as 'yoga' (train) and as 'running' (train); "
        "keep one of the two lines"
    }


def test_annotations_are_of_files_that_there_are() -> None:
    with pytest.raises(ValueError, match="is of files that there are"):
        SourceConfig(annotations="coin")


# --- through ingestion ----------------------------------------------------------------------------


def test_webm_files_get_their_labels_from_json(tmp_path: Path, at_once: None) -> None:
    clips = {
        f"{n}__webm": encode(moving(8, n), 12.0, container="webm", codec="libvpx-vp9").data
        for n in (1, 2)
    }
    train = [
        {"id": str(n), "template": "Pushing [something]"}
        for n in (1, 3)  # the third is not there
    ]
    written(tmp_path / "media", **clips)
    about = written(tmp_path / "about", labels__json=SSV2_LABELS, train__json=json.dumps(train))
    source = SourceConfig(
        location=str(tmp_path / "media"), annotations="something-something-v2",
        annotations_at=str(about),
    )  # fmt: skip
    made, aside, metrics = ingested("ssv2", source, tmp_path / "out")
    rows = {row["path"]: (row["label"], row["split"]) for row in made.table("videos.parquet")}
    assert rows == {"1.webm": ("Pushing something", "train"), "2.webm": (None, None)}
    assert (metrics["labels"], metrics["labels_matched"], aside) == (2, 1, {})
    assert "segments" not in metrics


def test_other_annotations_are_another_question(tmp_path: Path) -> None:
    written(tmp_path / "media", a__mp4=b"x")
    about = written(tmp_path / "about", COIN__json='{"database": {}}')
    source = SourceConfig(
        location=str(tmp_path / "media"), annotations="coin", annotations_at=str(about)
    )
    config = RawVideosConfig(sources={"coin": source})
    execution = ExecutionConfig(cache=tmp_path / "cache")
    before = observe(config, "coin", execution)
    assert set(before) == {"a.mp4", "/annotations/COIN.json"}
    written(about, COIN__json='{"database":  {}}')
    assert observe(config, "coin", execution) != before


def test_a_file_that_no_list_names_is_left_out(tmp_path: Path, at_once: None) -> None:
    clip = {name: encode(moving(8, n), 10.0).data for n, name in enumerate(("ab__mp4", "cd__mp4"))}
    written(tmp_path / "media", yttemporal1b_ids_train__csv="video_id\nab\n", **clip)
    source = SourceConfig(location=str(tmp_path / "media"), annotations="yt-temporal-1b")
    made, aside, metrics = ingested("coin", source, tmp_path / "out")
    assert [row["path"] for row in made.table("videos.parquet")] == ["ab.mp4"]
    assert (aside, metrics["unlisted"], metrics["labels_matched"]) == ({}, 1, 1)


def test_each_action_segment_is_a_scene(tmp_path: Path, at_once: None) -> None:
    rows = (
        "a_0,P01_01,00:00:00.10,00:00:01.05,0,1\n"
        "a_1,P01_01,00:00:00.10,00:00:01.05,1,1\n"  # the same span, another action
        "a_2,P01_01,00:00:01.00,00:00:09.00,1,0\n"  # ends with the film
        "a_3,P01_01,00:00:03.00,00:00:04.00,1,0\n"  # begins after it
        "a_4,P01_01,00:00:00.00,00:00:01.00,1,0\na_4,P01_01,00:00:00.00,00:00:01.00,0,0\n"
    )
    written(tmp_path / "media", EPIC_100_train__csv=EPIC_HEAD + rows, **EPIC)
    written(tmp_path / "media" / "P01", P01_01__MP4=encode(moving(20, 1), 10.0).data)
    written(tmp_path / "media" / "P02", P02_09__MP4=encode(moving(20, 2), 10.0).data)
    source = SourceConfig(location=str(tmp_path / "media"), annotations="epic-kitchens-100")
    raw, aside, metrics = ingested("epic_kitchens", source, tmp_path / "out")
    assert aside == {
        "a_3": "begins at 3 s of P01/P01_01.MP4, which ends at 2 s",
        "a_4": "EPIC_100_train.csv names it twice, as 'put tap' (train) from 0 to 1 s and as "
        "'take tap' (train) from 0 to 1 s; keep one of the two lines",
    }
    assert (metrics["videos"], metrics["segments"]) == (2, 3)
    segments = raw.table("segments.parquet")
    assert [(s["segment"], s["verb"], s["noun"]) for s in segments] == [
        ("a_0", 0, 1), ("a_1", 1, 1), ("a_2", 1, 0),
    ]  # fmt: skip
    out = workspace(tmp_path / "scenes", "epic_kitchens")
    told = scenes.run(scenes.ScenesConfig(), inputs(raw_videos=raw), out)
    found = read_table(out.payload / "scenes.parquet")
    assert told["scenes"] == len({scene["scene_id"] for scene in found}) == 3
    assert [(s["label"], s["start"], s["end"], s["cut"]) for s in found] == [
        ("take plate", 0.1, 1.05, "annotated"),
        ("put plate", 0.1, 1.05, "annotated"),
        ("put tap", 1.0, 2.0, "annotated"),
    ]
    assert [(s["start_frame"], s["end_frame"], s["split"]) for s in found] == [
        (1, 11, "train"), (1, 11, "train"), (10, 20, "train"),
    ]  # fmt: skip
