"""Signed notes against golang.org/x/mod/sumdb/note, whose test vector C2SP's signed-note descends from."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.checkpoint import open_note, parse_vkey, read_checkpoint, sign_note, verify_note, vkey
from mass_gov.evidence.signing import Ed25519Signer

# golang.org/x/mod/sumdb/note, note_test.go.
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
NOTE = f"{TEXT}\n— PeterNeumann {SIGNATURE}\n".encode()

# The example of c2sp.org/tlog-cosignature: a log's line and a witness's.
COSIGNED = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
""".encode()  # noqa: E501 - as published


def test_the_published_note_verifies_under_the_published_key() -> None:
    name, key = parse_vkey(VKEY)
    assert verify_note(NOTE, name, key) == TEXT
    assert vkey(name, key) == VKEY
    with pytest.raises(IntegrityError):
        verify_note(NOTE.replace(b"answer", b"Answer"), name, key)


def test_signing_with_the_published_key_gives_the_published_note() -> None:
    material = base64.b64decode(SKEY.split("+", 4)[4])
    assert material[:1] == b"\x01"
    signer = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(material[1:]))
    assert sign_note(TEXT, "PeterNeumann", signer) == NOTE


def test_the_mangled_keys_of_the_go_tests_are_refused() -> None:
    mangled = [VKEY[i:j] for i in range(len(VKEY)) for j in range(i + 1, len(VKEY) + 1)]
    mangled.remove(VKEY)
    mangled += [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ]
    for text in mangled:
        with pytest.raises(InputError):
            parse_vkey(text)


def test_the_example_of_the_cosignature_specification_parses() -> None:
    head = read_checkpoint(COSIGNED)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20852163)
    _, (log, witness) = open_note(COSIGNED)
    assert (log.name, log.key_id.hex(), len(log.signature)) == (head.origin, "033de0ae", 64)
    assert (witness.name, len(witness.signature)) == ("witness.example.com/w1", 8 + 64)
    assert int.from_bytes(witness.signature[:8], "big") == 1679315147  # the time that the specification states
