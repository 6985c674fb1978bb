"""Signatures of a store: who vouches for a manifest or a takedown, beside it and never inside.

    signatures/<recipe>/<content>/<manifest's SHA-256>.<keyid>.json    its provenance, signed
    signatures/takedowns/<file's SHA-256>/<statement's SHA-256>.<keyid>.json
    keys/<keyid>.pem                                                   public keys of the signers

A manifest has its statement before it is there, and is logged after it: nobody ever sees one of
ours without its signature. Bytes of manifests and payloads do not change with who signs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from storage.digests import digest_bytes
from storage.envelopes import Envelope, EnvelopeError, parse, sealed
from storage.keys import SHOWN, Keyring, PublicKey, SigningError, SigningKey, public_key
from storage.manifests import Manifest
from storage.merkle_log import Entry, MerkleLog
from storage.places import Place
from storage.provenance import built

FOLDER = "signatures/"


@dataclass(frozen=True)
class Verdict:
    """Who vouches for something: `kind` is own, trusted, foreign, unsigned or forged."""

    kind: str
    keyid: str = ""

    @property
    def told(self) -> str:
        """What is wrong with it in words; "" where it is vouched for."""
        return {
            "unsigned": "nobody signed its manifest",
            "foreign": f"signed with key {self.keyid[:SHOWN]}, which is not trusted here (`vjepa2 "
            f"keys --trust {self.keyid[:SHOWN]}` trusts it)",
            "forged": f"its manifest is not the one that was signed with key {self.keyid[:SHOWN]}",
        }.get(self.kind, "")


@dataclass(frozen=True)
class Doubt:
    """What is to be told of who wrote a manifest, and whether it must not be used for it."""

    told: str = ""
    refused: bool = False


class Signatures:
    """What is signed in one place, seen with the keys of one deployment.

    `unsigned` says what becomes of manifests that no trusted key signed: accept, tell or refuse.
    """

    def __init__(self, place: Place, keyring: Keyring, unsigned: str = "tell") -> None:
        self.place, self.keyring, self.unsigned = place, keyring, unsigned
        self.merkle_log = MerkleLog(place)

    @cached_property
    def _trusted(self) -> Mapping[str, PublicKey]:
        return self.keyring.trusted()

    @cached_property
    def own(self) -> str:
        """The id of the deployment's key; "" while it has none."""
        key = self.keyring.own()
        return key.public.keyid if key else ""

    # ---------------------------------------------------------------- signing

    def sign(self, manifest: Manifest) -> Envelope:
        """Lay a signed statement of its provenance beside a manifest; the same one every time."""
        envelope = self.provenance(manifest)
        self.place.write(signature_key(manifest, envelope.keyid), envelope.to_json())
        return envelope

    def provenance(self, manifest: Manifest) -> Envelope:
        """The deployment's signed statement of how an artifact was made, filed nowhere."""
        key = self._publish()
        return sealed(built(manifest, key.public.keyid), key)

    def withdraw(self, manifest: Manifest) -> None:
        """Take back the statement of a manifest that was not filed: another maker was first."""
        self.place.remove(signature_key(manifest, self._publish().public.keyid))

    def log(self, manifest: Manifest, envelope: Envelope) -> int:
        """Note in the log that a manifest was signed; returns the entry's number."""
        told = digest_bytes(manifest.to_json())
        return self.merkle_log.append(
            Entry("manifest", manifest.key, told, envelope.digest, envelope.keyid)
        )

    def record(self, statement: Mapping[str, Any]) -> Envelope:
        """Sign a statement about one file that is taken down, file it and log it."""
        key = self._publish()
        envelope = sealed(statement, key)
        [(_, digest)] = envelope.subjects
        where = f"{FOLDER}takedowns/{digest}/{envelope.digest}.{envelope.keyid}.json"
        if self.place.create(where, envelope.to_json()):
            self.merkle_log.append(
                Entry("takedown", digest, digest, envelope.digest, envelope.keyid)
            )
        return envelope

    def _publish(self) -> SigningKey:
        key = self.keyring.own_or_new()
        if key.public.keyid != self.own:  # it is new
            del self.__dict__["own"]
            self.__dict__.pop("_trusted", None)
        where = f"keys/{key.public.keyid}.pem"
        if not self.place.exists(where):
            self.place.create(where, key.public.pem)
        return key

    # ---------------------------------------------------------------- judging

    def judge(self, manifest: Manifest) -> Verdict:
        """Who vouches for a manifest as it lies there. A signature by a trusted key decides."""
        for keyid in self._trusted:
            envelope = self._read(signature_key(manifest, keyid))
            if envelope is not None:
                valid = self._vouches(envelope, manifest, keyid)
                kind = "own" if keyid == self.own else "trusted"
                return Verdict(kind if valid else "forged", keyid)
        return self._of_others(manifest)

    def doubt(self, manifest: Manifest) -> Doubt:
        """What the deployment makes of a manifest; a forged one is refused in any case."""
        return self.doubt_of(self.judge(manifest))

    def doubt_of(self, verdict: Verdict) -> Doubt:
        """What the deployment makes of a verdict."""
        if verdict.kind == "forged":
            return Doubt(f"{verdict.told}; run its asset, which makes it anew", True)
        if not verdict.told or self.unsigned == "accept":
            return Doubt()
        return Doubt(verdict.told, self.unsigned == "refuse")

    def _of_others(self, manifest: Manifest) -> Verdict:
        here = digest_bytes(manifest.to_json())
        foreign = ""
        for key in self.place.keys(f"{FOLDER}{manifest.recipe}/{manifest.content}/"):
            digest, _, keyid = key.rpartition("/")[2].removesuffix(".json").partition(".")
            if keyid in self._trusted:  # … and not of this manifest, for that was looked for
                return Verdict("forged", keyid)
            if digest == here and self.key(keyid) is not None:
                envelope = self._read(key)
                if envelope is not None and self._vouches(envelope, manifest, keyid):
                    foreign = keyid
        return Verdict("foreign", foreign) if foreign else Verdict("unsigned")

    def _vouches(self, envelope: Envelope, manifest: Manifest, keyid: str) -> bool:
        key = self.key(keyid)
        spoken_of = (manifest.key, digest_bytes(manifest.to_json()))
        return key is not None and envelope.signed_by(key) and spoken_of in envelope.subjects

    def key(self, keyid: str) -> PublicKey | None:
        """A trusted key, or one that lies in the store; None where there is none of that id."""
        if keyid in self._trusted:
            return self._trusted[keyid]
        with suppress(KeyError, SigningError):
            found = public_key(self.place.read(f"keys/{keyid}.pem"), keyid)
            return found if found.keyid == keyid else None
        return None

    def trusts(self, keyid: str) -> bool:
        """Whether a key is the deployment's own or one that its user trusts."""
        return keyid in self._trusted

    def takedown(self, entry: Entry) -> Envelope | None:
        """The signed record of a takedown that was logged; None where it is gone or forged."""
        where = f"{FOLDER}takedowns/{entry.digest}/{entry.statement}.{entry.keyid}.json"
        return self._logged(entry, where)

    def stands_for(self, entry: Entry) -> bool:
        """Whether the statement about a manifest that was logged lies there, signed with its key.

        The entry alone proves nothing: everybody who may write to a store can write a key's id.
        """
        folder = entry.name.removeprefix("manifests/").removesuffix(".json")
        found = self._logged(entry, f"{FOLDER}{folder}/{entry.digest}.{entry.keyid}.json")
        return found is not None and (entry.name, entry.digest) in found.subjects

    def _logged(self, entry: Entry, where: str) -> Envelope | None:
        found, key = self._read(where), self.key(entry.keyid)
        valid = found and key and found.digest == entry.statement and found.signed_by(key)
        return found if valid else None

    def _read(self, key: str) -> Envelope | None:
        try:
            return parse(self.place.read(key), key)
        except KeyError:
            return None
        except EnvelopeError:
            return Envelope(b"", "", b"")  # there, and worth nothing


def signature_key(manifest: Manifest, keyid: str) -> str:
    """Where a key's statement about a manifest lies."""
    digest = digest_bytes(manifest.to_json())
    return f"{FOLDER}{manifest.recipe}/{manifest.content}/{digest}.{keyid}.json"
