"""What it costs to check each file's digest when it is opened, as ratios to opening it unchecked.

A store of 120 artifacts with ten files of 200 kB each, about that of the demo, is read whole: with
digests that are known from the cache, and with none known. Then it is asked what changed, as
`status` does. CPU time, so that other work on the machine does not count.

    python tests/benchmarks/bench_verified.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from storage import verified
from storage.artifacts import Artifact, ArtifactStore, Manifest
from storage.digests import digest_json
from storage.payloads import LocalPayload


def made(store: ArtifactStore, number: int) -> Manifest:
    """One artifact of ten files."""
    asked = {"stage": "files", "config": {"number": number}, "inputs": {}}
    recipe = digest_json(asked)
    with store.work(recipe) as work:
        (work / "payload").mkdir()
        for name in range(10):
            (work / "payload" / f"{name}.bin").write_bytes(os.urandom(200_000))
        draft = {"asset": "files", "partition": None, "recipe_inputs": asked, "recipe": recipe}
        return store.seal(work, {**draft, "parents": {}})


def seconds(handles: list[Artifact], do: Callable[[Artifact], object]) -> float:
    """CPU seconds of one pass, as a process that has just begun."""
    verified._KNOWN.clear()
    before = time.process_time()
    for handle in handles:
        do(handle)
    return time.process_time() - before


def main() -> None:
    """Make the store, pass over it, print the ratios."""
    with tempfile.TemporaryDirectory() as name:
        store = ArtifactStore(f"{name}/store", Path(name) / "cache")
        checked = [store.handle(made(store, number)) for number in range(120)]
        plain = [Artifact(a.manifest, LocalPayload(Path(a.location))) for a in checked]

        def read(artifact: Artifact) -> None:
            for path in artifact.files():
                artifact.read(path)

        def look(artifact: Artifact) -> str:
            return artifact.payload.problem(artifact.manifest.files)

        for what, do in (("looked at", look), ("read, known", read)):
            seconds(plain, do)
            ratio = seconds(checked, do) / seconds(plain, do)
            print(f"{what:<16} {ratio:.2f} x unchecked")
        shutil.rmtree(Path(name) / "cache")
        ratio = seconds(checked, read) / seconds(plain, read)
        print(f"{'read, unknown':<16} {ratio:.2f} x unchecked")


if __name__ == "__main__":
    main()
