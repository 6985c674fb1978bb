"""Handles on artifacts: a manifest and where its payload is read. They pickle and fetch nothing.

A stage, a gate or a preview opens the files that it needs, one at a time:

    artifact.file("embeddings.npy")                 a whole file on this machine
    artifact.table("scenes.parquet")                rows of a table
    artifact.columns("index.parquet", ["weight"])   some columns, read by column and row group
    artifact.sample("shards/000003.tar", 512, 90_000, digest)
                                                    one sample by one ranged read, digest checked
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from storage.digests import digest_sample
from storage.errors import InputError
from storage.manifests import ArtifactError, FileEntry, Manifest
from storage.payloads import Payload, fetch_all
from storage.tables import ROW_GROUP, read_batches, read_columns, read_schema, read_table

# A table up to this size comes whole from a bucket, its digest checked on the way; of a larger one
# only the columns, whose bytes no digest covers.
WHOLE = 1 << 20


@dataclass(frozen=True, eq=False)
class Artifact:
    """One artifact, read where it lies.

    It pickles with what tasks need: the files and where its media lie, without the recipe inputs,
    parents and other record, which may name every file of a source. Equal are handles on the same
    artifact in the same place.

    Paths are relative and posix, as the manifest lists them. Every method that takes one raises
    ArtifactError when the manifest does not list it, or when the file is missing or has another
    size than was sealed. A file's digest is checked when it is opened, unless it is known to be
    unchanged since (`storage.verified`), and a sample's when it is read. Columns that are read by
    ranges out of a bucket are not covered.
    """

    manifest: Manifest
    payload: Payload

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Artifact):
            return NotImplemented
        return (self.manifest.key, self.payload) == (other.manifest.key, other.payload)

    def __hash__(self) -> int:
        return hash(self.manifest.key)

    def __getstate__(self) -> dict[str, Any]:
        return {"manifest": self.manifest.for_tasks(), "payload": self.payload}

    @property
    def content(self) -> str:
        """Digest of the payload."""
        return self.manifest.content

    @property
    def record(self) -> Mapping[str, Any]:
        """How the artifact was made: environment, timings, metrics."""
        return self.manifest.record

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The numbers that the stage returned."""
        return self.manifest.record.get("metrics", {})

    @property
    def location(self) -> str:
        """Where the payload lies: a folder of this machine, or an `s3://` prefix."""
        return self.payload.location

    def has(self, path: str) -> bool:
        """Whether the manifest lists such a file."""
        return path in self.manifest.by_path

    def files(self, prefix: str = "") -> list[str]:
        """Paths of the files that start with a prefix, sorted, from the manifest."""
        return sorted(path for path in self.manifest.by_path if path.startswith(prefix))

    def file(self, path: str) -> Path:
        """One whole file on this machine; from a bucket it is fetched first, its digest checked."""
        with self._named():
            return self.payload.file(self.manifest.file(path))

    def folder(self, prefix: str = "") -> Path:
        """The folder that holds all files that start with a prefix, fetched if need be.

        For what must be a folder (a bundle to load, a checkpoint); other files may be missing in
        it. Give the prefix with its slash: the folder is the payload's root all the same.
        """
        with self._named():
            fetch_all(self.payload, (self.manifest.file(path) for path in self.files(prefix)))
            for path in self.files(prefix):
                self.payload.file(self.manifest.file(path))
        return self.payload.root

    def read(self, path: str) -> bytes:
        """The bytes of one whole file."""
        return self.file(path).read_bytes()

    def json(self, path: str) -> Any:
        """What a JSON file says."""
        return json.loads(self.read(path))

    def span(self, path: str, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of a file, by one read.

        Raises:
            ValueError: the file ends before them.
        """
        with self._named():
            return self.payload.span(self.manifest.file(path), offset, size)

    def sample(self, path: str, offset: int, size: int, digest: int) -> bytes:
        """The bytes of one sample of a shard, by one read.

        Args:
            path: the shard.
            offset: its first byte.
            size: number of bytes.
            digest: `digest_sample` of them, as the shard's index has it.

        Raises:
            ValueError: the shard ends before them, or they are not those that were written.
        """
        data = self.span(path, offset, size)
        if digest_sample(data) != digest:
            with suppress(ArtifactError):  # a shard that is damaged is set aside
                self.payload.recheck(self.manifest.file(path))
            raise InputError(
                f"{self.manifest.name}: {path}: the {size} bytes at {offset} do not fit their "
                "digest; run `vjepa2 verify`, then make the artifact again"
            )
        return data

    def table(self, path: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Rows of a parquet file in its order, with all columns or some."""
        return read_table(self._table(path, columns is not None), columns)

    def columns(
        self, path: str, names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Some columns of a parquet file, or all, as arrays of shape [rows]."""
        return read_columns(self._table(path, names is not None), names)

    def batches(
        self, path: str, names: Sequence[str] | None = None, rows: int = ROW_GROUP
    ) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        """Some columns of a parquet file, or all, at most `rows` of its rows at a time."""
        return read_batches(self._table(path, True), names, rows)

    def schema(self, path: str) -> dict[str, str]:
        """Column -> type of a parquet file, in its order."""
        return read_schema(self._table(path, True))

    def _table(self, path: str, in_parts: bool) -> Path | BinaryIO:
        entry = self.manifest.file(path)
        with self._named():
            if in_parts and entry.size > WHOLE and not self.payload.here(entry):
                return cast(BinaryIO, _RangedFile(self.payload, entry))
            return self.payload.file(entry)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except ArtifactError as error:
            name = f"{self.manifest.name}: "
            raise ArtifactError(f"{name}{str(error).removeprefix(name)}") from None


class _RangedFile(io.RawIOBase):
    """A payload file that is read by ranges, for readers that seek."""

    def __init__(self, payload: Payload, entry: FileEntry) -> None:
        super().__init__()
        self._payload, self._entry, self._at = payload, entry, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._entry.size}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._entry.size - self._at)
        wanted = left if size < 0 else min(size, left)
        data = self._payload.span(self._entry, self._at, wanted) if wanted else b""
        self._at += len(data)
        return data
