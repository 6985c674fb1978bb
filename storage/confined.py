"""Paths that a file names (a manifest, a table, a data set's own notes): they lead nowhere else.

Whoever wrote such a file may not be trusted. A name is checked for what it says (`check_path`), and
for where it leads on this machine, symbolic links followed (`inside`).
"""

from __future__ import annotations

from pathlib import Path

from storage.errors import UserError


class PathError(UserError, ValueError):
    """A path that may not be followed; one line: which, and why."""


class CircleError(PathError):
    """A path whose symbolic links lead back to themselves."""


def check_path(path: object) -> str:
    """A relative posix path of plain names, returned as it was given.

    Raises:
        PathError: no text, empty, absolute, with an empty, `.` or `..` part, a backslash, or a
            character that cannot be printed (NUL among them).
    """
    if not isinstance(path, str) or not path.isprintable() or "\\" in path:
        raise PathError(f"{path!a} is no path of plain names")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise PathError(f"{path!r} is no path of plain names below a folder")
    return path


def inside(root: Path, path: str | Path) -> Path:
    """Where a path below a folder leads, every symbolic link followed; the file may be missing.

    Raises:
        CircleError: its links lead in a circle. PathError: it leads out of the folder, or has a NUL
            in it.
    """
    top = root.resolve()
    try:
        target = (top / path).resolve()
    except RuntimeError:
        raise CircleError(f"{str(path)!a} links to itself") from None
    except (ValueError, OSError):
        raise PathError(f"{str(path)!a} is no path") from None
    if not target.is_relative_to(top):
        raise PathError(f"{str(path)!a} leads out of {root}")
    if target.is_symlink():  # a circle, resolved to itself by newer Pythons
        raise CircleError(f"{str(path)!a} links to itself")
    return target
