"""A prefix of an S3 bucket as a source of media."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from storage.confined import PathError, check_path
from storage.media import ChangedMediaError, Listing, MediaError, keeping, once, shown
from storage.s3 import ChangedError, S3Place


class Bucket:
    """A prefix of an S3 bucket."""

    def __init__(self, location: str) -> None:
        self.place = S3Place(location)
        self.location = self.place.location

    def listing(self) -> Listing:
        """One listing of the bucket's prefix (a request for every thousand objects)."""
        return once(self.location, self._look)

    def _look(self) -> Listing:
        marks = {
            key: mark for key, mark in self.place.marks().items() if key and not key.endswith("/")
        }
        return Listing(shown(list(marks), self.location), marks)

    def has(self, path: str) -> bool:
        """Whether there is such an object."""
        return path in self.listing().marks if keeping() else self.place.exists(path)

    def read(self, path: str, mark: str | None = None) -> bytes:
        """The bytes of an object; MediaError when it is missing, its key is odd, or its ETag is no
        longer `mark`.
        """
        with self._speaking_of(path):
            return self.place.read(check_path(path), mark)

    source = read

    def span(self, path: str, offset: int, size: int, mark: str | None = None) -> bytes:
        """At most `size` bytes of an object at `offset`, in one request. Raises as `read` does."""
        with self._speaking_of(path):
            return self.place.span(check_path(path), offset, size, mark) if size else b""

    def size(self, path: str) -> int:
        """Bytes of an object, in one request. Raises as `read` does."""
        with self._speaking_of(path):
            return self.place.size(check_path(path))

    @contextmanager
    def _speaking_of(self, path: str) -> Iterator[None]:
        try:
            yield
        except ChangedError:
            raise ChangedMediaError(
                f"{self.location}: {path} changed since it was listed; run again"
            ) from None
        except PathError as error:
            raise MediaError(f"{self.location}: {error}; give the object another key") from None
        except KeyError:
            raise MediaError(f"{self.location}: {path} is missing; put the file back") from None

    def digests(self, paths: Sequence[str], book: Path) -> dict[str, str]:
        """Path -> ETag, which S3 changes with the content; nothing is read, `book` is not used."""
        del book
        marks = self.listing().marks
        return {path: marks.get(path, "unreadable: missing") for path in paths}
