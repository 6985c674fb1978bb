"""Claims: whatever lies in a source ends as one row, in the videos or in quarantine with the right
reason, and nothing ends an ingest: everything that real archives hold, links that lead in a
circle, names that are no text, files that take too long or too much memory."""

from __future__ import annotations

import io
import os
import re
import struct
import tarfile
import wave
import zlib
from pathlib import Path

import numpy as np
import pytest

from pipelines.curation import scenes
from pipelines.curation.ingest import RawVideosConfig, SourceConfig, observe, partition_config, run
from pipelines.curation.scenes import ScenesConfig
from pipelines.execution import ExecutionConfig
from pipelines.isolation import Limits
from pipelines.stage import Inputs, Workspace
from storage.confined import legible
from storage.media import open_media
from storage.places import PlaceError
from storage.tables import read_table
from storage.video import encode, encode_image
from tests.pipelines.builders import artifact, map_in_turn, workspace
from tests.pipelines.curation.builders import moving

# A quarter of a second of CPU to decode, and two milliseconds for the good file.
LONG = encode([np.zeros((1080, 1920, 3), np.uint8)] * 240, 30.0, codec="mpeg4").data
BRIEF = Limits(seconds=0.05)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "map", map_in_turn)


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode(moving(20, 1), 10.0).data


@pytest.fixture
def folder(tmp_path: Path, clip: bytes) -> Path:
    """A source with one good file."""
    root = tmp_path / "source"
    root.mkdir()
    (root / "good.mp4").write_bytes(clip)
    return root


def sorted_out(
    folder: Path, root: Path, limits: Limits | None = None, **source: object
) -> tuple[list[str], dict[str, str]]:
    """Paths of the good files, and item -> reason of the others, over all buckets."""
    sources = {"yt1b": SourceConfig(location=str(folder), **source)}
    config = RawVideosConfig(sources=sources, limits=limits or Limits())
    kept: list[str] = []
    aside: dict[str, str] = {}
    for bucket in range(config.sources["yt1b"].buckets):
        partition = f"yt1b-{bucket:02d}"
        observe(config, partition, ExecutionConfig(cache=root / "cache"))
        out = workspace(root / partition, partition)
        run(partition_config(config, partition), Inputs({}), out)
        kept += [row["path"] for row in read_table(out.payload / "videos.parquet")]
        rows = read_table(out.payload / "quarantine.parquet")
        assert len({row["item"] for row in rows} | {*aside}) == len(rows) + len(aside)
        aside |= {row["item"]: row["reason"] for row in rows}
    return kept, aside


def tar_that_leads_out() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("../../escaped.mp4", "/escaped.mp4"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    return buffer.getvalue()


def sound() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(16000))
    return buffer.getvalue()


