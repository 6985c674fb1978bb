"""Tables: parquet files whose bytes depend on their rows alone.

The only module that imports pyarrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Schema = Mapping[str, str]
QUARANTINE: Schema = {"item": "string", "stage": "string", "reason": "string"}

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
    # No pandas metadata, one row group, fixed codec: equal rows, equal bytes.
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=max(1, len(rows)))


def read_table(path: Path) -> list[dict[str, Any]]:
    """All rows of a parquet file, as dictionaries in the file's order."""
    return pq.read_table(path).to_pylist()


def read_columns(path: Path, columns: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Some columns of a parquet file as numpy arrays of shape [rows]."""
    table = pq.read_table(path, columns=list(columns))
    return {name: table[name].to_numpy() for name in columns}
