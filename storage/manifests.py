"""Manifests: one recipe and its artifact, as a JSON file that a person can read and a digest seals.

`recipe` is the digest of the recipe inputs (stage, version, partition, config, contents of the
inputs); `content` is the digest of the payload's (path, size, digest) list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from storage.confined import check_path
from storage.digests import digest_file, digest_json
from storage.errors import UserError

_DIGEST = re.compile("[0-9a-f]{64}")


DAMAGED = "damaged"
"""The folder of a store where what did not fit its digest is set aside, under its former key."""

FORMAT = 2
"""Of manifests: raised when their fields change meaning."""


class ArtifactError(UserError, RuntimeError):
    """An artifact or manifest that cannot be trusted: which, why and what to do."""


class ManifestError(ArtifactError):
    """A manifest that is lost, corrupt or of an older format: making its artifact anew mends it."""


class NewerManifestError(ArtifactError):
    """A manifest of a newer format: it is left to the version of this code that wrote it."""


@dataclass(frozen=True)
class FileEntry:
    """One payload file: relative posix path, size in bytes, SHA-256 (hex).

    Raises ValueError (PathError) for a path that could lead out of the payload.
    """

    path: str
    size: int
    digest: str

    def __post_init__(self) -> None:
        check_path(self.path)
        if type(self.size) is not int or self.size < 0 or not _DIGEST.fullmatch(self.digest):
            raise ValueError(f"{self.path}: size {self.size!r} or digest {self.digest!r} is none")


@dataclass(frozen=True)
class Manifest:
    """One recipe and its artifact.

    `recipe_inputs` is hashed to `recipe`, `files` to `content`. `parents` maps each input's name to
    the (recipe, content) that was used. `record` (environment, timings, metrics) is not hashed.
    """

    asset: str
    partition: str | None
    recipe_inputs: Mapping[str, Any]
    recipe: str
    content: str
    files: tuple[FileEntry, ...]
    parents: Mapping[str, tuple[str, str]]
    record: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def key(self) -> str:
        """Where the manifest lives in the store."""
        return manifest_key(self.recipe, self.content)

    @property
    def name(self) -> str:
        """`asset` or `asset/partition`."""
        return f"{self.asset}/{self.partition}" if self.partition else self.asset

    @property
    def size(self) -> int:
        """Payload bytes."""
        return sum(entry.size for entry in self.files)

    @cached_property
    def by_path(self) -> dict[str, FileEntry]:
        """Path -> entry of every payload file."""
        return {entry.path: entry for entry in self.files}

    def file(self, path: str) -> FileEntry:
        """The entry of one payload file; ArtifactError when there is none of that path."""
        if path not in self.by_path:
            raise ArtifactError(f"{self.name} ({self.content[:12]}) has no file {path!a}")
        return self.by_path[path]

    def for_tasks(self) -> Manifest:
        """What opens the files, and nothing else: it can be neither written nor compared."""
        media = {name: self.record[name] for name in ("media",) if name in self.record}
        return replace(self, recipe_inputs={}, parents={}, record=media)

    def to_json(self) -> bytes:
        """The manifest's bytes; `seal` is a digest of all the rest, so a changed byte shows."""
        document = asdict(self)
        document["seal"] = digest_json(document)
        return json.dumps(document, indent=1, sort_keys=True).encode()


def manifest_key(recipe: str, content: str) -> str:
    """The store key of a manifest."""
    return f"manifests/{recipe}/{content}.json"


def object_key(content: str, path: str) -> str:
    """The store key of one payload file."""
    return f"objects/{content}/{path}"


def list_files(folder: Path) -> tuple[FileEntry, ...]:
    """Every file below a payload folder, sorted by path. Links are refused: bytes, not promises."""
    entries = []
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise ArtifactError(
                f"payload {path.relative_to(folder)}: a link cannot be sealed; copy the file"
            )
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            entries.append(FileEntry(name, path.stat().st_size, digest_file(path)))
    return tuple(sorted(entries, key=lambda entry: entry.path))


def content_digest(files: tuple[FileEntry, ...]) -> str:
    """Digest of a payload: of its (path, size, digest) list."""
    return digest_json([[entry.path, entry.size, entry.digest] for entry in files])


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest and check that its digests fit what it says.

    Raises:
        ManifestError: unreadable, fields missing, of an older format, or a digest that does not
            fit.
        NewerManifestError: of a newer format.
    """
    advice = "; restore the file, or run its asset, which makes it anew"
    try:
        document = json.loads(data)
        _check_format(document.get("format", 1), where)
        seal = document.pop("seal")
        fits = seal == digest_json(document)
        files = tuple(FileEntry(**entry) for entry in document.pop("files"))
        parents = {name: (p[0], p[1]) for name, p in document.pop("parents").items()}
        manifest = Manifest(files=files, parents=parents, **document)
        for name in (manifest.asset, manifest.partition or "-"):
            check_path(name)
        if odd := [d for pair in parents.values() for d in pair if not _DIGEST.fullmatch(d)]:
            raise ValueError(f"{odd[0]!r} is no digest of a parent")
        foreign = _odd_parents(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ManifestError(f"manifest {where} is corrupt ({reason}){advice}") from None
    if not fits:
        raise ManifestError(f"manifest {where} is corrupt (its seal does not fit){advice}")
    recipe, content = digest_json(manifest.recipe_inputs), content_digest(files)
    if (recipe, content) != (manifest.recipe, manifest.content):
        raise ManifestError(f"manifest {where} is corrupt (recipe or content does not fit){advice}")
    if foreign:
        told = f"its parents are not its recipe's inputs: {', '.join(foreign[:3])}"
        raise ManifestError(f"manifest {where} is corrupt ({told}){advice}")
    return manifest


def _odd_parents(manifest: Manifest) -> list[str]:
    """Inputs of the recipe that are no parent with this content, and the other way round.

    The recipe's digest covers the inputs and not the parents, so whoever takes one of them away
    and seals the manifest again would cut an artifact off from what it was made of.
    """
    inputs = manifest.recipe_inputs.get("inputs", {})
    parents = {name: content for name, (_, content) in manifest.parents.items()}
    return sorted(name for name in {*inputs, *parents} if inputs.get(name) != parents.get(name))


def _check_format(found: int, where: str) -> None:
    if found == FORMAT:
        return
    told = f"manifest {where} is of format {found}; this version reads {FORMAT}: "
    if found > FORMAT:
        raise NewerManifestError(f"{told}use another store, or the version that wrote it")
    raise ManifestError(f"{told}run its asset, which makes it anew")
