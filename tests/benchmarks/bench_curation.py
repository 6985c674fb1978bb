"""The curation's tables and k-means beyond memory: time and memory of every stage as N grows.

    python tests/benchmarks/bench_curation.py [--rows 1000000 4000000] [--kmeans 1000000]

A synthetic pool of N scenes in partitions of 125,000 goes through `clusters` (256 clusters of 32
dimensions, trained on 50,000 scenes), `curated_scenes` (of one partition: the others are made
alike) and `videomix22m`; then a loader opens its index and looks at all that it reads of it. Each
is a process of its own: CPU seconds, and how far its memory rose above that after its imports.
From the smallest to the largest N: the exponent of time, and the growth of memory.

Then `--kmeans` vectors of 384 are assigned to 4,096 centroids, by FAISS alone and as `clusters`
does it, one after the other: CPU seconds, labels, memory. 0 leaves that out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PARTITION, WIDTH, CLUSTERS = 125_000, 32, 256
KMEANS_WIDTH, KMEANS_CLUSTERS = 384, 4096


def names(partition: int) -> list[str]:
    """Scene ids of a partition, as long as real ones."""
    return [f"{partition:08x}{row:024x}" for row in range(PARTITION)]


def parts(rows: int) -> list[str]:
    """Partitions of a pool of so many scenes."""
    return [f"yt1b-{number:04d}" for number in range(rows // PARTITION)]


def vectors(rows: int, width: int, seed: int) -> np.ndarray:
    """Vectors [rows, width] of length 1 around 600 centres."""
    source = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((600, width), np.float32)
    made = centres[source.integers(0, 600, rows)]
    made += 0.5 * source.standard_normal((rows, width), np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def make_pool(folder: Path, rows: int) -> None:
    """Embeddings, and the indices of the clip shards, of a pool of so many scenes."""
    from pipelines.curation.clip_shards import INDEX
    from pipelines.curation.embeddings import ROWS
    from storage.tables import TableWriter

    for number, name in enumerate([*parts(rows), "ssv2"]):
        count = PARTITION if name != "ssv2" else 2000
        ids = names(number)[:count]
        embedded, shards = folder / "embedded" / name, folder / "shards" / name
        embedded.mkdir(parents=True)
        np.save(embedded / "embeddings.npy", vectors(count, WIDTH, number))
        with TableWriter(embedded / "rows.parquet", ROWS) as table:
            table.write({"scene_id": ids, "source": [name[:4]] * count, "split": [None] * count})
        place = np.arange(count)
        columns = {
            "key": ids, "scene_id": ids, "video_id": ids, "source": [name[:4]] * count,
            "shard": [f"{at // 1000:06d}.tar" for at in range(count)],
            "offset": place % 1000 * 65536, "size": place, "ext": ["mp4"] * count,
            "kind": ["video"] * count, "fps": np.full(count, 8.0), "frames": np.full(count, 36),
            "seconds": np.full(count, 4.5),
            "width": np.full(count, 64), "height": np.full(count, 48),
            "weight": np.full(count, 1.0), "label": [None] * count, "split": [None] * count,
            "digest": place, "piece": np.zeros(count, np.int32),
        }  # fmt: skip
        with TableWriter(shards / "index.parquet", INDEX) as table:
            table.write(columns)


def given(folder: Path, kind: str, asset: str) -> Any:
    """The artifacts of a kind, by `asset/partition`."""
    from tests.pipelines.builders import artifact

    return {
        f"{asset}/{path.name}": artifact(path, f"{asset}/{path.name}")
        for path in sorted((folder / kind).iterdir())
    }


def clusters(folder: Path) -> None:
    """Train and assign."""
    from pipelines.curation import clusters
    from pipelines.stage import Inputs, Workspace
    from tests.pipelines.builders import map_in_turn, workspace

    Workspace.map = map_in_turn  # type: ignore[method-assign]
    config = clusters.ClustersConfig(clusters=CLUSTERS, train_scenes=50_000, iterations=5)
    clusters.run(
        config, Inputs(given(folder, "embedded", "scene_embeddings")), workspace(folder / "c")
    )


def curated_scenes(folder: Path) -> None:
    """Draw the scenes of one partition."""
    from pipelines.curation import near_duplicates, retrieval
    from pipelines.curation.scenes import COLUMNS
    from pipelines.stage import Inputs
    from storage.tables import TableWriter
    from tests.pipelines.builders import artifact, workspace

    clustered = artifact(folder / "c" / "payload", "clusters")
    text, at = [""] * PARTITION, np.zeros(PARTITION)
    row = {name: text if kind == "string" else at for name, kind in COLUMNS.items()}
    with TableWriter(folder / "cut" / "scenes.parquet", COLUMNS) as table:
        table.write({**row, "scene_id": names(0)})
    rows: dict[str, list[Any]] = {name: [] for name in parts(PARTITION)}
    near_duplicates.write_dropped(folder / "none", rows, clustered)
    inputs = dict.fromkeys(retrieval.LEFT_OUT, artifact(folder / "none", "near_duplicates"))
    inputs |= {"clusters": clustered, "scenes": artifact(folder / "cut", "scenes/yt1b-0000")}
    config = retrieval.RetrievalConfig(weights={"ssv2": 1.0}, budget=1_000_000)
    retrieval.run(config, Inputs(inputs), workspace(folder / "r", "yt1b-0000"))


def videomix22m(folder: Path) -> None:
    """Merge the indices."""
    from pipelines.curation import duplicates, mixture
    from pipelines.stage import Inputs
    from storage.tables import write_table
    from tests.pipelines.builders import artifact, workspace

    write_table(folder / "copies" / "duplicates.parquet", [], duplicates.DUPLICATES)
    inputs = given(folder, "shards", "clip_shards")
    inputs["duplicates"] = artifact(folder / "copies", "duplicates")
    mixture.run(
        mixture.MixtureConfig(weights={"yt1b": 0.5, "ssv2": 0.5}), Inputs(inputs),
        workspace(folder / "m"),
    )  # fmt: skip


def loader(folder: Path) -> None:
    """What a rank holds: the order, and every page of the index that reading looks at."""
    from pipelines.training.clips import PLACE
    from pipelines.training.order import ClipSampler
    from storage.tables import MappedIndex

    index = MappedIndex(folder / "m" / "payload" / "index.arrow")
    held = ClipSampler(index, {"yt1b": 0.5, "ssv2": 0.5}, seed=0)
    for row in range(0, len(index["key"]), 8):
        for name in (*PLACE, "kind", "fps", "frames", "width", "height"):
            _ = index[name][row]
    # What it holds from now on: the highest before it was only passing.
    SETTLED.append(memory("VmRSS"))
    held.draw(0, 0)


def memory(kind: str) -> float:
    """MB of this process: "VmRSS", what it holds, or "VmHWM", the most since it began to count."""
    told = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(told[kind].split()[0]) / 1024


SETTLED: list[float] = []
STAGES: dict[str, Callable[[Path], None]] = {
    "clusters": clusters, "curated_scenes": curated_scenes, "videomix22m": videomix22m,
    "loader": loader,
}  # fmt: skip


def raw_faiss(folder: Path) -> None:
    """All vectors in memory, one call."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatL2(KMEANS_WIDTH)
    index.add(np.load(folder / "centroids.npy"))
    found = index.search(np.load(folder / "vectors.npy"), 1)[1]
    np.save(folder / "raw.npy", found[:, 0].astype(np.int32))


