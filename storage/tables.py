"""Tables: parquet files whose bytes depend on their rows alone, and indices that are mapped.

Both are written batch by batch, and read so or by column. An index is an Arrow file that readers
map: processes of one machine share its pages, and repeated words are kept once.

The only module that imports pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Schema = Mapping[str, str]
QUARANTINE: Schema = {"item": "string", "stage": "string", "reason": "string"}

# Rows that are written, and read, together: of a table of a hundred million, a reader may need one
# part, and a writer holds no more.
ROW_GROUP = 1 << 16

_TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "float32[7]": pa.list_(pa.float32(), 7),
    "float64[]": pa.list_(pa.float64()),
    "float64[][][]": pa.list_(pa.list_(pa.list_(pa.float64()))),
    "int64[]": pa.list_(pa.int64()),
    "string[]": pa.list_(pa.string()),
}


def write_table(
    path: Path, rows: Sequence[Mapping[str, Any]], schema: Schema, *, index: str | None = None
) -> None:
    """Write rows as parquet; every column of the schema must be in every row (None is allowed).

    `index`: a column that pandas shall take as its index when it reads the file.

    Raises:
        KeyError: a row lacks a column. ValueError: a row has a column that the schema lacks.
    """
    for row in rows:
        _refuse_others(path, row, schema)
    columns = {name: [row[name] for row in rows] for name in schema}
    with TableWriter(path, schema, index) as table:
        table.write(columns)


class TableWriter:
    """Writes a parquet file batch by batch; use it as a context.

    Bytes depend on the rows alone, not on how they are cut into batches: rows are held back until
    they fill a row group. No pandas metadata (but an index that is asked for), fixed codec and row
    groups: equal rows, equal bytes.
    """

    def __init__(self, path: Path, schema: Schema, index: str | None = None) -> None:
        self.path = path
        self._schema = pa.schema([(name, _TYPES[kind]) for name, kind in schema.items()])
        if index is not None:
            told = {"index_columns": [index], "column_indexes": [], "columns": []}
            self._schema = self._schema.with_metadata({"pandas": json.dumps(told)})
        self._held: list[pa.RecordBatch] = []
        self.rows = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = pq.ParquetWriter(self.path, self._schema, compression="zstd")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and (self._held or not self.rows):
            self._flush(sum(map(len, self._held)))
        self._file.close()

    def write(self, columns: Mapping[str, Any]) -> None:
        """Add rows, given as one array or list a column.

        Raises:
            KeyError: a column of the schema is missing. ValueError: the schema lacks a column.
        """
        _refuse_others(self.path, columns, self._schema.names)
        arrays = [pa.array(columns[field.name], field.type) for field in self._schema]
        batch = pa.record_batch(arrays, schema=self._schema)
        self._held.append(batch)
        self.rows += len(batch)
        while (held := sum(map(len, self._held))) >= ROW_GROUP:
            self._flush(min(held, ROW_GROUP))

    def _flush(self, rows: int) -> None:
        """Write so many of the rows that are held back as one row group."""
        table = pa.Table.from_batches(self._held, self._schema)
        self._file.write_table(table.slice(0, rows).combine_chunks(), row_group_size=max(1, rows))
        self._held = table.slice(rows).to_batches()


def _refuse_others(path: Path, given: Iterable[str], schema: Iterable[str]) -> None:
    if extra := sorted(set(given) - set(schema)):
        raise ValueError(f"{path.name}: columns {extra} are not in the schema {list(schema)}")


def read_table(
    source: Path | BinaryIO, columns: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Rows of a parquet file as dictionaries in the file's order, with all columns or some."""
    with pq.ParquetFile(source) as file:
        return file.read(columns=None if columns is None else list(columns)).to_pylist()


def read_columns(
    source: Path | BinaryIO, columns: Sequence[str] | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """Some columns of a parquet file, or all, as numpy arrays of shape [rows]."""
    with pq.ParquetFile(source) as file:
        table = file.read(columns=None if columns is None else list(columns))
    names = table.column_names if columns is None else columns
    return {name: table[name].to_numpy() for name in names}


def read_batches(
    source: Path | BinaryIO, columns: Sequence[str] | None = None, rows: int = ROW_GROUP
) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    """Some columns of a parquet file, or all, at most `rows` of its rows at a time, in order."""
    names = None if columns is None else list(columns)
    with pq.ParquetFile(source) as file:
        for batch in file.iter_batches(rows, columns=names):
            yield {
                name: column.to_numpy(zero_copy_only=False)
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }


def read_schema(source: Path | BinaryIO) -> dict[str, str]:
    """Column -> type of a parquet file, in its order; no row is read."""
    with pq.ParquetFile(source) as file:
        return {field.name: str(field.type) for field in file.schema_arrow}


def write_index(
    path: Path,
    batches: Iterable[Mapping[str, Any]],
    schema: Schema,
    words: Mapping[str, Sequence[str]],
) -> None:
    """Write an index to be mapped, batch by batch.

    Args:
        path: of the Arrow file.
        batches: some rows each, as one array or list a column.
        schema: of the columns.
        words: column -> every value that it has, of those that repeat few of them.
    """
    known = {name: pa.array(values, pa.string()) for name, values in words.items()}
    kinds = {
        name: pa.dictionary(_code(len(known[name])), pa.string()) if name in known else _TYPES[kind]
        for name, kind in schema.items()
    }
    with pa.ipc.new_file(path, pa.schema(list(kinds.items()))) as file:
        for batch in batches:
            columns = [_indexed(batch[name], kinds[name], known.get(name)) for name in schema]
            file.write_batch(pa.record_batch(columns, names=list(schema)))


def _code(values: int) -> pa.DataType:
    """The smallest type that numbers so many values."""
    return next(t for t in (pa.int8(), pa.int16(), pa.int32()) if values < 1 << (t.bit_width - 1))


def _indexed(values: Any, kind: pa.DataType, words: pa.Array | None) -> pa.Array:
    if words is None:
        return pa.array(values, kind)
    codes = pc.index_in(pa.array(values, pa.string()), words).cast(kind.index_type)
    return pa.DictionaryArray.from_arrays(codes, words)


class MappedIndex(Mapping[str, "MappedColumn"]):
    """An index as `write_index` leaves it, mapped: only what is looked at is read."""

    def __init__(self, path: Path) -> None:
        with pa.ipc.open_file(pa.memory_map(str(path))) as file:
            table = file.read_all()
        self._columns = {name: MappedColumn(table[name]) for name in table.column_names}

    def __getitem__(self, name: str) -> MappedColumn:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class MappedColumn:
    """One column: a row by its number, or all of it as an array that is made when asked for."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: int) -> Any:
        return self._column[int(row)].as_py()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        del copy
        return np.asarray(self._column.to_numpy(), dtype)

    def rows_of(self, word: str) -> np.ndarray[Any, Any]:
        """Numbers of the rows with this value, of a column whose words are kept once."""
        found = [np.empty(0, np.int64)]
        first = 0
        for chunk in self._column.chunks:
            code = chunk.dictionary.index(word).as_py()
            codes = chunk.indices.to_numpy(zero_copy_only=False)
            found.append(first + np.flatnonzero(codes == code))
            first += len(chunk)
        return np.concatenate(found)
