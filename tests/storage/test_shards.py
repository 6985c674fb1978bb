"""Claims: the stock reader reads what was written; equal samples give equal bytes; every span is
where the writer said; shards roll over by a rule of the samples alone; a cut shard is noticed.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.payloads import read_span
from storage.shards import ShardWriter, Span

SAMPLES = {
    f"clip-{number}": {"mp4": bytes([number]) * (700 * number), "json": {"b": number, "a": "ü"}}
    for number in range(6)
}


def write(folder: Path, **limits: int) -> dict[str, dict[str, Span]]:
    with ShardWriter(folder, **limits) as shards:
        return {key: shards.write(key, parts) for key, parts in SAMPLES.items()}


def test_the_stock_reader_reads_what_was_written(tmp_path: Path) -> None:
    write(tmp_path)
    stock = list(webdataset.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in stock] == list(SAMPLES)
    for sample in stock:
        parts = SAMPLES[sample["__key__"]]
        assert sample["mp4"] == parts["mp4"] and json.loads(sample["json"]) == parts["json"]


def test_equal_samples_give_equal_bytes_without_time_or_owner(tmp_path: Path) -> None:
    write(tmp_path / "a", shard_samples=4)
    write(tmp_path / "b", shard_samples=4)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["000000.tar", "000001.tar"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        with tarfile.open(tmp_path / "a" / name) as tar:
            members = tar.getmembers()
        for member in members:
            assert (member.mtime, member.uname, member.gname, member.uid) == (0, "root", "root", 0)
            assert member.mode == 0o444


def test_every_span_is_where_the_writer_said(tmp_path: Path) -> None:
    spans = write(tmp_path, shard_bytes=2000)
    for key, parts in SAMPLES.items():
        span = spans[key]["mp4"]
        assert read_span(tmp_path / span.shard, span.offset, span.size) == parts["mp4"]
        span = spans[key]["json"]
        assert json.loads(read_span(tmp_path / span.shard, span.offset, span.size)) == parts["json"]


def test_shards_roll_over_by_samples_and_by_bytes(tmp_path: Path) -> None:
    spans = write(tmp_path / "samples", shard_samples=4)
    assert [spans[key]["mp4"].shard for key in SAMPLES] == ["000000.tar"] * 4 + ["000001.tar"] * 2
    # Parts (json is 20 bytes) up to sample 2 are 2160 bytes, so sample 3 opens the next shard.
    spans = write(tmp_path / "bytes", shard_bytes=2100)
    shards = [spans[key]["mp4"].shard[:6] for key in SAMPLES]
    assert shards == ["000000", "000000", "000000", "000001", "000002", "000003"]


def test_an_interrupted_shard_is_written_anew(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    interrupted = ShardWriter(tmp_path / "cut")
    interrupted.write("clip-0", SAMPLES["clip-3"])
    del interrupted  # the process ends here: no close
    write(tmp_path / "cut")
    name = "000000.tar"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_cut_shard_is_noticed(tmp_path: Path) -> None:
    span = write(tmp_path)["clip-5"]["mp4"]
    shard = tmp_path / span.shard
    shard.write_bytes(shard.read_bytes()[: span.offset + 10])
    with pytest.raises(
        ValueError, match=rf"000000.tar: 3500 bytes at {span.offset} wanted, 10 there"
    ):
        read_span(shard, span.offset, span.size)


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "../a", "ü"])
def test_keys_that_a_reader_would_split_are_refused(tmp_path: Path, key: str) -> None:
    with ShardWriter(tmp_path) as shards, pytest.raises(ValueError, match="key"):
        shards.write(key, {"mp4": b"x"})


def test_limits_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ShardWriter(tmp_path, shard_bytes=0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=5))
def test_spans_hold_for_any_bytes(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with ShardWriter(folder, shard_samples=2) as shards:
        spans = [shards.write(f"k{n}", {"bin": part}) for n, part in enumerate(parts)]
    for span, part in zip(spans, parts, strict=True):
        assert read_span(folder / span["bin"].shard, span["bin"].offset, span["bin"].size) == part
        with tarfile.open(fileobj=io.BytesIO((folder / span["bin"].shard).read_bytes())) as tar:
            assert span["bin"].offset in {member.offset_data for member in tar}
