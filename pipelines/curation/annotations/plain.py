"""Any folder of files: a `labels.csv` with the columns path, label and split at its top, or none.

Split is train or validation; it and the label may be empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.curation.annotations.documents import Document
from pipelines.curation.annotations.notes import Note, Notes
from pipelines.curation.labels import SPLITS


def read(documents: Sequence[Document], notes: Notes) -> None:
    """Read the tables; MediaError for one that lacks a column or a path, or has another split."""
    for document in documents:
        for place, row in document.rows("path", "label", columns="path,label,split"):
            split = row.get("split") or None
            if split not in (None, *SPLITS):
                raise document.wrong(f"split {split!r} is not one of {SPLITS}", place)
            if not row["path"]:
                raise document.wrong("path is empty; name a file", place)
            notes.add(row["path"], Note(row["label"] or None, split), document.path)
