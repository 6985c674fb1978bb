"""Sealing an artifact's payload: fsync, atomic rename, exclusive lock."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.manifests import ArtifactError, FileEntry, list_files
from storage.places import ASIDE, sync


def settled(payload: Path) -> tuple[FileEntry, ...]:
    """Remove a payload's temporary files, fsync the others and their folders, and list them."""
    for path in list(payload.rglob(f"{ASIDE}*")):
        path.unlink()
    files = list_files(payload)
    for path in payload.rglob("*"):
        sync(path)
    sync(payload)
    return files


def move_home(payload: Path, home: Path, files: tuple[FileEntry, ...]) -> None:
    """Rename a payload folder to `home`. One that holds the same files already stays; a damaged one
    is moved away.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    if home.exists() and not _holds(home, files):
        damaged = payload.with_name("damaged")  # in the work folder, which goes at the end
        shutil.rmtree(damaged, ignore_errors=True)
        home.replace(damaged)
    try:
        payload.replace(home)
    except OSError:
        if not home.exists():  # else another answer with equal bytes got there first
            raise
    sync(home.parent)


def _holds(home: Path, files: tuple[FileEntry, ...]) -> bool:
    """Whether a folder holds these files and nothing else; one with links in it does not."""
    try:
        return not home.is_symlink() and list_files(home) == files
    except ArtifactError:
        return False


@contextmanager
def locked(path: Path, name: str) -> Iterator[None]:
    """Hold an exclusive lock (flock) on a file, which its holder may unlink.

    Raises:
        ArtifactError: another process holds it; the message calls it `name`.
    """
    while True:
        with open(path, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArtifactError(
                    f"{name} is in the hands of another process; wait for it or stop it"
                ) from None
            # A former holder may have unlinked the file between our open and flock.
            if path.exists() and os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                yield
                return
