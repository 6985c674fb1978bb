"""The journal of a stage: a line for each item that is finished, so that a killed stage goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.manifests import ArtifactError
from storage.work import KeptFile


def journal_line(function: Callable[..., Any], key: str, result: Any, files: list[KeptFile]) -> str:
    """One line: key, result, and the files that the function kept.

    Raises:
        TypeError: the result is nothing that JSON can hold.
    """
    entry = {"key": key, "result": result}
    if files:
        entry["files"] = [asdict(file) for file in files]
    try:
        return json.dumps(entry) + "\n"
    except TypeError as error:
        raise TypeError(f"{function.__name__} returned for {key}: {error}") from None


def read_journal(path: Path) -> tuple[dict[str, Any], dict[str, list[KeptFile]]]:
    """Finished results and their files, by key. A line that a kill cut short is taken off the file.

    Raises:
        ArtifactError: a line is nothing that `journal_line` wrote.
    """
    if not path.exists():
        return {}, {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    try:
        entries = [json.loads(line) for line in whole.splitlines()]
        return (
            {entry["key"]: entry["result"] for entry in entries},
            {e["key"]: [KeptFile(**file) for file in e.get("files", ())] for e in entries},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); remove it and run again") from None
