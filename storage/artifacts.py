"""Artifacts: answers filed under their questions, sealed manifest last, checked by walking manifests.

    manifests/<recipe>/<content>.json   the question and the answer, readable by a person
    objects/<content>/...               the bytes, immutable
    work/<recipe>/...                   an answer in progress, resumable; gone when sealed
    refs/<asset>[/<partition>]          what the deployment currently shows

`recipe` is the digest of the question (stage, version, partition, config, contents of the inputs);
`content` is the digest of the payload's (path, size, digest) list. On S3 the work and a copy of the
objects stay in a local cache folder, and the manifest is a conditional put.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from storage.digests import digest_file, digest_json
from storage.places import LocalPlace, PlaceError, open_place, sync_file, sync_folder, write_file


class ArtifactError(RuntimeError):
    """An artifact or manifest that cannot be trusted; the message says which, why and what to do."""


@dataclass(frozen=True)
class FileEntry:
    """One payload file: relative posix path, size in bytes, SHA-256 (hex)."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """One question and its answer.

    `question` is hashed to `recipe`, `files` to `content`. `parents` maps each input's name to the
    [recipe, content] that was used. `record` (environment, timings, metrics) is not hashed.
    """

    asset: str
    partition: str | None
    question: Mapping[str, Any]
    recipe: str
    content: str
    files: tuple[FileEntry, ...]
    parents: Mapping[str, tuple[str, str]]
    record: Mapping[str, Any] = field(default_factory=dict)

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

    def to_json(self) -> bytes:
        """The manifest's bytes; `seal` is a digest of all the rest, so a changed byte shows."""
        document = asdict(self)
        document["seal"] = digest_json(document)
        return json.dumps(document, indent=1, sort_keys=True).encode()


@dataclass(frozen=True)
class Artifact:
    """A manifest and the local, read-only folder that holds its payload."""

    manifest: Manifest
    path: Path

    @property
    def content(self) -> str:
        """Digest of the payload."""
        return self.manifest.content

    @property
    def record(self) -> Mapping[str, Any]:
        """How the answer was made: environment, timings, metrics."""
        return self.manifest.record

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The numbers that the stage returned."""
        return self.manifest.record.get("metrics", {})


def manifest_key(recipe: str, content: str) -> str:
    """The store key of a manifest."""
    return f"manifests/{recipe}/{content}.json"


def list_files(folder: Path) -> tuple[FileEntry, ...]:
    """Every file below a payload folder, sorted by path. Links are refused: bytes, not promises."""
    entries = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ArtifactError(f"payload {path.relative_to(folder)}: a link cannot be sealed")
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
        ArtifactError: unreadable, fields missing, or a digest that does not fit.
    """
    advice = "; restore the file, or remove it and rematerialise the asset"
    try:
        document = json.loads(data)
        seal = document.pop("seal")
        files = tuple(FileEntry(**entry) for entry in document.pop("files"))
        parents = {name: (p[0], p[1]) for name, p in document.pop("parents").items()}
        manifest = Manifest(files=files, parents=parents, **document)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"manifest {where} is corrupt ({reason}){advice}") from None
    if seal != digest_json(asdict(manifest)):
        raise ArtifactError(f"manifest {where} is corrupt (its seal does not fit){advice}")
    if digest_json(manifest.question) != manifest.recipe or content_digest(files) != manifest.content:
        raise ArtifactError(f"manifest {where} is corrupt (recipe or content does not fit){advice}")
    return manifest


