"""Labels of files, and the `labels.csv` (path, label, split) that the generator writes of its own.

Split is train or validation. How labels are read is in `annotations`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.curation.internet import SyntheticVideo
from storage.places import write_file

LABELS = "labels.csv"
HELD_OUT = "validation"
SPLITS = ("train", HELD_OUT)


@dataclass(frozen=True)
class Labels:
    """What a source says of its files."""

    known: dict[str, tuple[str | None, str | None]]
    """Path -> (label, split)."""
    twice: dict[str, str]
    """Path -> why neither of two labels of it can be believed; it is not in `known`."""


def write_labels(path: Path, files: Sequence[SyntheticVideo]) -> None:
    """Write the labels of generated files; broken ones have none."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "label", "split"))
    table.writerows((p.path, p.label, p.split) for p in files if not p.breakage)
    write_file(path, text.getvalue().encode())
