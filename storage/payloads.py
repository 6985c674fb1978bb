"""Payloads: where the files of one artifact are read, a folder or a prefix of a bucket.

Both kinds pickle, and neither holds a connection: a worker on another machine opens its own. From a
bucket a file comes whole, digest checked, into this machine's cache, or a span of it by one ranged
read; nothing is fetched before it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from storage.cache import cache_folder, copies_of
from storage.digests import digest_file
from storage.manifests import DAMAGED, ArtifactError, FileEntry, object_key
from storage.places import aside_of
from storage.verified import Verified

if TYPE_CHECKING:
    from storage.s3 import S3Place

TRANSFERS = 8
"""Files that are fetched or uploaded at a time."""


class Payload(Protocol):
    """The files of one artifact. Every method raises ArtifactError for one that is missing or has
    another size than was sealed; digests are checked on the way from a bucket.

    Entries come from the artifact's manifest: no other path is ever opened.
    """

    @property
    def location(self) -> str:
        """The folder, or `s3://bucket/prefix/objects/<content>`."""
        ...

    @property
    def root(self) -> Path:
        """The folder of this machine that holds the files, or copies of those fetched so far."""
        ...

    def here(self, entry: FileEntry) -> bool:
        """Whether the whole file is on this machine already."""
        ...

    def file(self, entry: FileEntry) -> Path:
        """The whole file on this machine."""
        ...

    def recheck(self, entry: FileEntry) -> None:
        """Look at a file again of which a part was found damaged; ArtifactError when it is."""
        ...

    def span(self, entry: FileEntry, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`. Raises ValueError when the file ends before them."""
        ...

    def problem(self, entries: Iterable[FileEntry]) -> str:
        """What is missing or of another size, found without reading a byte; "" for nothing."""
        ...


def read_span(path: Path, offset: int, size: int) -> bytes:
    """`size` bytes at `offset` of a shard. Raises ValueError when it does not hold them."""
    with path.open("rb") as file:
        # Asked first: a size that an index only claims shall take no memory.
        check_span(str(path), os.fstat(file.fileno()).st_size, offset, size)
        file.seek(offset)
        return file.read(size)


def check_span(where: str, held: int, offset: int, size: int) -> None:
    """Raise ValueError unless a file of `held` bytes has `size` of them at `offset`."""
    there = held - offset
    if offset < 0 or not 0 <= size <= there:
        raise ValueError(
            f"{where}: {size} bytes at {offset} wanted, {max(0, there)} there: the shard is cut "
            "short, or its index is wrong; make it again"
        )