def ours(folder: Path) -> None:
    """As `clusters` assigns a partition: block by block, with distances."""
    from pipelines.curation.kmeans import block_rows
    from pipelines.curation.neighbours import Centroids
    from storage.arrays import read_blocks

    index = Centroids(np.load(folder / "centroids.npy"))
    blocks = read_blocks(folder / "vectors.npy", block_rows(64, KMEANS_WIDTH))
    np.save(folder / "ours.npy", np.concatenate([index.nearest(block)[0] for block in blocks]))


def measured(name: str, folder: Path) -> tuple[float, float]:
    """(CPU seconds, MB above what was held after the imports) of a process of its own."""
    command = [sys.executable, __file__, "--only", name, "--folder", str(folder)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=one_thread())
    seconds, megabytes = json.loads(told.stdout.splitlines()[-1])
    return seconds, megabytes


def one_thread() -> dict[str, str]:
    """The environment of one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}


def only(name: str, folder: Path) -> None:
    """Run one stage here and tell what it took."""
    import tests.pipelines.builders  # noqa: F401

    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory("VmRSS")
    start = time.process_time()
    {**STAGES, "raw_faiss": raw_faiss, "ours": ours}[name](folder)
    seconds = time.process_time() - start
    print(json.dumps([seconds, (SETTLED or [memory("VmHWM")])[-1] - before]))


def stages(counts: list[int], folder: Path) -> Iterator[str]:
    """Lines on every stage at every N, and how they grow."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in STAGES}
    for rows in counts:
        make_pool(folder / str(rows), rows)
        for name in STAGES:
            found[name].append(measured(name, folder / str(rows)))
            seconds, megabytes = found[name][-1]
            each = f", {megabytes * 1024**2 / rows:.0f} bytes a row" if name == "loader" else ""
            yield f"{name:<16} {rows:>9,} rows {seconds:8.1f} CPU s  {megabytes:8.1f} MB{each}"
    for name, ((first, less), *_, (last, more)) in ((n, f) for n, f in found.items() if len(f) > 1):
        exponent = math.log(last / first) / math.log(counts[-1] / counts[0])
        yield f"{name:<16} time ~ N^{exponent:.2f}, memory {more - less:+.1f} MB"


def kmeans(rows: int, folder: Path) -> Iterator[str]:
    """Lines on the assignment of so many vectors."""
    made = vectors(rows, KMEANS_WIDTH, 7)
    np.save(folder / "vectors.npy", made)
    np.save(folder / "centroids.npy", made[:KMEANS_CLUSTERS])
    del made
    raw, mine = measured("raw_faiss", folder), measured("ours", folder)
    same = (np.load(folder / "raw.npy") == np.load(folder / "ours.npy")).mean()
    yield f"raw faiss        {rows:>9,} rows {raw[0]:8.1f} CPU s  {raw[1]:8.1f} MB"
    yield f"ours             {rows:>9,} rows {mine[0]:8.1f} CPU s  {mine[1]:8.1f} MB"
    yield f"speed {raw[0] / mine[0]:.2f} of raw faiss, {same:.4%} of the labels equal"


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--kmeans", type=int, default=1_000_000)
    parser.add_argument("--only", choices=[*STAGES, "raw_faiss", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        only(asked.only, asked.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        for line in stages(asked.rows, Path(name)):
            print(line, flush=True)
    with tempfile.TemporaryDirectory() as name:
        for line in kmeans(asked.kmeans, Path(name)) if asked.kmeans else ():
            print(line, flush=True)


if __name__ == "__main__":
    main()
