"""Annotation files as rows: CSV, JSON, lines of text and Excel sheets.

Everything is UTF-8, with a byte order mark or without. What is wrong is one line that names the
file and the place in it.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from storage.media import MediaError

# An Excel file is a zip archive: what it unfolds to is not to fill the memory.
_MOST_UNFOLDED = 64 << 20
_EXCEL = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


@dataclass(frozen=True)
class Document:
    """One annotation file."""

    location: str
    path: str
    data: bytes

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def wrong(self, told: str, place: str | None = None) -> MediaError:
        """The error that says what is wrong, in the file or at a place in it (`line 7`)."""
        return MediaError(f"{self.location}: {self.path}{f' {place}:' if place else ''} {told}")

    def text(self) -> str:
        """All of it; MediaError when it is not UTF-8."""
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.wrong(f"cannot be read ({error}); save it as UTF-8 CSV") from None

    def lines(self) -> Iterator[tuple[str, str]]:
        """(place, line) of every line that is not empty, without the blanks around it."""
        for number, line in enumerate(self.text().splitlines(), 1):
            if line.strip():
                yield f"line {number}", line.strip()

    def rows(
        self, *needed: str, columns: str | None = None, delimiter: str = ","
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """(place, column -> text) of every row of a CSV; a cell that is missing is empty.

        Args:
            needed: columns that it has to have.
            columns: all that it may have, for the error; None: `needed`.
            delimiter: what parts the cells.

        Raises:
            MediaError: it is not CSV, or lacks a column.
        """
        table = csv.DictReader(io.StringIO(self.text(), newline=""), delimiter=delimiter)
        try:
            if missing := set(needed) - set(table.fieldnames or ()):
                give = columns or ",".join(needed)
                raise self.wrong(f"has no column {sorted(missing)}; give {give}")
            for row in table:
                yield f"line {table.line_num}", {name: row[name] or "" for name in row if name}
        except csv.Error as error:
            raise self.wrong(f"cannot be read ({error}); save it as UTF-8 CSV") from None

    def json(self, kind: type) -> Any:
        """What it holds: a list or a dict, as `kind` says; MediaError when it holds none."""
        try:
            found = json.loads(self.text())
        except json.JSONDecodeError as error:
            raise self.wrong(
                f"is no JSON ({error.msg}); fetch it again", f"line {error.lineno}"
            ) from None
        if not isinstance(found, kind):
            told = "a list" if kind is list else "an object"
            raise self.wrong(f"holds {type(found).__name__}, not {told}; fetch it again")
        return found

    def sheet(self, name: str, *needed: str) -> Iterator[tuple[str, dict[str, str]]]:
        """(place, column -> text) of every row of a sheet of an Excel file; its first row names the
        columns.

        Raises:
            MediaError: it is no Excel file, or lacks the sheet or a column.
        """
        head: dict[str, str] = {}
        for number, cells in self._cells(name):
            if not head:
                head = cells
                if missing := set(needed) - set(head.values()):
                    told = f"has no column {sorted(missing)}; give {','.join(needed)}"
                    raise self.wrong(told, f"sheet {name}")
                continue
            yield (
                f"sheet {name} row {number}",
                {title: cells.get(letter, "") for letter, title in head.items()},
            )

    def _cells(self, sheet: str) -> Iterator[tuple[int, dict[str, str]]]:
        """(number of the row, letter of the column -> text) of a sheet."""
        try:
            with zipfile.ZipFile(io.BytesIO(self.data)) as parts:
                if sum(part.file_size for part in parts.infolist()) > _MOST_UNFOLDED:
                    raise self.wrong("is too large for annotations; save it smaller")
                book = _parsed(parts.read("xl/workbook.xml"))
                names = [part.get("name") for part in book.iter(f"{_EXCEL}sheet")]
                if sheet not in names:
                    raise self.wrong(f"has no sheet {sheet!r}; it has {', '.join(map(str, names))}")
                shared = _strings(_parsed(parts.read("xl/sharedStrings.xml")))
                part = f"xl/worksheets/sheet{names.index(sheet) + 1}.xml"
                rows = _parsed(parts.read(part)).iter(f"{_EXCEL}row")
        except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, NotImplementedError) as error:
            raise self.wrong(f"is no Excel file ({error}); save it as .xlsx") from None
        for number, row in enumerate(rows, 1):
            cells = {re.sub(r"\d", "", str(c.get("r"))): _cell(c, shared) for c in row}
            if any(cells.values()):
                yield number, cells


def _parsed(part: bytes) -> ElementTree.Element:
    if b"<!DOCTYPE" in part:  # no Excel file has one, and entities can grow without end
        raise KeyError("a part with a DOCTYPE")
    return ElementTree.fromstring(part)  # noqa: S314


def _strings(table: ElementTree.Element) -> list[str]:
    items = table.iter(f"{_EXCEL}si")
    return ["".join(text.text or "" for text in item.iter(f"{_EXCEL}t")) for item in items]


def _cell(cell: ElementTree.Element, shared: Sequence[str]) -> str:
    if cell.get("t") == "inlineStr":
        return "".join(text.text or "" for text in cell.iter(f"{_EXCEL}t")).strip()
    value = cell.findtext(f"{_EXCEL}v") or ""
    return (shared[int(value)] if value and cell.get("t") == "s" else value).strip()


def whole_number(text: object, of: int | None, document: Document, place: str, name: str) -> int:
    """A number from 0 to `of` - 1 (None: without an end); MediaError says where it is none."""
    told = str(text).strip()
    if told.isascii() and told.isdigit() and (of is None or int(told) < of):
        return int(told)
    ends = "0 or more" if of is None else f"0 to {of - 1}"
    raise document.wrong(f"{name} is {told!r}; give a whole number, {ends}", place)


def seconds(text: str, document: Document, place: str, name: str) -> float:
    """Seconds of a clock time `00:01:02.50` or of a number; MediaError says where it is none."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", text.strip(), re.ASCII):
        raise document.wrong(f"{name} is {text!r}; give hours:minutes:seconds", place)
    total = 0.0
    for part in text.strip().split(":"):
        total = total * 60 + float(part)
    return round(total, 6)
