"""Listing and status of a large archive: a folder of many files in many buckets, and its store.

    python tests/benchmarks/bench_status.py [--files 100000] [--buckets 1024] [--profile]

A folder of so many small files is a source of so many buckets, and a store has all that the graph
makes of it: real manifests (a bucket's names its files), with payloads of a few bytes. Then, in a
process of their own: one look at every bucket with what names its files' contents (the first time,
when every file is digested, and the second), and `status` of the whole graph. CPU and wall seconds.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def make_files(folder: Path, count: int) -> None:
    """Files of a few bytes, a thousand in each folder."""
    for number in range(count):
        here = folder / f"{number // 1000:04d}"
        if not number % 1000:
            here.mkdir(parents=True)
        (here / f"{number:07d}.mp4").write_bytes(b"%d" % number)


def asked_for(folder: Path, buckets: int) -> Any:
    """The DEMO profile with the folder for its pool."""
    from pipelines.assignments import override
    from pipelines.nodes import PROFILES

    source = "raw_videos.sources.yt1b"
    return override(
        PROFILES["demo"],
        [
            f"{source}.location={folder / 'files'}",
            f"{source}.buckets={buckets}",
            f"execution.cache={folder / 'cache'}",
            f"execution.takedowns={folder / 'store' / 'takedowns' / 'default.json'}",
        ],
    )


def look(folder: Path, buckets: int) -> int:
    """List the source and name the contents of every bucket's files; returns how many there are."""
    from pipelines.nodes import GRAPH
    from storage.media import listings_kept

    profile = asked_for(folder, buckets)
    observe = GRAPH["raw_videos"].stage.observe
    assert observe is not None
    with listings_kept():
        keys = [key for key in GRAPH.keys("raw_videos", profile) if str(key).startswith("yt1b")]
        seen = (observe(profile.raw_videos, key, profile.execution) for key in keys)
        return sum(map(len, seen))


def fill(folder: Path, buckets: int) -> int:
    """File a manifest for everything that the graph makes, without the making."""
    from pipelines.graph import key_name, upstream_keys
    from pipelines.nodes import GRAPH
    from pipelines.provenance import source_digest
    from pipelines.stage import recipe_inputs
    from storage.artifacts import ArtifactStore, Manifest
    from storage.digests import digest_bytes, digest_json
    from storage.manifests import FileEntry, content_digest
    from storage.media import listings_kept

    profile, store = asked_for(folder, buckets), ArtifactStore(str(folder / "store"))
    made: dict[Any, Manifest] = {}
    with listings_kept():
        for node in GRAPH.nodes:
            for part in GRAPH.keys(node.asset, profile):
                above = [made[key] for key in upstream_keys(GRAPH, node, part, profile)]
                contents = {m.name: m.content for m in above}
                config = getattr(profile, node.asset)
                asked = recipe_inputs(node.stage, config, contents, part, profile.execution)
                data = key_name((node.asset, part)).encode()
                files = (FileEntry("payload", len(data), digest_bytes(data)),)
                record = {"source_digest": source_digest(node.stage.run.__module__)}
                manifest = Manifest(
                    node.asset, part, asked, digest_json(asked), content_digest(files), files,
                    {m.name: (m.recipe, m.content) for m in above}, record,
                )  # fmt: skip
                made[node.asset, part] = manifest
                pointer = {"recipe": manifest.recipe, "content": manifest.content}
                for key, value in (
                    (manifest.key, manifest.to_json()),
                    (f"objects/{manifest.content}/payload", data),
                    (store.ref_key(node.asset, part), json.dumps(pointer).encode()),
                ):
                    path = folder / "store" / key
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(value)
    return len(made)


def status(folder: Path, buckets: int) -> Counter[str]:
    """The state of everything."""
    from pipelines.graph import statuses
    from pipelines.nodes import GRAPH
    from storage.artifacts import ArtifactStore

    store = ArtifactStore(str(folder / "store"), read_only=True)
    return Counter(s.state for s in statuses(GRAPH, asked_for(folder, buckets), store))


STEPS = {"look": look, "fill": fill, "status": status}


def only(name: str, folder: Path, buckets: int, profile: bool) -> None:
    """One step here: what it tells, and what it took."""
    from pipelines.nodes import GRAPH  # noqa: F401  what is imported is not counted

    profiler = cProfile.Profile()
    cpu, wall = time.process_time(), time.perf_counter()
    found = (
        profiler.runcall(STEPS[name], folder, buckets) if profile else STEPS[name](folder, buckets)
    )
    print(f"{time.process_time() - cpu:.2f} CPU s, {time.perf_counter() - wall:.2f} s: {found}")
    if profile:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)


def main() -> None:
    """Make the folder and the store, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--buckets", type=int, default=1024)
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    parser.add_argument("--only", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        only(asked.only, asked.folder, asked.buckets, asked.profile)
        return
    with tempfile.TemporaryDirectory() as name:
        make_files(Path(name) / "files", asked.files)
        print(f"{asked.files:,} files in {asked.buckets:,} buckets", flush=True)
        more = ["--profile"] if asked.profile else []
        for title, step in (
            ("first look (all digested)", "look"), ("look again", "look"),
            ("manifests filed", "fill"), ("status", "status"),
        ):  # fmt: skip
            command = [sys.executable, __file__, "--only", step, "--folder", name]
            told = subprocess.run(
                [*command, "--buckets", str(asked.buckets), *more], check=True, text=True,
                capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            print(f"{title:<26} {told.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
