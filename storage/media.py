"""A user's media where they lie: a folder or an S3 prefix, read and never written.

Folders are untrusted: a link that leads out of the folder or in a circle is listed and refused when
read, links to folders are not followed, and hidden files are left alone. A name that is not UTF-8
is listed as Python spells it (`os.fsdecode`) and refused: no table can hold it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from storage.confined import CircleError, PathError, check_path, inside, is_text, legible
from storage.digests import digest_file
from storage.errors import UserError
from storage.pictures import Source
from storage.places import resolved, write_file

T = TypeVar("T")


class MediaError(UserError, ValueError):
    """A source or file that cannot be used; one line: where, what, what to do."""


class ChangedMediaError(MediaError):
    """A file that was replaced after the listing by which a recipe names it."""


@dataclass(frozen=True)
class Listing:
    """The files of a source, as one look at its folder or bucket found them."""

    paths: list[str]
    """All files but hidden ones, sorted."""
    marks: dict[str, str]
    """Of a bucket: every key -> ETag. Of a folder: empty."""
    _shares: dict[int, dict[int, list[str]]] = field(default_factory=dict)
    _chosen: dict[str, list[str]] = field(default_factory=dict)

    def share(self, number: int, of: int, share_of: Callable[[str, int], int]) -> list[str]:
        """Paths of which `share_of(path, of)` is `number`; dealt out once for all numbers."""
        if of not in self._shares:
            dealt: dict[int, list[str]] = {}
            for path in self.paths:
                dealt.setdefault(share_of(path, of), []).append(path)
            self._shares[of] = dealt
        return self._shares[of].get(number, [])

    def chosen(self, name: str, wanted: Callable[[str], bool]) -> list[str]:
        """Paths that are `wanted`; looked for once for a `name`."""
        if name not in self._chosen:
            self._chosen[name] = [path for path in self.paths if wanted(path)]
        return self._chosen[name]


class Files(Protocol):
    """Files that are read one by one; paths are relative and posix."""

    location: str

    def read(self, path: str, mark: str | None = None) -> bytes:
        """The bytes of a file. Raises MediaError; ChangedMediaError when a `mark` of its listing
        is given and the file has another one by now.
        """
        ...

    def source(self, path: str, mark: str | None = None) -> Source:
        """What decodes a file: where it lies on this machine, or else its bytes. Raises as `read`
        does.
        """
        ...


class Media(Files, Protocol):
    """The files of one source."""

    def listing(self) -> Listing:
        """What there is now; within `listings_kept`, what there was at the first look.

        Raises MediaError if there are no files.
        """
        ...

    def has(self, path: str) -> bool:
        """Whether there is such a file; a link counts, and `read` says where it leads."""
        ...

    def digests(self, paths: Sequence[str], book: Path) -> dict[str, str]:
        """Path -> what changes with the content; the file `book` remembers it between calls."""
        ...


TARS = "tars:"
"""How the location of a source begins whose tars are opened: `tars:/folder`."""

FETCHED = "fetched:"
"""How the location of files begins that were fetched into a store; a digest is the mark of each."""


def open_files(location: str) -> Files:
    """What lies at `location`, be it a source or what was fetched. Raises as `open_media`."""
    if location.startswith(FETCHED):
        from storage.fetched import Fetched

        return Fetched(location)
    return open_media(location)


def open_media(location: str) -> Media:
    """The source at `location`. Raises MediaError (or PlaceError for a bucket that is silent)."""
    if location.startswith(TARS):
        from storage.tars import Tars

        return Tars(location)
    return _bucket(location) if location.startswith("s3://") else Folder(location)


@functools.cache
def _bucket(location: str) -> Media:
    """One connection for a process: opening one costs as much as reading many files."""
    from storage.buckets import Bucket

    return Bucket(location)


_KEPT = threading.local()


@contextlib.contextmanager
def listings_kept() -> Iterator[None]:
    """Look at each source once while the block runs in this thread, however often it is asked for.

    For a walk over the partitions of a source: what is added to it meanwhile is seen by the next.
    """
    before = getattr(_KEPT, "listings", None)
    _KEPT.listings = {} if before is None else before
    try:
        yield
    finally:
        _KEPT.listings = before


def once(location: str, look: Callable[[], T]) -> T:
    """What a look at a location finds; within `listings_kept`, what the first look found."""
    kept: dict[str, Any] | None = getattr(_KEPT, "listings", None)
    if kept is None:
        return look()
    if location not in kept:
        kept[location] = look()
    return kept[location]


def keeping() -> bool:
    """Whether looks are kept: this thread is within `listings_kept`."""
    return getattr(_KEPT, "listings", None) is not None


def shown(paths: list[str], location: str) -> list[str]:
    """The files of a source that are not hidden, sorted; MediaError if there are none."""
    kept = [p for p in paths if not any(part.startswith(".") for part in p.split("/"))]
    if not kept:
        raise MediaError(f"{location}: no files there; put videos in it or set another location")
    return sorted(kept)


class Folder:
    """A folder of this machine."""

    def __init__(self, location: str) -> None:
        self.root = resolved(location)
        self.location = str(self.root)
        if not self.root.is_dir():
            found = "is no folder" if self.root.exists() else "does not exist"
            raise MediaError(f"{location}: {found}; give a folder of videos or s3://bucket/prefix")

    def listing(self) -> Listing:
        """One walk of the folder; MediaError for one in it that cannot be read.

        Links to folders are listed, not followed.
        """
        return once(self.location, self._look)

    def _look(self) -> Listing:
        found: list[str] = []
        for folder, folders, files in os.walk(self.root, onerror=self._refuse):
            here = Path(folder)
            links = [name for name in folders if (here / name).is_symlink()]
            above = "" if here == self.root else f"{here.relative_to(self.root).as_posix()}/"
            found += [f"{above}{name}" for name in (*files, *links)]
        return Listing(shown(found, self.location), {})

    def _refuse(self, error: OSError) -> None:
        raise MediaError(
            f"{self.location}: {error.filename} cannot be listed ({error.strerror}); make it "
            "readable, or move it away"
        ) from None

    def has(self, path: str) -> bool:
        """Whether there is such a file; a link counts, and `read` says where it leads."""
        file = self.root / check_path(path)
        return file.is_symlink() or file.is_file()

    def read(self, path: str, mark: str | None = None) -> bytes:
        """The bytes of a file; MediaError when it is missing, unreadable or leads out.

        A folder's listing has no marks.
        """
        del mark
        try:
            return self._inside(path).read_bytes()
        except OSError as error:
            raise MediaError(f"{self.location}: {legible(path)}: {error.strerror}") from None

    def source(self, path: str, mark: str | None = None) -> Path:
        """Where the file lies, so that a large one is not in memory; MediaError as in `read`."""
        del mark
        file = self._inside(path)
        try:
            with open(file, "rb"):
                return file
        except OSError as error:
            raise MediaError(f"{self.location}: {legible(path)}: {error.strerror}") from None

    def digests(self, paths: Sequence[str], book: Path) -> dict[str, str]:
        """Path -> SHA-256, computed again only when a file's size or modification time changed.

        `book` is a JSON file that keeps them between calls, where it can be written. A file that
        cannot be read has its kind of error in place of a digest.
        """
        before: dict[str, list[Any]] = {}
        with contextlib.suppress(OSError, ValueError):  # a book that is lost is written anew
            before = json.loads(book.read_bytes())
        known: dict[str, list[Any]] = {}
        result: dict[str, str] = {}
        folders: dict[str, str] = once(f"{self.location}\0folders", dict)
        for path in paths:
            try:
                file, state = self._seen(path, folders)
                mark = [state.st_size, state.st_mtime_ns]
                same = before.get(path, [])[:2] == mark
                known[path] = before[path] if same else [*mark, digest_file(Path(file))]
                result[path] = known[path][2]
            except (MediaError, OSError) as error:
                # Unreadable: becomes a quarantined row, and another recipe once it is readable.
                result[path] = f"unreadable: {type(error).__name__}"
        if known != before:
            # Whoever cannot write it (a read-only home) computes them again the next time.
            with contextlib.suppress(OSError):
                write_file(book, json.dumps(known, sort_keys=True).encode())
        return result

    def _seen(self, path: str, folders: dict[str, str]) -> tuple[str, os.stat_result]:
        """Where a file lies and its state, of one of many: each folder (`folders` knows those that
        were met) is resolved once, and what is no plain file in it is looked at as `_inside` does.

        Raises as that does.
        """
        parent, _, name = path.rpartition("/")
        with contextlib.suppress(PathError, OSError):
            if parent not in folders:
                folders[parent] = str(inside(self.root, parent))
            file = f"{folders[parent]}/{name}"
            if is_text(path) and stat.S_ISREG((state := os.lstat(file)).st_mode):
                return file, state
        target = self._inside(path)
        return str(target), target.stat()

    def _inside(self, path: str) -> Path:
        name = legible(path)
        if not is_text(path):
            raise MediaError(f"{name}: its name is not UTF-8; give the file another name")
        try:
            target = inside(self.root, path)
        except CircleError:
            raise MediaError(f"{name} is a link that leads in a circle; remove it") from None
        except PathError:
            raise MediaError(f"{name} leads out of its folder; copy the file in") from None
        if not target.is_file():
            kind = "a link to a folder, which is not followed" if target.is_dir() else "missing"
            kind = "a pipe or device" if kind == "missing" and target.exists() else kind
            raise MediaError(f"{name} is {kind}; put the file itself there")
        return target
