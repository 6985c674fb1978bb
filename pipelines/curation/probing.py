"""One file of a source: read and decoded once, then described, or the reason why it is useless."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.curation.duplicates import turn
from pipelines.curation.labels import Labels
from storage.digests import digest_bytes
from storage.media import ChangedMediaError, MediaError, open_media
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
    results: Mapping[str, dict[str, Any]], source: str, labels: Labels, accept_damaged: bool
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of COLUMNS that go on, and path -> reason of the files that do not.

    Of equal files one goes on, by the rule of `duplicates.turn`. results: path -> `described`.
    """
    rows: dict[str, dict[str, Any]] = {}
    reasons: dict[str, str] = {}
    for path, found in results.items():
        damaged, fault = found.get("damaged"), found.get("fault")
        if reason := found.get("reason") or labels.twice.get(path):
            reasons[path] = reason
        elif fault and not accept_damaged:
            reasons[path] = f"damaged ({damaged} of {found['frames']} frames bad): {fault}"
        else:
            label, split = labels.known.get(path, (None, None))
            rows[path] = {name: found[name] for name in COLUMNS if name in found} | {
                "source": source, "path": path, "label": label, "split": split,
            }  # fmt: skip
    kept: dict[str, str] = {}  # sha256 -> path
    for row in sorted(rows.values(), key=lambda r: turn(source, r["path"], r["label"], r["split"])):
        if (first := kept.setdefault(row["sha256"], row["path"])) != row["path"]:
            reasons[row["path"]] = f"same bytes as {first}"
    return [row for path, row in rows.items() if path not in reasons], reasons
