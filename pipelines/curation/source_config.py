"""Where a source comes from, and how what lies there is read."""

from __future__ import annotations

from typing import Annotated, Literal

from pipelines.curation.annotations.formats import FormatName
from pipelines.curation.annotations.sheets import Sheets
from pipelines.settings import NOT_EMPTY, between, settings
from storage.media import TARS

GENERATED = "generated"


@settings
class SourceConfig:
    """Where one source comes from."""

    location: Annotated[str, NOT_EMPTY] = GENERATED
    """A folder, `s3://bucket/prefix`, or "generated"."""
    reader: Literal["files", "tars"] = "files"
    """What its items are: the files there, or also the members of the tars there."""
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

    @property
    def media(self) -> str:
        """The location of its media, for `storage.media.open_media`."""
        return f"{TARS if self.reader == 'tars' else ''}{self.location}"

    @property
    def sheets(self) -> Sheets:
        """Its annotation files."""
        return Sheets(self.annotations, self.media, self.annotations_at)
