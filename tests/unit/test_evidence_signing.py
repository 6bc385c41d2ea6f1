"""Keys and signatures: one name per key, one form per signature, nothing secret shown."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.signing import P256_ORDER, Ed25519Signer, P256Signer, Signer, low_s, verification_key

SIGNERS: list[Signer] = [Ed25519Signer.generate(), P256Signer.generate()]


@pytest.mark.parametrize("signer", SIGNERS)
def test_no_byte_of_signature_or_message_can_change(signer: Signer) -> None:
    signature = signer.sign(b"message")
    for position in range(len(signature)):
        for mask in (0x01, 0x20, 0x80):
            flipped = bytearray(signature)
            flipped[position] ^= mask
            assert not signer.public_key.verify(bytes(flipped), b"message")
    for other in (b"", signature[:-1], signature + b"\x00"):
        assert not signer.public_key.verify(other, b"message")
    assert not signer.public_key.verify(signature, b"Message")


def test_the_second_form_of_a_p256_signature_is_refused_and_can_be_mended() -> None:
    signer = P256Signer.generate()
    signature = signer.sign(b"message")
    r, s = decode_dss_signature(signature)
    high = encode_dss_signature(r, P256_ORDER - s)
    assert not signer.public_key.verify(high, b"message")
    assert low_s(high) == signature
    with pytest.raises(IntegrityError):
        low_s(b"not DER")


def test_other_kinds_of_keys_are_refused() -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        with pytest.raises(InputError, match="neither"):
            verification_key(key.public_key())


@pytest.mark.parametrize("signer", SIGNERS)
def test_a_key_is_named_by_the_digest_of_its_spki_and_signs_the_same_each_time(signer: Signer) -> None:
    key = signer.public_key
    assert signer.keyid == key.keyid == sha256_hex(key.spki)
    assert len(key.raw) == {"ed25519": 32, "ecdsa-p256": 65}[key.algorithm]
    assert signer.sign(b"message") == signer.sign(b"message")
    assert key.verify(signer.sign(b"message"), b"message")
