"""What is known of a source's labels before anything is made from it: whether it can be probed."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.curation.ingest import RawVideosConfig
from pipelines.curation.internet import synthetic_videos
from pipelines.curation.source_config import GENERATED
from pipelines.evaluation.splits import SIDES, check_labels
from pipelines.node import Profile
from pipelines.settings import SettingError
from storage.errors import InputError, UserError

Labelled = Iterable[tuple[str | None, str | None]]
"""(label, side of the split) of files."""


def labels_of(raw: RawVideosConfig, source: str) -> Labelled:
    """The labels of a source's files: as the generator will make them, or from its annotations.

    Which of them can be decoded is not known yet, so there may be fewer.
    """
    where, internet = raw.sources[source], raw.internet
    if where.location != GENERATED:
        known = where.sheets.read().known.values()
        return ((note.label, note.split) for notes in known for note in notes.values())
    videos = synthetic_videos(
        source, internet.themes[source], internet.counts[source], 0, internet.style
    )
    return ((video.label, video.split) for video in videos)


def enough_labels(profile: Profile) -> None:
    """Refuse sources with too few labels for their probes.

    Raises:
        SettingError: one line, with the first source that cannot be probed as asked.
    """
    for source in profile.probe_report.sources:
        try:
            found = labels_of(profile.raw_videos, source)
        except UserError:
            continue  # it cannot be reached: to make its files says how that is cured
        sides: dict[str | None, list[str]] = {side: [] for side in SIDES}
        for label, side in found:
            if label and side in sides:
                sides[side].append(label)
        try:
            check_labels(source, sides["train"], sides["validation"], profile.probe_report.labels)
        except InputError as refused:
            raise SettingError(str(refused)) from None
