"""Where this machine keeps copies of what lies in a bucket: a folder that may be lost at any time.

A handle on an artifact travels to workers on other machines, where the cache folder of the process
that made it may not exist. Each process therefore asks for its own.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from storage.digests import digest_json
from storage.places import PlaceError, resolved

VARIABLE = "VJEPA2_CACHE"


def cache_folder(given: Path | None) -> Path:
    """This process's cache: VJEPA2_CACHE, else `given` where it can be written, else a folder of
    this user among the machine's temporary files.

    Raises:
        PlaceError: the folder among the temporary files belongs to somebody else, or VJEPA2_CACHE
            is the home of a user that there is not.
    """
    if named := os.environ.get(VARIABLE):
        return resolved(named)
    if given is not None and given.is_dir() and os.access(given, os.W_OK):
        return given
    own = Path(tempfile.gettempdir()) / f"vjepa2-cache-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    state = own.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise PlaceError(
            f"cache {own}: belongs to others or can be read by them; remove it, or name another "
            f"folder in {VARIABLE}"
        )
    return own


def copies_of(location: str, given: Path | None) -> Path:
    """The folder in this process's cache that holds copies of one store."""
    return cache_folder(given) / digest_json(location)[:16]
