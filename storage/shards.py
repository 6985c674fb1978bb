"""WebDataset shards that come out the same on every build: the one module that imports webdataset.

A shard is a plain tar that the stock `webdataset` package reads: for each sample `<key>.<ext>` for
every part, sorted by extension. Times are zero, owner and group are root, so equal samples in equal
order give equal bytes. The writer also says where each part lies and what its digest is, so that a
reader with an index takes one sample by one ranged read, without walking the tar, and knows that
its bytes are those that were written (`Artifact.sample`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import webdataset

from storage.digests import digest_sample

# A tar header is one block, and every member is padded to whole blocks.
BLOCK = 512


@dataclass(frozen=True)
class Span:
    """Where the bytes of one part lie (shard file name, first byte, number of bytes), and their
    digest (`digest_sample`).
    """

    shard: str
    offset: int
    size: int
    digest: int


class ShardWriter:
    """Writes samples into `folder`/000000.tar, 000001.tar, ...; a context manager.

    A new shard begins once the present one holds `shard_samples` samples or `shard_bytes` bytes of
    parts, a rule of the samples alone. Shards that an interrupted run left are written anew.
    """

    def __init__(
        self, folder: Path, *, shard_bytes: int = 256 << 20, shard_samples: int = 10_000
    ) -> None:
        if shard_bytes < 1 or shard_samples < 1:
            raise ValueError(
                f"ShardWriter: shard_bytes={shard_bytes} and shard_samples={shard_samples} "
                "must both be at least 1"
            )
        self._folder, self._bytes, self._samples = folder, shard_bytes, shard_samples
        self._tar: webdataset.TarWriter | None = None
        self._file: BinaryIO | None = None
        self._number = -1
        self._held = 0
        self._size = 0
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, key: str, parts: Mapping[str, bytes | Mapping[str, Any]]) -> dict[str, Span]:
        """Append one sample and return where each part went, with its digest.

        key: letters, digits, `-` and `_` (a dot would end the key for WebDataset readers).
        parts: extension -> bytes; a mapping is written as JSON with sorted keys.
        """
        if not key or not all(c.isalnum() or c in "-_" for c in key) or not key.isascii():
            raise ValueError(f"ShardWriter: key {key!r} may have letters, digits, '-' and '_' only")
        if self._tar is None or self._held >= self._samples or self._size >= self._bytes:
            self._next_shard()
        assert self._tar is not None
        data = {name: _as_bytes(part) for name, part in sorted(parts.items())}
        spans = {}
        end = self._tar.tarstream.offset
        for name, part in data.items():
            spans[name] = Span(self._name(), end + BLOCK, len(part), digest_sample(part))
            end += BLOCK + -(-len(part) // BLOCK) * BLOCK
        self._tar.write({"__key__": key, **data})
        if self._tar.tarstream.offset != end:
            raise RuntimeError(f"{self._name()}: sample {key} did not end at byte {end} as planned")
        self._held += 1
        self._size += sum(len(part) for part in data.values())
        return spans

    def close(self) -> None:
        """Finish the present shard and flush it to the disk."""
        if self._tar is not None and self._file is not None:
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self._tar = self._file = None

    def _name(self) -> str:
        return f"{self._number:06d}.tar"

    def _next_shard(self) -> None:
        self.close()
        self._number += 1
        self._held = self._size = 0
        self._file = (self._folder / self._name()).open("wb")
        self._tar = webdataset.TarWriter(
            self._file, user="root", group="root", mode=0o444, mtime=0, encoder=False
        )


def _as_bytes(part: bytes | Mapping[str, Any]) -> bytes:
    if isinstance(part, bytes):
        return part
    return json.dumps(part, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
