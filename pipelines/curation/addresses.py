"""The items of a source of addresses: those of a list, or a pattern with the ids of annotations.

A list is a CSV with a column `address` (or `url`), and, if you like, `id`, `label`, `split` and
`sha256`; or a text file with an address a line. The path of an item is its id, with the ending of
the address; without ids it is host and path of the address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import quote

from pipelines.answers import DownloadError, checked
from pipelines.curation.annotations.documents import Document
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.annotations.sheets import Told
from pipelines.curation.labels import SPLITS
from pipelines.curation.partitions import bucket_of
from pipelines.curation.source_config import SourceConfig
from pipelines.schemas import nearest
from storage.confined import legible
from storage.digests import digest_bytes, is_sha256
from storage.media import Listing, once, open_media

COLUMNS = ("address", "id", "label", "split", "sha256")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One item that is to be fetched."""

    address: str
    sha256: str | None = None
    """What its bytes have to be, if the list says so."""
    refused: str = ""
    """Why it is not fetched."""

    @property
    def asked(self) -> str:
        """What stands for the address and the digest where others may read it."""
        return digest_bytes(f"{self.address} {self.sha256 or ''}".encode())[:32]


@dataclass(frozen=True)
class Addresses:
    """All items of a source."""

    wanted: Mapping[str, Wanted]
    """Path -> what is to be fetched."""
    notes: Notes | None
    """Path -> what a list says of it; None where annotations do."""
    listing: Listing = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "listing", Listing(sorted(self.wanted), {}))

    def share(self, bucket: int, of: int) -> list[str]:
        """Paths of a bucket."""
        return self.listing.share(bucket, of, bucket_of)

    def told(self, paths: list[str]) -> Told:
        """What the list says of some items."""
        assert self.notes is not None
        known = {p: self.notes.known[p] for p in paths if p in self.notes.known}
        twice = {p: self.notes.twice[p] for p in paths if p in self.notes.twice}
        labels = sum(any(note.label for note in notes.values()) for notes in known.values())
        return Told(known, twice, listed=paths, items=labels, matched=labels)

    def said(self, paths: list[str]) -> list[list[str | None]]:
        """What the list says of some items, as JSON can hold it; empty where it says nothing."""
        notes = self.notes or Notes()
        told = [(p, notes.known[p][""]) for p in paths if p in notes.known]
        twice: list[list[str | None]] = [[p, notes.twice[p]] for p in paths if p in notes.twice]
        return [[p, note.label, note.split] for p, note in told if note != Note()] + twice


def addresses(source: SourceConfig) -> Addresses:
    """The items of a source of addresses, looked for once a walk.

    Raises:
        MediaError: its list or annotations are missing or wrong; a line with the file and place.
    """
    name = f"addresses {source.location} {source.annotations} {source.annotations_at}"
    return once(name, lambda: _patterned(source) if source.pattern else _listed(source))


def _patterned(source: SourceConfig) -> Addresses:
    """An address for each id that annotations name."""
    notes, item_of = source.sheets.read(), source.sheets.format.item
    ending = PurePosixPath(source.location.partition("?")[0]).suffix
    found = {}
    for item in (*notes.known, *notes.twice):
        path = item + ending if item_of(item + ending) == item else item
        found[path] = _judged(source.location.replace("{id}", quote(item, safe="/")), None)
    return Addresses(found, None)


def _listed(source: SourceConfig) -> Addresses:
    folder, slash, name = source.location.rpartition("/")
    media = open_media(folder or slash or ".")
    document = Document(media.location, name, media.read(name))
    found: dict[str, Wanted] = {}
    notes = Notes()
    for path, wanted, note in _lines(document):
        before = found.setdefault(path, wanted)
        if before != wanted:
            told = " and as ".join(shown(w.address) for w in (before, wanted))
            same = ", with two digests" if before.address == wanted.address else f", as {told}"
            reason = f"{name} names it twice{same}; keep one of the two lines"
            found[path] = Wanted(before.address, refused=reason)
        notes.add(path, note, name)
    if not found:
        raise document.wrong("names no address; put one a line in it")
    apart = source.annotations_at is not None or source.annotations != "plain"
    return Addresses(found, None if apart else notes)


def _lines(document: Document) -> Iterator[tuple[str, Wanted, Note]]:
    """(path, item, what is said of it) of each line of a list."""
    if document.name.endswith(".txt"):
        for _, address in document.lines():
            yield _path(address, ""), _judged(address, None), Note()
        return
    for place, row in document.rows():
        address = (row.get("address") or row.get("url") or "").strip()
        if not {"address", "url"} & row.keys():
            near = nearest("address", list(row), listed=False)
            raise document.wrong(f"has no column address{near}; give {','.join(COLUMNS)}")
        split = row.get("split") or None
        if split not in (None, *SPLITS):
            raise document.wrong(f"split {split!r} is not one of {SPLITS}", place)
        if not address:
            raise document.wrong("address is empty; give one of http or https", place)
        wanted = _judged(address, row.get("sha256", "").strip().lower() or None)
        yield (
            _path(address, row.get("id", "").strip()),
            wanted,
            Note(row.get("label") or None, split),
        )


def _judged(address: str, sha256: str | None) -> Wanted:
    if sha256 and not is_sha256(sha256):
        return Wanted(address, refused=f"sha256 {sha256[:80]!r} is none; give 64 digits")
    try:
        checked(address)
    except DownloadError as error:
        return Wanted(address, refused=f"its address {error}")
    return Wanted(address, sha256)


def _path(address: str, item: str) -> str:
    """What an item is called: its id, or else host and path."""
    bare, mark, query = address.partition("?")
    ending = PurePosixPath(bare.rpartition("/")[2]).suffix
    if item:
        return item if PurePosixPath(item).suffix else item + ending
    name = shown(bare).partition("://")[2] or legible(bare)
    if mark:  # a query may be a secret, and tells two items apart
        name = f"{name.removesuffix(ending)}-{digest_bytes(query.encode())[:8]}{ending}"
    return name


def shown(address: str) -> str:
    """An address without what may be a secret in it."""
    bare = legible(address.partition("?")[0].partition("#")[0])
    scheme, parted, rest = bare.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{parted}{host.rpartition('@')[2]}{slash}{path}"
