"""The log of a store: every statement that was signed in it, in order, only ever added to.

    log/<number>.json    {"digest": …, "keyid": …, "kind": …, "name": …, "statement": …}

An entry is a conditional put under the next free number, so that processes on any number of
machines append without losing one. The entries are the leaves of a Merkle tree (RFC 6962): whoever
keeps its root elsewhere can prove later that nothing before it was changed or taken away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from storage import merkle
from storage.digests import canonical_json
from storage.manifests import ArtifactError
from storage.places import Place

LOG = "log/"


@dataclass(frozen=True)
class Entry:
    """One line of the log: who said what of which bytes."""

    kind: str
    """manifest, or takedown."""
    name: str
    """The manifest's key, or the SHA-256 of the file that was taken down."""
    digest: str
    """SHA-256 of the manifest (or of the file)."""
    statement: str
    """SHA-256 of the statement's bytes."""
    keyid: str

    def to_json(self) -> bytes:
        """The bytes of the leaf."""
        return canonical_json(asdict(self)).encode()


@dataclass(frozen=True)
class Head:
    """How long a log is, and its root (hex)."""

    size: int
    root: str


class MerkleLog:
    """The log of one place."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._next = 0  # entries below it are known to be there

    def append(self, entry: Entry) -> int:
        """Add an entry; returns its number. Entries of others meanwhile come before it."""
        number = self._free()
        while not self.place.create(_key(number), entry.to_json()):
            number += 1
        self._next = number + 1
        return number

    def _free(self) -> int:
        """The next free number: steps that double, then halves."""
        low, step = self._next, 1
        while self.place.exists(_key(low + step - 1)):
            low, step = low + step, step * 2
        high = low + step - 1  # free; all below `low` are taken
        while low < high:
            middle = (low + high) // 2
            if self.place.exists(_key(middle)):
                low = middle + 1
            else:
                high = middle
        return low

    def entries(self) -> list[bytes]:
        """The bytes of all entries, in order.

        Raises:
            ArtifactError: a number before the last one is missing: somebody removed an entry.
        """
        keys = [key for key in self.place.keys(LOG) if key.endswith(".json")]
        for number, key in enumerate(keys):
            if key != _key(number):
                raise ArtifactError(
                    f"the log of {self.place.location} lacks entry {number}: somebody removed it; "
                    "restore it"
                )
        return [self.place.read(key) for key in keys]


def parse(entry: bytes, number: int) -> Entry:
    """Read an entry. Raises ArtifactError when it is none."""
    try:
        document = json.loads(entry)
        found = Entry(**{name: str(value) for name, value in document.items()})
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"log entry {number} cannot be read ({error})") from None
    if found.to_json() != entry:
        raise ArtifactError(f"log entry {number} was written by another hand")
    return found


def head(entries: Sequence[bytes]) -> Head:
    """Length and root of a log."""
    return Head(len(entries), merkle.root(leaves(entries)).hex())


def leaves(entries: Sequence[bytes]) -> list[bytes]:
    """The leaves' digests."""
    return [merkle.leaf_hash(entry) for entry in entries]


def proven(entries: Sequence[bytes], root: str) -> int:
    """How many entries a root that somebody kept stands for, proven to be today's first ones.

    Raises:
        ArtifactError: today's log does not extend the one that the root names.
    """
    today = leaves(entries)
    old, new = bytes.fromhex(root), merkle.root(today)
    for before, found in _prefixes(today):
        if found == old:
            proof = merkle.consistency_proof(today, before)
            assert merkle.extends(before, old, len(today), new, proof)
            return before
    raise ArtifactError(
        f"the log does not extend the one of root {root[:16]}…: an entry before it was changed or "
        "removed, or the root is that of another store"
    )


def _prefixes(today: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    yield 0, merkle.root([])
    yield from enumerate(merkle.roots(today), start=1)


def _key(number: int) -> str:
    return f"{LOG}{number:012d}.json"
