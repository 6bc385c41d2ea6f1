"""Keys and signatures: the port behind which a key lives, and the two algorithms that the formats use.

Rules: Ed25519 (RFC 8032) signs events and checkpoints, ECDSA P-256 with SHA-256 signs adapter deltas. A key is named
by its keyid, the SHA-256 of its DER SubjectPublicKeyInfo. A signature has one valid form only: P-256 signatures are
DER with the smaller of the two possible s, and both signing and verification insist on it.

A KMS or HSM comes in by implementing `Signer`; it passes what the device returns through `low_s` when the key is
P-256. This module does not know what is signed, nor which key may sign what.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from mass_gov.errors import InputError, IntegrityError

Algorithm = Literal["ed25519", "ecdsa-p256"]

# Order of the group of NIST P-256 (FIPS 186-5 / SEC 2, section 2.4.2).
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key with its name. Equal keys have equal `keyid`s.

    Attributes:
        keyid: SHA-256 of the DER SubjectPublicKeyInfo, 64 lowercase hex digits.
        algorithm: `ed25519` or `ecdsa-p256`.
        spki: the DER SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
    """

    keyid: str
    algorithm: Algorithm
    spki: bytes = field(repr=False)
    _public: Ed25519PublicKey | ec.EllipticCurvePublicKey = field(repr=False, compare=False)

    @property
    def raw(self) -> bytes:
        """The 32 bytes of an Ed25519 key, the 65 bytes of an uncompressed P-256 point."""
        if isinstance(self._public, Ed25519PublicKey):
            return self._public.public_bytes_raw()
        return self._public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)

    @property
    def pem(self) -> bytes:
        """The key as PEM SubjectPublicKeyInfo, as `openssl pkey -pubin` reads it."""
        return self._public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` over `message` is this key's, in the one form that is accepted."""
        try:
            if isinstance(self._public, Ed25519PublicKey):
                self._public.verify(signature, message)
                return True
            self._public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            return low_s(signature) == signature
        except InvalidSignature:
            return False


class Signer(Protocol):
    """What the formats need of a private key, wherever it lives."""

    @property
    def keyid(self) -> str:
        """`public_key.keyid`."""
        ...

    @property
    def public_key(self) -> VerificationKey:
        """The key that verifies what `sign` returns."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, in the form that `VerificationKey.verify` accepts."""
        ...


class Ed25519Signer:
    """An Ed25519 key in memory: events and checkpoints."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private = private_key
        self.public_key = verification_key(private_key.public_key())
        self.keyid = self.public_key.keyid

    @classmethod
    def generate(cls) -> Ed25519Signer:
        """A new random key."""
        return cls(Ed25519PrivateKey.generate())

    def sign(self, message: bytes) -> bytes:
        """64 bytes, deterministic (RFC 8032)."""
        return self._private.sign(message)

    def private_pem(self, password: bytes | None) -> bytes:
        """PKCS8 PEM, encrypted when a password is given. Secret."""
        return _private_pem(self._private, password)


class P256Signer:
    """A P-256 key in memory: adapter deltas."""

    def __init__(self, private_key: ec.EllipticCurvePrivateKey) -> None:
        self._private = private_key
        self.public_key = verification_key(private_key.public_key())
        self.keyid = self.public_key.keyid

    @classmethod
    def generate(cls) -> P256Signer:
        """A new random key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, message: bytes) -> bytes:
        """A DER signature with low s, deterministic (RFC 6979), so that equal deltas have equal bundles."""
        return low_s(self._private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))

    def private_pem(self, password: bytes | None) -> bytes:
        """PKCS8 PEM, encrypted when a password is given. Secret."""
        return _private_pem(self._private, password)


def low_s(signature: bytes) -> bytes:
    """A P-256 signature in its one accepted form: DER, and of (r, s) and (r, order - s) the one with the smaller s.

    Raises:
        IntegrityError: the bytes are not a DER signature.
    """
    try:
        r, s = decode_dss_signature(signature)
    except ValueError as error:
        raise IntegrityError("The signature is not DER-encoded ECDSA. Sign again.") from error
    return encode_dss_signature(r, min(s, P256_ORDER - s))


def verification_key(public: object) -> VerificationKey:
    """Wrap a public key of the `cryptography` package.

    Raises:
        InputError: neither Ed25519 nor P-256.
    """
    if isinstance(public, Ed25519PublicKey):
        algorithm: Algorithm = "ed25519"
    elif isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        algorithm = "ecdsa-p256"
    else:
        raise InputError("The public key is neither Ed25519 nor P-256. Give the key that the ledger exported.")
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return VerificationKey(hashlib.sha256(spki).hexdigest(), algorithm, spki, public)


def parse_spki(data: bytes) -> VerificationKey:
    """Read a DER SubjectPublicKeyInfo, as events carry public keys.

    Raises:
        InputError: not one, or neither Ed25519 nor P-256.
    """
    try:
        return verification_key(serialization.load_der_public_key(data))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError("The bytes are no public key. Give the key that the ledger exported.") from error


def parse_public_pem(data: bytes) -> VerificationKey:
    """Read a public key in PEM, as `openssl pkey -pubout` writes it.

    Raises:
        InputError: not one, or neither Ed25519 nor P-256.
    """
    try:
        return verification_key(serialization.load_pem_public_key(data))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError("The file holds no public key in PEM. Write one: `openssl pkey -pubout`.") from error


def _private_pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None) -> bytes:
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        protection = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
