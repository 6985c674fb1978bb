"""Errors that are told to people, apart from those that show a bug."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """What a person can cure; it alone becomes a line without a traceback.

    The message says in one line what was wrong, where, and what to do. Whatever else is raised is
    taken for a bug and keeps its traceback.
    """

    exit_code = 2
    """What a command line leaves with."""
    may_pass = False
    """Whether the same may succeed a little later, though nobody does anything about it."""


class InputError(UserError, ValueError):
    """Data, or settings taken together, that a stage cannot work with."""


@contextmanager
def curable(where: str) -> Iterator[None]:
    """Tell a ValueError of the block as InputError: settings met a room that knows no UserError."""
    try:
        yield
    except ValueError as refused:
        raise InputError(f"{where}: {refused}") from refused
