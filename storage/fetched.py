"""Fetched files: bytes that came from elsewhere, kept in a store under their digest.

    fetched/<2 digits>/<sha256>

As media, `fetched:<store>`, they are asked for by their digest: it is the mark of each.
"""

from __future__ import annotations

from pathlib import Path

from storage.confined import legible
from storage.digests import is_sha256
from storage.media import FETCHED, MediaError
from storage.pictures import Source
from storage.places import LocalPlace, Place


class Fetched:
    """What a store has of fetched files."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.store = location.removeprefix(FETCHED)

    def has(self, sha256: str) -> bool:
        """Whether these bytes are there."""
        return self._place().exists(_key(sha256))

    def keep(self, sha256: str, file: Path) -> None:
        """Keep the bytes of a file, whose digest this is."""
        self._place().upload(_key(sha256), file)

    def read(self, path: str, mark: str | None = None) -> bytes:
        """The bytes of which `mark` is the digest; MediaError, which names `path`, when they are
        gone.
        """
        try:
            return self._place().read(self._checked(path, mark))
        except KeyError:
            raise self._missing(path) from None

    def source(self, path: str, mark: str | None = None) -> Source:
        """What decodes a file: where it lies on this machine, or else its bytes. Raises as `read`
        does.
        """
        place = self._place()
        if not isinstance(place, LocalPlace):
            return self.read(path, mark)
        file = place.path(self._checked(path, mark))
        if not file.is_file():
            raise self._missing(path)
        return file

    def _checked(self, path: str, mark: str | None) -> str:
        if not is_sha256(mark):
            raise self._missing(path)
        return _key(str(mark))

    def _missing(self, path: str) -> MediaError:
        return MediaError(
            f"{legible(path)}: what was fetched is gone from {self.store}; run raw_videos again"
        )

    def _place(self) -> Place:
        if self.store.startswith("s3://"):
            from storage.s3 import connected  # boto3 is slow to import; folders do not need it

            return connected(self.store)
        return LocalPlace(Path(self.store), read_only=True)


def _key(sha256: str) -> str:
    return f"fetched/{sha256[:2]}/{sha256}"
