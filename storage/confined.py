"""Paths that a file names (a manifest, a table, a data set's own notes): they lead nowhere else.

And how a path is shown, whatever bytes its names are made of.

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


def is_text(path: str) -> bool:
    """Whether the bytes of a file's name are UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def legible(path: str) -> str:
    r"""A path as one printable line: as it is, or with `\xNN` for each byte that cannot be shown.

    Then a backslash is escaped, too, so that the name's bytes can be had back.
    """
    if path.isprintable():
        return path
    shown = (c if c.isprintable() and c != "\\" else _hexadecimal(c) for c in path)
    return "".join(shown)


def in_tables(path: str) -> str:
    """What tables call a file: its path, or the legible one where that is no text."""
    return path if is_text(path) else legible(path)


def _hexadecimal(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


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
