"""Tables give back what was written, refuse rows that do not fit their schema, and equal rows give
equal bytes, in this process and in any other."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from storage.digests import digest_file
from storage.tables import (
    QUARANTINE,
    ROW_GROUP,
    MappedIndex,
    TableWriter,
    read_batches,
    read_columns,
    read_table,
    write_index,
    write_table,
)

SCHEMA = {
    "key": "string", "shots": "int32", "bytes": "int64", "speed": "float32", "seconds": "float64",
    "kept": "bool",
}  # fmt: skip
ROWS = [
    {
        "key": f"scene-{i}", "shots": i, "bytes": 1 << 40, "speed": i / 4, "seconds": i / 3,
        "kept": i % 2 == 0,
    }
    for i in range(100)
]  # fmt: skip


def test_rows_come_back_in_order_with_their_types(tmp_path) -> None:
    write_table(tmp_path / "new" / "t.parquet", ROWS, SCHEMA)
    assert read_table(tmp_path / "new" / "t.parquet") == ROWS


def test_none_is_a_value_of_every_type(tmp_path) -> None:
    rows = [dict.fromkeys(SCHEMA), ROWS[1]]
    write_table(tmp_path / "t.parquet", rows, SCHEMA)
    assert read_table(tmp_path / "t.parquet") == rows


def test_an_empty_table_keeps_its_columns(tmp_path) -> None:
    write_table(tmp_path / "q.parquet", [], QUARANTINE)
    assert read_table(tmp_path / "q.parquet") == []
    assert set(read_columns(tmp_path / "q.parquet", list(QUARANTINE))) == set(QUARANTINE)


def test_columns_are_arrays_of_the_schemas_type(tmp_path) -> None:
    write_table(tmp_path / "t.parquet", ROWS, SCHEMA)
    columns = read_columns(tmp_path / "t.parquet", ["speed", "bytes"])
    assert list(columns) == ["speed", "bytes"]
    assert columns["speed"].dtype == np.float32
    assert columns["bytes"].dtype == np.int64
    np.testing.assert_array_equal(columns["speed"], np.arange(100, dtype=np.float32) / 4)


def test_columns_that_do_not_fit_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"t\.parquet: columns \['labl'\] are not in the schema"):
        write_table(tmp_path / "t.parquet", [ROWS[0] | {"labl": "x"}], SCHEMA)
    lacking = {name: value for name, value in ROWS[0].items() if name != "kept"}
    with pytest.raises(KeyError, match="kept"):
        write_table(tmp_path / "t.parquet", [ROWS[0], lacking], SCHEMA)
    assert not (tmp_path / "t.parquet").exists()


def test_not_a_number_survives(tmp_path) -> None:
    write_table(tmp_path / "t.parquet", [{"loss": math.nan}, {"loss": None}], {"loss": "float64"})
    first, second = read_table(tmp_path / "t.parquet")
    assert math.isnan(first["loss"])
    assert second["loss"] is None


def test_many_rows_are_several_row_groups_however_they_are_cut(tmp_path) -> None:
    import pyarrow.parquet as pq

    count = 2 * ROW_GROUP + 7
    column = np.arange(count, dtype=np.int32)
    for name, cut in (("whole", count), ("pieces", 50_001)):
        with TableWriter(tmp_path / name, {"n": "int32", "text": "string"}) as table:
            for first in range(0, count, cut):
                here = column[first : first + cut]
                table.write({"n": here, "text": here.astype(str)})
        assert table.rows == count
    assert pq.ParquetFile(tmp_path / "whole").num_row_groups == 3
    assert digest_file(tmp_path / "whole") == digest_file(tmp_path / "pieces")
    batches = list(read_batches(tmp_path / "whole", ["n"], 10_000))
    assert max(len(batch["n"]) for batch in batches) <= 10_000
    assert (np.concatenate([batch["n"] for batch in batches]) == column).all()


def test_an_index_is_mapped_with_repeated_words_kept_once(tmp_path) -> None:
    schema = {"key": "string", "source": "string", "size": "int64"}
    batches = [
        {
            "key": [f"{part}-{n}" for n in range(5)], "size": np.arange(5) + 10 * part,
            "source": ["ssv2", "coin", "ssv2", "coin", "ssv2"],
        }
        for part in range(3)
    ]  # fmt: skip
    write_index(tmp_path / "i.arrow", batches, schema, {"source": ["coin", "ssv2", "yt1b"]})
    index = MappedIndex(tmp_path / "i.arrow")
    assert list(index) == list(schema)
    assert [index[name][7] for name in index] == ["1-2", "ssv2", 12]
    assert len(index["key"]) == 15
    assert np.asarray(index["size"]).tolist() == [*range(5), *range(10, 15), *range(20, 25)]
    assert index["source"].rows_of("coin").tolist() == [1, 3, 6, 8, 11, 13]
    assert (
        index["source"].rows_of("yt1b").tolist() == index["source"].rows_of("none").tolist() == []
    )
    write_index(tmp_path / "none.arrow", [], schema, {"source": []})
    assert len(MappedIndex(tmp_path / "none.arrow")["key"]) == 0


def test_equal_rows_give_equal_bytes_in_any_process(tmp_path) -> None:
    write_table(tmp_path / "here.parquet", ROWS, SCHEMA)
    code = (
        "import sys; from pathlib import Path; from storage.tables import write_table;"
        "from tests.storage.test_tables import ROWS, SCHEMA;"
        "write_table(Path(sys.argv[1]), ROWS, SCHEMA)"
    )
    for hash_seed in ("1", "2"):
        there = tmp_path / f"there-{hash_seed}.parquet"
        subprocess.run(
            [sys.executable, "-c", code, str(there)],
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ".", "OMP_NUM_THREADS": hash_seed},
        )
        assert digest_file(there) == digest_file(tmp_path / "here.parquet")


def test_other_rows_or_another_order_give_other_bytes(tmp_path) -> None:
    write_table(tmp_path / "a.parquet", ROWS, SCHEMA)
    write_table(tmp_path / "b.parquet", ROWS[::-1], SCHEMA)
    assert digest_file(tmp_path / "a.parquet") != digest_file(tmp_path / "b.parquet")
