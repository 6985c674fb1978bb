"""Fetching: what a source names by addresses is brought into the store, once.

Several files are fetched at once. What came is kept under its digest, with a note under the
question what an address gave: nothing is fetched twice, by whatever recipe, deployment or machine,
and not after a kill either. What could not be had is written down in the ledger with its reason:
what may pass is asked for again by the next run that needs the partition, the rest when somebody
says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from pipelines.answers import DownloadError, FetchConfig
from pipelines.curation.addresses import Wanted
from pipelines.downloads import Download, download
from pipelines.progress import progress
from storage.digests import digest_bytes
from storage.fetched import Fetched
from storage.ledgers import FETCH, FOUND, PRESENCE, Event, Ledger, Row, Rows, State
from storage.media import FETCHED
from storage.places import aside_of
from storage.results import Results
from storage.sealing import HeldError, locked

MISSING = "not fetched: "
"""How what stands for the content of an item begins that nobody has fetched yet."""
UNREADABLE = "unreadable: "
_FLUSH = 30.0  # seconds between two notes in the ledger
_LOOK_EVERY = 2.0


def known(wanted: Mapping[str, Wanted], rows: Rows) -> dict[str, str]:
    """Path -> the SHA-256 of what was fetched, or why there is none, by the ledger alone."""
    return {path: _known(item, rows, path) for path, item in wanted.items()}


def _known(item: Wanted, rows: Rows, path: str) -> str:
    if item.refused:
        return f"{UNREADABLE}{item.refused}"
    event = rows[path].events.get(FETCH) if path in rows else None
    if event is None or event.of != item.asked or event.state == "again":
        return f"{MISSING}{item.asked}"
    return event.sha256 or f"{UNREADABLE}{event.reason}"


@dataclass(frozen=True)
class Fetcher:
    """Brings items into a store."""

    config: FetchConfig
    store: str
    ledger: Ledger
    cache: Path
    """A folder of this machine for what is on its way."""
    unwanted: Collection[str] = ()
    """SHA-256 of what was taken down: it is not kept, nor fetched where that is known before."""

    def fetch(self, noun: str, partition: str, wanted: Mapping[str, Wanted]) -> None:
        """Fetch what a partition lacks, and write down what became of each.

        Raises:
            PlaceError: the store or this machine's disk fails; what was fetched is kept.
        """
        rows = self.ledger.rows(partition)
        todo = {
            path: item
            for path, item in wanted.items()
            if not item.refused and not self._settled(item, rows.get(path))
        }
        found = [Event(path, FOUND, "found") for path in todo if path not in rows]
        self.ledger.add(partition, found)
        if todo:
            self._all(noun, partition, todo, len(wanted))

    def _settled(self, item: Wanted, row: Row | None) -> bool:
        """Whether an item was fetched and is there, or cannot be had."""
        event = row.events.get(FETCH) if row else None
        if event is None or event.of != item.asked:
            return False
        if event.state != "fetched":
            return event.state == "refused"
        kept = Fetched(f"{FETCHED}{self.store}")
        return event.sha256 in self.unwanted or kept.has(event.sha256)

    def _all(self, noun: str, partition: str, todo: Mapping[str, Wanted], total: int) -> None:
        events: list[Event] = []
        flushed = time.monotonic()
        stop = threading.Event()
        with (
            ThreadPoolExecutor(self.config.at_once) as threads,
            progress(noun, total, total - len(todo)) as bar,
        ):
            try:
                for news in self._finished(threads, todo, stop, bar.watch):
                    events += news
                    bar.update()
                    if time.monotonic() - flushed > _FLUSH:
                        self.ledger.add(partition, events)
                        events, flushed = [], time.monotonic()
            finally:
                stop.set()
                self.ledger.add(partition, events)

    def _finished(
        self,
        threads: ThreadPoolExecutor,
        todo: Mapping[str, Wanted],
        stop: threading.Event,
        watch: Callable[[Mapping[str, float]], None],
    ) -> Iterator[list[Event]]:
        """What became of each item, as they end; never more than are fetched at once wait."""
        waiting = iter(todo.items())
        running: dict[Future[list[Event]], str] = {}
        began: dict[str, float] = {}
        while True:
            while len(running) < self.config.at_once and (entry := next(waiting, None)):
                running[threads.submit(self.one, *entry, stop)] = entry[0]
                began[entry[0]] = time.monotonic()
            if not running:
                return
            ready, _ = wait(running, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
            watch(began)
            for future in ready:
                del began[running.pop(future)]
                yield future.result()

    def one(self, path: str, item: Wanted, stop: threading.Event) -> list[Event]:
        """Fetch one item, unless it is known what its address gives; what became of it."""
        if item.sha256 in self.unwanted:
            return [Event(path, FETCH, "refused", reason="was taken down", of=item.asked)]
        results, kept = Results(self.store), Fetched(f"{FETCHED}{self.store}")
        question = {"item": "fetch", "version": 1, "asked": item.asked}
        before = results.recall(question)
        if before and (before["sha256"] in self.unwanted or kept.has(before["sha256"])):
            got = Download(before["sha256"], before["size"])
        else:
            try:
                got = self._brought(item, kept, stop)
            except DownloadError as error:
                return _lost(path, item, error)
            results.keep(question, {"sha256": got.sha256, "size": got.size})
        return [Event(path, FETCH, "fetched", of=item.asked, sha256=got.sha256, size=got.size)]

    def _brought(self, item: Wanted, kept: Fetched, stop: threading.Event) -> Download:
        folder = self.cache / "fetching"
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{digest_bytes(item.address.encode())[:32]}.part"
        lock = part.with_suffix(".lock")
        try:
            with locked(lock, item.asked):
                try:
                    return self._at(part, item, kept, stop)
                finally:
                    lock.unlink(missing_ok=True)
        except HeldError:  # another process fetches it, too
            with aside_of(part) as aside:
                try:
                    return self._at(aside, item, kept, stop)
                finally:
                    aside.with_suffix(".json").unlink(missing_ok=True)

    def _at(self, part: Path, item: Wanted, kept: Fetched, stop: threading.Event) -> Download:
        got = download(item.address, part, self.config, stop, item.sha256)
        if got.sha256 not in self.unwanted:  # taken down, and here under another address
            kept.keep(got.sha256, part)
        for path in (part, part.with_suffix(".json")):
            path.unlink(missing_ok=True)
        return got


def _lost(path: str, item: Wanted, error: DownloadError) -> list[Event]:
    reason = str(error)
    state: State = "failed" if error.passes else "refused"
    gone = [Event(path, PRESENCE, "gone", reason=reason)] if error.gone else []
    return [Event(path, FETCH, state, reason=reason, of=item.asked), *gone]
