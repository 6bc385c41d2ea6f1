"""Sealed artifacts: content that can be erased while the proof that it existed stays.

An artifact is encrypted under a data key of its own, the data key is wrapped by its subject's key. What is stored:

    offset  bytes
    0       4      magic "MGA1"
    4       1      version, 0x01
    5       1      codec of the plaintext, 0x00 to 0x03 (`delta_compression`)
    6       40     data key (32 random bytes), AES key wrap (RFC 3394) under the subject's key
    46      12     random nonce
    58      n+16   AES-256-GCM ciphertext and tag

    encryption key = HKDF-SHA256(data key, no salt, info "mass-gov:artifact:encryption:v1"), 32 bytes
    key commitment = HKDF-SHA256(data key, no salt, info "mass-gov:artifact:commitment:v1"), 32 bytes
    associated data = the 58 bytes of the header || canonical JSON {"change_id","index","role","tenant"}

Rules: the log's leaf holds the SHA-256 of the stored bytes and the key commitment. The commitment makes "same
ciphertext, another key, another plaintext" impossible (GCM alone is not key-committing). Opening, in this order: (1)
the header is of this version; (2) the data key unwraps under the subject's key; (3) it is the key that the leaf
committed to; (4) header, binding and ciphertext authenticate; (5) the plaintext decompresses to no more than
`max_output` bytes. The caller compares the digest of the stored bytes first.

An artifact may be compressed against an older one of the same role (codec 0x03). Then (5) opens that one first, under
the *same subject's key*: what somebody else's key seals can never be needed to read it, so that erasing one person
leaves everybody else's artifacts readable. It names the older one by digests, inside its own ciphertext.

Whoever may show an artifact to an auditor can `disclose` its data key: it opens this one artifact and no other, and the
commitment in the leaf says that it is the right key. This module does not know where artifacts are stored, or whose a
subject's key is.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.delta_compression import (
    CODEC_RAW,
    CODEC_ZSTD,
    CODECS,
    Basis,
    ReferenceName,
    pack,
    reference_of,
    unpack,
)

__all__ = [
    "CODEC_RAW",
    "CODEC_ZSTD",
    "Binding",
    "Disclosed",
    "Reference",
    "Sealed",
    "disclose",
    "open_disclosed",
    "seal",
    "unseal",
]

MAGIC = b"MGA1\x01"
KEY_BYTES = 32
WRAPPED_BYTES = 40
NONCE_BYTES = 12
HEADER_BYTES = len(MAGIC) + 1 + WRAPPED_BYTES + NONCE_BYTES
MAX_OUTPUT_BYTES = 1 << 30

_ENCRYPTION_INFO = b"mass-gov:artifact:encryption:v1"
_COMMITMENT_INFO = b"mass-gov:artifact:commitment:v1"

Fetch = Callable[[str], bytes]
"""The sealed bytes of an artifact by their SHA-256, hex."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Where an artifact belongs; it opens nowhere else.

    Attributes:
        tenant: whose ledger.
        change_id: the id of the change, or of the response or control event, that names the artifact.
        role: what it is there (`synthesis`, `delta`, ...).
        index: which one of that role, from 0.
    """

    tenant: str
    change_id: str
    role: str
    index: int = 0

    def canonical(self) -> bytes:
        """The binding's part of the associated data."""
        return canonical_bytes(
            {"change_id": self.change_id, "index": self.index, "role": self.role, "tenant": self.tenant}
        )


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed artifact: the bytes to store, and what the leaf says about them.

    Attributes:
        stored: the bytes to store.
        digest: SHA-256 of `stored`, hex.
        commitment: the key commitment, hex.
        size: length of the plaintext in bytes.
    """

    stored: bytes = field(repr=False)
    digest: str
    commitment: str
    size: int


@dataclass(frozen=True, slots=True)
class Reference:
    """An older artifact of the same subject, tenant, role and index, to compress against.

    Attributes:
        change_id: what it was sealed for.
        stored: its sealed bytes.
        plaintext: what they hold.
    """

    change_id: str
    stored: bytes = field(repr=False)
    plaintext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Disclosed:
    """An artifact as it is shown to somebody without its subject's key.

    Attributes:
        plaintext: what it holds.
        data_key: opens it and nothing else; the leaf holds its commitment.
        reference: plaintext of the artifact that it was compressed against; None where there is none.
    """

    plaintext: bytes = field(repr=False)
    data_key: bytes = field(repr=False)
    reference: bytes | None = field(default=None, repr=False)


def seal(plaintext: bytes, subject_key: bytes, binding: Binding, reference: Reference | None = None) -> Sealed:
    """Encrypt an artifact for its subject. Two calls never give the same bytes.

    Arguments:
        reference: compressed against where that is smaller; it must open under the same subject's key.

    Raises:
        InputError: the subject key has not 32 bytes, or the plaintext is longer than 1 GiB.
        IntegrityError: the reference does not open under this subject's key at its own binding.
    """
    if len(plaintext) > MAX_OUTPUT_BYTES:
        raise InputError(f"An artifact of {len(plaintext)} bytes is more than {MAX_OUTPUT_BYTES}. Split it.")
    if len(subject_key) != KEY_BYTES:
        raise InputError(f"A subject key has {KEY_BYTES} bytes, not {len(subject_key)}. Take it from the key store.")
    data_key, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
    codec, body = pack(plaintext, _basis(reference, subject_key, binding) if reference is not None else None)
    header = MAGIC + bytes([codec]) + aes_key_wrap(subject_key, data_key) + nonce
    cipher = AESGCM(_derive(data_key, _ENCRYPTION_INFO))
    stored = header + cipher.encrypt(nonce, body, header + binding.canonical())
    return Sealed(stored, sha256_hex(stored), _derive(data_key, _COMMITMENT_INFO).hex(), len(plaintext))


def unseal(
    stored: bytes,
    subject_key: bytes,
    binding: Binding,
    commitment: str,
    max_output: int = MAX_OUTPUT_BYTES,
    fetch: Fetch | None = None,
) -> bytes:
    """Decrypt an artifact that belongs exactly at `binding` and was committed to by `commitment` (hex).

    Arguments:
        fetch: gives the sealed bytes of what it was compressed against; without it such an artifact does not open.

    Raises:
        IntegrityError: one of the steps (1) to (5) above fails; the message names the artifact.
    """
    return disclose(stored, subject_key, binding, commitment, max_output, fetch).plaintext


def disclose(
    stored: bytes,
    subject_key: bytes,
    binding: Binding,
    commitment: str,
    max_output: int = MAX_OUTPUT_BYTES,
    fetch: Fetch | None = None,
) -> Disclosed:
    """As `unseal`, with what somebody else needs to open the same artifact by `open_disclosed`.

    Raises:
        IntegrityError: as `unseal`.
    """
    used: list[bytes] = []

    def resolve(name: ReferenceName) -> bytes:
        used.append(_resolve(name, subject_key, binding, max_output, fetch))
        return used[-1]

    data_key = _unwrap(stored, subject_key, binding)  # (1), (2)
    plaintext = _open(stored, data_key, binding, commitment, max_output, resolve)  # (3) to (5)
    return Disclosed(plaintext, data_key, used[-1] if used else None)


def open_disclosed(
    stored: bytes,
    data_key: bytes,
    binding: Binding,
    commitment: str,
    max_output: int = MAX_OUTPUT_BYTES,
    reference: Fetch | None = None,
) -> bytes:
    """Decrypt an artifact with its own data key, as an auditor does who has no subject's key.

    Arguments:
        reference: gives the *plaintext* of what it was compressed against, by its SHA-256, hex.

    Raises:
        IntegrityError: one of the steps (1) and (3) to (5) above fails.
    """

    def resolve(name: ReferenceName) -> bytes:
        if reference is None:
            raise ValueError("what it was compressed against is not here")
        return reference(name.plain)

    return _open(stored, data_key, binding, commitment, max_output, resolve)


def _basis(reference: Reference, subject_key: bytes, binding: Binding) -> Basis:
    """How deep a reference itself stands is known to nobody without its subject's key."""
    place = replace(binding, change_id=reference.change_id)
    codec, body = _decrypt(reference.stored, _unwrap(reference.stored, subject_key, place), place)
    try:
        name = reference_of(codec, body)
    except ValueError as error:
        raise _refuse(place, str(error)) from error
    depth = 1 + (name.depth if name is not None else 0)
    plain = sha256_hex(reference.plaintext)
    return Basis(ReferenceName(depth, sha256_hex(reference.stored), reference.change_id, plain), reference.plaintext)


