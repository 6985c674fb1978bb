"""How the gradients of a batch become one, whichever worker computed which part of it.

`tree`: every shard alone, summed in one binary tree: the same bytes for any number of workers.
`ddp`: torch's own DistributedDataParallel: a worker adds its shards up in place, buckets are
exchanged while the backward pass of its last shard goes on. Faster over a network, and another sum
in floating point for another number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipelines.training.distributed import TreeSum, Workers, together

Reduction = Literal["tree", "ddp"]
Loss = Callable[[int, int], tuple[Tensor, dict[str, Tensor]]]
"""(step, shard) -> the shard's loss [] and further scalars []."""
Gradients = tuple[list[Tensor | None], dict[str, float]]
"""The batch's mean gradient per parameter (None: unused), and its mean scalars."""


class TreeReduction:
    """Shards alone, in one binary tree."""

    def __init__(self, loss: Loss, parameters: Sequence[nn.Parameter], workers: Workers) -> None:
        self._loss, self._parameters, self._workers = loss, parameters, workers

    def gradients(self, step: int, shards: int) -> Gradients:
        """The mean over the shards of a step."""
        tree = TreeSum()
        names: list[str] = []
        used: list[bool] = []
        for shard in self._workers.shards(shards):
            loss, scalars = self._loss(step, shard)
            gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
            scalars = {"loss": loss, **scalars}
            names, used = list(scalars), [g is not None for g in gradients]
            parts = [g.reshape(-1) for g in gradients if g is not None]
            tree.push(torch.cat([*parts, _row(scalars)]))
        mean = self._workers.tree_sum(tree.total()) / shards
        sizes = [p.numel() for p, u in zip(self._parameters, used, strict=True) if u]
        pieces = iter(mean[: sum(sizes)].split(sizes))
        gradient = [
            next(pieces).view_as(p) if u else None
            for p, u in zip(self._parameters, used, strict=True)
        ]
        return gradient, dict(zip(names, mean[sum(sizes) :].tolist(), strict=True))


class DdpReduction:
    """torch's DistributedDataParallel; alone, a worker only adds its shards up."""

    def __init__(
        self,
        loss: Loss,
        trained: Mapping[str, nn.Module],
        parameters: Sequence[nn.Parameter],
        workers: Workers,
    ) -> None:
        self._parameters, self._workers = parameters, workers
        whole = _Loss(loss, trained)
        # A network may have parameters that a step does not use: a head, a mask token.
        self._model: nn.Module = (
            whole
            if workers.world == 1
            else DistributedDataParallel(
                whole, forward_sync_buffers=False, find_unused_parameters=True
            )
        )

    def gradients(self, step: int, shards: int) -> Gradients:
        """The mean over the shards of a step; WorkerLostError when an exchange breaks off."""
        for parameter in self._parameters:
            parameter.grad = None
        mine = self._workers.shards(shards)
        total: Tensor | None = None
        names: list[str] = []
        for shard in mine:
            # Gradients are exchanged in the backward pass of the last shard, all of them at once.
            waits = isinstance(self._model, DistributedDataParallel) and shard != mine[-1]
            if isinstance(self._model, DistributedDataParallel):
                self._model.require_backward_grad_sync = not waits
            with together():
                loss, scalars = self._model(step, shard)
                (loss / len(mine)).backward()
            scalars = {"loss": loss, **scalars}
            names, row = list(scalars), _row(scalars)
            total = row if total is None else total + row
        assert total is not None  # every worker has a shard
        if self._workers.world > 1:
            with together():
                dist.all_reduce(total)
        return (
            [parameter.grad for parameter in self._parameters],
            dict(zip(names, (total / shards).tolist(), strict=True)),
        )


class _Loss(nn.Module):
    """A loss as the output of a module that has what it trains, as DDP wants it."""

    def __init__(self, loss: Loss, trained: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trained = nn.ModuleDict(trained)
        self._loss = loss

    def forward(self, step: int, shard: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self._loss(step, shard)


def reduction(
    kind: Reduction,
    loss: Loss,
    trained: Mapping[str, nn.Module],
    parameters: Sequence[nn.Parameter],
    workers: Workers,
) -> TreeReduction | DdpReduction:
    """The reduction of that name, over the parameters of what is trained."""
    if kind == "tree":
        return TreeReduction(loss, parameters, workers)
    return DdpReduction(loss, trained, parameters, workers)


def _row(scalars: Mapping[str, Any]) -> Tensor:
    """[number of scalars] float32."""
    return torch.cat([value.detach().float().reshape(1) for value in scalars.values()])
