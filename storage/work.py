"""Work in progress: how tasks, on whichever machine, add files to an artifact that is being made.

A task asks for a room (an empty folder of its machine), writes there, and keeps what is whole under
a name of the artifact, `payload/...` or `scratch/...`:

    with work.room() as room:
        np.save(room / "x.npy", vectors)
        work.keep(room / "x.npy", "scratch/embeddings/000003.npy")

In a folder that is a rename on one disk. For a store in a bucket it is an upload below
`work/<recipe>/`, which every machine reaches, under a key that ends with the file's digest: a late
upload of other bytes lands beside it, and sealing copies the very file that was recorded.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from storage.cache import copies_of
from storage.digests import digest_file
from storage.manifests import ArtifactError
from storage.places import ASIDE, aside_of, check_key, write_file

if TYPE_CHECKING:
    from storage.s3 import S3Place


@dataclass(frozen=True)
class KeptFile:
    """A file of an artifact in progress: its name, size in bytes and SHA-256 (hex).

    The digest is "" in a folder, where sealing takes it.
    """

    name: str
    size: int
    digest: str = ""


def work_prefix(recipe: str) -> str:
    """What the keys of all files and notes of an artifact in progress in a bucket start with."""
    return f"work/{recipe}/"


def kept_key(recipe: str, kept: KeptFile) -> str:
    """Where a kept file lies in a bucket: equal files under one key, others never."""
    return f"{work_prefix(recipe)}{kept.name}.{kept.digest[:16]}"


_KEPT: ContextVar[list[KeptFile] | None] = ContextVar("kept", default=None)


@contextmanager
def noting_kept() -> Iterator[list[KeptFile]]:
    """Collect the files that are kept while the block runs in this thread."""
    kept: list[KeptFile] = []
    token = _KEPT.set(kept)
    try:
        yield kept
    finally:
        _KEPT.reset(token)


def _noted(kept: KeptFile) -> KeptFile:
    if (notes := _KEPT.get()) is not None:
        notes.append(kept)
    return kept


class Work(Protocol):
    """The files of one answer in progress; pickles, and every worker reaches the same files."""

    @property
    def scratch(self) -> Path:
        """This machine's folder for what survives a kill of the stage."""
        ...

    @property
    def shared(self) -> bool:
        """Whether `scratch` is one folder for all workers."""
        ...

    def room(self) -> AbstractContextManager[Path]:
        """An empty folder of this machine to write in; it goes at the end of the block."""
        ...

    def keep(self, source: Path, name: str) -> KeptFile:
        """Add a whole file under a name, replacing what was there."""
        ...

    def put(self, name: str, data: bytes) -> KeptFile:
        """Add bytes under a name, replacing what was there."""
        ...

    def file(self, kept: KeptFile) -> Path:
        """A kept file on this machine; ArtifactError when it is gone or other bytes."""
        ...

    def lost(self, kept: Iterable[KeptFile]) -> set[str]:
        """Names of the files that are gone or of another size."""
        ...

    def note(self, name: str, data: bytes) -> None:
        """Leave a small note that other workers may read."""
        ...

    def read_note(self, name: str) -> bytes | None:
        """The note of that name, or None."""
        ...

    def remove_note(self, name: str) -> None:
        """Take a note away; nothing happens when there is none."""
        ...