def _resolve(name: ReferenceName, subject_key: bytes, binding: Binding, max_output: int, fetch: Fetch | None) -> bytes:
    """(5) Open what an artifact was compressed against: the bytes that it names, under the same subject's key."""
    place = replace(binding, change_id=name.change_id)
    if fetch is None or sha256_hex(stored := fetch(name.stored)) != name.stored:
        raise _refuse(place, "an artifact was compressed against it, and it is not here as it was")
    codec, body = _decrypt(stored, _unwrap(stored, subject_key, place), place)

    def resolve(older: ReferenceName) -> bytes:
        if older.depth >= name.depth:
            raise ValueError("it stands on more references than it says")
        return _resolve(older, subject_key, place, max_output, fetch)

    return _unpack(codec, body, place, max_output, resolve)


def _open(
    stored: bytes,
    data_key: bytes,
    binding: Binding,
    commitment: str,
    max_output: int,
    resolve: Callable[[ReferenceName], bytes],
) -> bytes:
    _parse_header(stored, binding)  # (1)
    if not hmac.compare_digest(_derive(data_key, _COMMITMENT_INFO).hex().encode(), commitment.encode()):  # (3)
        raise _refuse(binding, "its key is not the one that the log committed to")
    codec, body = _decrypt(stored, data_key, binding)  # (4)
    return _unpack(codec, body, binding, max_output, resolve)  # (5)


