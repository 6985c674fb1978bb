"""The annotation files of one source: where they lie, and what they say of its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.curation.annotations.documents import Document
from pipelines.curation.annotations.formats import FORMATS, Format, FormatName
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.labels import HELD_OUT
from pipelines.curation.partitions import bucket_of
from storage.digests import digest_json
from storage.media import Media, MediaError, open_media

APART = "/annotations/"
"""How the names of annotation files begin in a recipe, where they lie apart from the media."""


@dataclass(frozen=True)
class Told:
    """What the annotations say of some files."""

    known: dict[str, dict[str, Note]] = field(default_factory=dict)
    """Path -> segment (or "") -> what is said of it."""
    twice: dict[str, str] = field(default_factory=dict)
    """Path -> why nothing that is said of it can be believed."""
    refused: dict[str, str] = field(default_factory=dict)
    """Segment -> why it cannot be used."""
    listed: Sequence[str] = ()
    """Paths of the files that belong to the source."""
    unlisted: int | None = None
    """Files that a list of what belongs to the source does not name; None: there is no list."""
    items: int = 0
    """Items that are named."""
    matched: int = 0
    """Items of them that are files."""
    segmented: bool = False
    """Whether the clips are segments of the files."""

    def of_files(self) -> dict[str, tuple[str | None, str | None]]:
        """Path -> (label, split) of a whole file; one that has a held-out segment is held out."""
        found = {}
        for path, notes in self.known.items():
            splits = {note.split for note in notes.values()}
            split = HELD_OUT if HELD_OUT in splits else next(iter(splits), None)
            found[path] = (notes[""].label if "" in notes else None, split)
        return found

    def metrics(self) -> dict[str, int]:
        """How many items are named, and how many of them are files."""
        left = {} if self.unlisted is None else {"unlisted": self.unlisted}
        return {"labels": self.items, "labels_matched": self.matched, **left}


@dataclass(frozen=True)
class Sheets:
    """The annotation files of a source."""

    name: FormatName
    location: str
    """Of the media."""
    apart: str | None = None
    """Where the annotation files lie, if not at the top of the media."""

    @property
    def format(self) -> Format:
        """How they are read."""
        return FORMATS[self.name]

    def share(self, bucket: int, of: int) -> list[str]:
        """Paths of the media in a bucket; MediaError where there are annotation files alone."""
        listing, is_document = open_media(self.location).listing(), self.format.is_document
        if all(is_document(path) for path in listing.paths):
            raise MediaError(f"{self.location}: no files there but annotations; put videos in it")
        return [p for p in listing.share(bucket, of, bucket_of) if not is_document(p)]

    def digests(self, books: Path) -> dict[str, str]:
        """Name in a recipe -> what changes with the content, of each annotation file.

        A file below `books` remembers it between calls.
        """
        media, found = self._found()
        book = books / f"{digest_json([self.apart or self.location, self.name])[:32]}.json"
        prefix = "" if self.apart is None else APART
        return {f"{prefix}{p}": d for p, d in media.digests(found, book).items()}

    def read(self, keep: Callable[[str], bool] | None = None) -> Notes:
        """All that they say, of the items that `keep` wants.

        Raises:
            MediaError: a file is missing or wrong; one line that names it and the place in it.
        """
        notes = Notes(keep)
        self.format.read(self.documents(), notes)
        return notes

    def documents(self) -> list[Document]:
        """The annotation files themselves; MediaError where they are missing."""
        media, found = self._found()
        marks = media.listing().marks if found else {}
        return [Document(media.location, p, media.read(p, marks.get(p))) for p in found]

    def told(
        self, paths: Sequence[str], everywhere: Sequence[str], mine: Callable[[str], bool]
    ) -> Told:
        """What they say of the files at `paths`, a part of a source.

        Args:
            paths: of the part.
            everywhere: of the whole source; an item that is no file anywhere counts in one part.
            mine: whether an item without a file counts in this part.
        """
        item = self.format.item
        files = {path: item(path) for path in paths}
        here, all_items = set(files.values()), {item(path) for path in everywhere}

        def counted(name: str) -> bool:
            return name in here or (name not in all_items and mine(name))

        notes = self.read(counted)
        by_path = self.format.told_by_path or _nothing
        known, twice = {}, {}
        for path, name in files.items():
            if name in notes.twice:
                twice[path] = notes.twice[name]
            elif name in notes.known:
                known[path] = notes.known[name]
            elif note := by_path(path):
                known[path] = {"": note}
        named, form = (*notes.known, *notes.twice), self.format
        listed = [p for p in paths if p in known or p in twice] if form.listed_only else list(paths)
        return Told(
            known, twice, notes.refused, listed,
            len(paths) - len(listed) if form.listed_only else None,
            len(named), sum(name in here for name in named), form.segmented,
        )  # fmt: skip

    def _found(self) -> tuple[Media, list[str]]:
        media = open_media(self.apart or self.location)
        found = media.listing().chosen(self.name, self.format.is_document)
        if self.format.needed and not found:
            where, names = self.apart or self.location, " or ".join(self.format.files)
            raise MediaError(
                f"{where}: no annotation files of {self.name} ({names}); put them there, or set "
                "annotations_at"
            )
        return media, found


def _nothing(_: str) -> Note | None:
    return None