@dataclass(frozen=True)
class LocalWork:
    """Work in two folders that all workers share."""

    payload: Path
    scratch: Path
    shared = True

    def _path(self, name: str) -> Path:
        part, _, rest = check_key(str(self.payload.parent), name).partition("/")
        return {"payload": self.payload, "scratch": self.scratch}[part] / rest

    @contextmanager
    def room(self) -> Iterator[Path]:
        """A folder in scratch, on the disk of the files that are kept."""
        folder = self.scratch / f"{ASIDE}{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, source: Path, name: str) -> KeptFile:
        """Rename the file to its place."""
        target = self._path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        return _noted(KeptFile(name, target.stat().st_size))

    def put(self, name: str, data: bytes) -> KeptFile:
        """Write beside the place, fsync, rename."""
        write_file(self._path(name), data)
        return _noted(KeptFile(name, len(data)))

    def file(self, kept: KeptFile) -> Path:
        """The file in its place."""
        if self.lost((kept,)):
            raise ArtifactError(f"{self._path(kept.name)} is gone or cut short; run again")
        return self._path(kept.name)

    def lost(self, kept: Iterable[KeptFile]) -> set[str]:
        """By the sizes that the file system tells."""
        sizes = {
            file: path.stat().st_size if (path := self._path(file.name)).is_file() else -1
            for file in kept
        }
        return {file.name for file, size in sizes.items() if size != file.size}

    def note(self, name: str, data: bytes) -> None:
        """A file that is renamed to its place: readers see the old note or the new one."""
        with aside_of(self._path(name)) as aside:
            aside.write_bytes(data)
            aside.replace(self._path(name))

    def read_note(self, name: str) -> bytes | None:
        """The file's bytes."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def remove_note(self, name: str) -> None:
        """Unlink the file."""
        self._path(name).unlink(missing_ok=True)


@dataclass(frozen=True)
class S3Work:
    """Work below `work/<recipe>/` of a store in a bucket; `cache` as in `S3Payload`."""

    store: str
    recipe: str
    cache: Path | None
    shared = False

    @property
    def folder(self) -> Path:
        """This machine's folder of the same work."""
        return copies_of(self.store, self.cache) / "work" / self.recipe

    @property
    def scratch(self) -> Path:
        """A folder of this machine alone."""
        return self.folder / "scratch"

    @property
    def place(self) -> S3Place:
        """The bucket, connected to by this process."""
        from storage.s3 import connected  # boto3 is slow to import, and folders do not need it

        return connected(self.store)

    def key(self, kept: KeptFile) -> str:
        """Where a kept file lies in the store."""
        return kept_key(self.recipe, kept)

    def note_key(self, name: str) -> str:
        """Where a note lies in the store."""
        return f"{work_prefix(self.recipe)}{name}"

    @contextmanager
    def room(self) -> Iterator[Path]:
        """A folder in this machine's cache."""
        rooms = copies_of(self.store, self.cache) / "rooms"
        rooms.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=rooms) as room:
            yield Path(room)

    def keep(self, source: Path, name: str) -> KeptFile:
        """Upload the file."""
        kept = KeptFile(name, source.stat().st_size, digest_file(source))
        self.place.upload(self.key(kept), source)
        return _noted(kept)

    def put(self, name: str, data: bytes) -> KeptFile:
        """Upload the bytes."""
        with self.room() as room:
            (room / "data").write_bytes(data)
            return self.keep(room / "data", name)

    def file(self, kept: KeptFile) -> Path:
        """A copy on this machine, fetched and checked if need be."""
        path = self.fetched / kept.name
        if path.is_file() and digest_file(path) == kept.digest:
            return path
        with aside_of(path) as aside:
            try:
                self.place.download(self.key(kept), aside)
            except KeyError:
                raise ArtifactError(f"{self.key(kept)} is gone; run again") from None
            if digest_file(aside) != kept.digest:
                raise ArtifactError(f"{self.key(kept)} is not what a worker left; run again")
            aside.replace(path)
        return path

    @property
    def fetched(self) -> Path:
        """Where copies of kept files lie, under their names."""
        return self.folder / "fetched"

    def lost(self, kept: Iterable[KeptFile]) -> set[str]:
        """By one listing."""
        files = list(kept)
        sizes = self.place.sizes(work_prefix(self.recipe)) if files else {}
        return {file.name for file in files if sizes.get(self.key(file)) != file.size}

    def note(self, name: str, data: bytes) -> None:
        """One object."""
        self.place.write(self.note_key(name), data)

    def read_note(self, name: str) -> bytes | None:
        """The object's bytes."""
        try:
            return self.place.read(self.note_key(name))
        except KeyError:
            return None

    def remove_note(self, name: str) -> None:
        """Delete the object."""
        self.place.remove(self.note_key(name))