class ArtifactStore:
    """All artifacts of a deployment, on local disk or S3."""

    def __init__(self, location: str, cache: Path | None = None) -> None:
        self.place = open_place(location)
        self.is_local = isinstance(self.place, LocalPlace)
        if isinstance(self.place, LocalPlace):
            self.local = self.place.root
        elif cache is None:
            raise PlaceError(f"store {location}: an S3 store needs a local cache folder")
        else:
            self.local = cache.resolve() / digest_json(location)[:16]
            self.local.mkdir(parents=True, exist_ok=True)

    # ---------------------------------------------------------------- questions

    def manifests(self, prefix: str = "") -> Iterator[Manifest]:
        """Every manifest whose recipe starts with a prefix, in order of recipe and content."""
        for key in self.place.keys(f"manifests/{prefix}"):
            if key.endswith(".json"):
                yield parse_manifest(self.place.read(key), key)

    def find(self, recipe: str) -> Manifest | None:
        """The answer filed under a recipe; of several (a stage that is not deterministic) the first."""
        return next(iter(self.manifests(f"{recipe}/")), None)

    def manifest(self, recipe: str, content: str) -> Manifest:
        """One manifest by its two digests; ArtifactError when it is missing or corrupt."""
        key = manifest_key(recipe, content)
        try:
            return parse_manifest(self.place.read(key), key)
        except KeyError:
            raise ArtifactError(f"manifest {key} is missing; rematerialise the asset") from None

    def ref(self, asset: str, partition: str | None = None) -> Manifest | None:
        """What the deployment currently shows for an asset (partition), or None."""
        try:
            pointer = json.loads(self.place.read(_ref_key(asset, partition)))
            recipe, content = pointer["recipe"], pointer["content"]
        except KeyError:
            return None
        except ValueError as error:
            raise ArtifactError(
                f"{_ref_key(asset, partition)} is corrupt ({error}); remove it and rerun {asset}"
            ) from None
        return self.manifest(recipe, content)

    def set_ref(self, asset: str, partition: str | None, manifest: Manifest) -> None:
        """Show this answer for an asset (partition)."""
        pointer = {"recipe": manifest.recipe, "content": manifest.content}
        self.place.write(_ref_key(asset, partition), json.dumps(pointer, indent=1).encode())

    def refs(self) -> Iterator[tuple[str, str | None]]:
        """Every (asset, partition) that has a current answer."""
        for key in self.place.keys("refs/"):
            parts = key.split("/")
            yield parts[1], parts[2] if len(parts) > 2 else None

    def open(self, manifest: Manifest) -> Artifact:
        """The artifact with its payload on this machine, fetched from S3 (and checked) if need be.

        Raises:
            ArtifactError: a payload file is missing or of another size.
        """
        folder = self.local / "objects" / manifest.content
        for entry in manifest.files:
            path = folder / entry.path
            if not path.exists() and not self.is_local:
                self._fetch(manifest, entry, path)
            if not path.is_file() or path.stat().st_size != entry.size:
                raise ArtifactError(
                    f"{manifest.name}: objects/{manifest.content[:12]}/{entry.path} is missing or "
                    f"not {entry.size} bytes; run `vjepa2 verify`, then rematerialise it"
                )
        return Artifact(manifest, folder)

    def _fetch(self, manifest: Manifest, entry: FileEntry, path: Path) -> None:
        key = f"objects/{manifest.content}/{entry.path}"
        try:
            self.place.download(key, path)
        except KeyError:
            raise ArtifactError(f"{manifest.name}: {key} is missing from the store") from None
        if digest_file(path) != entry.digest:
            path.unlink()
            raise ArtifactError(f"{manifest.name}: {key} does not fit its digest; rematerialise it")

    # ---------------------------------------------------------------- answers

    @contextmanager
    def work(self, recipe: str) -> Iterator[Path]:
        """The folder of an answer in progress, held by one process at a time."""
        folder = self.local / "work" / recipe
        folder.mkdir(parents=True, exist_ok=True)
        with open(self.local / "work" / f"{recipe}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArtifactError(
                    f"work/{recipe[:12]} is in the hands of another process; wait for it or stop it"
                ) from None
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
        if not folder.exists():
            (self.local / "work" / f"{recipe}.lock").unlink(missing_ok=True)

    def seal(self, work: Path, draft: Mapping[str, Any]) -> Manifest:
        """Turn `work/payload` into an artifact; `draft` is a manifest without its digests of files.

        What is being sealed is written down first, so that a crash at any line is finished by
        `resume_sealing` on the next run instead of leaving half an answer.
        """
        files = list_files(work / "payload")
        for entry in files:
            sync_file(work / "payload" / entry.path)
        manifest = Manifest(files=files, content=content_digest(files), **draft)
        write_file(work / "sealing.json", manifest.to_json())
        return self._finish_sealing(work, manifest)

    def resume_sealing(self, work: Path) -> Manifest | None:
        """Finish a sealing that a crash interrupted; None when there was none."""
        note = work / "sealing.json"
        if not note.exists():
            return None
        return self._finish_sealing(work, parse_manifest(note.read_bytes(), str(note)))

    def _finish_sealing(self, work: Path, manifest: Manifest) -> Manifest:
        payload, home = work / "payload", self.local / "objects" / manifest.content
        if payload.exists() and not home.exists():
            home.parent.mkdir(parents=True, exist_ok=True)
            os.replace(payload, home)
            sync_folder(home.parent)
        if not self.is_local:
            for entry in manifest.files:
                self.place.upload(f"objects/{manifest.content}/{entry.path}", home / entry.path)
        self.place.create(manifest.key, manifest.to_json())
        shutil.rmtree(work)
        return manifest

    # ---------------------------------------------------------------- audit

    def ancestors(self, manifest: Manifest) -> list[Manifest]:
        """Everything that an answer was made of, nearest first, each once."""
        found: dict[str, Manifest] = {}
        queue = list(manifest.parents.values())
        while queue:
            recipe, content = queue.pop(0)
            if manifest_key(recipe, content) not in found:
                parent = self.manifest(recipe, content)
                found[parent.key] = parent
                queue.extend(parent.parents.values())
        return list(found.values())

    def holders(self, digest: str) -> list[Manifest]:
        """Manifests whose recipe, content or one of whose files starts with a digest."""
        return [
            manifest
            for manifest in self.manifests()
            if manifest.recipe.startswith(digest)
            or manifest.content.startswith(digest)
            or any(entry.digest.startswith(digest) for entry in manifest.files)
        ]

    def verify(self) -> Iterator[tuple[Manifest | None, str]]:
        """Read every byte again: yields (manifest, problem), an empty problem meaning all is well."""
        for key in self.place.keys("manifests/"):
            try:
                manifest = parse_manifest(self.place.read(key), key)
                if manifest.key != key:
                    raise ArtifactError(f"manifest {key} lies under another recipe than its own")
            except ArtifactError as error:
                yield None, str(error)
                continue
            problems = [self._problem(manifest, entry) for entry in manifest.files]
            yield manifest, "; ".join(problem for problem in problems if problem)

    def _problem(self, manifest: Manifest, entry: FileEntry) -> str:
        key = f"objects/{manifest.content}/{entry.path}"
        if self.is_local:
            path = self.local / key
        else:
            path = self.local / "verify.part"
            path.unlink(missing_ok=True)
            if self.place.exists(key):
                self.place.download(key, path)
        if not path.is_file():
            return f"{key} is missing"
        if path.stat().st_size != entry.size:
            return f"{key} has {path.stat().st_size} bytes, sealed were {entry.size}"
        return "" if digest_file(path) == entry.digest else f"{key} does not fit its digest"


def _ref_key(asset: str, partition: str | None) -> str:
    return f"refs/{asset}/{partition}" if partition else f"refs/{asset}"
