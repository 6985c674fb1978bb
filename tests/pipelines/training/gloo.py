"""Two real processes joined by gloo, for tests (no tests in here): `spawn(function, folder)`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pipelines.training.checkpoints import logged_rows
from pipelines.training.distributed import TreeSum, WorkerLostError, Workers
from pipelines.training.loop import train
from pipelines.training.runs import Run
from storage.work import LocalWork
from tests.pipelines.training import toy

Function = Callable[[Workers, Path], None]


def spawn(function: Function, folder: Path, world: int = 2) -> None:
    """Run a top-level function in `world` processes that share a gloo group."""
    folder.mkdir(parents=True, exist_ok=True)
    mp.spawn(_join, args=(function, folder, world), nprocs=world)


def _join(rank: int, function: Function, folder: Path, world: int) -> None:
    meeting = f"file://{folder.resolve()}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    try:
        function(Workers(rank, world), folder)
    finally:
        dist.destroy_process_group()


def leaves(number: int = 8, size: int = 1001) -> list[torch.Tensor]:
    """Vectors of very different magnitudes: their sum depends on the order."""
    source = torch.Generator().manual_seed(1)
    return [torch.randn(size, generator=source) * 10.0 ** (i % 5) for i in range(number)]


def sum_and_train(workers: Workers, folder: Path) -> None:
    """Sum the leaves and train the toy task; the sum of each worker is saved."""
    tree = TreeSum()
    for shard in workers.shards(8):
        tree.push(leaves()[shard])
    torch.save(workers.tree_sum(tree.total()), folder / f"sum-{workers.rank}.pt")
    run = Run(LocalWork(folder / "payload", folder / "run"))
    train(toy.ToyTask, toy.settings(4), run, workers, torch.device("cpu"))
    assert len(logged_rows(run.checkpoints().values())) == 4


def disagree(workers: Workers, folder: Path) -> None:
    """Agree on one number, then hold different ones: what each worker is told is saved."""
    cpu = torch.device("cpu")
    assert workers.agree(5, cpu) == 5
    try:
        workers.agree(7 - workers.rank, cpu)
    except WorkerLostError as error:
        (folder / f"told-{workers.rank}").write_text(str(error))
