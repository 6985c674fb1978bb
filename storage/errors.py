"""Errors that are told to people, apart from those that show a bug."""

from __future__ import annotations


class UserError(Exception):
    """What a person can cure; it alone becomes a line without a traceback.

    The message says in one line what was wrong, where, and what to do. Whatever else is raised is
    taken for a bug and keeps its traceback.
    """

    exit_code = 2
    """What a command line leaves with."""


class InputError(UserError, ValueError):
    """Data, or settings taken together, that a stage cannot work with."""
