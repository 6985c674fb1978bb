"""What so many videos would cost, as a table in the terminal."""

from __future__ import annotations

from typing import TextIO

from assets.deployment import Deployment
from pipelines.cost import Rate, films, measured

DAY = 86_400


def cost(deployed: Deployment, videos: str, mean_seconds: float | None, out: TextIO) -> None:
    """Print hours, bytes, core-days and GPU-days of some videos, and where each rate is from.

    Raises InputError where nothing was measured, or `videos` is neither a number nor a list.
    """
    rates, mean = measured(deployed.graph, deployed.open_store(read_only=True))
    asked = films(videos, mean_seconds or mean)
    told = "as asked" if mean_seconds else "the mean of those here"
    print(f"{asked.count:,} videos, {asked.hours:,.1f} hours", end=" ", file=out)
    print(f"(where no length is told {mean_seconds or mean:.1f} s, {told})\n", file=out)
    print(f"{'':<18}{'core-days':>12}{'GPU-days':>12}{'GB':>12}  rate from", file=out)
    cores = gpus = size = 0.0
    for rate in rates:
        times = asked.hours if rate.by_hour else 1.0
        days, here = times * rate.worker_seconds / DAY, times * rate.size
        on_gpu = rate.device == "cuda"
        cores, gpus, size = cores + days * (not on_gpu), gpus + days * on_gpu, size + here
        print(_line(rate.asset, days * (not on_gpu), days * on_gpu, here, _why(rate)), file=out)
    workers = deployed.profile.execution.workers
    print(f"{_line('all', cores, gpus, size, '')}\n", file=out)
    if not gpus:
        print("nothing was made on a GPU here: no rate of one is known", file=out)
    hours = 24 * (cores + gpus) / workers
    print(f"{hours:,.2f} hours with {workers} workers (execution.workers)", file=out)


def _why(rate: Rate) -> str:
    if not rate.by_hour:
        return f"{rate.source}; all of it, however many videos"
    kind = "GPU" if rate.device == "cuda" else "core"
    return f"{rate.worker_seconds:,.0f} {kind}-seconds an hour of video: {rate.source}"


def _line(name: str, cores: float, gpus: float, size: float, why: str) -> str:
    return f"{name:<18}{cores:>12,.3f}{gpus:>12,.3f}{size / 1e9:>12,.3f}  {why}".rstrip()
