"""The formats of annotations that a source can have, one entry each."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal

from pipelines.curation.annotations import (
    coin,
    diving48,
    epic_kitchens,
    imagenet,
    jester,
    kinetics,
    plain,
    something_something,
    youtube,
)
from pipelines.curation.annotations.documents import Document
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.labels import LABELS

FormatName = Literal[
    "plain", "something-something-v2", "kinetics", "howto100m", "yt-temporal-1b", "imagenet",
    "coin", "epic-kitchens-100", "jester", "diving-48",
]  # fmt: skip


def stem(path: str) -> str:
    """The item of a file that is called by its id: `P01/P01_01.MP4` -> P01_01."""
    return PurePosixPath(path).stem


@dataclass(frozen=True)
class Format:
    """How the annotation files of a data set are called and read, and how its videos are."""

    files: tuple[str, ...]
    """Patterns of the names of its annotation files."""
    read: Callable[[Sequence[Document], Notes], None]
    item: Callable[[str], str] = stem
    """The item that a file of media is, by its path."""
    told_by_path: Callable[[str], Note | None] | None = None
    """What a path says of the file, where no annotation file does."""
    folders: int = 1
    """How many folders deep an annotation file may lie."""
    needed: bool = True
    """Whether there has to be an annotation file."""
    listed_only: bool = False
    """Whether a file that no annotation names is left out: the list says what belongs to it."""
    segmented: bool = False
    """Whether its clips are segments of the files."""

    @cached_property
    def _names(self) -> re.Pattern[str]:
        return re.compile("|".join(fnmatch.translate(pattern) for pattern in self.files))

    def is_document(self, path: str) -> bool:
        """Whether a file is called and lies as its annotation files."""
        name = path.rpartition("/")[2]
        return path.count("/") <= self.folders and self._names.match(name) is not None


def _whole(path: str) -> str:
    return path


FORMATS: dict[FormatName, Format] = {
    "plain": Format((LABELS,), plain.read, item=_whole, folders=0, needed=False),
    "something-something-v2": Format(something_something.FILES, something_something.read),
    "kinetics": Format(kinetics.FILES, kinetics.read),
    "howto100m": Format(youtube.HOWTO100M, youtube.read_howto100m),
    "yt-temporal-1b": Format(youtube.YT_TEMPORAL, youtube.read_yt_temporal, listed_only=True),
    "imagenet": Format(
        imagenet.FILES, imagenet.read, told_by_path=imagenet.told_by_path, needed=False
    ),
    "coin": Format(coin.FILES, coin.read),
    "epic-kitchens-100": Format(epic_kitchens.FILES, epic_kitchens.read, segmented=True),
    "jester": Format(jester.FILES, jester.read),
    "diving-48": Format(diving48.FILES, diving48.read),
}
