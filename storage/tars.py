"""Tars of media where they lie: each member is a file of the source, read in place by its range.

Nothing is unpacked, so that no name can lead anywhere. A path is that of the tar and the member's
name, `train/n01440764.tar/n01440764_10026.JPEG`; files beside the tars are files as in any source.
Tars in tars are opened, too (ImageNet's are). Tars are untrusted: what is no plain member (a link,
a device, a name that leads out, one that is there twice or whose bytes are not all there) is listed
and refused when read, and so is a tar of which no more can be read.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from storage.buckets import Bucket
from storage.confined import legible
from storage.digests import digest_json, digest_stream
from storage.media import TARS, Listing, Media, MediaError, once, open_media
from storage.pictures import Source
from storage.places import write_file
from storage.tar_members import SUFFIX, Span, Window, members

_NOTES = (".json", ".txt", ".cls")
_BUFFER = 1 << 16


class Tars:
    """A folder or an S3 prefix of tars."""

    def __init__(self, location: str) -> None:
        self.media = open_media(location.removeprefix(TARS))
        self.location = f"{TARS}{self.media.location}"

    def listing(self) -> Listing:
        """The members of all tars, and the files beside them. A mark says where a member lies, and
        in a bucket the ETag of the object.
        """
        return once(self.location, self._look)

    def _look(self) -> Listing:
        paths: list[str] = []
        marks: dict[str, str] = {}
        beside = self.media.listing()
        for path in beside.paths:
            if not path.lower().endswith(SUFFIX):
                paths.append(path)
                marks |= {path: beside.marks[path]} if path in beside.marks else {}
                continue
            for name, span in self._index(path, beside.marks.get(path)).items():
                paths.append(name)
                marks[name] = f"{beside.marks.get(path, '')}{span.mark}"
        if not paths:
            raise MediaError(f"{self.location}: its tars are empty; set another location")
        return Listing(sorted(paths), marks)

    def has(self, path: str) -> bool:
        """Whether there is such a member or file."""
        archive = self._archive(path)
        return path in self._index(archive) if archive else self.media.has(path)

    def read(self, path: str, mark: str | None = None) -> bytes:
        """The bytes of a member or file. Raises MediaError when it is refused, or the tar is gone;
        ChangedMediaError when the object in a bucket has another ETag than its `mark` says.
        """
        archive = self._archive(path)
        if archive is None:
            return self.media.read(path, mark)
        etag, bracket, text = (mark or "").partition("[")
        span = Span.of(bracket + text) if mark else self._index(archive).get(path)
        if span is None:
            raise MediaError(f"{self.location}: {legible(path)} is missing; put its tar back")
        if span.refused:
            raise MediaError(f"{legible(path)} {span.refused}")
        data = _range(self.media, archive, span, etag or None)
        if len(data) < span.size:
            raise MediaError(f"{self.location}: {legible(path)} is cut short; fetch its tar again")
        return data

    def source(self, path: str, mark: str | None = None) -> Source:
        """What decodes a file: of a member its bytes. Raises as `read` does."""
        return self.read(path, mark) if self._archive(path) else self.media.source(path, mark)

    def digests(self, paths: Sequence[str], book: Path) -> dict[str, str]:
        """Path -> SHA-256 of a member, taken again only when its tar changed; in a bucket what
        stands for it: the tar's ETag and the member's place. A member that is refused has its
        reason.
        """
        marks = self.listing().marks
        members = {path: archive for path in paths if (archive := self._archive(path))}
        found = self.media.digests([path for path in paths if path not in members], book)
        if isinstance(self.media, Bucket):
            return found | {p: _named(marks.get(p, "unreadable: missing")) for p in members}
        return found | self._member_digests(members, marks, book.with_suffix(".tars.json"))

    def _member_digests(
        self, members: dict[str, str], marks: dict[str, str], book: Path
    ) -> dict[str, str]:
        before: dict[str, list[Any]] = {}
        with contextlib.suppress(OSError, ValueError):  # a book that is lost is written anew
            before = json.loads(book.read_bytes())
        known: dict[str, list[Any]] = {}
        for path, archive in members.items():
            span = Span.of(marks[path]) if path in marks else Span(refused="missing")
            if span.refused:
                known[path] = ["", f"unreadable: {span.refused}"]
                continue
            state = digest_json([*self._state(archive), span.mark])
            same = before.get(path, [""])[0] == state
            known[path] = before[path] if same else [state, self._digest(archive, span)]
        if known != before:
            # Whoever cannot write it (a read-only home) computes them again the next time.
            with contextlib.suppress(OSError):
                write_file(book, json.dumps(known, sort_keys=True).encode())
        return {path: entry[1] for path, entry in known.items()}

    def _digest(self, archive: str, span: Span) -> str:
        with _opened(self.media, archive) as stream:
            return digest_stream(Window(stream, span.offset, span.size))

    def _archive(self, path: str) -> str | None:
        """The outermost tar that a path leads through; None of a file beside the tars."""
        parts = path.split("/")
        for last, part in enumerate(parts, 1):
            if part.lower().endswith(SUFFIX):
                return "/".join(parts[:last])
        return None

    def _index(self, archive: str, etag: str | None = None) -> dict[str, Span]:
        return _index(self.media.location, archive, (etag,) if etag else self._state(archive))

    def _state(self, archive: str) -> tuple[object, ...]:
        """What changes with a tar."""
        if isinstance(self.media, Bucket):
            return (self.media.listing().marks.get(archive),)
        try:
            source = self.media.source(archive)
        except MediaError as error:
            return (str(error),)
        assert isinstance(source, Path)
        return source.stat().st_size, source.stat().st_mtime_ns


def _named(mark: str) -> str:
    """What a recipe calls a member of a bucket's tar."""
    etag, bracket, text = mark.partition("[")
    if not bracket:
        return mark
    span = Span.of(bracket + text)
    return f"unreadable: {span.refused}" if span.refused else f"{etag}+{span.offset}+{span.size}"


