"""Claims: no line is lost, however many write and merge at once, on a disk and in a bucket; events
give one row whatever their order; a ledger that cannot be written can be asked; one that cannot be
read is one line."""

from __future__ import annotations

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.ledgers import FETCH, FOUND, PRESENCE, PROBE, Event, Ledger, LedgerError, Row

EVENTS = (
    Event("a", FOUND, "found", at="2026-01-01"),
    Event("a", FOUND, "found", at="2026-01-09"),
    Event("a", FETCH, "failed", at="2026-01-02", reason="answers HTTP 500"),
    Event("a", FETCH, "fetched", at="2026-01-03", sha256="0" * 64),
    Event("a", PROBE, "probed", at="2026-01-04"),
)


def test_the_order_of_events_does_not_matter() -> None:
    for order in itertools.permutations(EVENTS):
        row = Row()
        for event in order:
            row.add(event)
        assert row.events == {FOUND: EVENTS[0], FETCH: EVENTS[3], PROBE: EVENTS[4]}
        assert row.last == EVENTS[4]
    row.add(away := Event("a", PRESENCE, "gone", at="2026-01-05", reason="answers HTTP 404"))
    assert row.last == away and row.last.day == "2026-01-05"
    row.add(Event("a", PRESENCE, "there", at="2026-01-06"))
    row.add(again := Event("a", FETCH, "failed", at="2026-01-07"))
    assert row.last == again


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_many_writers_lose_nothing(kind: str, tmp_path: Path, s3_store: str) -> None:
    ledger = Ledger(s3_store if kind == "bucket" else str(tmp_path / "ledger"))

    def write(writer: int) -> None:
        for number in range(7):
            ledger.add("coin", [Event(f"{writer}/{number}", FOUND, "found")])

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, range(3)))
    assert ledger.rows("coin").keys() == {f"{w}/{n}" for w in range(3) for n in range(7)}
    if kind == "folder":
        assert len(list((tmp_path / "ledger/coin").iterdir())) <= 16  # they were merged


def test_processes_lose_nothing_either(tmp_path: Path) -> None:
    code = (
        "import sys; from storage.ledgers import *\n"
        "at, name = sys.argv[1:]\n"
        "for n in range(30): Ledger(at).add('p', [Event(f'{name}{n}', 'found', 'found')])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen([*command, name]) for name in "ab"]
    assert [child.wait() for child in running] == [0, 0]
    assert len(Ledger(str(tmp_path)).rows("p")) == 60


def test_what_cannot_be_written_can_be_asked(tmp_path: Path) -> None:
    assert Ledger(str(tmp_path / "nowhere")).rows("coin") == {}
    assert not (tmp_path / "nowhere").exists()
    ledger = Ledger(str(tmp_path / "ledger"))
    ledger.add("coin", EVENTS)
    ledger.add("coin", [])
    before = sorted((tmp_path / "ledger").rglob("*"))
    assert ledger.rows("coin")["a"].last == EVENTS[4] and ledger.rows("other") == {}
    assert sorted((tmp_path / "ledger").rglob("*")) == before


def test_one_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    ledger.add("coin", EVENTS)
    [file] = (tmp_path / "coin").iterdir()
    for text in ("{", '{"item": "a"}', "3"):
        file.write_text(text)
        with pytest.raises(LedgerError, match=r"^the ledger .*/coin cannot be read \(.*restore it"):
            ledger.rows("coin")
