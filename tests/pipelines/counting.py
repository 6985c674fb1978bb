"""A stage small enough to kill: it writes one file per item on Ray, and tells what it computed.

As a program it answers its question on a store: `python -m tests.pipelines.counting STORE NAP`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.execution import ExecutionConfig
from pipelines.stage import Inputs, Materialized, Stage, Workspace, materialize
from storage.artifacts import Artifact, ArtifactStore
from storage.places import write_file
from storage.tables import write_table

ITEMS = tuple(f"item-{index}" for index in range(8))


@dataclass(frozen=True, kw_only=True)
class Inner:
    weight: float = 0.7


@dataclass(frozen=True, kw_only=True)
class CountingConfig:
    upto: int = 3
    name: str | None = None
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = field(default_factory=Inner)


def count(item: Mapping[str, Any]) -> dict[str, Any]:
    """Writes <key>.txt whole, and notes in a diary outside the store that it did."""
    time.sleep(item["nap"])
    write_file(
        Path(item["folder"]) / f"{item['key']}.txt", f"{item['key']} {item['upto']}".encode()
    )
    with open(item["diary"], "a") as diary:
        diary.write(item["key"] + "\n")
    return {"key": item["key"], "bytes": len(item["key"]), "seconds": 0.1 + item["upto"]}


def run(config: CountingConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Counts every item on Ray."""
    nap, diary = float(os.environ.get("NAP", "0")), os.environ["DIARY"]
    items = {
        key: {"key": key, "upto": config.upto, "folder": str(out.payload / "files"), "nap": nap,
              "diary": diary}
        for key in ITEMS
    }  # fmt: skip
    results = out.map(count, items, noun="toy items")
    schema = {"key": "string", "bytes": "int64", "seconds": "float64"}
    write_table(out.payload / "table.parquet", list(results.values()), schema)
    return {"items": len(results)}


STAGE = Stage("counting", version=1, config=CountingConfig, run=run)


def answer(
    store: ArtifactStore,
    config: CountingConfig | None = None,
    inputs: Mapping[str, Artifact] | None = None,
    *,
    stage: Stage = STAGE,
    asset: str = "toy",
    partition: str | None = None,
    execution: ExecutionConfig | None = None,
) -> Materialized:
    """Materialize the stage with defaults for all that a test does not care about."""
    return materialize(
        store, stage, config or CountingConfig(), inputs or {}, asset=asset, partition=partition,
        execution=execution or ExecutionConfig(),
    )  # fmt: skip


if __name__ == "__main__":
    from tests.pipelines import counting  # by its name, so that workers can import it

    os.environ["NAP"] = sys.argv[2]
    made = counting.answer(ArtifactStore(sys.argv[1]))
    print(json.dumps({"content": made.artifact.content}))
