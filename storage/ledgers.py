"""Ledgers: what became of each item of a source, run after run: found, fetched, probed, set aside
with the reason, gone since.

A deployment keeps one beside what it shows. It is its memory and has dates in it; no artifact has.

    ledger/<deployment>/<partition>/<name>.jsonl    one line an event

Nobody writes into a file of another, so that no line is lost however many write at once, on a disk
or in a bucket. Of two events of one kind the later counts, in whatever order they are read: files
may be merged by anybody at any time.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from storage.errors import UserError
from storage.places import LocalPlace, Place, open_place

FOUND: Final = "found"
FETCH: Final = "fetch"
PROBE: Final = "probe"
PRESENCE: Final = "presence"
Kind = Literal["found", "fetch", "probe", "presence"]
State = Literal[
    "found", "fetched", "failed", "refused", "again", "probed", "quarantined", "gone", "there"
]
_MOST_FILES = 16
_TRIES = 20


class LedgerError(UserError, ValueError):
    """A ledger that cannot be read: which file, and what to do."""


def now() -> str:
    """The moment, in UTC; moments sort as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to an item."""

    item: str
    kind: Kind
    state: State
    at: str = field(default_factory=now)
    reason: str = ""
    """Why, of what was not hoped for."""
    of: str = ""
    """What it is about: of a fetch, what was asked for; of a probe, the bytes."""
    sha256: str = ""
    size: int = 0
    """Bytes, of what was fetched."""

    @property
    def rank(self) -> tuple[str, str]:
        """Of two events of one kind the higher counts; of two sightings the first."""
        return (self.at, json.dumps(asdict(self), sort_keys=True))

    @property
    def day(self) -> str:
        """YYYY-MM-DD."""
        return self.at[:10]


@dataclass
class Row:
    """What is known of an item: the event of each kind that counts."""

    events: dict[Kind, Event] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take an event into account."""
        before = self.events.get(event.kind)
        if before is None or (event.rank > before.rank) is (event.kind != FOUND):
            self.events[event.kind] = event

    @property
    def last(self) -> Event:
        """What a person wants to know first: that it is gone, set aside, not to be had …"""
        presence, fetch = self.events.get(PRESENCE), self.events.get(FETCH)
        if presence and presence.state == "gone":
            return presence
        done = [event for event in (fetch, self.events.get(PROBE)) if event]
        return max(done, key=lambda event: event.at) if done else next(iter(self.events.values()))


Rows = dict[str, Row]


@dataclass(frozen=True)
class Ledger:
    """The ledger of a deployment, at a folder or below `s3://bucket/…`."""

    location: str

    def rows(self, partition: str) -> Rows:
        """Item -> what is known of it, in a partition; nothing is written for it.

        Raises:
            LedgerError: a file of it cannot be read as one.
        """
        place = self._place(read_only=True)
        for _ in range(_TRIES):
            with suppress(KeyError):  # somebody has merged files meanwhile
                texts = _texts(place, partition)
                if [*place.keys(f"{partition}/")] == [*texts]:
                    return _merged(texts.values(), f"{self.location}/{partition}")
        raise LedgerError(f"{self.location}/{partition} changes all the time; run again later")

    def add(self, partition: str, events: Iterable[Event]) -> None:
        """Add events; now and then, merge files."""
        if not (text := _text(events)):
            return
        place = self._place()
        place.write(_name(partition), text)
        if sum(1 for _ in place.keys(f"{partition}/")) > _MOST_FILES:
            self._merge(place, partition)

    def _merge(self, place: Place, partition: str) -> None:
        """One file in place of many; those that come meanwhile stay."""
        try:
            texts = _texts(place, partition)
        except KeyError:
            return  # somebody else does it
        rows = _merged(texts.values(), f"{self.location}/{partition}")
        place.write(
            _name(partition), _text(e for row in rows.values() for e in row.events.values())
        )
        for key in texts:
            place.remove(key)

    def _place(self, *, read_only: bool = False) -> Place:
        if self.location.startswith("s3://"):
            from storage.s3 import connected  # boto3 is slow to import; folders do not need it

            return connected(self.location)
        if read_only:
            return LocalPlace(Path(self.location), read_only=True)
        return open_place(self.location)


def _name(partition: str) -> str:
    return f"{partition}/{uuid.uuid4().hex}.jsonl"


def _texts(place: Place, partition: str) -> Mapping[str, bytes]:
    """Key -> what is in it; KeyError when one of them goes meanwhile."""
    return {key: place.read(key) for key in place.keys(f"{partition}/")}


def _text(events: Iterable[Event]) -> bytes:
    lines = [
        json.dumps({name: value for name, value in asdict(event).items() if value}) + "\n"
        for event in events
    ]
    return "".join(lines).encode()


def _merged(texts: Iterable[bytes], name: str) -> Rows:
    rows: Rows = {}
    try:
        for text in texts:
            for line in text.splitlines():
                event = Event(**json.loads(line))
                rows.setdefault(event.item, Row()).add(event)
    except (ValueError, TypeError) as error:
        raise LedgerError(
            f"the ledger {name} cannot be read ({error}); restore it, or move it away: what was "
            "fetched is found again"
        ) from None
    return rows
