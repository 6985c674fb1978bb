"""Artifacts, filed under their recipes, manifest written last, checked by walking them.

    manifests/<recipe>/<content>.json   the recipe inputs and the files, readable by a person
    objects/<content>/...               the bytes, immutable
    work/<recipe>/...                   an artifact in progress, resumable; gone when sealed
    refs/<asset>[/<partition>]          what the deployment currently shows

On S3 the work and a copy of the objects stay in a local cache folder, and the manifest is a
conditional put.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.digests import digest_file, digest_json
from storage.manifests import (
    ArtifactError,
    FileEntry,
    Manifest,
    content_digest,
    manifest_key,
    object_file,
    object_key,
    parse_manifest,
)
from storage.places import LocalPlace, PlaceError, open_place, write_file
from storage.sealing import locked, move_home, settled

__all__ = [
    "Artifact",
    "ArtifactError",
    "ArtifactStore",
    "FileEntry",
    "Manifest",
]


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


class ArtifactStore:
    """All artifacts of a deployment, on local disk or S3 (then with a local `cache` folder)."""

    def __init__(self, location: str, cache: Path | None = None) -> None:
        self.place = open_place(location)
        self.is_local = isinstance(self.place, LocalPlace)
        if isinstance(self.place, LocalPlace):
            self.local = self.place.root
        elif cache is None:
            raise PlaceError(f"store {location}: an S3 store needs a local cache folder")
        else:
            # The copy of one bucket; the folder is checked to be writable like a store.
            self.local = LocalPlace(cache / digest_json(self.place.location)[:16]).root

    # ---------------------------------------------------------------- recipes

    def manifests(self, prefix: str = "") -> Iterator[Manifest]:
        """Every manifest whose recipe starts with a prefix, in order of recipe and content."""
        for key in self.place.keys(f"manifests/{prefix}"):
            if key.endswith(".json"):
                yield parse_manifest(self.place.read(key), key)

    def find(self, recipe: str) -> Manifest | None:
        """The answer filed under a recipe; the first of several (a stage not deterministic)."""
        return next(iter(self.manifests(f"{recipe}/")), None)

    def manifest(self, recipe: str, content: str) -> Manifest:
        """One manifest by its two digests; ArtifactError when it is missing or corrupt."""
        key = manifest_key(recipe, content)
        try:
            manifest = parse_manifest(self.place.read(key), key)
        except KeyError:
            raise ArtifactError(f"manifest {key} is missing; rematerialize the asset") from None
        if manifest.key != key:
            raise ArtifactError(f"manifest {key} is that of {manifest.key}; remove it")
        return manifest

    def ref(self, asset: str, partition: str | None = None) -> Manifest | None:
        """What the deployment currently shows for an asset (partition), or None."""
        key = _ref_key(asset, partition)
        try:
            data = self.place.read(key)
        except KeyError:
            return None
        try:
            pointer = json.loads(data)
            recipe, content = str(pointer["recipe"]), str(pointer["content"])
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ArtifactError(f"{key} is corrupt ({reason}); remove it, rerun {asset}") from None
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
        for entry in manifest.files:
            self._local_file(manifest, entry)
        return Artifact(manifest, self.local / "objects" / manifest.content)

    def open_file(self, manifest: Manifest, path: str) -> Path:
        """One payload file on this machine, so that a table is read without fetching the shards."""
        return self._local_file(manifest, manifest.file(path))

    def _local_file(self, manifest: Manifest, entry: FileEntry) -> Path:
        key = object_key(manifest.content, entry.path)
        path = object_file(self.local, manifest, entry.path)
        if not self.is_local and (not path.is_file() or path.stat().st_size != entry.size):
            try:
                self.place.download(key, path)
            except KeyError:
                raise ArtifactError(f"{manifest.name}: {key} is missing; rematerialize") from None
            if digest_file(path) != entry.digest:
                path.unlink()
                raise ArtifactError(f"{manifest.name}: {key} does not fit its digest; remove it")
        if not path.is_file() or path.stat().st_size != entry.size:
            raise ArtifactError(
                f"{manifest.name}: {key} is missing or not {entry.size} bytes; rematerialize it"
            )
        return path

    # ---------------------------------------------------------------- answers

    @contextmanager
    def work(self, recipe: str) -> Iterator[Path]:
        """The folder of an answer in progress, held by one process at a time.

        Raises:
            ArtifactError: another process holds it.
        """
        folder = self.local / "work" / recipe
        lock = folder.with_name(f"{recipe}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock, f"work/{recipe[:12]}"):
            folder.mkdir(exist_ok=True)
            yield folder
            if not folder.exists():
                lock.unlink()

    def seal(self, work: Path, draft: Mapping[str, Any]) -> Manifest:
        """Turn `work/payload` into an artifact; `draft` is a manifest without its digests of files.

        The manifest is first written to the work folder: after a crash at any line, the next run's
        `resume_sealing` finishes, and no artifact is ever seen without all of its files.
        """
        files = settled(work / "payload")
        manifest = Manifest(files=files, content=content_digest(files), **draft)
        write_file(work / "sealing.json", manifest.to_json())
        return self._finish_sealing(work, manifest)

    def resume_sealing(self, work: Path) -> Manifest | None:
        """Finish a sealing that a crash interrupted; None when there was none."""
        note = work / "sealing.json"
        if not note.exists():
            return None
        manifest = parse_manifest(note.read_bytes(), str(note))
        if not (work / "payload").exists() and not self._home(manifest).exists():
            note.unlink()  # somebody took the bytes away: answer anew
            return None
        return self._finish_sealing(work, manifest)

    def discard(self, recipe: str) -> None:
        """Remove what a crash left of work that had been sealed already."""
        if (self.local / "work" / recipe).exists():
            # Whoever holds it is about to remove it himself.
            with suppress(ArtifactError), self.work(recipe) as work:
                shutil.rmtree(work)

    def _home(self, manifest: Manifest) -> Path:
        return self.local / "objects" / manifest.content

    def _finish_sealing(self, work: Path, manifest: Manifest) -> Manifest:
        payload, home = work / "payload", self._home(manifest)
        if payload.exists():
            move_home(payload, home, manifest.files)
        if not self.is_local:
            for entry in manifest.files:
                self.place.upload(object_key(manifest.content, entry.path), home / entry.path)
        if not self.place.create(manifest.key, manifest.to_json()):
            # Another process made the same artifact of this recipe: its record stands.
            manifest = self.manifest(manifest.recipe, manifest.content)
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
        """Read every byte again: yields (manifest, problem), `""` for no problem."""
        keys = {key for key in self.place.keys("manifests/") if key.endswith(".json")}
        for key in sorted(keys):
            try:
                manifest = parse_manifest(self.place.read(key), key)
                if manifest.key != key:
                    raise ArtifactError(f"manifest {key} lies under another recipe than its own")
            except ArtifactError as error:
                yield None, str(error)
                continue
            yield manifest, "; ".join(self._problems(manifest, keys))
        for asset, partition in self.refs():
            try:
                self.ref(asset, partition)
            except ArtifactError as error:
                yield None, f"{_ref_key(asset, partition)}: {error}"

    def _problems(self, manifest: Manifest, keys: set[str]) -> Iterator[str]:
        with tempfile.TemporaryDirectory(dir=self.local) as folder:
            for entry in manifest.files:
                if problem := self._problem(manifest, entry, Path(folder) / "copy"):
                    yield problem
        sealed = {object_key(manifest.content, entry.path) for entry in manifest.files}
        for key in self.place.keys(object_key(manifest.content, "")):
            if key not in sealed:
                yield f"{key} was not sealed; somebody added it"
        for name, parent in manifest.parents.items():
            if manifest_key(*parent) not in keys:
                yield f"the manifest of {name}, which it was made from, is missing"

    def _problem(self, manifest: Manifest, entry: FileEntry, copy: Path) -> str:
        key = object_key(manifest.content, entry.path)
        try:
            path = object_file(self.local, manifest, entry.path) if self.is_local else copy
        except ArtifactError as error:
            return str(error)
        if not self.is_local:
            copy.unlink(missing_ok=True)
            if self.place.exists(key):
                self.place.download(key, copy)
        if not path.is_file():
            return f"{key} is missing"
        if path.stat().st_size != entry.size:
            return f"{key} has {path.stat().st_size} bytes, sealed were {entry.size}"
        return "" if digest_file(path) == entry.digest else f"{key} does not fit its digest"


def _ref_key(asset: str, partition: str | None) -> str:
    return f"refs/{asset}/{partition}" if partition else f"refs/{asset}"
