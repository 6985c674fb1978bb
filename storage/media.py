"""A user's media where they lie: a folder or an S3 prefix, read and never written.

Folders are untrusted: a link that leads out of the folder is listed and refused when read, links to
folders are not followed, and hidden files are left alone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from storage.confined import PathError, check_path, inside
from storage.digests import digest_file
from storage.errors import UserError
from storage.places import write_file

# Not media: what a source says about itself.
TABLES = ("labels.csv",)


class MediaError(UserError, ValueError):
    """A source or file that cannot be used; one line: where, what, what to do."""


class Media(Protocol):
    """Files of one source; paths are relative and posix."""

    location: str

    def paths(self) -> list[str]:
        """All files but hidden ones and tables, sorted. Raises MediaError if there are none."""
        ...

    def has(self, path: str) -> bool:
        """Whether there is such a file; a link counts, and `read` says where it leads."""
        ...

    def read(self, path: str) -> bytes:
        """The bytes of a file. Raises MediaError."""
        ...

    def digests(self, paths: Sequence[str], book: Path) -> dict[str, str]:
        """Path -> what changes with the content; the file `book` remembers it between calls."""
        ...


def open_media(location: str) -> Media:
    """The source at `location`. Raises MediaError (or PlaceError for a bucket that is silent)."""
    return _bucket(location) if location.startswith("s3://") else Folder(location)


@functools.cache
def _bucket(location: str) -> Bucket:
    """One connection for a process: opening one costs as much as reading many files."""
    return Bucket(location)


def _media(paths: list[str], location: str) -> list[str]:
    kept = [
        p for p in paths if p not in TABLES and not any(q.startswith(".") for q in p.split("/"))
    ]
    if not kept:
        raise MediaError(f"{location}: no files there; put videos in it or set another location")
    return sorted(kept)


class Folder:
    """A folder of this machine."""

    def __init__(self, location: str) -> None:
        self.root = Path(location).expanduser().resolve()
        self.location = str(self.root)
        if not self.root.is_dir():
            found = "is no folder" if self.root.exists() else "does not exist"
            raise MediaError(f"{location}: {found}; give a folder of videos or s3://bucket/prefix")

    def paths(self) -> list[str]:
        """All files below the folder but hidden ones and tables, sorted; MediaError if none.

        Links to folders are listed, not followed.
        """
        found: list[str] = []
        for folder, folders, files in os.walk(self.root):
            here = Path(folder)
            links = [name for name in folders if (here / name).is_symlink()]
            found += [(here / name).relative_to(self.root).as_posix() for name in (*files, *links)]
        return _media(found, self.location)

    def has(self, path: str) -> bool:
        """Whether there is such a file; a link counts, and `read` says where it leads."""
        file = self.root / check_path(path)
        return file.is_symlink() or file.is_file()

    def read(self, path: str) -> bytes:
        """The bytes of a file; MediaError when it is missing, unreadable or leads out."""
        try:
            return self._inside(path).read_bytes()
        except OSError as error:
            raise MediaError(f"{self.location}: {path}: {error.strerror}") from None

    def digests(self, paths: Sequence[str], book: Path) -> dict[str, str]:
        """Path -> SHA-256, computed again only when a file's size or modification time changed.

        `book` is a JSON file that keeps them between calls. A file that cannot be read has its kind
        of error in place of a digest.
        """
        before: dict[str, list[Any]] = {}
        with contextlib.suppress(OSError, ValueError):  # a book that is lost is written anew
            before = json.loads(book.read_bytes())
        known: dict[str, list[Any]] = {}
        result: dict[str, str] = {}
        for path in paths:
            try:
                file = self._inside(path)
                state = file.stat()
                mark = [state.st_size, state.st_mtime_ns]
                same = before.get(path, [])[:2] == mark
                known[path] = before[path] if same else [*mark, digest_file(file)]
                result[path] = known[path][2]
            except (MediaError, OSError) as error:
                # Unreadable: becomes a quarantined row, and another recipe once it is readable.
                result[path] = f"unreadable: {type(error).__name__}"
        if known != before:
            write_file(book, json.dumps(known, sort_keys=True).encode())
        return result

    def _inside(self, path: str) -> Path:
        try:
            target = inside(self.root, path)
        except PathError:
            raise MediaError(f"{path} leads out of its folder; copy the file in") from None
        if not target.is_file():
            kind = "a link to a folder, which is not followed" if target.is_dir() else "missing"
            raise MediaError(f"{path} is {kind}; put the file itself there")
        return target


class Bucket:
    """A prefix of an S3 bucket."""

    def __init__(self, location: str) -> None:
        from storage.s3 import S3Place  # boto3 is slow to import and folders do not need it

        self.place = S3Place(location)
        self.location = self.place.location

    def paths(self) -> list[str]:
        """All keys but hidden ones, tables and the empty objects that stand for folders."""
        keys = (key for key in self.place.keys("") if key and not key.endswith("/"))
        return _media(list(keys), self.location)

    def has(self, path: str) -> bool:
        """Whether there is such an object."""
        return self.place.exists(path)

    def read(self, path: str) -> bytes:
        """The bytes of an object; MediaError when it is missing or its key is odd."""
        try:
            return self.place.read(check_path(path))
        except PathError as error:
            raise MediaError(f"{self.location}: {error}; give the object another key") from None
        except KeyError:
            raise MediaError(f"{self.location}: {path} is missing; put the file back") from None

    def digests(self, paths: Sequence[str], book: Path) -> dict[str, str]:
        """Path -> ETag, which S3 changes with the content; nothing is read, `book` is not used."""
        del book
        place = self.place
        pages = place.client.get_paginator("list_objects_v2").paginate(
            Bucket=place.bucket, Prefix=f"{place.prefix}/" if place.prefix else ""
        )
        skip = len(place.prefix) + 1 if place.prefix else 0
        marks = {
            entry["Key"][skip:]: entry["ETag"].strip('"')
            for page in pages
            for entry in page.get("Contents", ())
        }
        return {path: marks[path] for path in paths}
