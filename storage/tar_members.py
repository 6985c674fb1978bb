"""The members of a tar, by their headers: where the bytes of each lie, or why not to use it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from storage.confined import is_text
from storage.pictures import HEAD, what_instead

SUFFIX = ".tar"
_MOST_HEADER = 1 << 20  # bytes of a member's extended header that are read at most
_DEEPEST = 2  # tars in tars in tars are left alone


@dataclass(frozen=True)
class Span:
    """Where the bytes of a member lie in a file of the source, or why they cannot be used."""

    offset: int = 0
    size: int = 0
    refused: str = ""

    @property
    def mark(self) -> str:
        """The span as text, which `of` reads."""
        return json.dumps([self.offset, self.size, self.refused])

    @classmethod
    def of(cls, mark: str) -> Span:
        """The span that a mark says."""
        return cls(*json.loads(mark))


def members(
    stream: BinaryIO, archive: str, start: int, size: int, depth: int
) -> Iterator[tuple[str, Span]]:
    """(path, span) of what is in a tar that lies at an offset of a stream; the tar's own path, with
    the reason, where no more of it can be read.
    """
    window: Any = Window(stream, start, size)
    count, at = 0, 0
    try:
        with tarfile.open(fileobj=window, mode="r:") as tar:
            while (member := tar.next()) is not None:
                if member.offset_data <= at or member.size < 0:
                    raise tarfile.TarError("a header leads back")
                tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
                count, at = count + 1, member.offset_data
                yield from _member(stream, archive, start, size, member, depth)
                if size - at < member.size:
                    return  # its row says it
            window.seek(tar.offset)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        yield archive, Span(refused=_unreadable(stream, start, size, count, error))
        return
    head = window.read(tarfile.BLOCKSIZE)
    if head.strip(b"\0") or not head:
        told = "goes on with what is no member" if head else "has no end"
        yield archive, Span(refused=f"{told} after {count} members; fetch it again")


def _member(
    stream: BinaryIO, archive: str, start: int, size: int, member: tarfile.TarInfo, depth: int
) -> Iterator[tuple[str, Span]]:
    """(path, span) of one member, or of those in it, if it is a tar."""
    if member.isdir():
        return
    name = member.name[2:] if member.name.startswith("./") else member.name
    parts = name.split("/")
    if any(part.startswith(".") and part != ".." for part in parts):
        return  # hidden, as in a folder
    path = f"{archive}/{name}"
    if reason := _why_not(member, name, size):
        yield path, Span(refused=reason)
    elif name.lower().endswith(SUFFIX) and depth < _DEEPEST:
        yield from members(stream, path, start + member.offset_data, member.size, depth + 1)
    else:
        yield path, Span(start + member.offset_data, member.size)


def _why_not(member: tarfile.TarInfo, name: str, size: int) -> str:
    if name.startswith("/") or ".." in name.split("/"):
        return "leads out of its tar; give it another name"
    if not is_text(name):
        return "has a name that is not UTF-8; give it another name"
    if not name or "" in name.split("/") or "\0" in name:
        return "has no name of a file; give it another name"
    if member.issym() or member.islnk():
        return "is a link in its tar; put the file itself there"
    if not member.isreg() or member.issparse():
        return "is no plain file in its tar (a pipe, a device, a sparse file)"
    if (there := size - member.offset_data) < member.size:
        return f"is cut short: its tar has {max(0, there)} of its {member.size} bytes"
    return ""


def _unreadable(stream: BinaryIO, start: int, size: int, count: int, error: Exception) -> str:
    if count:
        return f"cannot be read after {count} members ({error}); fetch it again"
    stream.seek(start)
    head = stream.read(min(size, HEAD))
    instead = what_instead(head)
    return f"is no tar: {error if instead is None or ' tar ' in instead else instead}"


class Window(io.RawIOBase):
    """A part of a stream, from which no large header is read at once."""

    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        self._stream, self._start, self._size, self._at = stream, start, size, 0

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; tarfile.ReadError for more than a header may have."""
        left = max(0, self._size - self._at)
        wanted = left if size < 0 else min(size, left)
        if wanted > _MOST_HEADER:
            raise tarfile.ReadError(f"a header of {wanted} bytes")
        self._stream.seek(self._start + self._at)
        data = self._stream.read(wanted)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the part, from its start."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at
