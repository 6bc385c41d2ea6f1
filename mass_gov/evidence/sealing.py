"""Sealed artifacts: content that can be erased while the proof that it existed stays.

An artifact is encrypted under a data key of its own, the data key is wrapped by its subject's key. What is stored:

    offset  bytes
    0       4      magic "MGA1"
    4       1      version, 0x01
    5       1      codec of the plaintext: 0x00 raw, 0x01 one zstd frame that states its content size
    6       40     data key (32 random bytes), AES key wrap (RFC 3394) under the subject's key
    46      12     random nonce
    58      n+16   AES-256-GCM ciphertext and tag

    encryption key = HKDF-SHA256(data key, no salt, info "mass-gov:artifact:encryption:v1"), 32 bytes
    key commitment = HKDF-SHA256(data key, no salt, info "mass-gov:artifact:commitment:v1"), 32 bytes
    associated data = the 58 bytes of the header || canonical JSON {"change_id","index","role","tenant"}

Rules: the log's leaf holds the SHA-256 of the stored bytes and the key commitment. The commitment makes "same
ciphertext, another key, another plaintext" impossible (GCM alone is not key-committing). zstd is used only where it is
smaller. Opening, in this order: (1) the header is of this version; (2) the data key unwraps under the subject's key;
(3) it is the key that the leaf committed to; (4) header, binding and ciphertext authenticate; (5) the plaintext
decompresses to no more than `max_output` bytes. The caller compares the digest of the stored bytes first.

This module does not know where artifacts are stored, or whose a subject's key is.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex

MAGIC = b"MGA1\x01"
CODEC_RAW = 0
CODEC_ZSTD = 1
KEY_BYTES = 32
WRAPPED_BYTES = 40
NONCE_BYTES = 12
HEADER_BYTES = len(MAGIC) + 1 + WRAPPED_BYTES + NONCE_BYTES
MAX_OUTPUT_BYTES = 1 << 30

_ENCRYPTION_INFO = b"mass-gov:artifact:encryption:v1"
_COMMITMENT_INFO = b"mass-gov:artifact:commitment:v1"
_ZSTD_LEVEL = 9


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


def seal(plaintext: bytes, subject_key: bytes, binding: Binding) -> Sealed:
    """Encrypt an artifact for its subject. Two calls never give the same bytes.

    Raises:
        InputError: the subject key has not 32 bytes, or the plaintext is longer than 1 GiB.
    """
    if len(plaintext) > MAX_OUTPUT_BYTES:
        raise InputError(f"An artifact of {len(plaintext)} bytes is more than {MAX_OUTPUT_BYTES}. Split it.")
    if len(subject_key) != KEY_BYTES:
        raise InputError(f"A subject key has {KEY_BYTES} bytes, not {len(subject_key)}. Take it from the key store.")
    data_key, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
    codec, body = _compress(plaintext)
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
) -> bytes:
    """Decrypt an artifact that belongs exactly at `binding` and was committed to by `commitment` (hex).

    Raises:
        IntegrityError: one of the steps (1) to (5) above fails; the message names the artifact.
    """
    codec, header, wrapped, nonce = _parse_header(stored, binding)  # (1)
    try:
        data_key = aes_key_unwrap(subject_key, wrapped)  # (2)
    except (InvalidUnwrap, ValueError) as error:
        raise _refuse(binding, "its key does not open with its subject's key") from error
    if not hmac.compare_digest(_derive(data_key, _COMMITMENT_INFO).hex().encode(), commitment.encode()):  # (3)
        raise _refuse(binding, "its key is not the one that the log committed to")
    cipher = AESGCM(_derive(data_key, _ENCRYPTION_INFO))
    try:
        body = cipher.decrypt(nonce, stored[HEADER_BYTES:], header + binding.canonical())  # (4)
    except InvalidTag as error:
        raise _refuse(binding, "it was altered, or it belongs elsewhere") from error
    return _decompress(codec, body, binding, max_output)  # (5)


def _parse_header(stored: bytes, binding: Binding) -> tuple[int, bytes, bytes, bytes]:
    header = stored[:HEADER_BYTES]
    codec = header[len(MAGIC)] if len(header) == HEADER_BYTES and header.startswith(MAGIC) else None
    if codec not in (CODEC_RAW, CODEC_ZSTD):
        raise _refuse(binding, "it is not a sealed artifact of version 1")
    return codec, header, header[len(MAGIC) + 1 : -NONCE_BYTES], header[-NONCE_BYTES:]


def _derive(data_key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(data_key)


def _compress(plaintext: bytes) -> tuple[int, bytes]:
    compressed = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=True).compress(plaintext)
    return (CODEC_ZSTD, compressed) if len(compressed) < len(plaintext) else (CODEC_RAW, plaintext)


def _decompress(codec: int, body: bytes, binding: Binding, max_output: int) -> bytes:
    try:
        size = len(body) if codec == CODEC_RAW else zstandard.frame_content_size(body)
        if not 0 <= size <= max_output:
            raise _refuse(binding, f"it would unpack to {size} bytes, more than {max_output}")
        if codec == CODEC_RAW:
            return body
        # The size was read from the frame, so the output is allocated once and zstd stops at its end.
        plain = zstandard.ZstdDecompressor().decompress(body, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _refuse(binding, "it does not decompress") from error
    return plain


def _refuse(binding: Binding, why: str) -> IntegrityError:
    return IntegrityError(
        f"The artifact {binding.role}[{binding.index}] of {binding.change_id} cannot be trusted: {why}. "
        "Restore it from a back-up and verify again."
    )
