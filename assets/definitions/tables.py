"""Tables: the columns of an artifact's parquet files on its page, and where each column is from.

A column keeps its name from table to table (`scene`, `video`, `source` …), so one that a table of
an upstream has too is from there; the others are computed by the stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from storage.artifacts import Artifact

Schemas = Mapping[str, Mapping[str, str]]
"""Path of a table -> its columns -> their types."""


def schemas(artifact: Artifact) -> Schemas:
    """The tables at the top of a payload, that of what was set aside last; parts lie in folders."""
    paths = [p for p in artifact.files() if p.endswith(".parquet") and "/" not in p]
    paths.sort(key=lambda path: path.startswith("quarantine"))
    return {path: artifact.schema(path) for path in paths}


def tables(artifact: Artifact, inputs: Mapping[str, Artifact]) -> Iterator[tuple[str, Any]]:
    """Metadata by name: schema and column lineage of the first table, and schemas of the others."""
    found = schemas(artifact)
    above: dict[str, Artifact] = {}
    for each in inputs.values():  # partitions of one asset have the same tables
        above.setdefault(each.manifest.asset, each)
    known = {asset: schemas(each) for asset, each in above.items()} if found else {}
    for number, (path, columns) in enumerate(found.items()):
        table = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()])
        yield (f"columns of {path}" if number else "dagster/column_schema"), table
        lineage = dg.TableColumnLineage(dict(_origins(columns, known)))
        yield (f"lineage of {path}" if number else "dagster/column_lineage"), lineage


def _origins(
    columns: Mapping[str, str], known: Mapping[str, Schemas]
) -> Iterator[tuple[str, list[dg.TableColumnDep]]]:
    for name in columns:
        holders = [asset for asset, held in known.items() if any(name in t for t in held.values())]
        if holders:
            yield name, [dg.TableColumnDep(dg.AssetKey(asset), name) for asset in holders]
