"""The catalogue of a store: which artifacts are filed in it, and what one deployment shows of them.

manifests/<recipe>/<content>.json        one artifact
refs/<deployment>/<asset>[/<partition>]  the two digests of what is shown
variants/<deployment>/<variant>/refs/<asset>[/<partition>]  the same of what was made under a name
variants/<deployment>/<variant>/settings.json               by which settings it is another
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from storage.manifests import ArtifactError, Manifest, ManifestError, manifest_key, parse_manifest
from storage.places import Place, PlaceError

_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Catalogue:
    """Manifests and refs in one place.

    As seen by a variant, what was made under its name stands before what the deployment shows, and
    what is made becomes the variant's alone.

    Raises:
        PlaceError: the name of the deployment, or of the variant, is not one.
    """

    def __init__(self, place: Place, deployment: str, variant: str | None = None) -> None:
        self.place, self.deployment = place, _check_name(deployment)
        self.variant = None if variant is None else _check_name(variant)

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
        """Where it is noted what is shown for an asset (partition): by the variant, if there is
        one, else by the deployment.
        """
        below = f"{self._variant_key}/refs" if self.variant else f"refs/{self.deployment}"
        return "/".join((below, *map(_check_name, (asset, partition) if partition else (asset,))))

    @property
    def _variant_key(self) -> str:
        return f"variants/{self.deployment}/{self.variant}"

    @property
    def base(self) -> Catalogue:
        """The same without a variant."""
        return Catalogue(self.place, self.deployment)

    def ref(self, asset: str, partition: str | None = None) -> Manifest | None:
        """What is currently shown for an asset (partition), or None: the variant's own first."""
        key = self.ref_key(asset, partition)
        try:
            data = self.place.read(key)
        except KeyError:
            return self.base.ref(asset, partition) if self.variant else None
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
        """Every (asset, partition) that has a current artifact of its own: the variant's, if there
        is one, else the deployment's.
        """
        below = f"{self._variant_key}/refs/" if self.variant else f"refs/{self.deployment}/"
        for key in self.place.keys(below):
            asset, _, partition = key.removeprefix(below).partition("/")
            yield asset, partition or None

    def variants(self) -> list[str]:
        """Names under which something was made beside what the deployment shows."""
        below = f"variants/{self.deployment}/"
        return sorted({key.removeprefix(below).split("/")[0] for key in self.place.keys(below)})

    @property
    def variant_settings(self) -> tuple[str, ...]:
        """The `path=value` assignments that the variant was last made with."""
        try:
            return tuple(json.loads(self.place.read(f"{self._variant_key}/settings.json")))
        except KeyError:
            return ()

    def note_settings(self, settings: Sequence[str]) -> None:
        """Note the assignments that the variant is made with."""
        data = json.dumps(list(settings), indent=1).encode()
        self.place.write(f"{self._variant_key}/settings.json", data)


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name) or not name.strip("."):
        raise PlaceError(
            f"{name!r} cannot name a deployment, asset or partition: give letters, digits, . _ -"
        )
    return name
