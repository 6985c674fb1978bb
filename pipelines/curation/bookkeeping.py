"""Bookkeeping: what became of each file of a source, written down in the deployment's ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipelines.execution import ExecutionConfig
from storage.artifacts import Artifact
from storage.confined import in_tables
from storage.ledgers import FOUND, PRESENCE, PROBE, Event, Ledger, Row, Rows, State
from storage.media import FETCHED

AWAY = "is no longer in its source"

Seen = Mapping[str, tuple[State, str, str]]
"""Item -> what it is, why, and the SHA-256 of its bytes."""


def note(artifact: Artifact, execution: ExecutionConfig) -> None:
    """Write down what an artifact of raw_videos says that the ledger does not say yet.

    What is generated has no ledger.
    """
    media, partition = artifact.record.get("media", "payload"), artifact.manifest.partition
    if execution.ledger is None or media == "payload" or partition is None:
        return
    ledger = Ledger(execution.ledger)
    # Segments of files are set aside, too, and are in no ledger.
    files = {in_tables(path) for path in artifact.manifest.recipe_inputs.get("external_inputs", ())}
    seen: dict[str, tuple[State, str, str]] = {
        row["item"]: ("quarantined", row["reason"], "")
        for row in artifact.table("quarantine.parquet")
        if row["item"] in files
    }
    found = artifact.columns("videos.parquet", ["path", "sha256"])
    seen |= {
        str(path): ("probed", "", str(digest))
        for path, digest in zip(found["path"], found["sha256"], strict=True)
    }
    news = _news(seen, ledger.rows(partition), str(media).startswith(FETCHED))
    ledger.add(partition, news)


def _news(seen: Seen, rows: Rows, fetched: bool) -> Iterator[Event]:
    """What is new in `seen`; of what is fetched, only a sweep says whether it is there."""
    for item, (state, reason, sha256) in seen.items():
        row = rows.get(item, Row())
        if FOUND not in row.events:
            yield Event(item, FOUND, "found")
        before = row.events.get(PROBE)
        if before is None or (before.state, before.reason, before.of) != (state, reason, sha256):
            yield Event(item, PROBE, state, reason=reason, of=sha256)
        presence = row.events.get(PRESENCE)
        if presence and presence.state == "gone" and (not fetched or presence.reason == AWAY):
            yield Event(item, PRESENCE, "there")
    for item in rows.keys() - seen.keys():
        presence = rows[item].events.get(PRESENCE)
        if presence is None or presence.state != "gone":
            yield Event(item, PRESENCE, "gone", reason=AWAY)
