"""The curation's tables and k-means beyond memory: time and memory of every stage as N grows.

    python tests/benchmarks/bench_curation.py [--rows 1000000 4000000] [--kmeans 1000000]

A synthetic pool of N scenes in partitions of 125,000 goes through `clusters` (256 clusters of 32
dimensions, trained on 50,000 scenes), `near_duplicates` and `leakage_guard` (on a clustering of a
cluster for every 250 scenes: their work grows with the clusters' sizes), `curated_scenes` (all
partitions), `curation_report`, `duplicates` (N videos, every hundredth there twice) and
`videomix22m`; then a loader opens its index and looks at all that it reads of it. Each is a process
of its own: CPU seconds, and how far its memory rose above that after its imports. From the smallest
to the largest N: the exponent of time, and the growth of memory.

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
CENTRES, IN_A_CLUSTER, HELD_OUT = 600, 250, 200
KMEANS_WIDTH, KMEANS_CLUSTERS = 384, 4096


def names(partition: int) -> list[str]:
    """Ids of a partition, as long as real ones, that begin as differently."""
    numbers = ((partition << 32 | row) * 0x9E3779B97F4A7C15 % 2**64 for row in range(PARTITION))
    return [f"{number:016x}{row:016x}" for row, number in enumerate(numbers)]


def parts(rows: int) -> list[str]:
    """Partitions of a pool of so many scenes."""
    return [f"yt1b-{number:04d}" for number in range(rows // PARTITION)]


def vectors(rows: int, width: int, seed: int) -> np.ndarray:
    """Vectors [rows, width] of length 1 around CENTRES centres."""
    return around(*drawn_centres(rows, width, seed))


def drawn_centres(
    rows: int, width: int, seed: int
) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """A source of numbers, the centres [CENTRES, width], the centre of each row."""
    source = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((CENTRES, width), np.float32)
    return source, centres, source.integers(0, CENTRES, rows)


def around(source: np.random.Generator, centres: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Vectors of length 1, each near its centre."""
    made = centres[chosen]
    made += 0.5 * source.standard_normal(made.shape, np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def make_pool(folder: Path, rows: int) -> None:
    """All that the stages read of a pool of so many scenes and of one target."""
    for number, name in enumerate([*parts(rows), "ssv2"]):
        count = PARTITION if name != "ssv2" else 2000
        make_embedded(folder / "embedded" / name, number, name, count)
        make_shards(folder / "shards" / name, names(number)[:count], name)
        if name != "ssv2":
            make_files(folder, number, name)
    make_clustering(folder / "many", rows)


def make_embedded(folder: Path, number: int, name: str, count: int) -> None:
    """Embeddings of a partition; the target holds some out."""
    from pipelines.curation.embeddings import ROWS
    from storage.tables import TableWriter

    folder.mkdir(parents=True)
    np.save(folder / "embeddings.npy", vectors(count, WIDTH, number))
    held = HELD_OUT if name == "ssv2" else 0
    split = ["validation"] * held + [None] * (count - held)
    with TableWriter(folder / "rows.parquet", ROWS) as table:
        table.write({
            "scene_id": names(number)[:count], "source": [name[:4]] * count, "split": split,
        })  # fmt: skip


def make_files(folder: Path, number: int, name: str) -> None:
    """Videos and scenes of a partition; every hundredth video is in the next one, too."""
    from pipelines.curation.probing import COLUMNS as VIDEOS
    from pipelines.curation.scenes import COLUMNS as SCENES
    from storage.tables import QUARANTINE, TableWriter, write_table

    ids = names(number)
    ids[::100] = names(number ^ 1)[1::100]
    for kind, table, schema, own in (
        ("raw", "videos", VIDEOS, {"video_id": ids, "path": ids}),
        ("cut", "scenes", SCENES, {"scene_id": names(number)}),
    ):
        text, at = [""] * PARTITION, np.zeros(PARTITION)
        row = {column: text if type_ == "string" else at for column, type_ in schema.items()}
        with TableWriter(folder / kind / name / f"{table}.parquet", schema) as written:
            written.write(row | own)
        write_table(folder / kind / name / "quarantine.parquet", [], QUARANTINE)


def make_shards(folder: Path, ids: list[str], name: str) -> None:
    """The index of a partition's clip shards."""
    from pipelines.curation.clip_shards import INDEX
    from storage.tables import TableWriter

    count = len(ids)
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
    with TableWriter(folder / "index.parquet", INDEX) as table:
        table.write(columns)


def make_clustering(folder: Path, rows: int) -> None:
    """A clustering with IN_A_CLUSTER scenes in each: some clusters around every centre."""
    from pipelines.curation.clusters import ASSIGNMENTS
    from storage.tables import TableWriter

    each = rows // IN_A_CLUSTER // CENTRES + 1
    sizes = np.zeros(CENTRES * each, np.int64)
    for number, name in enumerate(parts(rows)):
        source, centres, chosen = drawn_centres(PARTITION, WIDTH, number)
        cluster = chosen * each + source.integers(0, each, PARTITION)
        sizes += np.bincount(cluster, minlength=len(sizes))
        with TableWriter(folder / "assignments" / f"{name}.parquet", ASSIGNMENTS) as table:
            table.write({
                "scene_id": names(number), "cluster": cluster, "distance": np.zeros(PARTITION),
            })  # fmt: skip
    near = around(np.random.default_rng(1), centres, np.repeat(np.arange(CENTRES), each))
    np.save(folder / "centroids.npy", near)
    with TableWriter(folder / "clusters.parquet", {"scenes": "int64"}) as table:
        table.write({"scenes": sizes})


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


def near_duplicates(folder: Path) -> None:
    """Find those that are alike, in a clustering whose clusters do not grow."""
    from pipelines.curation import near_duplicates
    from pipelines.stage import Inputs
    from tests.pipelines.builders import artifact, workspace

    pool = given(folder, "embedded", "scene_embeddings")
    pool.pop("scene_embeddings/ssv2")
    config = near_duplicates.NearDuplicatesConfig(similarity=0.95, probes=4)
    inputs = Inputs({**pool, "clusters": artifact(folder / "many", "clusters")})
    told = near_duplicates.run(config, inputs, workspace(folder / "n"))
    print(f"({told['dropped']:,} near-duplicates dropped)")


def leakage_guard(folder: Path) -> None:
    """Compare the pool with what the target holds out."""
    from pipelines.curation import leakage_guard
    from pipelines.stage import Inputs
    from tests.pipelines.builders import artifact, workspace

    inputs = given(folder, "embedded", "scene_embeddings")
    inputs["clusters"] = artifact(folder / "many", "clusters")
    inputs["near_duplicates"] = artifact(folder / "n" / "payload", "near_duplicates")
    config = leakage_guard.LeakageGuardConfig(similarity=0.95)
    leakage_guard.run(config, Inputs(inputs), workspace(folder / "g"))


def curated_scenes(folder: Path) -> None:
    """Draw the scenes of all partitions, one after another."""
    from pipelines.curation import near_duplicates, retrieval
    from pipelines.stage import Inputs
    from tests.pipelines.builders import artifact, workspace

    clustered = artifact(folder / "c" / "payload", "clusters")
    cut = given(folder, "cut", "scenes")
    none = ((name.removeprefix("scenes/"), ()) for name in cut)
    near_duplicates.write_dropped(folder / "none", none, clustered)
    for name, scenes in cut.items():
        inputs = dict.fromkeys(retrieval.LEFT_OUT, artifact(folder / "none", "near_duplicates"))
        inputs |= {"clusters": clustered, "scenes": scenes}
        config = retrieval.RetrievalConfig(weights={"ssv2": 1.0}, budget=len(cut) * PARTITION // 2)
        partition = name.removeprefix("scenes/")
        retrieval.run(config, Inputs(inputs), workspace(folder / "r" / partition, partition))


def curation_report(folder: Path) -> None:
    """Count what became of all scenes."""
    from pipelines.curation import curation_report, retrieval
    from pipelines.stage import Inputs, Workspace
    from tests.pipelines.builders import artifact, map_in_turn, workspace

    Workspace.map = map_in_turn  # type: ignore[method-assign]
    inputs = dict.fromkeys(retrieval.LEFT_OUT, artifact(folder / "none", "near_duplicates"))
    inputs |= {**given(folder, "cut", "scenes"), **given(folder, "raw", "raw_videos")}
    inputs["clusters"] = artifact(folder / "c" / "payload", "clusters")
    for path in sorted((folder / "r").iterdir()):
        name = f"curated_scenes/{path.name}"
        inputs[name] = artifact(path / "payload", name)
    config = curation_report.CurationReportConfig()
    curation_report.run(config, Inputs(inputs), workspace(folder / "report"))


def duplicates(folder: Path) -> None:
    """Find the videos that are there twice."""
    from pipelines.curation import duplicates
    from pipelines.stage import Inputs
    from tests.pipelines.builders import workspace

    inputs = Inputs(given(folder, "raw", "raw_videos"))
    told = duplicates.run(duplicates.DuplicatesConfig(), inputs, workspace(folder / "d"))
    print(f"({told['left_out']:,} copies left out)")


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
    "clusters": clusters, "near_duplicates": near_duplicates, "leakage_guard": leakage_guard,
    "curated_scenes": curated_scenes, "curation_report": curation_report, "duplicates": duplicates,
    "videomix22m": videomix22m, "loader": loader,
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
