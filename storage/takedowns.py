"""Takedowns: files that must never be used again, whichever name their bytes come under.

A deployment keeps its list beside what it shows. Lines are added and never taken away.

    takedowns/<deployment>.json    [{"sha256": …, "reason": …, "date": …, "marks": …, "places": …}]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.digests import is_sha256
from storage.errors import UserError
from storage.media import once
from storage.places import open_place
from storage.sealing import locked


class TakedownError(UserError, ValueError):
    """A list that cannot be believed, or a takedown that cannot be: which, and what to do."""


@dataclass(frozen=True)
class Takedown:
    """One file that was taken down.

    Raises ValueError for a digest that is none, or without a reason.
    """

    sha256: str
    reason: str
    date: str
    """The day of the decision, YYYY-MM-DD."""
    marks: tuple[str, ...] = ()
    """Other names that listings had for these bytes (ETags of a bucket)."""
    places: tuple[tuple[str, str], ...] = ()
    """(source, path) where ingests found them."""

    def __post_init__(self) -> None:
        if not is_sha256(self.sha256):
            raise ValueError(f"{self.sha256!r} is no SHA-256 (64 digits, small letters)")
        if not self.reason.strip():
            raise ValueError("reason is empty; say why it is taken down")

    def lay_in(self, source: str, share: Callable[[str], bool]) -> bool:
        """Whether an ingest found it in a source, at a path for which `share` is true."""
        return any(name == source and share(path) for name, path in self.places)


def key_of(deployment: str) -> str:
    """Where a store keeps the list of a deployment."""
    return f"takedowns/{deployment}.json"


def takedowns(location: str | None) -> tuple[Takedown, ...]:
    """The list that lies at a location (a file, or `s3://bucket/…`); empty where there is none.

    Raises:
        TakedownError: it cannot be read as one: nothing may be ingested then.
    """
    if location is None:
        return ()
    place = location
    return once(f"takedowns {place}", lambda: _parsed(place, _read(place)))


def add(location: str, takedown: Takedown) -> Takedown:
    """Add a line to a list; returns what it says of these bytes: an earlier line keeps its reason
    and date, and learns new marks and places.

    Raises:
        TakedownError: the list cannot be read. ArtifactError: another process writes it.
    """
    with _alone(location):
        listed = {line.sha256: line for line in _parsed(location, _read(location))}
        before = listed.get(takedown.sha256, takedown)
        told = Takedown(
            before.sha256, before.reason, before.date,
            tuple(sorted({*before.marks, *takedown.marks})),
            tuple(sorted({*before.places, *takedown.places})),
        )  # fmt: skip
        listed[told.sha256] = told
        lines = [asdict(listed[digest]) for digest in sorted(listed)]
        folder, _, name = location.rpartition("/")
        open_place(folder).write(name, (json.dumps(lines, indent=1) + "\n").encode())
    return told


@contextmanager
def _alone(location: str) -> Iterator[None]:
    """Keep other processes of this machine from writing the list meanwhile."""
    if location.startswith("s3://"):
        yield
        return
    lock = Path(f"{location}.lock")
    open_place(str(lock.parent))  # makes the folder, or says why it cannot
    with locked(lock, location):
        yield


def _read(location: str) -> bytes | None:
    if location.startswith("s3://"):
        from storage.s3 import connected  # boto3 is slow to import, and folders do not need it

        folder, _, name = location.rpartition("/")
        try:
            return connected(folder).read(name)
        except KeyError:
            return None
    try:
        return Path(location).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TakedownError(f"{location}: {error.strerror}; make it readable") from None


def _parsed(location: str, data: bytes | None) -> tuple[Takedown, ...]:
    if data is None:
        return ()
    try:
        return tuple(
            Takedown(
                line["sha256"], line["reason"], line["date"], tuple(line["marks"]),
                tuple((source, path) for source, path in line["places"]),
            )
            for line in json.loads(data)
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TakedownError(
            f"the list of takedowns {location} cannot be read ({type(error).__name__}: {error}); "
            "restore it: without it nothing is ingested"
        ) from None
