"""Labels of a source: a `labels.csv` with the columns path, label, split at its top.

The generator writes it so; other annotation layouts have to be brought into this form. Split is
train or validation.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from pipelines.curation.internet import SyntheticVideo
from storage.media import MediaError, open_media
from storage.places import write_file

LABELS = "labels.csv"
SPLITS = ("train", "validation")


def read_labels(location: str, mark: str | None = None) -> dict[str, tuple[str | None, str | None]]:
    """Path -> (label, split) from the labels.csv of a source; empty where there is none.

    `mark` is that of the listing by which a recipe names the file, of a bucket.

    Raises:
        MediaError: a column is missing, or a split is neither train nor validation.
    """
    media = open_media(location)
    if not media.has(LABELS):
        return {}
    where = f"{location}: {LABELS}"
    try:
        table = csv.DictReader(io.StringIO(media.read(LABELS, mark).decode("utf-8-sig")))
        rows = list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise MediaError(f"{where} cannot be read ({error}); save it as UTF-8 CSV") from None
    if missing := {"path", "label"} - set(table.fieldnames or ()):
        raise MediaError(f"{where} has no column {sorted(missing)}; give path,label,split")
    labels: dict[str, tuple[str | None, str | None]] = {}
    for number, row in enumerate(rows, 2):
        split = row.get("split") or None
        if split not in (None, *SPLITS):
            raise MediaError(f"{where} line {number}: split {split!r} is not one of {SPLITS}")
        labels[row["path"]] = (row["label"] or None, split)
    return labels


def write_labels(path: Path, files: Sequence[SyntheticVideo]) -> None:
    """Write the labels of generated files; broken ones have none."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "label", "split"))
    table.writerows((p.path, p.label, p.split) for p in files if not p.breakage)
    write_file(path, text.getvalue().encode())
