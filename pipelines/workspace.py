"""Workspaces: where a stage writes, and how its tasks, on whichever machine, write with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from storage.places import link_or_copy
from storage.results import Results
from storage.work import KeptFile, LocalWork, S3Work, Work

if TYPE_CHECKING:
    from pipelines.execution import ExecutionConfig

Item = TypeVar("Item")


@dataclass(frozen=True)
class Workspace:
    """Where a stage writes: `payload` becomes the artifact, `scratch` survives a kill.

    Both are folders of the machine that runs the stage. Tasks may run on other machines: they are
    given `work`, keep files in it (see `storage.work`), and `kept` says what they kept so far.
    """

    payload: Path
    scratch: Path
    partition: str | None
    execution: ExecutionConfig
    shared: Work | None = None
    """None: tasks share the two folders."""
    kept: dict[str, KeptFile] = field(default_factory=dict, compare=False)
    """Name -> file, of everything that tasks kept."""
    remote: dict[str, KeptFile] = field(default_factory=dict, compare=False)
    """Path in the payload -> file, of what lies in the store's bucket instead of `payload`."""
    results: Results = field(default_factory=Results, compare=False)
    """What is known of single items, for tasks that ask and tell; by default nothing is kept."""
    recipe: str | None = None
    """That of the artifact that is being made; None outside a store."""
    observed: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What the stage's `observe` saw outside the store when the recipe was asked."""

    @property
    def work(self) -> Work:
        """The handle that tasks are given."""
        return self.shared or LocalWork(self.payload, self.scratch)

    def map(
        self, function: Callable[[Item], Any], items: Mapping[str, Item], *, noun: str
    ) -> dict[str, Any]:
        """Apply a top-level function to every item, `execution.workers` at a time; resumable.

        See `pipelines.compute.map_items`. Files that the function kept are in `kept` afterwards.
        """
        from pipelines.compute import map_items  # Ray takes a while to import

        return map_items(function, items, self, noun=noun)

    def train(self, worker: Callable[..., None], *, world: int) -> None:
        """Run `world` workers of a training, joined by torch.distributed, until all have ended.

        See `pipelines.compute.train_on_ray`, which says what a worker is given.
        """
        from pipelines.compute import train_on_ray  # Ray takes a while to import

        train_on_ray(worker, execution=self.execution, world=world, notes=self._ray_notes())

    def _ray_notes(self) -> str:
        """Where Ray Train keeps notes that all its nodes can reach; of a bucket, as a URI."""
        if isinstance(self.work, S3Work):
            place = f"{self.work.store}/{self.work.note_key('scratch/ray')}"
            return f"s3://{quote(place.removeprefix('s3://'))}"
        return str((self.scratch / "training").resolve())

    def note_kept(self, files: Iterable[KeptFile]) -> None:
        """Take files that a task kept into the books; those under payload/ become part of it."""
        for file in files:
            self.kept[file.name] = file
            if not self.work.shared and file.name.startswith("payload/"):
                self.remote[file.name.removeprefix("payload/")] = file

    def file(self, name: str) -> Path:
        """A file that a task kept, on this machine."""
        return self.work.file(self.kept[name])

    def adopt(self, name: str, path: str) -> None:
        """Make a file that a task kept in scratch part of the payload, under `path`."""
        self.publish(self.kept[name], path)

    def publish(self, kept: KeptFile, path: str) -> None:
        """`adopt` for a file that is in no book of this workspace."""
        if self.work.shared:
            target = self.payload / path
            target.unlink(missing_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(self.work.file(kept), target)
        else:
            self.remote[path] = kept
