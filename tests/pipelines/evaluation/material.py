"""Labelled clips for the tests of the probe: real shards of small videos (no tests in here)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from storage.shards import ShardWriter
from storage.tables import write_table
from storage.video import encode

SIDE, FRAMES = 32, 12
COLUMNS = {
    "key": "string", "source": "string", "shard": "string", "offset": "int64", "size": "int64",
    "kind": "string", "fps": "float64", "frames": "int32", "label": "string", "split": "string",
    "digest": "int64",
}  # fmt: skip
LABELS = ("left", "right")


def moving(label: str, number: int) -> list[np.ndarray]:
    """A bright square crosses the picture left or right; where and how fast varies."""
    random = np.random.default_rng([number, 7])
    top, size = int(random.integers(4, 20)), int(random.integers(7, 11))
    way = np.linspace(0, SIDE - size, FRAMES) * random.uniform(0.8, 1.0)
    grey = int(random.integers(20, 60))
    frames = []
    for x in way if label == "right" else way[::-1]:
        frame = np.full((SIDE, SIDE + 8, 3), grey, dtype=np.uint8)
        frame[top : top + size, int(x) : int(x) + size] = 230
        frames.append(frame)
    return frames


def write_clips(
    folder: Path, counts: Mapping[str, int], filmed: Callable[[str, int], list[np.ndarray]] = moving
) -> Path:
    """Shards of `counts` clips a side of the split, classes in turn, and their index."""
    rows = []
    with ShardWriter(folder / "shards", shard_samples=20) as writer:
        for number, split in enumerate(s for s, count in counts.items() for _ in range(count)):
            label = LABELS[number % 2]
            data = encode(filmed(label, number // 2), 4.0, options={"crf": "12"}).data
            span = writer.write(f"clip{number:03d}", {"mp4": data, "json": {"label": label}})["mp4"]
            rows.append(
                {
                    "key": f"clip{number:03d}", "source": "ssv2", "shard": span.shard,
                    "offset": span.offset, "size": span.size, "digest": span.digest,
                    "kind": "video", "fps": 4.0, "frames": FRAMES, "label": label, "split": split,
                }
            )  # fmt: skip
    write_table(folder / "index.parquet", rows, COLUMNS)
    return folder
