"""The ledger: what became of each file of the sources, told, swept for what is gone, or told to be
tried again.
"""

from __future__ import annotations

from collections import Counter
from typing import TextIO

from assets.deployment import Deployment
from pipelines.curation.source_config import GENERATED
from pipelines.curation.sweep import Sweep, asked_again, swept
from pipelines.node import source_of
from pipelines.schemas import nearest
from pipelines.settings import SettingError
from storage.ledgers import Ledger, Row

_BAD = ("failed", "refused", "quarantined", "gone", "again")


def ledger(deployed: Deployment, source: str | None, *, failed: bool, out: TextIO) -> None:
    """Print a line for each source, or for each item of one; of the failed alone, if asked.

    Raises SettingError for a source that there is not.
    """
    book = _book(deployed)
    for name, partitions in _partitions(deployed, source).items():
        count: Counter[str] = Counter()
        for partition in partitions:
            for item, row in sorted(book.rows(partition).items()):
                last = row.last
                count[last.state] += 1
                if (source or failed) and (last.state in _BAD or not failed):
                    print(f"{last.state:<11} since {last.day}  {item}{_why(row)}", file=out)
        told = ", ".join(f"{number} {state}" for state, number in count.most_common())
        print(f"{name}: {told or _nothing(deployed, name)}", file=out)


def sweep(deployed: Deployment, source: str | None, out: TextIO) -> None:
    """Ask for each item whether it is still where it was, and print how many are gone."""
    book = _book(deployed)
    sources = _partitions(deployed, source)
    kept = {name: of for name, of in sources.items() if not _is_generated(deployed, name)}
    if not kept:
        print(f"nothing to ask for: {', '.join(sources)} generated", file=out)
    for name, partitions in kept.items():
        found = sum((swept(deployed.profile, p, book) for p in partitions), Sweep())
        print(
            f"{name}: {found.asked} asked for, {found.gone} newly gone, {found.back} back, "
            f"{found.untold} without an answer",
            file=out,
        )


def retry(deployed: Deployment, source: str | None, out: TextIO) -> None:
    """Have what could not be fetched tried again, and print how many items that are."""
    book = _book(deployed)
    for name, partitions in _partitions(deployed, source).items():
        number = sum(asked_again(partition, book) for partition in partitions)
        print(f"{name}: {number} to be tried again by `vjepa2 run raw_videos`", file=out)


def _book(deployed: Deployment) -> Ledger:
    return Ledger(str(deployed.profile.execution.ledger))


def _partitions(deployed: Deployment, source: str | None) -> dict[str, list[str]]:
    """Source -> its partitions, of one source or all."""
    found: dict[str, list[str]] = {}
    for partition in deployed.graph.keys("raw_videos", deployed.profile):
        found.setdefault(source_of(str(partition)), []).append(str(partition))
    if source is None:
        return found
    if source not in found:
        raise SettingError(f"no source {source}{nearest(source, found)}")
    return {source: found[source]}


def _why(row: Row) -> str:
    return f": {row.last.reason}" if row.last.reason else ""


def _is_generated(deployed: Deployment, source: str) -> bool:
    return bool(deployed.profile.raw_videos.sources[source].location == GENERATED)


def _nothing(deployed: Deployment, source: str) -> str:
    if _is_generated(deployed, source):
        return "generated, has no ledger"
    return "nothing yet; `vjepa2 run raw_videos` begins it"
