"""CPU time of clips, one thread: our loader beside plain decoding, stock readers and decord.

    python -m tests.benchmarks.bench_loader [--videos ../shared/data/videos] [--files 12]

All make the same clips: 16 frames at 4 fps of the same window, the same crop made square, flipped
and normalised where it says so. Stored: real files (or, without any, drifting noise) as
`clip_shards` stores them, taken in the order of training, anywhere; the stock reader walks the tars
from first to last, its best case. Originals: the files themselves, as decord reads them in the
official loader (with one thread), if decord can be imported. Contenders alternate in one process;
times are CPU seconds, each clip's best round counts.
"""

from __future__ import annotations

import argparse
import importlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import webdataset

from pipelines.training.clips import COLUMNS, ClipConfig, ClipLoader, augment, frame_numbers
from pipelines.training.order import START, ClipSampler, Draw
from storage.frames import frames_at, resample_to_store
from storage.handles import Artifact
from storage.manifests import Manifest, content_digest, list_files
from storage.payloads import LocalPayload, read_span
from storage.pictures import Clip, VideoError
from storage.shards import ShardWriter
from storage.video import encode, probe, stored_frames
from storage.video.conversion import EXACT

FPS, SIDE, SECONDS = 8.0, 320, 10.0
CONFIG = ClipConfig()


