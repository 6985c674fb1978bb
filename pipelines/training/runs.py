"""Where a training keeps its checkpoints and notes while it runs, on one machine or on many.

Where workers share a folder, that folder is all there is. For a store in a bucket each worker has a
folder of its own: the main worker pushes every finished checkpoint to the bucket, and a worker that
starts, or starts again, pulls the newest one.
"""

from __future__ import annotations

import json
import shutil
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.training.checkpoints import Checkpoint, checkpoint_name, list_checkpoints
from storage.manifests import ArtifactError
from storage.places import ASIDE, link_or_copy, write_file
from storage.work import KeptFile, Work

TRAINING = "scratch/training"
_INDEX = "checkpoints.json"


@dataclass(frozen=True)
class Run:
    """The checkpoints and notes of one training; pickles."""

    work: Work

    @property
    def folder(self) -> Path:
        """This worker's folder: what all share, or its own."""
        return self.work.scratch / ("training" if self.work.shared else "training-here")

    @property
    def recipe(self) -> str:
        """The recipe of what is trained, which names its curves."""
        return self.work.scratch.resolve().parent.name

    def note(self, name: str, data: bytes) -> None:
        """Leave a note for whoever started the training, and for the other workers."""
        self.work.note(f"{TRAINING}/{name}", data)

    def read_note(self, name: str) -> bytes | None:
        """The note of that name, or None."""
        return self.work.read_note(f"{TRAINING}/{name}")

    def remove_note(self, name: str) -> None:
        """Take a note away."""
        self.work.remove_note(f"{TRAINING}/{name}")

    def mirror(self, folder: Path, note: str) -> None:
        """Copy a note to a folder of this machine, for who looks there.

        Nothing happens where workers share their folder: it is that one.
        """
        if not self.work.shared and (data := self.read_note(note)) is not None:
            write_file(folder / note, data)

    def checkpoints(self) -> dict[int, Checkpoint]:
        """The complete checkpoints that every worker can reach: steps done -> checkpoint."""
        if self.work.shared:
            return {
                step: Checkpoint(step, self.work, _files(path))
                for step, path in list_checkpoints(self.folder).items()
            }
        index = json.loads(self.read_note(_INDEX) or b"{}")
        return {
            int(step): Checkpoint(
                int(step), self.work, {name: KeptFile(**kept) for name, kept in files.items()}
            )
            for step, files in index.items()
        }

    def push(self, path: Path) -> None:
        """Let every worker reach a checkpoint that this one wrote; for the main worker alone.

        Raises:
            ArtifactError: those before it are gone from the bucket, so that the run is not whole.
        """
        if self.work.shared:
            return
        steps = {folder: step for step, folder in list_checkpoints(self.folder).items()}
        index = json.loads(self.read_note(_INDEX) or b"{}")
        if gone := [
            step for step in steps.values() if step < steps[path] and str(step) not in index
        ]:
            raise ArtifactError(
                f"the checkpoint after step {gone[-1]} is no longer in the bucket: another machine "
                "sealed this training, or somebody removed it; run again"
            )
        files = {
            file.name: asdict(self.work.keep(file, f"{_under(steps[path])}/{file.name}"))
            for file in sorted(path.iterdir())
        }
        index[str(steps[path])] = files
        self.note(_INDEX, json.dumps(index).encode())
        for older in steps:
            if older != path:
                _discard(older)

    def pull(self) -> None:
        """Have the newest checkpoint that every worker can reach, and none beyond it."""
        if self.work.shared:
            return
        reached = self.checkpoints()
        newest = max(reached, default=0)
        for step, path in list_checkpoints(self.folder).items():
            if step != newest:  # this worker alone has it: nobody else could go on from there
                _discard(path)
        target = self.folder / "checkpoints" / checkpoint_name(newest)
        if not newest or target.is_dir():
            return
        aside = target.with_name(f"{ASIDE}{uuid.uuid4().hex}")
        aside.mkdir(parents=True)
        for name in reached[newest].files:
            link_or_copy(reached[newest].file(name), aside / name)
        try:
            aside.rename(target)
        except OSError:  # another worker of this machine was first
            if not target.is_dir():
                raise
            shutil.rmtree(aside)


def _discard(folder: Path) -> None:
    """Remove a checkpoint of this machine, which another worker of it may be removing, too."""
    aside = folder.with_name(f"{ASIDE}{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _under(step: int) -> str:
    return f"{TRAINING}/checkpoints/{checkpoint_name(step)}"


def _files(path: Path) -> dict[str, KeptFile]:
    """The files of a checkpoint in the folder that all share."""
    return {
        file.name: KeptFile(f"{TRAINING}/checkpoints/{path.name}/{file.name}", file.stat().st_size)
        for file in sorted(path.iterdir())
    }
