"""A leaf: what is refused, and that no byte of one can move."""

from __future__ import annotations

import base64
import json

import pytest

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical
from mass_gov.evidence.dsse import (
    MAX_LEAF_BYTES,
    PAYLOAD_TYPE,
    common_parts,
    envelope_keyids,
    open_envelope,
    pae,
    sign_envelope,
)
from mass_gov.evidence.signing import Ed25519Signer, P256Signer
from mass_gov.evidence.statement import Statement, Subject, build_statement, parse_statement

EVENT = "urn:mass-gov:event:v1"
SIGNER = Ed25519Signer.generate()
KEYS = {SIGNER.keyid: SIGNER.public_key}
PAYLOAD = build_statement([Subject("change", "ab" * 32)], EVENT, {"type": "change.recorded", "seq": 7})
LEAF = sign_envelope(PAYLOAD, PAYLOAD_TYPE, SIGNER)


def _rewrite(**changes: object) -> bytes:
    return canonical_bytes({**json.loads(LEAF), **changes})


def _signed_as(payload_type: str) -> bytes:
    signature = base64.b64encode(SIGNER.sign(pae(payload_type, PAYLOAD))).decode()
    return _rewrite(payloadType=payload_type, signatures=[{"keyid": SIGNER.keyid, "sig": signature}])


def test_no_byte_of_a_leaf_can_change() -> None:
    for position in range(len(LEAF)):
        for mask in (0x01, 0x20, 0x80):
            flipped = bytearray(LEAF)
            flipped[position] ^= mask
            with pytest.raises(IntegrityError):
                open_envelope(bytes(flipped), KEYS)


def test_no_byte_of_a_leaf_can_change_for_those_who_verify_many() -> None:
    def holds(leaf: bytes) -> bool:
        parts = common_parts(leaf)
        return parts is not None and parts[0] == SIGNER.keyid and SIGNER.public_key.verify(parts[1], parts[2])

    assert holds(LEAF)
    for position in range(len(LEAF)):
        for mask in (0x01, 0x20, 0x80):
            flipped = bytearray(LEAF)
            flipped[position] ^= mask
            assert not holds(bytes(flipped))
    stranger = Ed25519Signer.generate()
    others = [sign_envelope(PAYLOAD, PAYLOAD_TYPE, stranger), sign_envelope(PAYLOAD, PAYLOAD_TYPE, SIGNER, stranger)]
    for leaf in (LEAF + b"\n", LEAF[:-1], b"", _signed_as("application/json"), *others):
        assert not holds(leaf)


def test_bytes_added_or_taken_away_are_refused() -> None:
    for leaf in (LEAF + b"\n", b" " + LEAF, LEAF[:-1], b"", LEAF.replace(b'","', b'", "', 1)):
        with pytest.raises(IntegrityError):
            open_envelope(leaf, KEYS)


def test_a_genuine_signature_over_another_payload_type_is_refused() -> None:
    with pytest.raises(IntegrityError, match="payload type"):
        open_envelope(_signed_as("application/json"), KEYS)
    with pytest.raises(InputError, match="payload type"):
        sign_envelope(PAYLOAD, "application/json", SIGNER)


def test_a_stripped_doubled_or_foreign_signature_is_refused() -> None:
    stranger = Ed25519Signer.generate()
    own = json.loads(LEAF)["signatures"]
    with pytest.raises(IntegrityError, match="0 signatures"):
        open_envelope(_rewrite(signatures=[]), KEYS)
    with pytest.raises(IntegrityError, match="twice"):
        open_envelope(_rewrite(signatures=own * 2), KEYS)
    with pytest.raises(IntegrityError, match="17 signatures"):
        open_envelope(_rewrite(signatures=own * 17), KEYS)
    with pytest.raises(IntegrityError, match="not trusted"):
        open_envelope(sign_envelope(PAYLOAD, PAYLOAD_TYPE, stranger), KEYS)
    with pytest.raises(IntegrityError, match="not trusted"):
        open_envelope(sign_envelope(PAYLOAD, PAYLOAD_TYPE, SIGNER, stranger), KEYS)
    with pytest.raises(IntegrityError, match="does not verify"):
        open_envelope(_rewrite(signatures=[{**own[0], "sig": base64.b64encode(bytes(64)).decode()}]), KEYS)


