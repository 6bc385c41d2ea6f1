"""Checkpoints, proofs that travel with one, and the trust root: what is refused, byte by byte."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence import merkle
from mass_gov.evidence.checkpoint import (
    Checkpoint,
    parse_vkey,
    read_checkpoint,
    sign_checkpoint,
    sign_note,
    verify_checkpoint,
    vkey,
)
from mass_gov.evidence.signing import Ed25519Signer, P256Signer
from mass_gov.evidence.tlog_proof import encode_proof, parse_proof, verify_proof
from mass_gov.evidence.trust import check_fingerprint, parse_trust_root, read_trust_root

ORIGIN = "example.org/mass-gov"
SIGNER = Ed25519Signer.generate()
KEY = SIGNER.public_key
LEAVES = [f"leaf {i}".encode() for i in range(6)]
FRONTIER = merkle.Frontier()
NODES = {(n.level, n.position): n.hash for leaf in LEAVES for n in FRONTIER.append(merkle.leaf_hash(leaf))}
HEAD = Checkpoint(ORIGIN, 6, FRONTIER.root())
NOTE = sign_checkpoint(HEAD, SIGNER)
PROOF = encode_proof(4, merkle.inclusion_proof(4, 6, lambda level, position: NODES[level, position]), NOTE)


def _signed(text: str, name: str = ORIGIN) -> bytes:
    return sign_note(text, name, SIGNER)


def _root_line(root: bytes = HEAD.root) -> str:
    return base64.b64encode(root).decode()


def test_no_byte_of_a_checkpoint_can_change() -> None:
    for position in range(len(NOTE)):
        for mask in (0x01, 0x20, 0x80):
            flipped = bytearray(NOTE)
            flipped[position] ^= mask
            with pytest.raises(IntegrityError):
                verify_checkpoint(bytes(flipped), ORIGIN, KEY)


def test_no_byte_of_a_tlog_proof_can_change() -> None:
    for position in range(len(PROOF)):
        for mask in (0x01, 0x20, 0x80):
            flipped = bytearray(PROOF)
            flipped[position] ^= mask
            with pytest.raises(IntegrityError):
                verify_proof(bytes(flipped), LEAVES[4], ORIGIN, KEY)


def test_a_checkpoint_of_another_key_or_another_log_is_refused() -> None:
    with pytest.raises(IntegrityError, match="0 of its lines"):
        verify_checkpoint(NOTE, ORIGIN, Ed25519Signer.generate().public_key)
    with pytest.raises(IntegrityError, match="0 of its lines"):
        verify_checkpoint(NOTE, "example.org/other", KEY)
    with pytest.raises(IntegrityError, match="another log"):
        verify_checkpoint(_signed(f"example.org/other\n6\n{_root_line()}\n"), ORIGIN, KEY)


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n06\n{_root_line()}\n",
        f"{ORIGIN}\n-6\n{_root_line()}\n",
        f"{ORIGIN}\n6.0\n{_root_line()}\n",
        f"{ORIGIN}\n9223372036854775808\n{_root_line()}\n",
        f"{ORIGIN}\n6\n{_root_line(b'short')}\n",
        f"{ORIGIN}\n6\n{_root_line().rstrip('=')}\n",
        f"{ORIGIN}\n6\n{_root_line()}\nextension\n",
        f"{ORIGIN}\n6\n",
        f"\n6\n{_root_line()}\n",
    ],
)
def test_a_genuinely_signed_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        verify_checkpoint(_signed(text), ORIGIN, KEY)


def test_a_note_with_a_doubled_or_malformed_signature_line_is_refused() -> None:
    line = NOTE.split(b"\n\n")[1]
    for spoilt in (
        NOTE + line,
        NOTE + b"\xe2\x80\x94 witness.example not-base64\n",
        NOTE + b"\xe2\x80\x94 witness.example AAAA\n",
        NOTE + b"- witness.example AAAAAAAA\n",
        NOTE + b"\xe2\x80\x94 wit+ness AAAAAAAA\n",
        NOTE + b"\xe2\x80\x94 witness.example AAAAAAAA\n" * 64,
        NOTE[:-1],
        NOTE.replace(b"\n", b"\r\n"),
        NOTE.split(b"\n\n")[0] + b"\n\n",
        b"x" * (128 * 1024) + NOTE,
        b"",
    ):
        with pytest.raises(IntegrityError):
            verify_checkpoint(spoilt, ORIGIN, KEY)


def test_a_bad_head_is_not_signed() -> None:
    for head in (
        Checkpoint("", 6, HEAD.root),
        Checkpoint("a b", 6, HEAD.root),
        Checkpoint("a+b", 6, HEAD.root),
        Checkpoint("a\nb", 6, HEAD.root),
        Checkpoint("a" * 256, 6, HEAD.root),
        Checkpoint(ORIGIN, -1, HEAD.root),
        Checkpoint(ORIGIN, 2**63, HEAD.root),
        Checkpoint(ORIGIN, 6, b"short"),
    ):
        with pytest.raises(InputError):
            sign_checkpoint(head, SIGNER)
    with pytest.raises(InputError, match="Ed25519"):
        sign_checkpoint(HEAD, P256Signer.generate())


def test_a_checkpoint_verifies_and_lines_of_unknown_keys_are_ignored() -> None:
    cosigned = NOTE + sign_note(HEAD.text(), "witness.example/w1", Ed25519Signer.generate()).split(b"\n\n")[1]
    same_name = NOTE + sign_note(HEAD.text(), ORIGIN, Ed25519Signer.generate()).split(b"\n\n")[1]
    for note in (NOTE, cosigned, same_name):
        assert verify_checkpoint(note, ORIGIN, KEY) == HEAD
    assert read_checkpoint(cosigned) == HEAD
    empty = Checkpoint(ORIGIN, 0, merkle.EMPTY_ROOT)
    assert verify_checkpoint(sign_checkpoint(empty, SIGNER), ORIGIN, KEY) == empty


def test_a_tlog_proof_of_another_leaf_is_refused() -> None:
    with pytest.raises(IntegrityError, match="not under this root"):
        verify_proof(PROOF, LEAVES[3], ORIGIN, KEY)


def test_a_tlog_proof_not_in_its_one_form_is_refused() -> None:
    lines = PROOF.split(b"\n")
    loose = lines[2][:42] + (b"A" if lines[2][42:43] != b"A" else b"B") + b"="
    for spoilt in (
        PROOF.replace(b"@v1", b"@v2"),
        PROOF.replace(b"index 4", b"index 04"),
        PROOF.replace(b"index 4", b"extra AAAA\nindex 4"),
        PROOF.replace(lines[2], loose),
        PROOF.replace(lines[2], lines[2] + b"\n" + b"\n".join([lines[2]] * 63)),
        b"c2sp.org/tlog-proof@v1",
        b"",
    ):
        with pytest.raises(IntegrityError):
            verify_proof(spoilt, LEAVES[4], ORIGIN, KEY)


def test_a_tlog_proof_verifies_and_reads_back() -> None:
    assert verify_proof(PROOF, LEAVES[4], ORIGIN, KEY) == (4, HEAD)
    assert parse_proof(PROOF).checkpoint == NOTE
    only = Checkpoint(ORIGIN, 1, merkle.leaf_hash(b"only"))
    assert verify_proof(encode_proof(0, [], sign_checkpoint(only, SIGNER)), b"only", ORIGIN, KEY) == (0, only)


def test_a_spoilt_verifier_key_is_refused() -> None:
    good = vkey(ORIGIN, KEY)
    spoilt = [good[:i] + chr(ord(good[i]) + 1) + good[i + 1 :] for i in range(len(good))]
    for text in (*spoilt, good[:-1], good + "A", good.upper(), "a+b", ""):
        with pytest.raises(InputError):
            parse_vkey(text)


def test_a_trust_root_is_read_from_pem_and_from_a_verifier_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for data, origin in ((KEY.pem, None), (vkey(ORIGIN, KEY).encode() + b"\n", ORIGIN)):
        path.write_bytes(data)
        root = read_trust_root(path)
        assert (root.key.keyid, root.origin) == (KEY.keyid, origin)


def test_what_is_no_trust_root_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"\xff", KEY.pem[:60], SIGNER.private_pem(None), b"-----BEGIN PUBLIC KEY-----\n"):
        with pytest.raises(InputError):
            parse_trust_root(data)
    with pytest.raises(InputError, match="private key"):
        parse_trust_root(SIGNER.private_pem(None))
    with pytest.raises(InputError, match="cannot be read"):
        read_trust_root(tmp_path / "missing")
    (tmp_path / "long").write_bytes(KEY.pem * 200)
    with pytest.raises(InputError, match="too long"):
        read_trust_root(tmp_path / "long")


def test_a_pinned_fingerprint_is_compared_whole() -> None:
    check_fingerprint(KEY, f"sha256:{KEY.keyid}")
    check_fingerprint(KEY, KEY.keyid.upper())
    with pytest.raises(InputError):
        check_fingerprint(KEY, KEY.keyid[:16])
    with pytest.raises(IntegrityError, match="pinned"):
        check_fingerprint(KEY, "0" * 64)
