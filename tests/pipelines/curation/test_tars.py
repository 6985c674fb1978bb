"""Claims: the members of tars are the items of a source, tars in tars too, on disk and in a bucket;
they are read where they lie; labels find them; what is no plain member is one quarantined row with
its reason, nothing is written outside, no header fills the memory, and a tar is indexed once."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation import ingest, scenes
from pipelines.curation.ingest import RawVideosConfig, observe, partition_config, read_media
from pipelines.curation.scenes import ScenesConfig
from pipelines.curation.source_config import SourceConfig
from pipelines.execution import ExecutionConfig
from pipelines.settings import SettingError
from pipelines.stage import Inputs, Workspace
from storage import tars
from storage.artifacts import Artifact
from storage.digests import digest_bytes
from storage.media import ChangedMediaError, MediaError, open_media
from storage.s3 import S3Place
from storage.tables import read_table
from storage.video import encode, encode_image
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.curation.builders import moving


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)


Entry = tuple[str, bytes] | tarfile.TarInfo


def tar(*entries: Entry, form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of files (name, bytes) and of what else is a member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as out:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                out.addfile(entry)
            else:
                member = tarfile.TarInfo(entry[0])
                member.size = len(entry[1])
                out.addfile(member, io.BytesIO(entry[1]))
    return buffer.getvalue()


def odd(name: str, kind: bytes, leads_to: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, leads_to
    return member


def picture(seed: int) -> bytes:
    return encode_image(moving(1, seed)[0], "jpeg")


CLIP = encode(moving(50, 1), 10.0).data
OTHER = encode(moving(45, 2), 10.0).data


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def ingested(
    location: object, root: Path, partition: str = "yt1b-00", **source: Any
) -> tuple[Artifact, dict[str, str]]:
    """The artifact, and item -> reason of what was set aside."""
    name = partition.split("-")[0]
    sources = {name: SourceConfig(location=str(location), reader="tars", **source)}
    config = RawVideosConfig(sources=sources)
    seen = observe(config, partition, ExecutionConfig(cache=root / "cache"))
    out = workspace(root / partition, partition)
    out = Workspace(out.payload, out.scratch, partition, out.execution, observed=seen)
    metrics = ingest.run(partition_config(config, partition), Inputs({}), out)
    aside = {r["item"]: r["reason"] for r in read_table(out.payload / "quarantine.parquet")}
    record = {"media": metrics["media"], "metrics": metrics}
    return artifact(out.payload, f"raw_videos/{partition}", record), aside


def test_class_tars_of_imagenet_are_labelled_pictures(tmp_path: Path) -> None:
    files = {
        f"n0144076{c}/n0144076{c}_{i}.JPEG": picture(2 * c + i) for c in (4, 5) for i in (0, 1)
    }
    classes = {
        c: tar(*((name.split("/")[1], data) for name, data in files.items() if name[8] == c[8]))
        for c in ("n01440764", "n01440765")
    }
    whole = tar(*((f"{name}.tar", data) for name, data in classes.items()))
    layouts = {
        "each": {f"train/{name}.tar": data for name, data in classes.items()},
        "one": {"train/ILSVRC2012_img_train.tar": whole},
    }
    for layout, there in layouts.items():
        folder = written(tmp_path / layout, there)
        made, aside = ingested(
            folder, tmp_path / f"out {layout}", "imagenet", annotations="imagenet"
        )
        rows = made.table("videos.parquet")
        assert aside == {} and len(rows) == 4
        for row in rows:
            assert (row["kind"], row["split"]) == ("image", "train")
            assert row["label"] == row["path"].rpartition("/")[2].split("_")[0]
            assert digest_bytes(read_media(made, row)) == row["sha256"]
        assert {row["sha256"] for row in rows} == {digest_bytes(data) for data in files.values()}


def test_videos_of_a_webdataset_are_cut_where_they_lie(tmp_path: Path) -> None:
    shard = tar(
        ("./a/000.mp4", CLIP), ("./a/000.json", b'{"fps": 10}'), ("./a/000.txt", b"a caption"),
        odd("./a", tarfile.DIRTYPE), ("./a/._000.mp4", b"a Mac's"), ("notes.txt", b"alone"),
    )  # fmt: skip
    labels = b"path,label,split\nshard.tar/a/000.mp4,spin,train\nbeside.mp4,roll,\n"
    folder = written(
        tmp_path / "in", {"shard.tar": shard, "beside.mp4": OTHER, "labels.csv": labels}
    )
    made, aside = ingested(folder, tmp_path)
    rows = {row["path"]: row for row in made.table("videos.parquet")}
    assert {path: row["label"] for path, row in rows.items()} == {
        "shard.tar/a/000.mp4": "spin", "beside.mp4": "roll",
    }  # fmt: skip
    assert aside == {"shard.tar/notes.txt": "not a video or image: it is a text file"}
    out = workspace(tmp_path / "cut", "yt1b-00")
    scenes.run(ScenesConfig(), Inputs({"raw_videos": made}), out)
    assert {s["path"] for s in read_table(out.payload / "scenes.parquet")} == {*rows}
    assert sorted(p.name for p in tmp_path.rglob("*.mp4")) == ["beside.mp4"]  # nothing unpacked


BAD: dict[str, tuple[bytes, dict[str, str]]] = {
    "out.tar": (
        tar(("../../escaped.mp4", CLIP), ("/escaped.mp4", CLIP), ("a/../../escaped.mp4", CLIP)),
        dict.fromkeys(
            ["out.tar/../../escaped.mp4", "out.tar//escaped.mp4", "out.tar/a/../../escaped.mp4"],
            "leads out of its tar; give it another name",
        ),
    ),
    "odd.tar": (
        tar(
            odd("link.mp4", tarfile.SYMTYPE, "/etc/passwd"),
            odd("hard.mp4", tarfile.LNKTYPE, "link.mp4"),
            odd("null.mp4", tarfile.CHRTYPE), odd("pipe.mp4", tarfile.FIFOTYPE),
        ),
        {
            **dict.fromkeys(
                ["odd.tar/link.mp4", "odd.tar/hard.mp4"],
                "is a link in its tar; put the file itself there",
            ),
            **dict.fromkeys(
                ["odd.tar/null.mp4", "odd.tar/pipe.mp4"],
                "is no plain file in its tar (a pipe, a device, a sparse file)",
            ),
        },
    ),
    "short.tar": (
        tar(("a.txt", b"x"), ("b.mp4", CLIP))[: 1536 + 1000],
        {
            "short.tar/a.txt": "not a video or image: it is a text file",
            "short.tar/b.mp4": f"is cut short: its tar has 1000 of its {len(CLIP)} bytes",
        },
    ),
    "endless.tar": (
        tar(("a.txt", b"y"))[:1024],
        {
            "endless.tar": "has no end after 1 members; fetch it again",
            "endless.tar/a.txt": "not a video or image: it is a text file",
        },
    ),
    "broken.tar": (
        tar(("a.txt", b"z"))[:1024] + b"no header" * 200,
        {
            "broken.tar": "goes on with what is no member after 1 members; fetch it again",
            "broken.tar/a.txt": "not a video or image: it is a text file",
        },
    ),
    "twice.tar": (
        tar(("a.mp4", CLIP), ("a.mp4", OTHER)),
        {"twice.tar/a.mp4": "is in its tar twice; keep one of the two"},
    ),
    "latin.tar": (
        tar(("caf\udce9.mp4", CLIP)),
        {"latin.tar/caf\\xe9.mp4": "has a name that is not UTF-8; give it another name"},
    ),
    "page.tar": (b"<html>moved</html>", {"page.tar": "is no tar: it is a web page or XML"}),
    "press.tar": (gzip.compress(tar()), {"press.tar": "is no tar: it is a gzip archive; unpack"}),
    "empty.tar": (b"", {"empty.tar": "is no tar: the file is empty (0 bytes)"}),
    "inner.tar": (
        tar(("x.tar", b"no tar at all")), {"inner.tar/x.tar": "is no tar: it is a text file"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def reasons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Item -> reason of one ingest of all of BAD beside one good tar."""
    root = tmp_path_factory.mktemp("bad tars")
    files = {name: data for name, (data, _) in BAD.items()}
    folder = written(root / "in" / "deep", files | {"good.tar": tar(("good.mp4", OTHER))}).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "map", map_in_turn)
        made, aside = ingested(folder, root)
    assert [row["path"] for row in made.table("videos.parquet")] == ["deep/good.tar/good.mp4"]
    assert list(root.rglob("escaped.mp4")) == [] and not Path("/escaped.mp4").exists()
    return aside


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_tar_is_one_row_each(name: str, reasons: dict[str, str]) -> None:
    expected = {f"deep/{item}": reason for item, reason in BAD[name][1].items()}
    found = {i: r for i, r in reasons.items() if i.split("/")[1] == name}
    assert found.keys() == expected.keys()
    for item, reason in expected.items():
        assert reason in found[item]


