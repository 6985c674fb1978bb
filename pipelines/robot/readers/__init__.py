"""Robot data of other layouts, read through one protocol and brought into DROID's raw layout.

    python -m pipelines.robot.readers <folder> <target> --hz 5

`droid_episodes.location` then names the target, and everything behind it works as for DROID.
A reader is a `Reader` of `READERS`; nothing is registered by import.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipelines.robot.readers.lerobot import LeRobot
from pipelines.robot.readers.recording import Reader
from pipelines.robot.readers.rlds import RLDS
from storage.errors import InputError

READERS: Mapping[str, Reader] = {"rlds": RLDS(), "lerobot": LeRobot()}


def reader_of(folder: Path) -> Reader:
    """The reader that knows a folder's layout. Raises InputError that names those there are."""
    for reader in READERS.values():
        if reader.recognises(folder):
            return reader
    raise InputError(f"{folder}: no reader ({', '.join(READERS)}) knows this layout")
