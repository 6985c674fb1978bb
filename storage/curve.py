"""ECDSA over P-256 with SHA-256: what OpenSSF model-signing takes. The door to cryptography.

Signatures are DER and deterministic (RFC 6979): equal ones for equal bytes.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def new_private() -> bytes:
    """The PEM (PKCS 8, without a password) of a new private key."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_of(private: bytes) -> bytes:
    """The public PEM of a private one. Raises ValueError for a key of another kind."""
    return _pem(_private(private).public_key())


def public(pem: bytes) -> bytes:
    """A public PEM, written anew so that equal keys have equal bytes. ValueError as above."""
    try:
        return _pem(serialization.load_pem_public_key(pem))
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from None


def sign(private: bytes, data: bytes) -> bytes:
    """The signature of some bytes."""
    return _private(private).sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def signed(pem: bytes, signature: bytes, data: bytes) -> bool:
    """Whether a signature over some bytes was made with the other half of a public key."""
    key = serialization.load_pem_public_key(pem)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("no key of a curve")
    return key


def _pem(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise ValueError("no key of the curve P-256")
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
