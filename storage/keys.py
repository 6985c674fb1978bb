"""Keys: who wrote something down, as one deployment can prove it to others.

    <home>/keys/signing.pem            the private key of the deployment, for its user alone (0600)
    <home>/keys/trusted/<keyid>.pem    public keys of others that the user chose to trust
    <store>/keys/<keyid>.pem           public keys of all who signed something in the store

A key's id is the SHA-256 of its public PEM, as in OpenSSF model-signing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType

from storage.digests import digest_bytes
from storage.errors import UserError
from storage.places import aside_of, sync, write_file

SHOWN = 12
"""Digits of a key's id that people are shown."""


class SigningError(UserError, ValueError):
    """A key that cannot be used: which, why and what to do."""


@dataclass(frozen=True)
class PublicKey:
    """The key that signatures are checked with; `pem` is its SubjectPublicKeyInfo."""

    pem: bytes

    @cached_property
    def keyid(self) -> str:
        """SHA-256 (hex) of the PEM."""
        return digest_bytes(self.pem)

    def signed(self, signature: bytes, data: bytes) -> bool:
        """Whether a signature over these bytes was made with the other half of this key."""
        return bool(_curve().signed(self.pem, signature, data))


@dataclass(frozen=True)
class SigningKey:
    """The private key of a deployment. Its bytes are never shown."""

    _private: bytes = field(repr=False)

    @cached_property
    def public(self) -> PublicKey:
        """The half that others may have."""
        return PublicKey(_curve().public_of(self._private))

    def sign(self, data: bytes) -> bytes:
        """A signature (DER) over some bytes: equal ones for equal bytes."""
        return bytes(_curve().sign(self._private, data))


def public_key(pem: bytes, where: str) -> PublicKey:
    """A public key as it lies in a file.

    Raises:
        SigningError: it is none, or of another kind.
    """
    try:
        return PublicKey(_curve().public(pem))
    except ValueError:
        raise SigningError(f"{where} is no public key of the curve P-256 (PEM)") from None


def _curve() -> ModuleType:
    from storage import curve  # who neither signs nor checks need not have cryptography

    return curve


@dataclass(frozen=True)
class Keyring:
    """The keys in a folder: the deployment's own, and those that its user trusts."""

    folder: Path

    @property
    def _private(self) -> Path:
        return self.folder / "signing.pem"

    def own(self) -> SigningKey | None:
        """The deployment's key; None while it has signed nothing.

        Raises:
            SigningError: it cannot be read, or others of this machine may read it.
        """
        try:
            mode = self._private.stat().st_mode
            pem = self._private.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SigningError(f"signing key {self._private}: {error.strerror}") from None
        if stat.S_IMODE(mode) & 0o077:
            raise SigningError(
                f"signing key {self._private} may be used by others (mode {stat.S_IMODE(mode):o}): "
                "chmod 600 it, or remove it for a new one if others had it"
            )
        key = SigningKey(pem)
        try:
            _ = key.public
        except ValueError:
            raise SigningError(
                f"signing key {self._private} is no private key of the curve P-256 (PEM, without "
                "a password): restore it, or remove it for a new one"
            ) from None
        return key

    def own_or_new(self) -> SigningKey:
        """The deployment's key, made at first use. Two processes that make one keep the first."""
        if own := self.own():
            return own
        pem = _curve().new_private()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with aside_of(self._private) as aside:
                handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(handle, "wb") as stream:
                    stream.write(pem)
                    stream.flush()
                    os.fsync(handle)
                with suppress(FileExistsError):  # another process was first
                    os.link(aside, self._private)
            sync(self.folder)
        except OSError as error:
            raise SigningError(f"signing key {self._private}: {error.strerror}") from None
        made = self.own()
        assert made is not None
        return made

    def trusted(self) -> Mapping[str, PublicKey]:
        """Id -> key of everybody who is believed: the deployment itself, and whom its user trusts.

        Raises:
            SigningError: one of them cannot be read.
        """
        own = self.own()
        found = [own.public] if own else []
        found += [public_key(path.read_bytes(), str(path)) for path in self._chosen()]
        return {key.keyid: key for key in found}

    def trust(self, key: PublicKey) -> None:
        """Believe from now on what is signed with a key."""
        path = self.folder / "trusted" / f"{key.keyid}.pem"
        try:
            write_file(path, key.pem)
        except OSError as error:
            raise SigningError(f"key {path}: {error.strerror}; make it writable") from None

    def distrust(self, beginning: str) -> list[str]:
        """Trust the keys no more whose ids begin so; returns their ids."""
        gone = [path for path in self._chosen() if path.stem.startswith(beginning)]
        for path in gone:
            path.unlink(missing_ok=True)
        return [path.stem for path in gone]

    def _chosen(self) -> list[Path]:
        return sorted((self.folder / "trusted").glob("*.pem"))
