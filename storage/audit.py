"""Audits of a store: everything that an artifact was made of, and every byte read again."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.digests import digest_bytes, digest_file
from storage.manifests import (
    ArtifactError,
    FileEntry,
    Manifest,
    ManifestError,
    manifest_key,
    object_key,
    parse_manifest,
)
from storage.merkle_log import Entry, Head, head
from storage.merkle_log import parse as parse_entry
from storage.payloads import LocalPayload
from storage.signatures import Signatures, Verdict
from storage.verified import Verified

if TYPE_CHECKING:
    from storage.artifacts import ArtifactStore


def ancestors(
    store: ArtifactStore, manifest: Manifest, unread: list[ArtifactError] | None = None
) -> list[Manifest]:
    """Everything that an artifact was made of, nearest first, each once.

    Which manifests cannot be read is noted in `unread`; without it, the first raises ArtifactError.
    """
    found: dict[str, Manifest | None] = {}
    queue = list(manifest.parents.items())
    while queue:
        name, pair = queue.pop(0)
        if (key := manifest_key(*pair)) not in found:
            found[key] = _parent(store, name, pair, unread)
            queue.extend(parent.parents.items() if (parent := found[key]) else ())
    return [parent for parent in found.values() if parent]


def _parent(
    store: ArtifactStore, name: str, pair: tuple[str, str], unread: list[ArtifactError] | None
) -> Manifest | None:
    try:
        return store.manifest(*pair)
    except ArtifactError as error:
        if unread is None:
            raise
        unread.append(ManifestError(f"{name}: {error}"))
        return None


def holders(
    store: ArtifactStore, digest: str, unread: list[ArtifactError] | None = None
) -> list[Manifest]:
    """Manifests whose recipe, content or one of whose files starts with a digest."""
    return [
        manifest
        for manifest in store.manifests(unread=unread)
        if manifest.recipe.startswith(digest)
        or manifest.content.startswith(digest)
        or any(entry.digest.startswith(digest) for entry in manifest.files)
    ]


def verify(
    store: ArtifactStore, tally: Counter[Verdict] | None = None
) -> Iterator[tuple[Manifest | None, str]]:
    """Read every byte again: yields (manifest, problem), `""` for no problem; who vouches for each
    manifest is counted in `tally`.
    """
    keys = {key for key in store.place.keys("manifests/") if key.endswith(".json")}
    for key in sorted(keys):
        try:
            manifest = parse_manifest(store.place.read(key), key)
            if manifest.key != key:
                raise ArtifactError(f"manifest {key} lies under another recipe than its own")
        except ArtifactError as error:
            yield None, str(error)
            continue
        told = list(_problems(store, manifest, keys))
        if store.signatures:
            verdict = store.signatures.judge(manifest)
            if (doubt := store.signatures.doubt_of(verdict)).refused:
                told.append(doubt.told)
            if tally is not None:
                tally[verdict] += 1
        yield manifest, "; ".join(told)
    for asset, partition in store.refs():
        try:
            store.ref(asset, partition)
        except ArtifactError as error:
            yield None, f"{store.ref_key(asset, partition)}: {error}"


@dataclass(frozen=True)
class LogReport:
    """What a log says of its store: how long it is, what does not fit, and what is gone."""

    head: Head
    problems: tuple[str, ...]
    gone: tuple[str, ...]
    """Keys of manifests that were logged and are no longer there."""
    takedowns: tuple[Mapping[str, Any], ...]
    """What the deployment itself signed of takedowns: {sha256, deployment, reason, …}."""


def verify_log(signatures: Signatures) -> LogReport:
    """Compare the log with what lies in the store; of entries by keys that are not trusted only
    their form counts, for everybody who may write to a store can add some.

    Raises:
        ArtifactError: an entry was removed.
    """
    entries = signatures.merkle_log.entries()
    problems, logged, takedowns = [], defaultdict[str, list[Entry]](list), []
    for number, data in enumerate(entries):
        try:
            entry = parse_entry(data, number)
        except ArtifactError as error:
            problems.append(str(error))
            continue
        if not signatures.trusts(entry.keyid):
            continue
        if entry.kind == "manifest":
            logged[entry.name].append(entry)
        elif record := signatures.takedown(entry):
            takedowns.append({**record.statement["predicate"], "sha256": entry.digest})
        else:
            problems.append(f"log entry {number}: the signed record of this takedown is gone")
    gone = []
    for key, said in sorted(logged.items()):
        try:
            found = digest_bytes(signatures.place.read(key))
        except KeyError:
            gone.append(key)
            continue
        if not any(e.digest == found and signatures.stands_for(e) for e in said):
            problems.append(f"manifest {key} is not the one that was signed and logged")
    return LogReport(head(entries), tuple(problems), tuple(gone), tuple(takedowns))


def _problems(store: ArtifactStore, manifest: Manifest, keys: set[str]) -> Iterator[str]:
    # A store on this machine is read where it lies, and may be one that cannot be written.
    room = nullcontext("") if store.is_local else tempfile.TemporaryDirectory(dir=store.local)
    with room as folder:
        for entry in manifest.files:
            if problem := _problem(store, manifest, entry, Path(folder) / "copy"):
                yield problem
    sealed = {object_key(manifest.content, entry.path) for entry in manifest.files}
    for key in store.place.keys(object_key(manifest.content, "")):
        if key not in sealed:
            yield f"{key} was not sealed; somebody added it"
    for name, parent in manifest.parents.items():
        if manifest_key(*parent) not in keys:
            yield f"the manifest of {name}, which it was made from, is missing"


def _problem(store: ArtifactStore, manifest: Manifest, entry: FileEntry, copy: Path) -> str:
    key = object_key(manifest.content, entry.path)
    home = store.local / "objects" / manifest.content
    try:
        path = LocalPayload(home).path(entry) if store.is_local else copy
    except ArtifactError as error:
        return str(error)
    if not store.is_local:
        copy.unlink(missing_ok=True)
        if store.place.exists(key):
            store.place.download(key, copy)
    if not path.is_file():
        return f"{key} is missing"
    if path.stat().st_size != entry.size:
        return f"{key} has {path.stat().st_size} bytes, sealed were {entry.size}"
    if digest_file(path) == entry.digest:
        return ""
    if store.is_local:
        Verified(store.cache).doubt(path)  # whatever was known of it: the next run shall read it
    return f"{key} does not fit its digest"
