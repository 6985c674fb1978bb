"""The batches of one worker in their order, prepared ahead by threads if there are any."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pipelines.training.distributed import Workers
from pipelines.training.tasks import LoopSettings, Task


class Batches:
    """The batches of this worker in order; `loader_threads` prepare up to `loader_depth` ahead."""

    def __init__(self, task: Task, settings: LoopSettings, workers: Workers) -> None:
        self._task = task
        self._shards = workers.shards(settings.gradient_shards)
        self._steps = settings.steps
        self._ahead = settings.loader_depth
        threads = settings.loader_threads
        self._threads = ThreadPoolExecutor(threads) if threads else None
        self._pending: dict[tuple[int, int], Future[Any]] = {}
        self.waited = 0.0
        """Seconds that training has stood still for its batches."""

    def take(self, step: int, shard: int) -> Any:
        """The batch of (step, shard)."""
        began = time.monotonic()
        try:
            return self._take(step, shard)
        finally:
            self.waited += time.monotonic() - began

    def _take(self, step: int, shard: int) -> Any:
        if self._threads is None:
            return self._task.batch(step, shard)
        key = (step, shard)
        for _ in range(self._ahead + 1):
            if key[0] < self._steps and key not in self._pending:
                self._pending[key] = self._threads.submit(self._task.batch, *key)
            key = self._after(key)
        return self._pending.pop((step, shard)).result()

    def close(self) -> None:
        """Drop what was prepared in vain and end the threads."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def _after(self, key: tuple[int, int]) -> tuple[int, int]:
        step, shard = key
        return (step, shard + 1) if shard + 1 in self._shards else (step + 1, self._shards.start)
