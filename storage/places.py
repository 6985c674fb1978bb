"""Places: where keys and bytes live, local disk or S3, behind one small interface.

A key is a relative posix path. `create` is the one conditional write: it says whether this caller
was first, which is what makes a manifest appear once and last.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol


class PlaceError(RuntimeError):
    """A place that cannot be used; the message says which, why and what to do."""


class Place(Protocol):
    """What a store needs of a disk or a bucket."""

    location: str

    def read(self, key: str) -> bytes:
        """The bytes under a key; KeyError when there are none."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Put bytes under a key, whole or not at all, replacing what was there."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Put bytes under a key that is free; False (and no change) when it is taken."""
        ...

    def upload(self, key: str, source: Path) -> None:
        """Copy a local file under a key, whole or not at all."""
        ...

    def download(self, key: str, target: Path) -> None:
        """Copy the bytes under a key to a local file, whole or not at all."""
        ...

    def exists(self, key: str) -> bool:
        """Whether a key is taken."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that start with a prefix, sorted."""
        ...

    def remove(self, key: str) -> None:
        """Free a key; nothing happens when it is free."""
        ...


def open_place(location: str) -> Place:
    """A place by its location: `s3://bucket/prefix`, or else a folder of this machine.

    Raises:
        PlaceError: the folder cannot be written, or the bucket does not answer.
    """
    if location.startswith("s3://"):
        from storage.s3 import S3Place

        return S3Place(location)
    if "://" in location:
        raise PlaceError(f"store {location!r}: unknown kind; give a folder or s3://bucket/prefix")
    return LocalPlace(Path(location))


class LocalPlace:
    """A folder: writes go aside, are fsynced and renamed, so a crash leaves whole files only."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.location = str(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise PlaceError(
                f"store {self.location}: cannot be written ({error.strerror}); "
                "choose another folder with --store, or make it writable"
            ) from error

    def path(self, key: str) -> Path:
        """Where a key lives; refuses keys that climb out of the folder."""
        if key.startswith("/") or ".." in PurePosixPath(key).parts:
            raise PlaceError(f"store {self.location}: key {key!r} leaves the store")
        return self.root / key

    def read(self, key: str) -> bytes:
        """See Place."""
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(key) from None

    def write(self, key: str, data: bytes) -> None:
        """See Place."""
        aside = self._aside(key)
        _write_synced(aside, data)
        os.replace(aside, self.path(key))
        sync_folder(self.path(key).parent)

    def create(self, key: str, data: bytes) -> bool:
        """See Place. A hard link is the local conditional put: it fails when the name is taken."""
        aside = self._aside(key)
        _write_synced(aside, data)
        try:
            os.link(aside, self.path(key))
        except FileExistsError:
            return False
        finally:
            aside.unlink()
        sync_folder(self.path(key).parent)
        return True

    def upload(self, key: str, source: Path) -> None:
        """See Place."""
        aside = self._aside(key)
        shutil.copyfile(source, aside)
        sync_file(aside)
        os.replace(aside, self.path(key))
        sync_folder(self.path(key).parent)

    def download(self, key: str, target: Path) -> None:
        """See Place."""
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(target.name + ".part")
        try:
            shutil.copyfile(self.path(key), aside)
        except FileNotFoundError:
            raise KeyError(key) from None
        os.replace(aside, target)

    def exists(self, key: str) -> bool:
        """See Place."""
        return self.path(key).is_file()

    def keys(self, prefix: str) -> Iterator[str]:
        """See Place."""
        folder = self.path(prefix)
        start = folder if folder.is_dir() else folder.parent
        found = (path for path in start.rglob("*") if path.is_file())
        names = (path.relative_to(self.root).as_posix() for path in found)
        yield from sorted(n for n in names if n.startswith(prefix) and "/.aside-" not in f"/{n}")

    def remove(self, key: str) -> None:
        """See Place."""
        self.path(key).unlink(missing_ok=True)

    def _aside(self, key: str) -> Path:
        folder = self.path(key).parent
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".aside-", dir=folder)
        os.close(handle)
        return Path(name)


def write_file(path: Path, data: bytes) -> None:
    """Write a local file whole or not at all: aside, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".aside-{path.name}")
    _write_synced(aside, data)
    os.replace(aside, path)


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Force a folder's entries (renames in it) to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
