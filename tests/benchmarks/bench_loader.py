"""Clips per second of one thread: our loader at random places against the stock reader in order.

    python -m tests.benchmarks.bench_loader [--videos 48] [--side 320] [--rounds 3]

Both read the same tars and make the same clips (--frames at 4 fps of a window, cropped, resized to
--crop, normalised). `webdataset` walks the tars from the first sample to the last, its best case;
ours takes samples in the order of training, anywhere. Rounds of both alternate in one process;
times are CPU seconds, the best round counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import webdataset

from pipelines.training.clips import COLUMNS, ClipConfig, ClipLoader, augment, frame_numbers
from pipelines.training.order import START, ClipSampler, uniforms
from storage.frames import frames_at
from storage.handles import Artifact
from storage.manifests import Manifest, content_digest, list_files
from storage.payloads import LocalPayload, read_span
from storage.shards import ShardWriter
from storage.video import encode

FPS, SECONDS = 8.0, 10


def moving_texture(seed: int, side: int) -> list[np.ndarray]:
    """[80, side, 4/3 side, 3] frames of smooth noise that drifts: codes like a real, calm scene."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((1, 3, 24, 32), dtype=np.float32)
    big = torch.nn.functional.interpolate(
        torch.from_numpy(coarse), size=(side + 80, side * 4 // 3 + 160), mode="bicubic"
    )[0].clamp(0, 1)
    picture = (big.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    picture ^= generator.integers(0, 8, picture.shape, dtype=np.uint8)
    width = side * 4 // 3
    return [
        np.ascontiguousarray(picture[t : t + side, 2 * t : 2 * t + width])
        for t in range(int(FPS * SECONDS))
    ]


def build(folder: Path, videos: int, side: int) -> dict[str, np.ndarray]:
    """Shards of 16 clips and their index."""
    rows = []
    with ShardWriter(folder / "shards", shard_samples=16) as writer:
        for number in range(videos):
            clip = encode(moving_texture(number, side), FPS, keyframes=1.0)
            span = writer.write(f"s{number:04d}", {"mp4": clip.data, "json": {}})["mp4"]
            rows.append({
                "key": f"s{number:04d}", "source": "only", "partition": "p", "shard": span.shard,
                "offset": span.offset, "size": span.size, "digest": span.digest,
                "kind": "video", "fps": clip.fps,
                "frames": clip.frames, "width": clip.width, "height": clip.height, "weight": 1.0,
            })  # fmt: skip
    return {name: np.array([row[name] for row in rows]) for name in COLUMNS}


def stock(folder: Path) -> webdataset.WebDataset:
    """The stock reader over the tars of a folder, in order."""
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    return webdataset.WebDataset(urls, shardshuffle=False)


def measure(rounds: int, work: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Name -> items per CPU second, best of some alternating rounds."""
    best = dict.fromkeys(work, 0.0)
    for _ in range(rounds):
        for name, run in work.items():
            started = time.process_time()
            items = run()
            best[name] = max(best[name], items / (time.process_time() - started))
    return best


def main() -> None:
    """Build the shards in a temporary folder, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=int, default=48)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    config = ClipConfig(frames=asked.frames, crop=asked.crop)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index = build(folder, asked.videos, asked.side)
        files = list_files(folder)
        manifest = Manifest("clip_shards", "p", {}, "0" * 64, content_digest(files), files, {})
        artifact = Artifact(manifest, LocalPayload(folder))
        folder /= "shards"
        sampler = ClipSampler(index, {"only": 1.0}, seed=0)
        count = asked.videos

        def ours(cache: int) -> Callable[[], int]:
            loader = ClipLoader(index, {"p": artifact}, sampler, config, cache_bytes=cache)
            return lambda: len([loader.clip(0, slot) for slot in range(count)])

        def stock_clips() -> int:
            made = 0
            for made, sample in enumerate(stock(folder), 1):
                numbers = uniforms(0, 0, made)
                wanted = frame_numbers(int(FPS * SECONDS), FPS, config, float(numbers[START]))
                pictures = frames_at(sample["mp4"], (wanted / FPS).tolist())
                augment(pictures, numbers, config)
            return made

        def our_bytes() -> int:
            for slot in range(count):
                row = sampler.draw(0, slot).row
                read_span(
                    folder / index["shard"][row], int(index["offset"][row]), int(index["size"][row])
                )
            return count

        speed = measure(asked.rounds, {
            "bytes, stock in order": lambda: sum(1 for _ in stock(folder)),
            "bytes, ours anywhere": our_bytes,
            "clips, stock in order": stock_clips,
            "clips, ours anywhere": ours(0),
            "clips, ours from the cache": ours(1 << 40),
        })  # fmt: skip
    for what, rate in speed.items():
        other = speed["bytes, stock in order" if "bytes" in what else "clips, stock in order"]
        print(f"{what:28s} {rate:9.1f} /s   {rate / other:6.2f} x stock")


if __name__ == "__main__":
    main()
