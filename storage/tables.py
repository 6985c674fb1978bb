"""Tables: parquet files whose bytes depend on their rows alone.

The only module that imports pyarrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Schema = Mapping[str, str]
QUARANTINE: Schema = {"item": "string", "stage": "string", "reason": "string"}

# Rows that are read together: of a table of a hundred million, a reader may need one part.
ROW_GROUP = 1 << 22

_TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: Schema) -> None:
    """Write rows as parquet; every column of the schema must be in every row (None is allowed).

    Raises:
        KeyError: a row lacks a column. ValueError: a row has a column that the schema lacks.
    """
    for row in rows:
        if extra := sorted(set(row) - set(schema)):
            raise ValueError(f"{path.name}: columns {extra} are not in the schema {list(schema)}")
    columns = {
        name: pa.array([row[name] for row in rows], type=_TYPES[kind])
        for name, kind in schema.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # No pandas metadata, fixed codec and row groups: equal rows, equal bytes.
    size = min(max(1, len(rows)), ROW_GROUP)
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=size)


def read_table(
    source: Path | BinaryIO, columns: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Rows of a parquet file as dictionaries in the file's order, with all columns or some."""
    with pq.ParquetFile(source) as file:
        return file.read(columns=None if columns is None else list(columns)).to_pylist()


def read_columns(
    source: Path | BinaryIO,
    columns: Sequence[str] | None = None,
    *,
    where: tuple[str, str] | None = None,
) -> dict[str, np.ndarray[Any, Any]]:
    """Some columns of a parquet file, or all, as numpy arrays of shape [rows].

    `where`, a (column, value), leaves the rows that have this value; row groups whose statistics
    say that they hold none are not read.
    """
    with pq.ParquetFile(source) as file:
        names = file.schema_arrow.names if columns is None else list(columns)
        if where is None:
            table = file.read(columns=names)
        else:
            held = file.read_row_groups(_groups(file, where), columns=[*{*names, where[0]}])
            table = held.filter(pc.equal(held[where[0]], where[1]))
    return {name: table[name].to_numpy() for name in names}


def _groups(file: pq.ParquetFile, where: tuple[str, str]) -> list[int]:
    """Row groups that may hold the value."""
    column, value = file.schema_arrow.get_field_index(where[0]), where[1]
    found = []
    for group in range(file.metadata.num_row_groups):
        known = file.metadata.row_group(group).column(column).statistics
        if known is None or not known.has_min_max or known.min <= value <= known.max:
            found.append(group)
    return found