def drifting_noise(seed: int) -> Iterator[np.ndarray]:
    """80 frames [320, 426, 3] of smooth noise that drifts."""
    generator = np.random.default_rng(seed)
    coarse = torch.from_numpy(generator.random((1, 3, 24, 32), dtype=np.float32))
    size = (SIDE + 80, SIDE * 4 // 3 + 160)
    big = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0].clamp(0, 1)
    picture = (big.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    for t in range(int(FPS * SECONDS)):
        yield np.ascontiguousarray(picture[t : t + SIDE, 2 * t : 2 * t + SIDE * 4 // 3])


def originals(folder: Path, most: int) -> list[Path]:
    """Some H.264 files of 5 to 20 seconds, spread over all of a folder."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            what = probe(path)
        except VideoError:
            continue
        if what.codec == "h264" and 5.0 <= what.seconds <= 20.0:
            found.append(path)
    return found[:: -(-len(found) // most) or 1]


def stored(path: Path) -> Clip:
    """A file as `clip_shards` stores it."""
    what = probe(path)
    side = min(SIDE, what.width, what.height)
    return encode(resample_to_store(path, 0.0, what.seconds, FPS, side), FPS, options={"crf": "20"})


def build(folder: Path, clips: list[Clip]) -> dict[str, np.ndarray]:
    """Shards of 16 clips and their index."""
    rows = []
    with ShardWriter(folder / "shards", shard_samples=16) as writer:
        for number, clip in enumerate(clips):
            span = writer.write(f"s{number:04d}", {"mp4": clip.data, "json": {}})["mp4"]
            rows.append({
                "key": f"s{number:04d}", "source": "only", "partition": "p", "shard": span.shard,
                "offset": span.offset, "size": span.size, "digest": span.digest,
                "kind": "video", "fps": clip.fps, "frames": clip.frames, "width": clip.width,
                "height": clip.height, "weight": 1.0,
            })  # fmt: skip
    return {name: np.array([row[name] for row in rows]) for name in COLUMNS}


class EachOnce(ClipSampler):
    """The sampler of training, at its price; but every sample comes once, in a mixed order."""

    def __init__(self, index: dict[str, np.ndarray]) -> None:
        super().__init__(index, {"only": 1.0}, seed=0)
        self.order = np.random.default_rng(0).permutation(len(index["key"]))
        self.slots = np.argsort(self.order)

    def draw(self, step: int, slot: int, attempt: int = 0) -> Draw:
        return Draw(int(self.order[slot]), super().draw(step, slot, attempt).numbers)


@dataclass
class Stored:
    """Stored clips, and the draw of each."""

    folder: Path
    index: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        files = list_files(self.folder)
        manifest = Manifest("clip_shards", "p", {}, "0" * 64, content_digest(files), files, {})
        self.artifact = Artifact(manifest, LocalPayload(self.folder))
        self.sampler = EachOnce(self.index)

    def __len__(self) -> int:
        return len(self.index["key"])

    def loader(self, cache: int = 0) -> ClipLoader:
        """Our loader."""
        return ClipLoader(self.index, {"p": self.artifact}, self.sampler, CONFIG, cache_bytes=cache)

    def stock(self) -> Iterator[dict[str, Any]]:
        """The stock reader over the tars, in order."""
        urls = sorted(str(path) for path in (self.folder / "shards").glob("*.tar"))
        return iter(webdataset.WebDataset(urls, shardshuffle=False))

    def window(self, row: int) -> tuple[np.ndarray, Draw]:
        """The frames that every contender shows of a sample."""
        draw = self.sampler.draw(0, int(self.sampler.slots[row]))
        frames, fps = int(self.index["frames"][row]), float(self.index["fps"][row])
        return frame_numbers(frames, fps, CONFIG, float(draw.numbers[START])), draw

    def bytes_of(self, row: int) -> bytes:
        """One sample."""
        shard = self.folder / "shards" / self.index["shard"][row]
        return read_span(shard, int(self.index["offset"][row]), int(self.index["size"][row]))


def plain(data: bytes, numbers: np.ndarray, *, seek: bool, colours: bool = True) -> np.ndarray:
    """A loop of PyAV with our settings: every frame up to the window's last, whole, as RGB."""
    wanted, kept = set(numbers.tolist()), {}
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        unit = stream.time_base * stream.average_rate
        if seek:
            container.seek(int(numbers[0] / unit), stream=stream)
        for frame in container.decode(stream):
            number = round(frame.pts * unit)
            if number in wanted:
                kept[number] = (
                    frame.to_ndarray(format="rgb24", interpolation=EXACT) if colours else frame
                )
            if number >= numbers[-1]:
                break
    return np.stack([kept[n] for n in numbers.tolist()]) if colours else np.empty(0)


def of_stored(held: Stored) -> dict[str, Callable[[], Iterator[Any]]]:
    """Name -> a pass over all stored clips that yields after each."""

    def each(make: Callable[[int], Any]) -> Callable[[], Iterator[Any]]:
        return lambda: (make(row) for row in range(len(held)))

    def decoded(row: int, **how: bool) -> np.ndarray:
        return plain(held.bytes_of(row), held.window(row)[0], **how)

    def walked(decode: Callable[[bytes, np.ndarray], np.ndarray]) -> Iterator[Any]:
        for row, sample in enumerate(held.stock()):
            numbers, draw = held.window(row)
            yield augment(decode(sample["mp4"], numbers), draw.numbers, CONFIG)

    def whole(row: int) -> Any:
        numbers, draw = held.window(row)
        return augment(stored_frames(held.bytes_of(row), numbers), draw.numbers, CONFIG)

    ours, cached = held.loader(), held.loader(cache=1 << 40)
    for slot in range(len(held)):
        cached.clip(0, slot)
    return {
        "bytes: stock reader, in order": held.stock,
        "bytes: ours, anywhere": each(held.bytes_of),
        "frames: plain decoding from the first": each(lambda row: decoded(row, seek=False)),
        "frames: plain decoding by a seek": each(lambda row: decoded(row, seek=True)),
        "frames: the same without colours": each(
            lambda row: decoded(row, seek=True, colours=False)
        ),
        "clips: stock loop, plain decoding": lambda: walked(lambda d, n: plain(d, n, seek=True)),
        "clips: stock loop, our decoding": lambda: walked(stored_frames),
        "clips: ours, cropped last": each(whole),
        "clips: ours": each(lambda row: ours.clip(0, int(held.sampler.slots[row]))),
        "clips: ours, from the cache": each(
            lambda row: cached.clip(0, int(held.sampler.slots[row]))
        ),
    }


def of_originals(paths: list[Path]) -> dict[str, Callable[[], Iterator[Any]]]:
    """Name -> a pass over windows of the files themselves that yields after each."""
    random, windows = np.random.default_rng(0), []
    for path in paths:
        what = probe(path)
        step = what.fps / CONFIG.fps
        room = max(0.0, what.frames - 1 - step * (CONFIG.frames - 1))
        windows.append(np.minimum(
            (random.random() * room + step * np.arange(CONFIG.frames)).astype(int), what.frames - 1
        ))  # fmt: skip
    rates = [probe(path).fps for path in paths]

    def ours() -> Iterator[Any]:
        for path, window, rate in zip(paths, windows, rates, strict=True):
            yield frames_at(path, (window / rate).tolist())

    passes: dict[str, Callable[[], Iterator[Any]]] = {"originals: ours": ours}
    try:
        decord = importlib.import_module("decord")
    except ImportError:
        return passes

    def theirs() -> Iterator[Any]:
        for path, window in zip(paths, windows, strict=True):
            reader = decord.VideoReader(str(path), num_threads=1, ctx=decord.cpu(0))
            yield reader.get_batch(window.tolist()).asnumpy()

    return {"originals: decord": theirs} | passes


def measure(rounds: int, work: dict[str, Callable[[], Iterator[Any]]]) -> dict[str, np.ndarray]:
    """Name -> CPU milliseconds of each clip, the best of some alternating rounds."""
    best: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, run in work.items():
            marks = [time.process_time()]
            marks.extend(time.process_time() for _ in run())
            spent = np.diff(marks) * 1e3
            best[name] = np.minimum(best.get(name, spent), spent)
    return best


def main() -> None:
    """Build the shards in a temporary folder, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/videos"))
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    paths = originals(asked.videos, asked.files)
    clips = [stored(p) for p in paths] or [encode(drifting_noise(n), FPS) for n in range(24)]
    with tempfile.TemporaryDirectory() as name:
        held = Stored(Path(name), build(Path(name), clips))
        taken = {k: v.mean() for k, v in measure(asked.rounds, of_stored(held)).items()}
    if paths:
        taken |= {k: v.mean() for k, v in measure(asked.rounds, of_originals(paths)).items()}
    first: dict[str, float] = {}
    for what, spent in taken.items():
        base = first.setdefault(what.split(":")[0], spent)
        print(f"{what:40s} {spent:8.2f} ms   {base / spent:6.2f} x the first")
    ours = taken["clips: ours"]
    for what in taken:
        if what.startswith("frames") or "stock loop" in what or "last" in what:
            print(f"clips: ours beside {what:40s} {taken[what] / ours:6.2f} x")


if __name__ == "__main__":
    main()
