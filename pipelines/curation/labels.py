"""Labels of a source: a `labels.csv` with the columns path, label, split at its top.

The generator writes it so; other annotation layouts have to be brought into this form. Split is
train or validation.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.curation.internet import SyntheticVideo
from storage.media import MediaError, open_media
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


def read_labels(location: str, mark: str | None = None) -> Labels:
    """The labels.csv of a source; nothing where there is none.

    `mark` is that of the listing by which a recipe names the file, of a bucket.

    Raises:
        MediaError: a column or a path is missing, or a split is neither train nor validation.
    """
    media = open_media(location)
    if not media.has(LABELS):
        return Labels({}, {})
    where = f"{location}: {LABELS}"
    try:
        table = csv.DictReader(io.StringIO(media.read(LABELS, mark).decode("utf-8-sig")))
        rows = list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise MediaError(f"{where} cannot be read ({error}); save it as UTF-8 CSV") from None
    if missing := {"path", "label"} - set(table.fieldnames or ()):
        raise MediaError(f"{where} has no column {sorted(missing)}; give path,label,split")
    labels = Labels({}, {})
    for number, row in enumerate(rows, 2):
        split = row.get("split") or None
        if split not in (None, *SPLITS):
            raise MediaError(f"{where} line {number}: split {split!r} is not one of {SPLITS}")
        if not row["path"]:
            raise MediaError(f"{where} line {number}: path is empty; name a file")
        _add(labels, row["path"], (row["label"] or None, split))
    for path in labels.twice:
        del labels.known[path]
    return labels


def _add(labels: Labels, path: str, told: tuple[str | None, str | None]) -> None:
    before = labels.known.setdefault(path, told)
    if before != told and path not in labels.twice:
        either = " and as ".join(f"{label!r} ({split})" for label, split in (before, told))
        labels.twice[path] = f"{LABELS} names it twice, as {either}; keep one of the two lines"


def write_labels(path: Path, files: Sequence[SyntheticVideo]) -> None:
    """Write the labels of generated files; broken ones have none."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "label", "split"))
    table.writerows((p.path, p.label, p.split) for p in files if not p.breakage)
    write_file(path, text.getvalue().encode())