def _unwrap(stored: bytes, subject_key: bytes, binding: Binding) -> bytes:
    """(1), (2) The data key, under the subject's key."""
    _, _, wrapped, _ = _parse_header(stored, binding)
    try:
        return aes_key_unwrap(subject_key, wrapped)
    except (InvalidUnwrap, ValueError) as error:
        raise _refuse(binding, "its key does not open with its subject's key") from error


def _decrypt(stored: bytes, data_key: bytes, binding: Binding) -> tuple[int, bytes]:
    """(4) Codec and body; header and binding are authenticated with them."""
    codec, header, _, nonce = _parse_header(stored, binding)
    try:
        cipher = AESGCM(_derive(data_key, _ENCRYPTION_INFO))
        return codec, cipher.decrypt(nonce, stored[HEADER_BYTES:], header + binding.canonical())
    except InvalidTag as error:
        raise _refuse(binding, "it was altered, or it belongs elsewhere") from error


def _parse_header(stored: bytes, binding: Binding) -> tuple[int, bytes, bytes, bytes]:
    header = stored[:HEADER_BYTES]
    codec = header[len(MAGIC)] if len(header) == HEADER_BYTES and header.startswith(MAGIC) else None
    if codec not in CODECS:
        raise _refuse(binding, "it is not a sealed artifact of version 1")
    return codec, header, header[len(MAGIC) + 1 : -NONCE_BYTES], header[-NONCE_BYTES:]


def _derive(data_key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(data_key)


def _unpack(
    codec: int, body: bytes, binding: Binding, max_output: int, resolve: Callable[[ReferenceName], bytes]
) -> bytes:
    try:
        return unpack(codec, body, max_output, resolve)  # (5)
    except ValueError as error:
        raise _refuse(binding, str(error)) from error


def _refuse(binding: Binding, why: str) -> IntegrityError:
    return IntegrityError(
        f"The artifact {binding.role}[{binding.index}] of {binding.change_id} cannot be trusted: {why}. "
        "Restore it from a back-up and verify again."
    )