@dataclass(frozen=True)
class LocalPayload:
    """The files lie in a folder of this machine.

    Those of a store are checked against their digests when they are opened, unless they are known
    to be whole, and set aside where they are not.
    """

    root: Path
    verified: Verified | None = field(default=None, compare=False)
    """None: a folder that is in no store, whose files are opened as they are."""

    @property
    def location(self) -> str:
        """The folder."""
        return str(self.root)

    def here(self, entry: FileEntry) -> bool:
        """Whether the file is there in its whole length."""
        path = self.path(entry)
        return path.is_file() and path.stat().st_size == entry.size

    def file(self, entry: FileEntry) -> Path:
        """The file itself."""
        if problem := self._lost(entry):
            raise ArtifactError(problem)
        path = self.path(entry)
        if self.verified and not self.verified.fits(path, entry.digest):
            key = object_key(self.root.name, entry.path)
            with suppress(OSError):  # a store that cannot be written
                home = self.root.parents[1] / DAMAGED / key
                home.parent.mkdir(parents=True, exist_ok=True)
                path.replace(home)
            raise ArtifactError(
                f"{key} did not fit its digest and was set aside in {DAMAGED}/; `vjepa2 run` "
                "makes it anew"
            )
        return self.root / entry.path

    def recheck(self, entry: FileEntry) -> None:
        """Read a file again, whatever is known of it."""
        if self.verified:
            self.verified.doubt(self.path(entry))
            self.file(entry)

    def path(self, entry: FileEntry) -> Path:
        """Where a file lies. A link in its place, or on the way to it, is refused: none was
        sealed, and bytes are not checked again whenever they are opened.
        """
        home = self.root.parent.resolve() / self.root.name
        file = home / entry.path
        if os.path.realpath(file) != str(file):
            key = object_key(self.root.name, entry.path)
            raise ArtifactError(f"{key} is a link; remove it, then rematerialize")
        return file

    def span(self, entry: FileEntry, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`, read from the file."""
        try:
            return read_span(self.path(entry), offset, size)
        except OSError as error:
            raise ArtifactError(f"{entry.path}: {error.strerror}; rematerialize it") from None

    def problem(self, entries: Iterable[FileEntry]) -> str:
        """What is missing or of another size, by what the file system tells; "" for nothing.

        What was once found whole and has changed since is read.
        """
        for entry in entries:
            if problem := self._lost(entry):
                return problem
            path = self.path(entry)
            known = self.verified
            if known and known.changed(path) and not known.fits(path, entry.digest):
                key = object_key(self.root.name, entry.path)
                return f"{key} does not fit its digest; rematerialize it"
        return ""

    def _lost(self, entry: FileEntry) -> str:
        if self.here(entry):
            return ""
        key = object_key(self.root.name, entry.path)
        return f"{key} is missing or not {entry.size} bytes; rematerialize it"


@dataclass(frozen=True)
class S3Payload:
    """The files lie in a bucket; `cache` is the cache folder of the process that opened the store.

    See `storage.cache.cache_folder` for the folder that another process uses.
    """

    store: str
    content: str
    cache: Path | None

    @property
    def location(self) -> str:
        """`s3://bucket/prefix/objects/<content>`."""
        return f"{self.store}/{object_key(self.content, '').rstrip('/')}"

    @property
    def root(self) -> Path:
        """Where this machine keeps copies."""
        return copies_of(self.store, self.cache) / "objects" / self.content

    @property
    def _place(self) -> S3Place:
        from storage.s3 import connected  # boto3 is slow to import, and folders do not need it

        return connected(self.store)

    def here(self, entry: FileEntry) -> bool:
        """Whether a whole copy is in the cache."""
        path = self.root / entry.path
        return path.is_file() and path.stat().st_size == entry.size

    def file(self, entry: FileEntry) -> Path:
        """The copy in the cache, fetched if need be; bytes of another digest are not kept."""
        path, key = self.root / entry.path, object_key(self.content, entry.path)
        known = Verified(cache_folder(self.cache))
        if self.here(entry) and known.fits(path, entry.digest):
            return path
        with aside_of(path) as aside:
            try:
                self._place.download(key, aside)
            except KeyError:
                raise ArtifactError(f"{key} is missing; rematerialize") from None
            if digest_file(aside) != entry.digest:
                raise ArtifactError(f"{key} does not fit its digest; remove it")
            aside.replace(path)
        known.remember(path, entry.digest)
        return path

    def recheck(self, entry: FileEntry) -> None:
        """Lose the copy in the cache: the next reader fetches another."""
        (self.root / entry.path).unlink(missing_ok=True)

    def span(self, entry: FileEntry, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`, from the copy if there is one, else by one ranged read."""
        if self.here(entry):
            return LocalPayload(self.root).span(entry, offset, size)
        key = object_key(self.content, entry.path)
        check_span(key, entry.size, offset, size)
        if not size:
            return b""
        try:
            data = self._place.span(key, offset, size)
        except KeyError:
            raise ArtifactError(f"{key} is missing; rematerialize") from None
        check_span(key, offset + len(data), offset, size)
        return data

    def problem(self, entries: Iterable[FileEntry]) -> str:
        """What is missing or of another size, by one listing of the bucket; "" for nothing."""
        sizes = self._place.sizes(object_key(self.content, ""))
        for entry in entries:
            key = object_key(self.content, entry.path)
            if sizes.get(key) != entry.size:
                return f"{key} is missing or not {entry.size} bytes; rematerialize it"
        return ""


def fetch_all(payload: Payload, entries: Iterable[FileEntry]) -> None:
    """Have some whole files on this machine, TRANSFERS at a time."""
    missing = [entry for entry in entries if not payload.here(entry)]
    with ThreadPoolExecutor(TRANSFERS) as threads:
        list(threads.map(payload.file, missing))
