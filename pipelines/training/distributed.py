"""Gradients of one batch on any number of workers, to the same last bit.

A batch is cut into a fixed number of gradient shards, which belongs to the recipe,
not to the machine. Each shard's gradient is computed alone, and the shards are summed in one binary
tree, ((0+1)+(2+3))+((4+5)+(6+7)): a worker sums the subtree of its own shards, and the upper levels
are summed across workers in the same order. Floating-point addition commutes but does not
associate, so fixing the tree fixes the bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


def is_power_of_two(number: int) -> bool:
    """Whether number is 1, 2, 4, 8, ..."""
    return number > 0 and number & (number - 1) == 0


def usable_workers(wanted: int, shards: int) -> int:
    """The largest power of two that is neither above `wanted` nor above `shards`."""
    if wanted < 1:
        raise ValueError(f"workers = {wanted}: at least one worker is needed")
    return 1 << (min(wanted, shards).bit_length() - 1)


class TreeSum:
    """A running sum of a power of two of equal-shaped tensors, in binary-tree order.

    Holds one partial sum per level, so that 2^k leaves need k + 1 buffers at most.
    """

    def __init__(self) -> None:
        self._partial: list[tuple[int, Tensor]] = []  # (level, sum of 2^level leaves)

    def push(self, leaf: Tensor) -> None:
        """Add the next leaf; it may be changed in place afterwards."""
        level, total = 0, leaf
        while self._partial and self._partial[-1][0] == level:
            total = self._partial.pop()[1].add_(total)
            level += 1
        self._partial.append((level, total))

    def total(self) -> Tensor:
        """The sum of all leaves.

        Raises:
            ValueError: the number of leaves pushed is no power of two.
        """
        if len(self._partial) != 1:
            raise ValueError("a binary tree needs a power of two of leaves")
        return self._partial[0][1]


@dataclass(frozen=True)
class Workers:
    """One worker's place among those that share a batch.

    `world` workers need an initialised torch.distributed process group when world > 1.
    """

    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not is_power_of_two(self.world) or not 0 <= self.rank < self.world:
            raise ValueError(f"worker {self.rank} of {self.world}: the count must be 1, 2, 4, ...")

    @property
    def is_main(self) -> bool:
        """Whether this worker writes the checkpoints and the log."""
        return self.rank == 0

    def shards(self, total: int) -> range:
        """The gradient shards of this worker: a run of total / world neighbours in the tree."""
        if total % self.world:
            raise ValueError(f"{total} gradient shards do not divide among {self.world} workers")
        share = total // self.world
        return range(self.rank * share, (self.rank + 1) * share)

    def tree_sum(self, partial: Tensor) -> Tensor:
        """Sum one partial sum [n] per worker in tree order; every worker gets the same bits.

        Each worker sums one slice of the vector for all (all-to-all), then the slices are gathered:
        the traffic of a ring all-reduce, but with an order of addition that we choose. Two workers
        swap all they have instead: the same traffic in one round, and addition commutes.
        """
        if self.world == 1:
            return partial
        if self.world == 2:
            return partial + self._of_the_other(partial)
        length = -(-partial.numel() // self.world)
        mine = torch.zeros(length * self.world, dtype=partial.dtype, device=partial.device)
        mine[: partial.numel()] = partial
        slices = torch.empty_like(mine)
        with together():
            dist.all_to_all_single(slices, mine)
        tree = TreeSum()
        for row in slices.view(self.world, length):
            tree.push(row)
        with together():
            dist.all_gather_single(mine, tree.total().contiguous())
        return mine[: partial.numel()]

    def _of_the_other(self, mine: Tensor) -> Tensor:
        other = torch.empty_like(mine)
        there = 1 - self.rank
        both = [dist.P2POp(dist.isend, mine, there), dist.P2POp(dist.irecv, other, there)]
        with together():
            for swap in dist.batch_isend_irecv(both):
                swap.wait()
        return other

    def agree(self, number: int, device: torch.device) -> int:
        """The number itself, which every worker holds; WorkerLostError when one holds another.

        `device` is the one whose tensors the workers exchange.
        """
        if self.world == 1:
            return number
        mine = torch.tensor([number], device=device)
        held = [torch.empty_like(mine) for _ in range(self.world)]
        with together():
            dist.all_gather(held, mine)
        if odd := sorted({int(value) for value in held} - {number}):
            raise WorkerLostError(f"worker {self.rank} holds {number}, others hold {odd}")
        return number

    def wait(self) -> None:
        """Wait for all workers."""
        if self.world > 1:
            with together():
                dist.barrier()


class WorkerLostError(RuntimeError):
    """Another worker, or the bucket that all share, went away: starting again may cure it."""


@contextmanager
def together() -> Iterator[None]:
    """Tell an exchange that breaks off as WorkerLostError."""
    try:
        yield
    except RuntimeError as error:
        raise WorkerLostError(f"an exchange between workers broke off: {error}") from error