def test_a_key_filed_under_anothers_name_verifies_nothing() -> None:
    stranger = Ed25519Signer.generate()
    leaf = sign_envelope(PAYLOAD, PAYLOAD_TYPE, stranger)
    with pytest.raises(IntegrityError, match="not trusted"):
        open_envelope(leaf, {stranger.keyid: SIGNER.public_key})


def test_an_extra_field_and_base64_with_slack_are_refused() -> None:
    with pytest.raises(IntegrityError, match="canonical"):
        open_envelope(_rewrite(comment="x"), KEYS)
    padded = sign_envelope(PAYLOAD + b" " * ((2 - len(PAYLOAD)) % 3), PAYLOAD_TYPE, SIGNER)
    text = json.loads(padded)["payload"]
    assert text.endswith("=")
    body = text.rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    loose = body[:-1] + alphabet[alphabet.index(body[-1]) | 1] + text[len(body) :]
    assert loose != text
    assert base64.b64decode(loose) == base64.b64decode(text)
    with pytest.raises(IntegrityError, match="canonical"):
        open_envelope(padded.replace(text.encode(), loose.encode()), KEYS)


def test_a_leaf_over_64_kib_is_neither_written_nor_read() -> None:
    with pytest.raises(InputError, match="artifact"):
        sign_envelope(b"x" * MAX_LEAF_BYTES, PAYLOAD_TYPE, SIGNER)
    with pytest.raises(IntegrityError, match="longer"):
        open_envelope(LEAF + b" " * MAX_LEAF_BYTES, KEYS)


def test_a_leaf_opens_to_its_payload_and_is_canonical_json() -> None:
    assert open_envelope(LEAF, KEYS) == (PAYLOAD, SIGNER.keyid)
    assert canonical_bytes(parse_canonical(LEAF)) == LEAF
    assert envelope_keyids(LEAF) == (SIGNER.keyid,)


def test_several_keys_may_sign_and_all_are_checked() -> None:
    second = P256Signer.generate()
    leaf = sign_envelope(PAYLOAD, PAYLOAD_TYPE, SIGNER, second)
    assert canonical_bytes(parse_canonical(leaf)) == leaf
    assert open_envelope(leaf, {**KEYS, second.keyid: second.public_key}) == (PAYLOAD, SIGNER.keyid)
    assert envelope_keyids(leaf) == (SIGNER.keyid, second.keyid)


@pytest.mark.parametrize(
    "value",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": "urn:other"},
        {"subject": []},
        {"subject": [{"name": "a", "digest": {"sha256": "AB" * 32}}]},
        {"subject": [{"name": "a", "digest": {"sha256": "ab" * 32, "sha512": "cd"}}]},
        {"subject": [{"name": "a", "digest": {"sha256": "ab" * 32}}] * 2},
        {"subject": [{"name": "", "digest": {"sha256": "ab" * 32}}]},
        {"subject": [{"name": "a", "uri": "x", "digest": {"sha256": "ab" * 32}}]},
        {"subject": ["a"]},
        {"subject": {}},
        {"predicate": []},
        {"extra": 1},
    ],
)
def test_a_statement_that_is_not_exactly_one_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        parse_statement(canonical_bytes({**json.loads(PAYLOAD), **value}), EVENT)


def test_a_statement_without_subject_or_with_a_bad_digest_is_not_built() -> None:
    for subjects in ([], [Subject("a", "ab")], [Subject("", "ab" * 32)], [Subject("a", "ab" * 32)] * 2):
        with pytest.raises(InputError):
            build_statement(subjects, EVENT, {})
    with pytest.raises(InputError, match="predicate type"):
        build_statement([Subject("a", "ab" * 32)], "", {})


def test_a_statement_reads_back() -> None:
    expected = Statement((Subject("change", "ab" * 32),), EVENT, {"type": "change.recorded", "seq": 7})
    assert parse_statement(PAYLOAD, EVENT) == expected
