"""Asking writes nothing: `status`, `lineage` and `verify` work on a store and a home that are
mounted read-only, and make no store where there is none."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assets import cli
from tests.assets.conftest import House
from tests.assets.conftest import __name__ as house_of

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.chmod", "os.truncate"}
_CLOSED: list[str] = []
"""Folders that are read-only now. Rights would not do: whoever is root may write all the same."""


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _CLOSED or (event != "open" and event not in _CHANGES):
        return
    if event == "open" and not (arguments[2] or 0) & _WRITES:
        return
    path = str(arguments[0])
    known = event == "os.mkdir" and os.path.isdir(path)  # the system says that it exists
    if not known and any(Path(path).is_relative_to(folder) for folder in _CLOSED):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


@pytest.fixture
def mounted_read_only(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """The house after a run, with everything below its folder read-only."""
    house.run("sums/a")
    environment = {
        "STORE": str(house.folder / "store"), "HOME": str(house.folder / "home"),
        "PROFILE": "tiny", "DEPLOYMENT": "default", "GRAPH": f"{house_of}:GRAPH",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(f"VJEPA2_{name}", value)
    sys.addaudithook(_refuse)
    _CLOSED.append(str(house.folder))
    yield house
    _CLOSED.clear()


def test_asking_writes_nothing(
    mounted_read_only: House, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OSError, match="Read-only"):
        (mounted_read_only.folder / "store" / "x").write_bytes(b"")
    asked = {("status",): "2 fresh", ("lineage", "sums/a"): "counts/a", ("verify",): "as sealed"}
    for words, answer in asked.items():
        assert cli.main(words) == 0
        assert answer in capsys.readouterr().out


def test_asking_of_a_store_that_is_not_there_makes_none(
    mounted_read_only: House, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = mounted_read_only.folder / "elsewhere"
    assert cli.main(["status", "--store", str(elsewhere)]) == 0
    assert "6 missing" in capsys.readouterr().out
    assert not elsewhere.exists()
