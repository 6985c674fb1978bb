"""Sealing an artifact's payload: fsync, atomic rename, exclusive lock."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.manifests import DAMAGED, ArtifactError, FileEntry, Manifest, list_files, object_key
from storage.payloads import TRANSFERS
from storage.places import ASIDE, Place, sync
from storage.work import KeptFile, kept_key


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
    is set aside.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    if home.exists() and not _holds(home, files):
        damaged = home.parents[1] / DAMAGED / home.parent.name / home.name
        shutil.rmtree(damaged, ignore_errors=True)
        damaged.parent.mkdir(parents=True, exist_ok=True)
        home.replace(damaged)
    try:
        payload.replace(home)
    except OSError:
        if not home.exists():  # else another artifact with equal bytes got there first
            raise
    sync(home.parent)


def _holds(home: Path, files: tuple[FileEntry, ...]) -> bool:
    """Whether a folder holds these files and nothing else; one with links in it does not."""
    try:
        return not home.is_symlink() and list_files(home) == files
    except ArtifactError:
        return False


def read_remote(note: Path) -> dict[str, KeptFile]:
    """Path in the payload -> the file that a worker left in the bucket; none without a note."""
    if not note.exists():
        return {}
    return {path: KeptFile(**kept) for path, kept in json.loads(note.read_bytes()).items()}


def send_home(
    place: Place, recipe: str, manifest: Manifest, home: Path, left: Mapping[str, KeptFile]
) -> None:
    """Put a payload's files under objects/ of a bucket, TRANSFERS at a time.

    What workers left below work/<recipe>/ is copied inside the bucket; the rest is uploaded from
    `home`.
    """

    def send(path: str) -> None:
        key = object_key(manifest.content, path)
        if path not in left:
            place.upload(key, home / path)
            return
        try:
            place.copy(kept_key(recipe, left[path]), key)
        except KeyError:
            raise ArtifactError(
                f"{manifest.name}: {path}, which a worker had left, is gone from the bucket; "
                "run again"
            ) from None

    with ThreadPoolExecutor(TRANSFERS) as threads:
        list(threads.map(send, [entry.path for entry in manifest.files]))


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def room_asked(name: str) -> Iterator[None]:
    """Tell a disk on which no more can be written; what was written before stays to go on from.

    Raises:
        ArtifactError: instead of the OSError that says so.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise ArtifactError(
            f"{name}: {error.strerror}; make room for it, then run again: it goes on from there"
        ) from error


class HeldError(ArtifactError):
    """Another process holds a lock; `holder` is what it says of itself."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(f"{name} is in the hands of {holder}; wait for it or stop it")
        self.holder = holder


@contextmanager
def locked(path: Path, name: str, holder: str = "") -> Iterator[None]:
    """Hold an exclusive lock (flock) on a file, which its holder may unlink.

    `holder` is how others are told of us, beside our process.

    Raises:
        HeldError: another process holds it; the message calls it `name`.
    """
    while True:
        with open(path, "a+") as lock:  # what another one says of itself is left alone
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise HeldError(name, lock.read(200).strip() or "another process") from None
            # A former holder may have unlinked the file between our open and flock.
            if path.exists() and os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                with suppress(OSError):  # a full disk: a lock without a name is one all the same
                    lock.truncate(0)
                    us = f"process {os.getpid()} on {socket.gethostname()}"
                    os.write(lock.fileno(), f"{holder or 'another process'}, {us}".encode())
                yield
                return
