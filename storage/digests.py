"""Digests: one canonical form per value, one SHA-256 per recipe, artifact and file."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

_BLOCK = 1 << 20


class Readable(Protocol):
    """What bytes can be read of."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, refuses what has no canonical form.

    Raises:
        TypeError: for NaN, infinities, sets, non-string keys and unknown objects, naming the place.
    """
    _refuse_unhashable(value, "value")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest_json(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    return digest_bytes(canonical_json(value).encode())


def digest_bytes(data: bytes) -> str:
    """SHA-256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def is_sha256(text: object) -> bool:
    """Whether a text is the SHA-256 of something: 64 digits, small letters."""
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def digest_sample(data: bytes) -> int:
    """The first 64 bits of the SHA-256 of a sample's bytes as a signed integer.

    Short, because an index of hundreds of millions of samples is held in memory; the whole shard
    has a full digest in its manifest.
    """
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big", signed=True)


def digest_file(path: Path) -> str:
    """SHA-256 (hex) of a file, read in blocks of 1 MiB."""
    with open(path, "rb") as stream:
        return digest_stream(stream)


def digest_stream(stream: Readable) -> str:
    """SHA-256 (hex) of what a stream still has, read in blocks of 1 MiB."""
    sha = hashlib.sha256()
    while block := stream.read(_BLOCK):
        sha.update(block)
    return sha.hexdigest()


def unit_interval(*parts: Any) -> float:
    """A number in [0, 1) that depends on nothing but the parts: randomness for one item.

    52 bits of the SHA-256 of the parts' canonical JSON, so that adding or removing another item
    never changes this item's draw.
    """
    return int(digest_json(list(parts))[:13], 16) / float(1 << 52)


def _refuse_unhashable(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: key {key!r} is no string, so it has no canonical form")
            _refuse_unhashable(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_unhashable(item, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{where}: {value!r} has no canonical form")
    elif not isinstance(value, str | int | float | bool | None):
        raise TypeError(f"{where}: a {type(value).__name__} has no canonical form")
