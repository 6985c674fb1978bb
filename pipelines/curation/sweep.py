"""Link rot: which items of a source are gone from where they were, and since when.

Nothing becomes stale by it: what was fetched is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipelines.answers import DownloadError, FetchConfig
from pipelines.curation.addresses import Wanted
from pipelines.curation.bookkeeping import AWAY
from pipelines.curation.fetched_sources import wanted
from pipelines.curation.ingest import located
from pipelines.downloads import gone
from pipelines.node import Profile
from pipelines.progress import progress
from storage.confined import in_tables
from storage.ledgers import FETCH, PRESENCE, Event, Ledger, Rows
from storage.media import listings_kept, open_media


@dataclass(frozen=True)
class Sweep:
    """What a sweep found."""

    asked: int = 0
    gone: int = 0
    back: int = 0
    untold: int = 0
    """Nobody can tell now: no answer, or 500 and above."""

    def __add__(self, other: Sweep) -> Sweep:
        return Sweep(
            self.asked + other.asked, self.gone + other.gone, self.back + other.back,
            self.untold + other.untold,
        )  # fmt: skip


def swept(profile: Profile, partition: str, ledger: Ledger) -> Sweep:
    """Ask for each item of a partition of raw_videos whether it is there, and write it down."""
    _, source, bucket = located(profile.raw_videos, partition)
    rows = ledger.rows(partition)
    with listings_kept():
        if source.reader == "addresses":
            items = {p: w for p, w in wanted(source, bucket).items() if not w.refused}
            answers = _asked(items, profile.raw_videos.fetch, f"{partition} addresses")
        else:
            there = open_media(source.media).listing()
            names = {in_tables(path) for path in there.paths}
            answers = {p: "" if p in names else AWAY for p in rows}
    news = list(_news(answers, rows))
    ledger.add(partition, news)
    return Sweep(
        len(answers), sum(e.state == "gone" for e in news), sum(e.state == "there" for e in news),
        sum(answer is None for answer in answers.values()),
    )  # fmt: skip


def _asked(items: Mapping[str, Wanted], config: FetchConfig, noun: str) -> dict[str, str | None]:
    """Path -> why it is gone, "" while it is there, None when nobody can tell."""
    answers: dict[str, str | None] = {}
    with ThreadPoolExecutor(config.at_once) as threads, progress(noun, len(items)) as bar:
        for path, answer in threads.map(lambda e: (e[0], _asked_for(e[1], config)), items.items()):
            answers[path] = answer
            bar.update()
    return answers


def _asked_for(item: Wanted, config: FetchConfig) -> str | None:
    try:
        return gone(item.address, config) or ""
    except DownloadError:
        return None


def _news(answers: Mapping[str, str | None], rows: Rows) -> Iterator[Event]:
    for path, answer in answers.items():
        before = rows[path].events.get(PRESENCE) if path in rows else None
        was_gone = before is not None and before.state == "gone"
        if answer and not was_gone:
            yield Event(path, PRESENCE, "gone", reason=answer)
        elif answer == "" and was_gone:
            yield Event(path, PRESENCE, "there")


def asked_again(partition: str, ledger: Ledger) -> int:
    """Have what could not be fetched tried again by the next run; how many items that are."""
    failed = [
        Event(path, FETCH, "again", of=event.of)
        for path, row in ledger.rows(partition).items()
        if (event := row.events.get(FETCH)) and event.state in ("failed", "refused")
    ]
    ledger.add(partition, failed)
    return len(failed)
