"""One file of a source: read and decoded once, then described, or the reason why it is useless.

Files of a user's source are decoded in a process of its own, which limits of time and memory end;
those of the generator are made where they are described.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.curation.duplicates import turn
from pipelines.curation.labels import Labels
from pipelines.isolation import LimitError, Limits, isolated
from storage.digests import digest_bytes, digest_file
from storage.media import ChangedMediaError, MediaError, open_media
from storage.pictures import Source, TooLargeError, VideoError
from storage.video import probe

COLUMNS = {
    "video_id": "string", "source": "string", "path": "string", "sha256": "string",
    "bytes": "int64", "kind": "string", "container": "string", "codec": "string", "width": "int32",
    "height": "int32", "fps": "float64", "frames": "int64", "seconds": "float64",
    "label": "string", "split": "string",
}  # fmt: skip


@dataclass(frozen=True)
class File:
    """One file of a source, as a listing found it."""

    location: str
    path: str
    mark: str | None
    """That of the listing, of a bucket."""
    limits: Limits


def probed(file: File) -> dict[str, Any]:
    """What `described` tells of a file; one that cannot be read has a `reason` alone.

    Raises:
        ChangedMediaError: the file is no longer the one that was listed, so that no row can be
            made of it: the recipe asks for the bytes that were listed.
    """
    try:
        return isolated(_read, file, file.limits)
    except ChangedMediaError:
        raise
    except (MediaError, LimitError) as error:
        return {"reason": str(error)}


def _read(file: File) -> dict[str, Any]:
    return described(open_media(file.location).source(file.path, file.mark))


def described(source: Source) -> dict[str, Any]:
    """A row of COLUMNS without source, path and labels, and what was damaged; or a `reason`.

    Raises:
        TooLargeError: there is not memory enough to decode it.
    """
    if isinstance(source, bytes):
        digest, size = digest_bytes(source), len(source)
    else:
        digest, size = digest_file(source), source.stat().st_size
    try:
        found = probe(source)
    except TooLargeError:
        raise
    except VideoError as error:
        return {"reason": str(error), "sha256": digest}
    row: dict[str, Any] = {name: getattr(found, name) for name in COLUMNS if hasattr(found, name)}
    row |= {"video_id": digest[:32], "sha256": digest, "bytes": size}
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
