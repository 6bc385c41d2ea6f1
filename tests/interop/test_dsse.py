"""Leaves judged by others: the vector of the DSSE specification, securesystemslib, rfc8785 and openssl."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from mass_gov.evidence.dsse import PAYLOAD_TYPE, pae, sign_envelope
from mass_gov.evidence.signing import Ed25519Signer, P256Signer, low_s
from mass_gov.evidence.statement import Subject, build_statement

SIGNER = Ed25519Signer.generate()
PAYLOAD = build_statement([Subject("policy", "0f" * 32)], "urn:mass-gov:event:v1", {"note": "€ and 😀"})
LEAF = sign_envelope(PAYLOAD, PAYLOAD_TYPE, SIGNER)


def _their_key(signer: Ed25519Signer) -> SSlibKey:
    return SSlibKey.from_crypto(load_pem_public_key(signer.public_key.pem), keyid=signer.keyid)


def test_the_vector_of_the_dsse_specification() -> None:
    # secure-systems-lab/dsse, protocol.md, "Test Vectors": deterministic ECDSA P-256, signature as raw r || s.
    message = pae("http://example.com/HelloWorld", b"hello world")
    assert message == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    secret = 97358161215184420915383655311931858321456579547487070936769975997791359926199
    signer = P256Signer(ec.derive_private_key(secret, ec.SECP256R1()))
    expected = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    r, s = decode_dss_signature(signer.sign(message))
    assert base64.b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).decode() == expected
    assert signer.public_key.verify(low_s(signer.sign(message)), message)


def test_securesystemslib_computes_the_same_encoding_and_verifies_a_leaf() -> None:
    envelope = Envelope.from_dict(json.loads(LEAF))
    assert envelope.pae() == pae(PAYLOAD_TYPE, PAYLOAD)
    assert list(envelope.verify([_their_key(SIGNER)], 1)) == [SIGNER.keyid]


def test_securesystemslib_refuses_an_altered_payload() -> None:
    altered = json.loads(LEAF)
    altered["payload"] = base64.b64encode(PAYLOAD.replace(b"0f", b"1f", 1)).decode()
    with pytest.raises(VerificationError):
        Envelope.from_dict(altered).verify([_their_key(SIGNER)], 1)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl program is not installed")
def test_openssl_verifies_the_signature_over_the_pre_authentication_bytes(tmp_path: Path) -> None:
    signature = base64.b64decode(json.loads(LEAF)["signatures"][0]["sig"])
    (tmp_path / "key.pem").write_bytes(SIGNER.public_key.pem)
    (tmp_path / "sig").write_bytes(signature)
    for payload, status in ((PAYLOAD, 0), (PAYLOAD + b" ", 1)):
        (tmp_path / "message").write_bytes(pae(PAYLOAD_TYPE, payload))
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin"]
        command += ["-in", "message", "-sigfile", "sig"]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == status
