"""The trust root: the public key that an auditor brings along (`--pubkey`), from outside the thing verified.

Rules: a PEM SubjectPublicKeyInfo or a C2SP verifier key, one per file, nothing else around it. A verifier key also pins
the log's origin. A pinned fingerprint is a keyid, compared in full. Keys found inside a bundle are no trust root.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.checkpoint import parse_vkey
from mass_gov.evidence.signing import VerificationKey, verification_key

MAX_KEY_FILE_BYTES = 16 * 1024

_FINGERPRINT = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """A key that is trusted because of where it came from; `origin` is pinned when a verifier key named it."""

    key: VerificationKey
    origin: str | None = None


def parse_trust_root(data: bytes) -> TrustRoot:
    """Read a trust root from the contents of a key file.

    Raises:
        InputError: neither PEM SubjectPublicKeyInfo (Ed25519 or P-256) nor a C2SP verifier key.
    """
    if b"PRIVATE KEY" in data:
        raise InputError("This is a private key. Verification takes the public one; keep this file to yourself.")
    if data.startswith(b"-----BEGIN"):
        try:
            return TrustRoot(verification_key(load_pem_public_key(data)))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InputError("The key file is not a PEM public key. Copy it again, whole.") from error
    try:
        name, key = parse_vkey(data.decode("utf-8").rstrip("\r\n"))
    except UnicodeDecodeError as error:
        raise InputError("The key file is neither PEM nor a C2SP verifier key. Copy it again, whole.") from error
    return TrustRoot(key, name)


def read_trust_root(path: Path) -> TrustRoot:
    """Read the trust root from a file.

    Raises:
        InputError: the file cannot be read, or `parse_trust_root` refuses it.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"The key file {path} cannot be read: {error.strerror}. Check --pubkey.") from error
    if len(data) > MAX_KEY_FILE_BYTES:
        raise InputError(f"{path} is too long for a public key. Check --pubkey.")
    return parse_trust_root(data)


def check_fingerprint(key: VerificationKey, fingerprint: str) -> None:
    """Compare a key with a pinned fingerprint: its keyid, with or without `sha256:` before it.

    Raises:
        InputError: the fingerprint is not a whole keyid.
        IntegrityError: it is another key's.
    """
    match = _FINGERPRINT.fullmatch(fingerprint.strip().lower())
    if match is None:
        raise InputError("A fingerprint is the whole keyid, 64 hex digits. Copy it from where it was pinned.")
    if match[1] != key.keyid:
        raise IntegrityError(
            f"The key is {key.keyid}, not the pinned {match[1]}. Do not trust it; ask who holds the log's key."
        )
