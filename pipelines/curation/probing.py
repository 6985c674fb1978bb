"""One file of a source: read and decoded once, then described, or the reason why it is useless."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.digests import digest_bytes
from storage.media import ChangedMediaError, MediaError, is_text, legible, open_media
from storage.pictures import VideoError
from storage.video import probe

COLUMNS = {
    "video_id": "string", "source": "string", "path": "string", "sha256": "string",
    "bytes": "int64", "kind": "string", "container": "string", "codec": "string", "width": "int32",
    "height": "int32", "fps": "float64", "frames": "int64", "seconds": "float64",
    "label": "string", "split": "string",
}  # fmt: skip


def probed(item: tuple[str, str, str | None]) -> dict[str, Any]:
    """What is known of a file, given as (location of its source, path, mark of the listing).

    Returns what `described` does; a file that cannot be read has a `reason` alone.

    Raises:
        ChangedMediaError: the file is no longer the one that was listed, so that no row can be
            made of it: the recipe asks for the bytes that were listed.
    """
    location, path, mark = item
    try:
        return described(open_media(location).read(path, mark))
    except ChangedMediaError:
        raise
    except MediaError as error:
        return {"reason": str(error)}


def described(data: bytes) -> dict[str, Any]:
    """A row of COLUMNS without source, path and labels, and what was damaged; or a `reason`."""
    digest = digest_bytes(data)
    try:
        found = probe(data)
    except VideoError as error:
        return {"reason": str(error), "sha256": digest}
    row: dict[str, Any] = {name: getattr(found, name) for name in COLUMNS if hasattr(found, name)}
    row |= {"video_id": digest[:32], "sha256": digest, "bytes": len(data)}
    return row | {"damaged": found.damaged, "fault": found.fault}


def sorted_out(
    results: Mapping[str, dict[str, Any]], accept_damaged: bool, stage: str
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows that go on, and the quarantine with its reasons; results: path -> `described`."""
    rows: list[dict[str, Any]] = []
    aside: list[dict[str, str]] = []
    first: dict[str, str] = {}  # sha256 -> path
    for path, result in results.items():
        reason = result.get("reason")
        damaged, fault = result.pop("damaged", 0), result.pop("fault", None)
        if reason is None and fault and not accept_damaged:
            reason = f"damaged ({damaged} of {result['frames']} frames bad): {fault}"
        elif reason is None and result["sha256"] in first:
            reason = f"same bytes as {first[result['sha256']]}"
        if reason is None:
            first[result["sha256"]] = path
            rows.append({**result, "path": path})
        else:
            item = path if is_text(path) else legible(path)
            aside.append({"item": item, "stage": stage, "reason": reason})
    return rows, aside
