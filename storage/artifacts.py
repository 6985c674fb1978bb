"""Artifacts, filed under their recipes, manifest written last, checked by walking them.

    manifests/<recipe>/<content>.json        the recipe inputs and the files, readable by a person
    objects/<content>/...                    the bytes, immutable
    work/<recipe>/...                        an artifact in progress, resumable; gone when sealed
    results/<xx>/<question>.json             what is known of single files: see `storage.results`
    refs/<deployment>/<asset>[/<partition>]  what a deployment currently shows
    signatures/..., keys/..., log/...        who vouches for what: see `storage.signatures`
    damaged/...                              what did not fit its digest, under its former key

On S3 the process that makes an artifact works in a local cache folder, workers on other machines
add files below `work/` in the bucket, and the manifest is a conditional put.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage import audit
from storage.cache import copies_of
from storage.catalogue import Catalogue
from storage.filing import filed
from storage.handles import Artifact
from storage.keys import Keyring
from storage.manifests import (
    ArtifactError,
    FileEntry,
    Manifest,
    ManifestError,
    content_digest,
    parse_manifest,
)
from storage.payloads import LocalPayload, S3Payload
from storage.places import LocalPlace, PlaceError, open_place, write_file
from storage.results import Results
from storage.sealing import (
    HeldError,
    locked,
    move_home,
    read_remote,
    room_asked,
    send_home,
    settled,
)
from storage.signatures import Doubt, Signatures, Verdict
from storage.verified import Verified
from storage.work import KeptFile, LocalWork, S3Work, Work, work_prefix

__all__ = [
    "Artifact",
    "ArtifactError",
    "ArtifactStore",
    "FileEntry",
    "Manifest",
]


class ArtifactStore(Catalogue):
    """All artifacts, on local disk or S3 (then with a local `cache` folder), and what one
    deployment shows of them.

    Who only asks says `read_only`: then nothing is written to a store on disk, which need not even
    be there. With a `keyring`, what is sealed is signed; without one, nobody's signature is asked
    for. `unsigned` is accept, tell or refuse: what becomes of what nobody trusted signed.

    Raises:
        PlaceError: the place cannot be used, or the deployment's name is not one.
    """

    def __init__(
        self,
        location: str,
        cache: Path | None = None,
        deployment: str = "default",
        *,
        read_only: bool = False,
        variant: str | None = None,
        keyring: Keyring | None = None,
        unsigned: str = "tell",
    ) -> None:
        super().__init__(open_place(location, read_only=read_only), deployment, variant)
        self.signatures = Signatures(self.place, keyring, unsigned) if keyring else None
        self.cache = cache
        self.is_local = isinstance(self.place, LocalPlace)
        if isinstance(self.place, LocalPlace):
            self.local = self.place.root
        elif cache is None:
            raise PlaceError(f"store {location}: an S3 store needs a local cache folder")
        else:
            # The copy of one bucket; the folders are checked to be writable like a store. Where
            # the cache's is not, one that only reads keeps its copies elsewhere (`cache_folder`).
            self.cache = LocalPlace(cache, read_only=read_only).root
            if read_only:
                with suppress(OSError):
                    self.cache.mkdir(parents=True, exist_ok=True)
            self.local = LocalPlace(copies_of(self.place.location, self.cache)).root

    # ---------------------------------------------------------------- payloads

    def handle(self, manifest: Manifest) -> Artifact:
        """A handle on an artifact; nothing is looked at before a file of it is opened."""
        if self.is_local:
            home = self.local / "objects" / manifest.content
            return Artifact(manifest, LocalPayload(home, Verified(self.cache)))
        return Artifact(manifest, S3Payload(self.place.location, manifest.content, self.cache))

    def open(self, manifest: Manifest) -> Artifact:
        """A handle on an artifact; of a store on this machine it is known to be whole.

        Raises:
            ArtifactError: a payload file is missing or of another size.
        """
        artifact = self.handle(manifest)
        if self.is_local:
            self.check(artifact)
        return artifact

    def check(self, artifact: Artifact) -> None:
        """Look whether all files are there in their sizes; no byte is read.

        Raises:
            ArtifactError: a payload file is missing or of another size.
        """
        if problem := artifact.payload.problem(artifact.manifest.files):
            raise ArtifactError(f"{artifact.manifest.name}: {problem}")

    def trouble(self, manifest: Manifest) -> str:
        """What keeps an artifact of a store on this machine from being used: files that are gone,
        or that changed and no longer fit; "" for nothing, and for all that lies in a bucket.
        """
        try:
            return self.handle(manifest).payload.problem(manifest.files) if self.is_local else ""
        except ArtifactError as error:
            return str(error)

    def doubt(self, manifest: Manifest) -> Doubt:
        """What is to be told of who wrote a manifest, and whether it must not be used."""
        return self.signatures.doubt(manifest) if self.signatures else Doubt()

    # ---------------------------------------------------------------- artifacts

    @contextmanager
    def work(self, recipe: str, holder: str = "") -> Iterator[Path]:
        """The folder of an artifact in progress, held by one process at a time.

        `holder` is how others are told of us while we hold it.

        Raises:
            HeldError: another process holds it.
        """
        folder, lock = self.local / "work" / recipe, self._lock(recipe)
        lock.parent.mkdir(parents=True, exist_ok=True)
        name = f"work/{recipe[:12]}"
        with locked(lock, name, holder), room_asked(name):
            folder.mkdir(exist_ok=True)
            yield folder
            if not folder.exists():
                lock.unlink()

    def holder(self, recipe: str) -> str:
        """Who on this machine holds an artifact in progress; "" for nobody."""
        if not (lock := self._lock(recipe)).exists():
            return ""
        try:
            with locked(lock, recipe):
                return ""
        except HeldError as held:
            return held.holder

    def _lock(self, recipe: str) -> Path:
        return self.local / "work" / f"{recipe}.lock"

    def shared_work(self, folder: Path) -> Work:
        """The handle by which tasks add files to the artifact in progress in a folder of `work`."""
        if self.is_local:
            return LocalWork(folder / "payload", folder / "scratch")
        return S3Work(self.place.location, folder.name, self.cache)

    @property
    def results(self) -> Results:
        """What is known of single items, whatever recipe asked."""
        return Results(self.place.location)

    def seal(
        self, work: Path, draft: Mapping[str, Any], remote: Mapping[str, KeptFile] | None = None
    ) -> Manifest:
        """Turn `work/payload` into an artifact; `draft` is a manifest without its digests of files.

        `remote` lists files that workers left in the bucket: path in the payload -> what was kept.
        The manifest is first written to the work folder: after a crash at any line, the next run's
        `resume_sealing` finishes, and no artifact is ever seen without all of its files.

        Two machines may make one artifact in one bucket. Their files lie under keys with digests,
        so equal ones are one and others do not meet. The first to seal clears them; the other one,
        if it still needs any, fails with ArtifactError, and finds the first one's artifact.
        """
        left = dict(remote or {})
        files = {entry.path: entry for entry in settled(work / "payload")}
        files |= {path: FileEntry(path, kept.size, kept.digest) for path, kept in left.items()}
        listed = tuple(files[path] for path in sorted(files))
        manifest = Manifest(files=listed, content=content_digest(listed), **draft)
        if left:
            text = json.dumps({path: asdict(kept) for path, kept in left.items()})
            write_file(work / "remote.json", text.encode())
        else:
            (work / "remote.json").unlink(missing_ok=True)
        write_file(work / "sealing.json", manifest.to_json())
        sealed = self._finish_sealing(work, manifest)
        if self.is_local:
            for entry in sealed.files:  # their digests were taken a moment ago
                Verified(self.cache).remember(self._home(sealed) / entry.path, entry.digest)
        return sealed

    def resume_sealing(self, work: Path) -> Manifest | None:
        """Finish a sealing that a crash interrupted; None when there was none."""
        note = work / "sealing.json"
        if not note.exists():
            return None
        try:
            manifest = parse_manifest(note.read_bytes(), str(note))
        except ManifestError:  # of an older format: what lies here is sealed once more
            note.unlink()
            return None
        gone = not (work / "payload").exists() and not self._home(manifest).exists()
        if gone or self.shared_work(work).lost(read_remote(work / "remote.json").values()):
            note.unlink()  # somebody took the bytes away: make it again
            (work / "remote.json").unlink(missing_ok=True)
            return None
        return self._finish_sealing(work, manifest)

    def discard(self, recipe: str) -> None:
        """Remove what a crash left of work that had been sealed already, on whichever machine.

        Another machine may be making the same artifact in the bucket at this moment, and misses
        from now on what it kept there. It seals nothing that is not whole: see `seal`.
        """
        if (self.local / "work" / recipe).exists():
            # Whoever holds it is about to remove it himself.
            with suppress(ArtifactError), self.work(recipe) as work:
                self._clear(work)
        else:
            self._clear_bucket(recipe)

    def _home(self, manifest: Manifest) -> Path:
        return self.local / "objects" / manifest.content

    def _finish_sealing(self, work: Path, manifest: Manifest) -> Manifest:
        payload, home = work / "payload", self._home(manifest)
        left = read_remote(work / "remote.json")
        here = tuple(entry for entry in manifest.files if entry.path not in left)
        if payload.exists():
            for path in left:  # what the maker fetched of it lies in the bucket already
                (payload / path).unlink(missing_ok=True)
            move_home(payload, home, here)
        if not self.is_local:
            send_home(self.place, work.name, manifest, home, left)
        manifest = filed(self, manifest)
        self._clear(work)
        return manifest

    def _clear(self, work: Path) -> None:
        """Remove work, what workers left of it in the bucket first."""
        self._clear_bucket(work.name)
        shutil.rmtree(work)

    def _clear_bucket(self, recipe: str) -> None:
        if not self.is_local:
            for key in list(self.place.keys(work_prefix(recipe))):
                self.place.remove(key)

    # ---------------------------------------------------------------- audit

    def ancestors(
        self, manifest: Manifest, unread: list[ArtifactError] | None = None
    ) -> list[Manifest]:
        """Everything that an artifact was made of, nearest first, each once; `unread` as in
        `manifests`.
        """
        return audit.ancestors(self, manifest, unread)

    def holders(self, digest: str, unread: list[ArtifactError] | None = None) -> list[Manifest]:
        """Manifests whose recipe, content or a file starts with a digest; `unread` as above."""
        return audit.holders(self, digest, unread)

    def verify(
        self, tally: Counter[Verdict] | None = None
    ) -> Iterator[tuple[Manifest | None, str]]:
        """Read every byte again: yields (manifest, problem), `""` for none; `tally` counts who
        vouches for each manifest.
        """
        return audit.verify(self, tally)
