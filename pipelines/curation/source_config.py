"""Where a source comes from, and how what lies there is read."""

from __future__ import annotations

from typing import Annotated, Literal

from pipelines.curation.annotations.formats import FormatName
from pipelines.curation.annotations.sheets import Sheets
from pipelines.settings import NOT_EMPTY, between, settings
from storage.media import TARS

GENERATED = "generated"
LISTS = (".csv", ".txt")
"""How the names of lists of addresses end."""


@settings
class SourceConfig:
    """Where one source comes from."""

    location: Annotated[str, NOT_EMPTY] = GENERATED
    """A folder, `s3://bucket/prefix`, or "generated"; of addresses: their list, or a pattern of
    them with {id} in it."""
    reader: Literal["files", "tars", "addresses"] = "files"
    """What its items are: the files there, also the members of tars there, or what the addresses
    lead to."""
    buckets: Annotated[int, between(1, 4096)] = 1
    """Partitions; a file belongs to one by the digest of its path."""
    accept_damaged: bool = False
    """Keep files in which some frames are lost or corrupt (what they decode to may vary)."""
    annotations: FormatName = "plain"
    """How its annotation files are read: "plain" is a labels.csv, or none."""
    annotations_at: Annotated[str, NOT_EMPTY] | None = None
    """Where annotation files lie, a folder or `s3://bucket/prefix`; None: with the files."""

    def __post_init__(self) -> None:
        if self.location == GENERATED and (self.annotations != "plain" or self.annotations_at):
            raise ValueError(
                f'annotations = "{self.annotations}" is of files that there are; set location to '
                'their folder, or leave it "plain" and annotations_at empty'
            )
        if self.location == GENERATED and self.reader != "files":
            raise ValueError(
                f'reader = "{self.reader}" is of files that there are; set location to their '
                'folder, or leave it "files"'
            )
        if problem := self._misplaced():
            raise ValueError(f'location = "{self.location}": {problem}')

    def _misplaced(self) -> str | None:
        """Why the location is none for the reader."""
        kind = self.location.partition("://")[0] if "://" in self.location else ""
        if self.reader != "addresses":
            if kind in ("http", "https"):
                return 'that is an address; set reader = "addresses", and put {id} in it'
            return f"{kind}:// is unknown; give a folder or s3://bucket/prefix" * (
                kind not in ("", "s3")
            )
        if self.pattern:
            if "{id}" not in self.location:
                return "has no {id} in it; say where the id of an item goes, or give a list"
            if self.annotations_at is None:
                return "which ids? set annotations_at to the folder of the files that name them"
            return None
        if kind not in ("", "s3") or not self.location.endswith(LISTS):
            return (
                "is no list of addresses; give a file .csv (address,id,label,split,sha256) or .txt "
                "(an address a line), or a pattern https://host/{id}.mp4"
            )
        return None

    @property
    def pattern(self) -> bool:
        """Whether the location says how addresses are made of ids."""
        return self.location.startswith(("http://", "https://"))

    @property
    def media(self) -> str:
        """The location of its media, for `storage.media.open_media`."""
        return f"{TARS if self.reader == 'tars' else ''}{self.location}"

    @property
    def sheets(self) -> Sheets:
        """Its annotation files."""
        return Sheets(self.annotations, self.media, self.annotations_at)
