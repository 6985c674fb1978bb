"""Signed statements: in-toto's form (Statement v1) in a DSSE envelope, as others' tools read them.

    {"payload": base64, "payloadType": "application/vnd.in-toto+json",
     "signatures": [{"keyid": …, "sig": base64}]}

What is signed is "DSSEv1", the lengths, the type and the payload, so that no bytes that were signed
as something else can pass for a statement.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.digests import canonical_json, digest_bytes
from storage.errors import UserError

if TYPE_CHECKING:  # cryptography is slow to import, and who only reads statements does not need it
    from storage.keys import PublicKey, SigningKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


class EnvelopeError(UserError, ValueError):
    """Bytes that are no envelope of a statement: where, and why not."""


@dataclass(frozen=True)
class Envelope:
    """A statement, its bytes as they were signed, and one signature."""

    payload: bytes
    keyid: str
    signature: bytes

    @property
    def statement(self) -> Mapping[str, Any]:
        """The in-toto statement."""
        return json.loads(self.payload)

    @property
    def subjects(self) -> list[tuple[str, str]]:
        """(name, SHA-256) of what it speaks of."""
        return [(s["name"], s["digest"]["sha256"]) for s in self.statement["subject"]]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the statement's bytes."""
        return digest_bytes(self.payload)

    def signed_by(self, key: PublicKey) -> bool:
        """Whether the signature is one of this key, and of this statement."""
        return key.keyid == self.keyid and key.signed(self.signature, encoded(self.payload))

    def document(self) -> dict[str, Any]:
        """What the envelope is as JSON."""
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": self.keyid, "sig": base64.b64encode(self.signature).decode()}],
        }

    def to_json(self) -> bytes:
        """The envelope's bytes."""
        return json.dumps(self.document(), indent=1, sort_keys=True).encode()


def encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding of a payload."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sealed(statement: Mapping[str, Any], key: SigningKey) -> Envelope:
    """A statement signed with a key."""
    payload = canonical_json(statement).encode()
    return Envelope(payload, key.public.keyid, key.sign(encoded(payload)))


def statement(
    subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]
) -> dict[str, Any]:
    """An in-toto statement about things by name -> SHA-256."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": n, "digest": {"sha256": d}} for n, d in subjects.items()],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def parse(data: bytes, where: str) -> Envelope:
    """Read an envelope; its signature is not checked.

    Raises:
        EnvelopeError: it is none, or not of one statement with one signature.
    """
    try:
        document = json.loads(data)
        [signature] = document["signatures"]
        found = Envelope(
            base64.b64decode(document["payload"], validate=True), str(signature["keyid"]),
            base64.b64decode(signature["sig"], validate=True),
        )  # fmt: skip
        fits = document["payloadType"] == PAYLOAD_TYPE and found.statement["_type"] == (
            STATEMENT_TYPE
        )
        _ = found.subjects, found.statement["predicate"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise EnvelopeError(f"{where} is no signed statement ({reason})") from None
    if not fits:
        raise EnvelopeError(f"{where} is no signed in-toto statement (Statement v1)")
    return found