@functools.lru_cache(maxsize=64)
def _index(location: str, archive: str, state: tuple[object, ...]) -> dict[str, Span]:
    """Path -> span of every member of a tar in a state; of one that cannot be read, its own path.

    Workers of one process ask for one tar again and again.
    """
    del state
    found: dict[str, Span] = {}
    try:
        with _opened(open_media(location), archive) as stream:
            size = stream.seek(0, io.SEEK_END)
            for path, span in members(stream, archive, 0, size, 1):
                twice = Span(refused="is in its tar twice; keep one of the two")
                found[path] = twice if path in found else span
    except MediaError as error:
        return {archive: Span(refused=f"cannot be opened: {error}")}
    return _without_notes(found)


def _opened(media: Media, path: str) -> BinaryIO:
    """A file of a source, to be read from any place."""
    if isinstance(media, Bucket):
        return io.BufferedReader(_Object(media, path), _BUFFER)
    source = media.source(path)
    assert isinstance(source, Path)
    return open(source, "rb")


def _range(media: Media, path: str, span: Span, etag: str | None) -> bytes:
    """What lies at a span of a file; of an object in one request."""
    if isinstance(media, Bucket):
        return media.span(path, span.offset, span.size, etag)
    with _opened(media, path) as stream:
        stream.seek(span.offset)
        return stream.read(span.size)


def _without_notes(found: dict[str, Span]) -> dict[str, Span]:
    """Without what stands beside a member and tells of it, as in a WebDataset: `000001.json`."""
    keys = {_key(path) for path in found if PurePosixPath(path).suffix.lower() not in _NOTES}
    return {
        path: span
        for path, span in found.items()
        if PurePosixPath(path).suffix.lower() not in _NOTES or _key(path) not in keys
    }


def _key(path: str) -> str:
    """What the files of one sample of a WebDataset have in common: up to the name's first dot."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


class _Object(io.RawIOBase):
    """An object of a bucket, read by ranges."""

    def __init__(self, media: Bucket, path: str) -> None:
        self._media, self._path, self._at = media, path, 0
        self._size = media.size(path)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, less at the object's end."""
        wanted = min(len(buffer), self._size - self._at)
        data = self._media.span(self._path, self._at, wanted) if wanted > 0 else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the object."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at
