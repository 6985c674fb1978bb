"""Places: where keys and bytes live, local disk or S3, behind one small interface.

A key is a relative posix path. `create` is the one conditional write: it says whether this caller
was first, which is what makes a manifest appear once and last.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from storage.errors import UserError

ASIDE = ".aside-"
"""How the names of files begin that are still being written; they are never listed or sealed."""


class PlaceError(UserError, RuntimeError):
    """A place that cannot be used; the message says which, why and what to do."""


class UnreachableError(PlaceError):
    """A place that did not answer, or was too busy to."""

    may_pass = True


class Place(Protocol):
    """What a store needs of a disk or a bucket.

    Every method raises PlaceError for a key that leaves the place (`/x`, `a/../..`), and when the
    disk or bucket fails.
    """

    location: str

    def read(self, key: str) -> bytes:
        """The bytes under a key; KeyError when there are none."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Replace what is under a key, atomically: readers see the old bytes or the new ones."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Put bytes under a key that is free; False (and no change) when it is taken."""
        ...

    def upload(self, key: str, source: Path) -> None:
        """Copy a local file under a key, atomically; replaces what was there."""
        ...

    def download(self, key: str, target: Path) -> None:
        """Copy the bytes under a key to a local file, atomically; KeyError when there are none."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Have the bytes of one key under another one, too; KeyError when there are none."""
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


def open_place(location: str, *, read_only: bool = False) -> Place:
    """A place by its location: `s3://bucket/prefix`, or else a folder of this machine.

    Nothing is written to find out whether one that is `read_only` can be used.

    Raises:
        PlaceError: the folder cannot be written, or the bucket does not answer.
    """
    if location.startswith("s3://"):
        from storage.s3 import S3Place

        return S3Place(location)
    if "://" in location:
        raise PlaceError(f"store {location!r}: unknown kind; give a folder or s3://bucket/prefix")
    return LocalPlace(Path(location), read_only=read_only)


def resolved(path: Path | str) -> Path:
    """A path with `~` made a home folder and every link followed.

    Raises:
        PlaceError: it is in the home of a user that there is not, or its links lead in a circle.
    """
    try:
        whole = Path(path).expanduser()
    except RuntimeError as error:
        raise PlaceError(f"{path}: {error}; give the folder by its whole path") from None
    try:
        return whole.resolve()
    except RuntimeError:
        raise PlaceError(f"{path} is a link that leads in a circle; give another folder") from None


def check_key(location: str, key: str) -> str:
    """The key itself; PlaceError when it would lead out of the place."""
    if key.startswith("/") or ".." in key.split("/"):
        raise PlaceError(f"store {location}: key {key!r} leaves the store")
    return key


class LocalPlace:
    """A folder of this machine.

    A write goes to a temporary file beside its target, is fsynced and then renamed over it, so a
    crash leaves the old file or the new one, never part of one.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.root = resolved(root)
        self.location = str(self.root)
        if not read_only:
            self._try()

    def _try(self) -> None:
        """Make the folder and write in it; PlaceError when that cannot be done."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise PlaceError(
                f"store {self.location}: cannot be written ({error.strerror}); "
                "choose another folder with --store, or make it writable"
            ) from None

    def path(self, key: str) -> Path:
        """Where a key lives."""
        return self.root / check_key(self.location, key)

    def read(self, key: str) -> bytes:
        """The bytes of a file; KeyError when there is no such file."""
        with self._speaking_of(key):
            return self.path(key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        """Replace a file: temporary file, fsync, atomic rename."""
        with self._aside(key) as aside:
            write_synced(aside, data)
            aside.replace(self.path(key))

    def create(self, key: str, data: bytes) -> bool:
        """Make a file unless it exists: a hard link fails, atomically, when its name is taken."""
        with self._aside(key) as aside:
            write_synced(aside, data)
            try:
                os.link(aside, self.path(key))
            except FileExistsError:
                return False
        return True

    def upload(self, key: str, source: Path) -> None:
        """Copy a local file in: temporary file, fsync, atomic rename."""
        with self._aside(key) as aside:
            shutil.copyfile(source, aside)
            sync(aside)
            aside.replace(self.path(key))

    def download(self, key: str, target: Path) -> None:
        """Copy a file out, renamed to its target when complete; KeyError when there is none."""
        with self._speaking_of(key), aside_of(target) as aside:
            shutil.copyfile(self.path(key), aside)
            aside.replace(target)

    def copy(self, source: str, target: str) -> None:
        """Copy a file, renamed to its target when complete; KeyError when there is none."""
        self.download(source, self.path(target))

    def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        return self.path(key).is_file()

    def keys(self, prefix: str) -> Iterator[str]:
        """Paths of all files that start with a prefix, sorted; unfinished writes are left out."""
        whole = self.path(prefix)
        # A prefix may end within a name: then its folder is searched.
        start = whole if prefix.endswith("/") or not prefix else whole.parent
        with self._speaking_of(prefix), suppress(KeyError):
            names = [path.relative_to(self.root).as_posix() for path in _files_below(start)]
            yield from sorted(name for name in names if name.startswith(prefix))

    def remove(self, key: str) -> None:
        """Delete a file; nothing happens when there is none."""
        with self._speaking_of(key), suppress(KeyError):
            self.path(key).unlink(missing_ok=True)

    @contextmanager
    def _speaking_of(self, key: str) -> Iterator[None]:
        """Turn what the system raises into KeyError (no such file) or PlaceError (all else)."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise KeyError(key) from None
        except OSError as error:
            raise self._failed(key, error) from error

    def _failed(self, key: str, error: OSError) -> PlaceError:
        advice = "check the disk and the folder's rights, then run again"
        return PlaceError(f"store {self.location}: {key}: {error.strerror}; {advice}")

    @contextmanager
    def _aside(self, key: str) -> Iterator[Path]:
        try:
            with aside_of(self.path(key)) as aside:
                yield aside
        except OSError as error:
            raise self._failed(key, error) from error
        sync(self.path(key).parent)


def _files_below(folder: Path) -> Iterator[Path]:
    """Every whole file below a folder. Raises OSError for a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for where, _, names in os.walk(folder, onerror=refuse):
        found = (Path(where) / name for name in names if not name.startswith(ASIDE))
        yield from (path for path in found if path.is_file())


@contextmanager
def aside_of(target: Path) -> Iterator[Path]:
    """A free name beside a file, to write first and then move; whatever is left there is removed.

    Its folder is made if need be. Names differ from process to process, so that two may write the
    same file and either one's bytes end up there whole.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{ASIDE}{uuid.uuid4().hex}")
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a local file: temporary file beside it, fsync, atomic rename."""
    with aside_of(path) as aside:
        write_synced(aside, data)
        aside.replace(path)
    sync(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Have a file under a second name, which is free: a hard link, or else a copy."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def write_synced(path: Path, data: bytes) -> None:
    """Write a local file and force its bytes to the disk."""
    with open(path, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's entries (renames in it), to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
