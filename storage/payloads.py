"""Payloads: where the files of one artifact are read, a folder or a prefix of a bucket.

Both kinds pickle, and neither holds a connection: a worker on another machine opens its own. From a
bucket a file comes whole, digest checked, into this machine's cache, or a span of it by one ranged
read; nothing is fetched before it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from storage.cache import copies_of
from storage.digests import digest_file
from storage.manifests import ArtifactError, FileEntry, object_key
from storage.places import aside_of

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
    """The files lie in a folder of this machine."""

    root: Path

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
        if problem := self.problem((entry,)):
            raise ArtifactError(problem)
        return self.root / entry.path

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
        """What is missing or of another size, by what the file system tells; "" for nothing."""
        for entry in entries:
            if not self.here(entry):
                place = f"objects/{self.root.name}/{entry.path}"
                return f"{place} is missing or not {entry.size} bytes; rematerialize it"
        return ""


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
        if self.here(entry):
            return path
        with aside_of(path) as aside:
            try:
                self._place.download(key, aside)
            except KeyError:
                raise ArtifactError(f"{key} is missing; rematerialize") from None
            if digest_file(aside) != entry.digest:
                raise ArtifactError(f"{key} does not fit its digest; remove it")
            aside.replace(path)
        return path

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