def test_a_header_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    """A long name is read into memory as a whole by whoever believes its header."""
    header = odd("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    header.size = 1 << 30
    path = written(tmp_path, {"large.tar": header.tobuf(tarfile.GNU_FORMAT)}) / "large.tar"
    with open(path, "r+b") as stream:
        stream.truncate(header.size + 4096)
    tracemalloc.start()
    try:
        found = open_media(f"tars:{tmp_path}")
        [item] = found.listing().paths
        with pytest.raises(MediaError, match="is no tar: a header of"):
            found.read(item, found.listing().marks[item])
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_in_a_bucket_members_are_read_by_ranges(s3_store: str, tmp_path: Path) -> None:
    files = {"a/shard.tar": tar(("x.mp4", CLIP), ("y.mp4", OTHER), ("../z.mp4", CLIP))}
    bucket, folder = S3Place(s3_store), written(tmp_path / "in", files)
    bucket.write("a/shard.tar", files["a/shard.tar"])
    (there, aside), (here, same) = (
        ingested(location, tmp_path / name)
        for location, name in ((s3_store, "there"), (folder, "here"))
    )
    assert there.table("videos.parquet") == here.table("videos.parquet")
    assert aside == same == {
        "a/shard.tar/../z.mp4": "a/shard.tar/../z.mp4 leads out of its tar; give it another name"
    }  # fmt: skip
    for row in there.table("videos.parquet"):
        assert digest_bytes(read_media(there, row)) == row["sha256"]
    media = open_media(f"tars:{s3_store}")
    mark = media.listing().marks["a/shard.tar/x.mp4"]
    bucket.write("a/shard.tar", tar(("x.mp4", OTHER)))
    with pytest.raises(ChangedMediaError, match="changed since it was listed; run again"):
        media.read("a/shard.tar/x.mp4", mark)


def test_a_changed_tar_is_another_recipe_and_an_equal_one_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "in", {"a.tar": tar(("x.mp4", CLIP)), "b.tar": tar(("x", CLIP))})
    config = RawVideosConfig(sources={"coin": SourceConfig(location=str(folder), reader="tars")})
    read: list[int] = []
    monkeypatch.setattr(tars, "digest_stream", counted(tars.digest_stream, read))

    def seen() -> dict[str, Any]:
        return observe(config, "coin", ExecutionConfig(cache=tmp_path / "cache"))

    before = seen()
    assert before == dict.fromkeys(["a.tar/x.mp4", "b.tar/x"], digest_bytes(CLIP))
    assert seen() == before and len(read) == 2
    written(folder, {"a.tar": tar(("x.mp4", OTHER))})
    assert seen() == before | {"a.tar/x.mp4": digest_bytes(OTHER)} and len(read) == 3


def counted(function: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    def call(*values: object) -> Any:
        calls.append(1)
        return function(*values)

    return call


def test_a_reader_of_that_name_is_one_line() -> None:
    with pytest.raises(SettingError, match=r"reader = 'tar': must be .*; did you mean tars\?"):
        SourceConfig(location="/videos", reader="tar")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match='reader = "tars" is of files that there are; set loc'):
        SourceConfig(reader="tars")
