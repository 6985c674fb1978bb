"""Results: what was found out about one item, kept in the store under the question.

A stage's answer belongs to a recipe, which names every file of a partition. What the work on one of
these files gave (its probe, its cuts) depends on less, the bytes and a part of the config, and is
worth more than the rest together: so it is kept by itself, and the next recipe, in which another
file changed, asks for nothing twice. It pickles, and every worker reaches it.

    results/<2 digits>/<digest of the question>.json    {"question": {...}, "result": {...}}

What is large is not kept twice: such a result says in which sample of which artifact it lies.
Nothing that is here is needed: what is gone or damaged is found out again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.catalogue import Catalogue
from storage.digests import canonical_json, digest_json
from storage.handles import Artifact
from storage.payloads import LocalPayload, S3Payload
from storage.places import LocalPlace, Place, aside_of

Question = Mapping[str, Any]
"""All that a result depends on: what is asked, in which version, of which content, how."""


@dataclass(frozen=True)
class Results:
    """The results that a store keeps."""

    store: str | None = None
    """Its location; None keeps nothing."""

    def recall(self, question: Question) -> dict[str, Any] | None:
        """The result of a question, or None when it is not known."""
        if self.store is None:
            return None
        try:
            kept = json.loads(_place(self.store).read(_key(question)))
            asked, result = kept["question"], kept["result"]
        except (KeyError, ValueError, TypeError):
            return None
        known = isinstance(result, dict) and canonical_json(asked) == canonical_json(question)
        return result if known else None

    def keep(self, question: Question, result: Mapping[str, Any]) -> None:
        """Keep the result of a question, JSON all through."""
        if self.store is None:
            return
        text = json.dumps({"question": question, "result": result}, sort_keys=True).encode()
        place, key = _place(self.store), _key(question)
        if isinstance(place, LocalPlace):
            # Not forced to the disk, which takes longer than much of the work: what a power cut
            # leaves of it is whole or no JSON.
            with aside_of(place.path(key)) as aside:
                aside.write_bytes(text)
                aside.replace(place.path(key))
        else:
            place.write(key, text)

    def artifact(self, recipe: str) -> Artifact:
        """An artifact that was sealed under a recipe in this store; KeyError when none was."""
        if self.store is None:
            raise KeyError(recipe)
        return _artifact(self.store, recipe)


def _key(question: Question) -> str:
    digest = digest_json(question)
    return f"results/{digest[:2]}/{digest}.json"


@functools.cache
def _place(store: str) -> Place:
    """One connection for a process."""
    if store.startswith("s3://"):
        from storage.s3 import connected  # boto3 is slow to import, and folders do not need it

        return connected(store)
    return LocalPlace(Path(store))


@functools.lru_cache(maxsize=8)
def _artifact(store: str, recipe: str) -> Artifact:
    """Read once by a process; what is not there yet is looked for again."""
    place = _place(store)
    for manifest in Catalogue(place, "default").manifests(f"{recipe}/", []):
        if isinstance(place, LocalPlace):
            return Artifact(manifest, LocalPayload(place.root / "objects" / manifest.content))
        return Artifact(manifest, S3Payload(store, manifest.content, None))
    raise KeyError(recipe)
