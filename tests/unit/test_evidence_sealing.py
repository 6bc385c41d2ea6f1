"""Sealed artifacts: they open in one place, with one key, to one plaintext, and not to more than was asked for."""

from __future__ import annotations

import os

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from hypothesis import given
from hypothesis import strategies as st

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence import sealing
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.sealing import Binding, seal, unseal

KEY = os.urandom(32)
BINDING = Binding("acme", "0192f0c1-0000-7000-8000-000000000001", "synthesis", 0)
PLAINTEXT = b'{"samples":[{"answer":"7","question":"3 + 4"}]}' * 3
SEALED = seal(PLAINTEXT, KEY, BINDING)


def test_no_byte_of_a_sealed_artifact_can_change() -> None:
    for plaintext in (PLAINTEXT, b"", os.urandom(40)):
        sealed = seal(plaintext, KEY, BINDING)
        for position in range(len(sealed.stored)):
            for mask in (0x01, 0x20, 0x80):
                flipped = bytearray(sealed.stored)
                flipped[position] ^= mask
                with pytest.raises(IntegrityError, match="synthesis"):
                    unseal(bytes(flipped), KEY, BINDING, sealed.commitment)


@pytest.mark.parametrize(
    "other",
    [
        Binding("other", BINDING.change_id, "synthesis", 0),
        Binding("acme", "0192f0c1-0000-7000-8000-000000000002", "synthesis", 0),
        Binding("acme", BINDING.change_id, "answer", 0),
        Binding("acme", BINDING.change_id, "synthesis", 1),
    ],
)
def test_an_artifact_opens_nowhere_else(other: Binding) -> None:
    with pytest.raises(IntegrityError, match="belongs elsewhere"):
        unseal(SEALED.stored, KEY, other, SEALED.commitment)


def test_another_subjects_key_and_another_commitment_are_refused() -> None:
    with pytest.raises(IntegrityError, match="subject's key"):
        unseal(SEALED.stored, os.urandom(32), BINDING, SEALED.commitment)
    for commitment in (seal(PLAINTEXT, KEY, BINDING).commitment, "", SEALED.commitment.upper()):
        with pytest.raises(IntegrityError, match="committed"):
            unseal(SEALED.stored, KEY, BINDING, commitment)


def test_the_same_ciphertext_under_another_data_key_is_refused_before_it_is_decrypted() -> None:
    # The commitment, not GCM, is what stops it: the header below is well-formed and its data key unwraps.
    start, end = len(sealing.MAGIC) + 1, len(sealing.MAGIC) + 1 + sealing.WRAPPED_BYTES
    forged = SEALED.stored[:start] + aes_key_wrap(KEY, os.urandom(32)) + SEALED.stored[end:]
    with pytest.raises(IntegrityError, match="committed"):
        unseal(forged, KEY, BINDING, SEALED.commitment)


def test_truncated_bytes_are_refused() -> None:
    for length in range(len(SEALED.stored)):
        with pytest.raises(IntegrityError):
            unseal(SEALED.stored[:length], KEY, BINDING, SEALED.commitment)


def _sealed_zstd(frame: bytes) -> tuple[bytes, str]:
    """What an insider with the subject's key could store: any body, truthfully marked as zstd."""
    data_key, nonce = os.urandom(32), os.urandom(12)
    header = sealing.MAGIC + bytes([sealing.CODEC_ZSTD]) + aes_key_wrap(KEY, data_key) + nonce
    cipher = AESGCM(sealing._derive(data_key, sealing._ENCRYPTION_INFO))
    stored = header + cipher.encrypt(nonce, frame, header + BINDING.canonical())
    return stored, sealing._derive(data_key, sealing._COMMITMENT_INFO).hex()


def test_a_decompression_bomb_is_refused() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(50_000_000))
    lying = zstandard.ZstdCompressor().compress(bytes(200)) + bomb
    for frame in (bomb, unsized, lying, b"not zstd", b""):
        stored, commitment = _sealed_zstd(frame)
        with pytest.raises(IntegrityError, match=r"unpack|decompress"):
            unseal(stored, KEY, BINDING, commitment, max_output=1_000_000)


def test_more_than_was_asked_for_is_refused() -> None:
    for plaintext in (os.urandom(100), bytes(100)):
        sealed = seal(plaintext, KEY, BINDING)
        assert unseal(sealed.stored, KEY, BINDING, sealed.commitment, max_output=100) == plaintext
        with pytest.raises(IntegrityError, match="more than 99"):
            unseal(sealed.stored, KEY, BINDING, sealed.commitment, max_output=99)


def test_a_subject_key_of_another_length_is_refused() -> None:
    with pytest.raises(InputError):
        seal(b"", os.urandom(16), BINDING)


@given(st.binary(max_size=300), st.integers(0, 3))
def test_an_artifact_opens_to_what_was_sealed(plaintext: bytes, repeat: int) -> None:
    plaintext *= 1 + repeat * 20
    sealed = seal(plaintext, KEY, BINDING)
    assert sealed.digest == sha256_hex(sealed.stored)
    assert sealed.size == len(plaintext)
    assert unseal(sealed.stored, KEY, BINDING, sealed.commitment) == plaintext
    assert len(sealed.stored) <= sealing.HEADER_BYTES + len(plaintext) + 16


def test_the_layout_is_the_documented_one() -> None:
    assert SEALED.stored[:6] == b"MGA1\x01\x01"
    assert sealing.HEADER_BYTES == 58
    assert seal(os.urandom(8), KEY, BINDING).stored[5] == 0
    assert BINDING.canonical() == canonical_bytes(
        {"tenant": "acme", "change_id": BINDING.change_id, "role": "synthesis", "index": 0}
    )


def test_sealing_twice_gives_nothing_in_common() -> None:
    again = seal(PLAINTEXT, KEY, BINDING)
    assert again.digest != SEALED.digest
    assert again.commitment != SEALED.commitment
    assert again.stored[6:58] != SEALED.stored[6:58]
    assert "stored" not in repr(again)
