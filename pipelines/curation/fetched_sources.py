"""Sources of addresses: what a partition of one is, and what is known of each of its items."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from pipelines.answers import FetchConfig
from pipelines.curation.addresses import Wanted, addresses
from pipelines.curation.annotations.sheets import Told
from pipelines.curation.fetching import UNREADABLE, Fetcher, known
from pipelines.curation.partitions import belongs
from pipelines.curation.probing import File, probed
from pipelines.curation.source_config import SourceConfig
from pipelines.curation.sources import POOL
from pipelines.execution import ExecutionConfig
from pipelines.isolation import Limits
from pipelines.node import source_of
from pipelines.stage import Workspace
from storage.digests import digest_json, is_sha256
from storage.ledgers import Ledger
from storage.media import FETCHED, listings_kept
from storage.takedowns import takedowns

SAID = "/list"
"""What the list says of the items of a partition is called so in a recipe; no item is."""


def told(source: SourceConfig, bucket: int) -> Told:
    """What the list or the annotations say of the items of a bucket."""
    with listings_kept():
        items = addresses(source)
        here = items.share(bucket, source.buckets)
        if items.notes is not None:
            return items.told(here)
        mine = functools.partial(belongs, bucket=bucket, of=source.buckets)
        return source.sheets.told(here, items.listing.paths, mine)


def wanted(source: SourceConfig, bucket: int) -> dict[str, Wanted]:
    """Path -> what is to be fetched, of the items of a bucket that belong to the source."""
    items = addresses(source)
    selected = not source.pattern and source.sheets.format.listed_only
    here = told(source, bucket).listed if selected else items.share(bucket, source.buckets)
    return {path: items.wanted[path] for path in here}


def contents(
    source: SourceConfig, partition: str, bucket: int, execution: ExecutionConfig
) -> dict[str, str]:
    """Path -> the SHA-256 of what was fetched, or why there is none, and what is said of them.

    Nothing is fetched for it, and nothing written.
    """
    here = wanted(source, bucket)
    rows = Ledger(execution.ledger).rows(partition) if execution.ledger else {}
    found = known(here, rows)
    if said := addresses(source).said(list(here)):
        found[SAID] = digest_json(said)
    if source.annotations_at is not None:
        found |= source.sheets.digests(execution.cache / "digests")
    return found


def fetch(
    source: SourceConfig, config: FetchConfig, partition: str, bucket: int,
    execution: ExecutionConfig, store: str,
) -> None:  # fmt: skip
    """Fetch what a partition lacks, and write down what became of it."""
    assert execution.ledger is not None  # every deployment has one
    taken = {line.sha256 for line in takedowns(execution.takedowns)}
    fetcher = Fetcher(config, store, Ledger(execution.ledger), execution.cache, taken)
    noun = f"{source_of(partition)} files to fetch"
    fetcher.fetch(noun, partition, wanted(source, bucket))


def described(
    paths: Sequence[str], limits: Limits, version: int, out: Workspace
) -> dict[str, dict[str, Any]]:
    """Path -> description of each item, or why it was not fetched.

    What was taken down is not looked at: its bytes may be gone.
    """
    taken = {line.sha256 for line in takedowns(out.execution.takedowns)}
    tasks: dict[str, File] = {}
    results: dict[str, dict[str, Any]] = {}
    for path in paths:
        content = out.observed.get(path, f"{UNREADABLE}was not fetched; run again")
        if is_sha256(content) and content not in taken:
            media = f"{FETCHED}{out.results.store}"
            tasks[path] = File(
                media, path, content, content, limits, version, out.results,
                cut=source_of(str(out.partition)) == POOL,
            )  # fmt: skip
        else:
            results[path] = {"reason": content.removeprefix(UNREADABLE), "sha256": content}
    found = out.map(probed, tasks, noun=f"{source_of(str(out.partition))} files")
    return {path: results.get(path) or found[path] for path in paths}
