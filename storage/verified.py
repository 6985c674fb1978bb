"""What was read and found whole: a file's digest is taken again only where the file changed.

    <cache>/verified/<2 digits>/<digest of the path>    size, times of change, inode and digest

A file that was changed through the file system has another time of change, which nobody can set
back. Bits that a disk loses on its own show in `vjepa2 verify`, which reads every byte and tells
what it found here. Nothing that is kept here is needed: what is lost is read again.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.digests import digest_bytes, digest_file
from storage.places import aside_of

_KNOWN: dict[str, list[object]] = {}
"""Path -> what is kept of it, of this process."""


@dataclass(frozen=True)
class Verified:
    """What is known of the files of this machine; `cache` None remembers in this process alone."""

    cache: Path | None = None

    def fits(self, path: Path, digest: str) -> bool:
        """Whether a file has a digest, read only if it changed since it was found to have it."""
        mark = _mark(path)
        if self._recall(path) == [*mark, digest]:
            return True
        if digest_file(path) != digest:
            return False
        self._keep(path, [*mark, digest])
        return True

    def changed(self, path: Path) -> bool:
        """Whether a file that was once found whole is another one now, or was found damaged."""
        known = self._recall(path)
        return bool(known) and known[:-1] != _mark(path)

    def remember(self, path: Path, digest: str) -> None:
        """Note the digest of a file that was just taken."""
        self._keep(path, [*_mark(path), digest])

    def doubt(self, path: Path) -> None:
        """Have a file read again when it is next asked for, changed or not."""
        self._keep(path, ["doubted"])

    def _recall(self, path: Path) -> list[object]:
        known = _KNOWN.get(str(path))
        if known is None and self.cache is not None:
            with suppress(OSError, ValueError):
                found = json.loads(self._note(self.cache, path).read_bytes())
                known = found if isinstance(found, list) else None
        return known or []

    def _keep(self, path: Path, known: list[object]) -> None:
        _KNOWN[str(path)] = known
        if self.cache is not None:
            with suppress(OSError):  # a cache that cannot be written, or of another machine
                note = self._note(self.cache, path)
                with aside_of(note) as aside:
                    aside.write_text(json.dumps(known))
                    aside.replace(note)

    def _note(self, cache: Path, path: Path) -> Path:
        name = digest_bytes(str(path).encode())
        return cache / "verified" / name[:2] / name[2:]


def _mark(path: Path) -> list[object]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
