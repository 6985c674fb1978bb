"""Filing a manifest: the last step of sealing, and who vouches for what is filed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from storage.manifests import DAMAGED, Manifest, ManifestError

if TYPE_CHECKING:
    from storage.artifacts import ArtifactStore


def filed(store: ArtifactStore, manifest: Manifest) -> Manifest:
    """File a manifest, signed before it is there and logged after; returns what stands."""
    signed = store.signatures.sign(manifest) if store.signatures else None
    if not store.place.create(manifest.key, manifest.to_json()):
        first = _first_sealed(store, manifest)
        if first.to_json() != manifest.to_json():
            return first
    if store.signatures and signed:
        store.signatures.log(manifest, signed)
    return manifest


def _first_sealed(store: ArtifactStore, manifest: Manifest) -> Manifest:
    """The manifest under a key that is taken: another process made the same artifact, and its
    record stands. One that cannot be read or believed is set aside for the new one.
    """
    with suppress(ManifestError):
        first = store.manifest(manifest.recipe, manifest.content)
        if first.to_json() == manifest.to_json():
            return first
        if store.signatures:  # ours would say that this one was forged
            store.signatures.withdraw(manifest)
        if not store.doubt(first).refused:
            return first
    with suppress(KeyError):
        store.place.copy(manifest.key, f"{DAMAGED}/{manifest.key}")
    if store.signatures:
        store.signatures.sign(manifest)
    store.place.write(manifest.key, manifest.to_json())
    return manifest
