"""The catalogue of a store: which artifacts are filed in it, and what one deployment shows of them.

manifests/<recipe>/<content>.json        one artifact
refs/<deployment>/<asset>[/<partition>]  the two digests of what is shown
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress

from storage.manifests import ArtifactError, Manifest, ManifestError, manifest_key, parse_manifest
from storage.places import Place, PlaceError

_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Catalogue:
    """Manifests and refs in one place.

    Raises:
        PlaceError: the deployment's name is not one.
    """

    def __init__(self, place: Place, deployment: str) -> None:
        self.place, self.deployment = place, _check_name(deployment)

    def manifests(
        self, prefix: str = "", unread: list[ArtifactError] | None = None
    ) -> Iterator[Manifest]:
        """Every manifest whose recipe starts with a prefix, in order of recipe and content.

        What is wrong with those that cannot be read is noted in `unread`; without it, the first
        one raises ArtifactError.
        """
        for key in self.place.keys(f"manifests/{prefix}"):
            if key.endswith(".json"):
                try:
                    manifest = parse_manifest(self.place.read(key), key)
                except ArtifactError as error:
                    if unread is None:
                        raise
                    unread.append(error)
                else:
                    yield manifest

    def manifest(self, recipe: str, content: str) -> Manifest:
        """One manifest by its two digests; ArtifactError when it is missing or corrupt."""
        key = manifest_key(recipe, content)
        try:
            manifest = parse_manifest(self.place.read(key), key)
        except KeyError:
            raise ManifestError(f"manifest {key} is missing; run its asset") from None
        if manifest.key != key:
            raise ManifestError(f"manifest {key} is that of {manifest.key}; remove it")
        return manifest

    def ref_key(self, asset: str, partition: str | None) -> str:
        """Where the deployment notes what it shows for an asset (partition)."""
        names = (self.deployment, asset, partition) if partition else (self.deployment, asset)
        for name in names:
            _check_name(name)
        return "/".join(("refs", *names))

    def ref(self, asset: str, partition: str | None = None) -> Manifest | None:
        """What the deployment currently shows for an asset (partition), or None."""
        key = self.ref_key(asset, partition)
        try:
            data = self.place.read(key)
        except KeyError:
            return None
        try:
            pointer = json.loads(data)
            recipe, content = str(pointer["recipe"]), str(pointer["content"])
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ManifestError(f"{key} is corrupt ({reason}); run {asset}") from None
        return self.manifest(recipe, content)

    def legible_ref(self, asset: str, partition: str | None = None) -> Manifest | None:
        """`ref`, or None as well where its manifest cannot be read."""
        with suppress(ArtifactError):
            return self.ref(asset, partition)
        return None

    def set_ref(self, asset: str, partition: str | None, manifest: Manifest) -> None:
        """Show this artifact for an asset (partition)."""
        pointer = {"recipe": manifest.recipe, "content": manifest.content}
        self.place.write(self.ref_key(asset, partition), json.dumps(pointer, indent=1).encode())

    def refs(self) -> Iterator[tuple[str, str | None]]:
        """Every (asset, partition) that has a current artifact in this deployment."""
        for key in self.place.keys(f"refs/{self.deployment}/"):
            parts = key.split("/")
            yield parts[2], parts[3] if len(parts) > 3 else None


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name) or not name.strip("."):
        raise PlaceError(
            f"{name!r} cannot name a deployment, asset or partition: give letters, digits, . _ -"
        )
    return name