HUGE = (
    "no frame can be decoded: Invalid data found when processing input "
    "(Picture size 100000x100000 is invalid)"
)
TEXT, TAR = "not a video or image: it is a text file", "it is a tar archive; unpack it"
WEBM = encode(moving(30, 2), 10.0, container="webm", codec="libvpx-vp9").data
MP4 = encode(moving(30, 3), 10.0).data
# Path -> its bytes (or the name of a real file), and values of its row or why there is none.
INPUT: dict[str, tuple[bytes | str, dict[str, object] | str]] = {
    "truncated.webm": (WEBM[: len(WEBM) // 2], "damaged (0 of "),
    "truncated.mp4": (MP4[: len(MP4) // 2], "not a video or image: Invalid data found"),
    "empty.mp4": (b"", "not a video or image: the file is empty (0 bytes)"),
    "zeros.mp4": (bytes(4096), "not a video or image: Invalid data found"),
    "text.mp4": (b"This video was removed.\n", TEXT),
    "notes.csv": (("\ufeffpath,label\n" + "über.mp4,große\n" * 40).encode(), TEXT),
    "page.webm": (b"\n<html>gone</html>", "not a video or image: it is a web page or XML"),
    "is mp4.avi": (MP4, {"container": "mov", "frames": 30}),
    "is webm.mp4": (WEBM, {"container": "matroska", "codec": "vp9"}),
    "picture.mp4": (encode_image(moving(1, 4)[0], "png"), {"kind": "image", "seconds": 0.0}),
    "sound.mp4": (sound(), "no video stream (only audio)"),
    "one frame.mp4": (encode(moving(1, 5), 10.0).data, {"kind": "video", "frames": 1}),
    "rotated.mov": ("decord__video_90.mov", {"width": 320, "height": 568}),
    "10-bit.mp4": ("torchcodec__h264_10bits.mp4", {"kind": "video", "codec": "h264"}),
    "variable.mp4": ("ExoPlayer__sample_android_slow_motion.mp4", {"kind": "video"}),
    "huge.png": (b"", HUGE),
    "a b/\nü 日本\t.mp4": (encode(moving(9, 6), 10.0).data, {"frames": 9}),
    "leads out.tar": (tar_that_leads_out(), f"not a video or image: {TAR}"),
    "archive.zip": (b"PK\x03\x04" + bytes(99), "not a video or image: it is a zip archive; unpack"),
    "z/copy.mp4": (MP4, "same bytes as is mp4.avi"),
    "pipe.mp4": ("", "pipe.mp4 is a pipe or device; put the file itself there"),
}


@pytest.fixture(scope="module")
def outcome(
    tmp_path_factory: pytest.TempPathFactory, real_data: Path
) -> tuple[dict[str, dict[str, object]], dict[str, str]]:
    """Rows and reasons by path, of one ingest of all of INPUT with little memory."""
    root = tmp_path_factory.mktemp("bad")
    for name, (data, _) in INPUT.items():
        path = root / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if data == "":
            os.mkfifo(path)
        elif isinstance(data, str):
            path.symlink_to(path.name + ".real")
            path.with_name(path.name + ".real").write_bytes((real_data / "odd" / data).read_bytes())
        else:
            path.write_bytes(data)
    (root / "source" / "huge.png").write_bytes(png(100_000, 100_000, pixels=False))
    source = {"yt1b": SourceConfig(location=str(root / "source"))}
    config = RawVideosConfig(sources=source, limits=Limits(memory_mb=512))
    observe(config, "yt1b-00", ExecutionConfig(cache=root / "cache"))
    out = workspace(root / "out", "yt1b-00")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "map", map_in_turn)
        run(partition_config(config, "yt1b-00"), Inputs({}), out)
    rows = {row["path"]: row for row in read_table(out.payload / "videos.parquet")}
    aside = read_table(out.payload / "quarantine.parquet")
    assert not [
        path for path in (root.parent / "escaped.mp4", root / "escaped.mp4") if path.exists()
    ]
    return rows, {row["item"]: row["reason"] for row in aside}


@pytest.mark.parametrize("name", INPUT)
def test_each_is_one_row_with_the_right_reason(
    name: str, outcome: tuple[dict[str, dict[str, object]], dict[str, str]]
) -> None:
    rows, reasons = outcome
    expected = INPUT[name][1]
    assert (name in rows) + (name in reasons) == 1
    if isinstance(expected, str):
        assert reasons[name].startswith(expected) and "\n" not in reasons[name]
    else:
        assert rows[name].items() >= expected.items()


def test_nothing_is_lost_and_nothing_is_made_up(
    outcome: tuple[dict[str, dict[str, object]], dict[str, str]],
) -> None:
    rows, reasons = outcome
    links = {f"{name}.real" for name, (data, _) in INPUT.items() if data and type(data) is str}
    assert sorted([*rows, *reasons]) == sorted({*INPUT, *links})


@pytest.mark.parametrize("kind", ["corrupt_derived", "odd"])
def test_of_the_shared_files_each_is_one_row(kind: str, real_data: Path, tmp_path: Path) -> None:
    kept, aside = sorted_out(real_data / kind, tmp_path)
    there = [p.relative_to(real_data / kind).as_posix() for p in (real_data / kind).rglob("*")]
    assert sorted([*kept, *aside]) == sorted(there)
    assert all(reason.isprintable() and len(reason) > 20 for reason in aside.values())
    assert (len(kept), len(aside)) == {"corrupt_derived": (0, 8), "odd": (41, 10)}[kind]


def test_links_in_a_circle_are_rows(folder: Path, tmp_path: Path) -> None:
    (folder / "self.mp4").symlink_to(folder / "self.mp4")
    (folder / "there.mp4").symlink_to(folder / "back.mp4")
    (folder / "back.mp4").symlink_to(folder / "there.mp4")
    (folder / "up").symlink_to(folder)
    kept, aside = sorted_out(folder, tmp_path)
    assert kept == ["good.mp4"]
    circle = "is a link that leads in a circle; remove it"
    assert aside == {
        **{name: f"{name} {circle}" for name in ("back.mp4", "self.mp4", "there.mp4")},
        "up": "up is a link to a folder, which is not followed; put the file itself there",
    }


def test_a_source_that_is_a_link_in_a_circle_is_one_line(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(PlaceError, match=rf"^{loop} is a link that leads in a circle; give ano"):
        open_media(str(loop))


@pytest.mark.parametrize("buckets", [1, 2])
def test_names_that_are_not_utf8_are_rows(folder: Path, tmp_path: Path, buckets: int) -> None:
    names = [b"caf\xe9.mp4", b"b\\\xff\n.mp4"]
    for name in names:
        with open(os.path.join(os.fsencode(folder), name), "wb") as stream:
            stream.write((folder / "good.mp4").read_bytes())
    kept, aside = sorted_out(folder, tmp_path, buckets=buckets)
    assert kept == ["good.mp4"]
    assert aside == {
        item: f"{item}: its name is not UTF-8; give the file another name"
        for item in (r"caf\xe9.mp4", r"b\x5c\xff\x0a.mp4")
    }
    assert sorted(map(original, aside)) == sorted(names)


def original(shown: str) -> bytes:
    """The bytes of a name that `legible` escaped."""
    return re.sub(rb"\\x(..)", lambda found: bytes.fromhex(found[1].decode()), shown.encode())


@pytest.mark.parametrize("name", ["a b.mp4", "ü/日本.mp4", "back\\slash.mp4"])
def test_what_can_be_printed_is_shown_as_it_is(name: str) -> None:
    assert legible(name) == name


@pytest.mark.parametrize("name", ["a\nb.mp4", "\x85\\.mp4", "ü\u2028.mp4", "\udcff.mp4"])
def test_what_cannot_is_one_line_and_can_be_had_back(name: str) -> None:
    assert legible(name).isprintable()
    assert original(legible(name)) == name.encode("utf-8", "surrogateescape")


def test_two_labels_of_one_file_are_a_row(folder: Path, tmp_path: Path, clip: bytes) -> None:
    (folder / "labels.csv").write_text(
        "path,label,split\ngood.mp4,spin,train\ngood.mp4,roll,train\ngood.mp4,spin,train\n"
        "other.mp4,spin,\nother.mp4,spin,\n"
    )
    (folder / "other.mp4").write_bytes(clip)
    kept, aside = sorted_out(folder, tmp_path)
    assert kept == ["other.mp4"]
    assert aside == {
        "good.mp4": "labels.csv names it twice, as 'spin' (train) and as 'roll' (train); keep one "
        "of the two lines"
    }


def test_a_file_has_so_much_time_and_memory_and_no_more(folder: Path, tmp_path: Path) -> None:
    """Those of the machine are not asked: the good file beside them is ingested."""
    (folder / "long.mp4").write_bytes(LONG)
    kept, aside = sorted_out(folder, tmp_path / "time", BRIEF)
    assert kept == ["good.mp4"]
    assert aside == {"long.mp4": "takes more than 0.05 s of CPU (limits.seconds)"}
    (folder / "large.png").write_bytes(png(7500, 7500))
    kept, aside = sorted_out(folder, tmp_path / "memory", Limits(memory_mb=512))
    assert kept == ["good.mp4", "long.mp4"]
    assert aside == {"large.png": "takes more than 512 MiB of memory (limits.memory_mb)"}
    kept, aside = sorted_out(folder, tmp_path / "patient")
    assert kept == ["good.mp4", "large.png", "long.mp4"] and aside == {}


def test_the_limits_of_cutting_are_its_own(folder: Path, tmp_path: Path) -> None:
    (folder / "good.mp4").unlink()
    (folder / "long.mp4").write_bytes(LONG)
    config = RawVideosConfig(sources={"yt1b": SourceConfig(location=str(folder))})
    out = workspace(tmp_path / "raw", "yt1b-00")
    metrics = run(partition_config(config, "yt1b-00"), Inputs({}), out)
    raw = artifact(out.payload, "raw_videos/yt1b-00", {"media": metrics["media"]})
    cut = workspace(tmp_path / "cut", "yt1b-00")
    scenes.run(ScenesConfig(limits=BRIEF), Inputs({"raw_videos": raw}), cut)
    [row] = read_table(cut.payload / "quarantine.parquet")
    assert row == {
        "item": "long.mp4", "stage": "scenes",
        "reason": "takes more than 0.05 s of CPU (limits.seconds)",
    }  # fmt: skip


def png(height: int, width: int, *, pixels: bool = True) -> bytes:
    """A black picture of 8 bytes a pixel; without `pixels`, one whose header alone is there."""
    press = zlib.compressobj(1)
    row = bytes(1 + 8 * width)
    data = b"".join(press.compress(row) for _ in range(height if pixels else 0)) + press.flush()
    header = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
