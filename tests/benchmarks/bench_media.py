"""CPU time of a file's way into shards: probe, cut and transcode beside ffmpeg's transcode alone.

    python -m tests.benchmarks.bench_media [--videos ../shared/data/videos] [--files 12]

Ours is what the stages do with a file of the pool: one decoding that checks it and sees what
changes in it, cuts by that, and every scene made small, as one scene. ffmpeg is given the same
rate, size and quality: `-vf fps=8,scale=... -c:v libx264 -preset veryfast -crf 20`, one thread. It
is the program that PATH or the package imageio_ffmpeg has; where there is none, PyAV's own decoder,
scaler and libx264 with the same settings stand for it, which the table says. Contenders alternate;
times are CPU seconds of the process or of its child, each one's best round counts.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipelines.curation.cutting import ContentLook, cuts, seen
from storage.frames import resample_to_store, thumbnails
from storage.pictures import Probe, VideoError, fitted
from storage.video import encode, probe

FPS, SIDE, CRF = 8.0, 320, "20"


def chosen(folder: Path, most: int) -> list[tuple[Path, Probe]]:
    """Some videos of at most 30 seconds, spread over all of a folder."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            what = probe(path)
        except VideoError:
            continue
        if what.kind == "video" and what.frames > 24 and what.seconds <= 30:
            found.append((path, what))
    return found[:: -(-len(found) // most) or 1]


def spent(who: int) -> float:
    """CPU seconds so far of this process, or of its children."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def ffmpeg() -> str | None:
    """The program, if there is one."""
    try:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return shutil.which("ffmpeg")


def by_ffmpeg(program: str, path: Path, what: Probe, out: Path) -> None:
    """The file made small by the program."""
    side = min(SIDE, what.width, what.height)
    scale = f"{side}:-2" if what.width < what.height else f"-2:{side}"
    subprocess.run(
        [program, "-v", "error", "-threads", "1", "-i", str(path), "-an", "-vf",
         f"fps={FPS:g},scale={scale}", "-c:v", "libx264", "-preset", "veryfast", "-crf", CRF,
         "-g", "8", "-threads", "1", "-y", str(out)],
        check=True,
    )  # fmt: skip


def by_pyav(path: Path, what: Probe, out: Path) -> None:
    """The same by the libraries of PyAV: every frame decoded, every eighth of a second kept."""
    height, width = fitted((what.height, what.width), min(SIDE, what.width, what.height))
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        stream.codec_context.thread_count = 1
        options = {"preset": "veryfast", "crf": CRF}
        made = target.add_stream("libx264", rate=Fraction(8), options=options)
        made.width, made.height, made.pix_fmt = width, height, "yuv420p"
        made.codec_context.thread_count, made.codec_context.gop_size = 1, 8
        kept = 0
        for frame in source.decode(stream):
            if frame.time is not None and frame.time < kept / FPS:
                continue
            small = frame.reformat(width, height, "yuv420p", threads=1)
            small.pts, small.time_base = kept, Fraction(1, 8)
            kept += 1
            target.mux(made.encode(small))
        target.mux(made.encode(None))


def transcoded(path: Path, what: Probe) -> None:
    """The file as `clip_shards` stores it, in one piece."""
    side = min(SIDE, what.width, what.height)
    encode(resample_to_store(path, 0.0, what.seconds, FPS, side), FPS, options={"crf": CRF})


def ways(path: Path, what: Probe, out: Path) -> dict[str, tuple[int, Callable[[], object]]]:
    """Name -> whose CPU seconds count, and what is to be done."""

    def looked() -> None:
        looking = ContentLook()
        probe(path, looking)
        cuts(looking.told().scores, "content", None, 15)

    program = ffmpeg()
    theirs: Callable[[], object] = lambda: by_pyav(path, what, out)  # noqa: E731
    if program:
        theirs = lambda: by_ffmpeg(program, path, what, out)  # noqa: E731
    mine, child = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return {
        "ffmpeg": (child if program else mine, theirs),
        "probe": (mine, lambda: probe(path)),
        "cut apart": (mine, lambda: seen(thumbnails(path, 144), ContentLook())),
        "probe + cut": (mine, looked),
        "transcode": (mine, lambda: transcoded(path, what)),
    }


def measure(path: Path, what: Probe, rounds: int, out: Path) -> dict[str, float]:
    """Name -> CPU seconds, the best of some alternating rounds."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, (who, work) in ways(path, what, out).items():
            before = spent(who)
            work()
            best[name] = min(best.get(name, np.inf), spent(who) - before)
    return best


def main() -> None:
    """Measure, print a line for each file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/videos"))
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(f"peer: {ffmpeg() or 'no ffmpeg here: the libraries of PyAV'}; {time.ctime()}")
    total: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path, what in chosen(asked.videos, asked.files):
            taken = measure(path, what, asked.rounds, Path(folder) / "out.mp4")
            total = {name: total.get(name, 0.0) + seconds for name, seconds in taken.items()}
            told = f"{path.name[:40]:40s} {what.codec:6s} {what.width}x{what.height}"
            print(f"{told:60s} {line(taken)}", flush=True)
    if total:
        print(f"{'all':60s} {line(total)}")


def line(taken: dict[str, float]) -> str:
    """What the parts took, and the ratios to ffmpeg."""
    peer, once = taken["ffmpeg"], taken["probe + cut"] + taken["transcode"]
    apart = taken["probe"] + taken["cut apart"] + taken["transcode"]
    parts = "  ".join(f"{name} {seconds:.2f}" for name, seconds in taken.items())
    return (
        f"{parts} s   transcode {taken['transcode'] / peer:.2f} x ffmpeg, all three "
        f"{once / peer:.2f} x (decoded apart {apart / peer:.2f} x)"
    )


if __name__ == "__main__":
    main()
