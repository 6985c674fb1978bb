"""One file of a source: read and decoded once, then described, or the reason why it is useless.

Files of a user's source are decoded in a process of its own, which limits of time and memory end;
those of the generator are made where they are described.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.curation.cutting import SIDE, ContentLook, looking
from pipelines.curation.duplicates import turn
from pipelines.curation.labels import Labels
from pipelines.isolation import LimitError, Limits, isolated
from storage.confined import legible
from storage.digests import digest_bytes, digest_file, is_sha256
from storage.media import ChangedMediaError, MediaError, open_files
from storage.pictures import Source, TooLargeError, VideoError
from storage.results import Results
from storage.video import Viewer, probe

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
    mark: str | None = None
    """That of the listing, of a bucket or of tars."""
    content: str | None = None
    """What names its bytes: their SHA-256, or the mark; None when it could not be read."""
    limits: Limits = field(default_factory=Limits)
    version: int = 0
    """Of the stage that asks."""
    results: Results = field(default_factory=Results)
    cut: bool = False
    """Whether shots will be asked of it: then what changes in it is seen while it is probed."""

    @property
    def question(self) -> dict[str, Any]:
        """What its description depends on; not on its path, nor on what else the source has."""
        return {"item": "probe", "version": self.version, "content": self.content}


def probed(file: File) -> dict[str, Any]:
    """What `described` tells of a file, from the store where these bytes were probed before.

    A file that cannot be read, or not within its limits, has a `reason` alone; it is asked again.

    Raises:
        ChangedMediaError: the file is no longer the one that was listed, so that no row can be
            made of it: the recipe asks for the bytes that were listed.
    """
    if file.content and (known := file.results.recall(file.question)):
        return known
    try:
        found = isolated(_read, file, file.limits)
    except ChangedMediaError:
        raise
    except (MediaError, LimitError) as error:
        return {"reason": str(error)}
    if changes := found.pop("changes", None):
        file.results.keep(looking(found["sha256"], "content", SIDE), changes)
    if file.content:
        file.results.keep(file.question, found)
    return found


def _read(file: File) -> dict[str, Any]:
    viewer = ContentLook() if file.cut and file.results.store else None
    found = described(open_files(file.location).source(file.path, file.mark), viewer)
    if is_sha256(file.content) and found["sha256"] != file.content:
        raise ChangedMediaError(
            f"{file.location}: {legible(file.path)} changed since it was listed; run again"
        )
    if viewer and found.get("kind") == "video" and not found["fault"]:
        found["changes"] = viewer.told().packed()
    return found


def described(source: Source, viewer: Viewer | None = None) -> dict[str, Any]:
    """A row of COLUMNS without source, path and labels, and what was damaged; or a `reason`.

    A viewer sees every frame.

    Raises:
        TooLargeError: there is not memory enough to decode it.
    """
    if isinstance(source, bytes):
        digest, size = digest_bytes(source), len(source)
    else:
        digest, size = digest_file(source), source.stat().st_size
    try:
        found = probe(source, viewer)
    except TooLargeError:
        raise
    except VideoError as error:
        return {"reason": str(error), "sha256": digest}
    row: dict[str, Any] = {name: getattr(found, name) for name in COLUMNS if hasattr(found, name)}
    row |= {"video_id": digest[:32], "sha256": digest, "bytes": size}
    return row | {"damaged": found.damaged, "fault": found.fault}


def sorted_out(
    results: Mapping[str, dict[str, Any]],
    source: str,
    labels: Labels,
    accept_damaged: bool,
    taken: Mapping[str, str],
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of COLUMNS that go on, and path -> reason of the files that do not.

    Of equal files one goes on, by the rule of `duplicates.turn`. results: path -> `described`;
    taken: SHA-256 -> why these bytes were taken down.
    """
    rows: dict[str, dict[str, Any]] = {}
    reasons: dict[str, str] = {}
    for path, found in results.items():
        damaged, fault = found.get("damaged"), found.get("fault")
        if why := taken.get(found.get("sha256", "")):
            reasons[path] = f"taken down: {why}"
        elif reason := found.get("reason") or labels.twice.get(path):
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


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Metrics of some rows of COLUMNS."""
    return {
        "videos": sum(row["kind"] == "video" for row in rows),
        "images": sum(row["kind"] == "image" for row in rows),
        "bytes": sum(row["bytes"] for row in rows),
        "frames": sum(row["frames"] for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 3),
    }
