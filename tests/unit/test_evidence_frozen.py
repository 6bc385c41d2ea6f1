"""The formats are final: known keys and known content give the bytes that docs/reference/formats.md publishes.

If one of these fails, the change that made it fail breaks every existing ledger. Mend the change, not the test.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mass_gov.evidence import merkle, sealing
from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.checkpoint import Checkpoint, sign_checkpoint, vkey
from mass_gov.evidence.dsse import PAYLOAD_TYPE, sign_envelope
from mass_gov.evidence.model_signing import folder_digest, sign_folder
from mass_gov.evidence.sealing import Binding, seal, unseal
from mass_gov.evidence.signing import Ed25519Signer, P256Signer
from mass_gov.evidence.statement import Subject, build_statement
from mass_gov.evidence.tlog_proof import encode_proof

LOG = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
DELTA = P256Signer(ec.derive_private_key(int.from_bytes(bytes(range(1, 33)), "big"), ec.SECP256R1()))
ORIGIN = "example.org/mass-gov"
FILES = {"adapter_config.json": b'{"r":8}', "adapter_model.safetensors": bytes(range(256))}
BINDING = Binding("acme", "0192f0c1-0000-7000-8000-000000000001", "answer", 0)
SUBJECT_KEY = bytes(range(64, 96))
DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "formats.md"


def _sealed(monkeypatch: pytest.MonkeyPatch, plaintext: bytes) -> sealing.Sealed:
    draws = iter([bytes(range(128, 160)), bytes(range(160, 172))])  # data key, nonce
    monkeypatch.setattr(sealing.os, "urandom", lambda _: next(draws))
    sealed = seal(plaintext, SUBJECT_KEY, BINDING)
    assert unseal(sealed.stored, SUBJECT_KEY, BINDING, sealed.commitment) == plaintext
    return sealed


def _vectors(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    payload = build_statement(
        [Subject("change", "ab" * 32)], "urn:mass-gov:event:v1", {"type": "change.recorded", "n": 1.5}
    )
    leaf = sign_envelope(payload, PAYLOAD_TYPE, LOG)
    other = merkle.leaf_hash(b"other")
    root = merkle.root([merkle.leaf_hash(leaf), other])
    note = sign_checkpoint(Checkpoint(ORIGIN, 2, root), LOG)
    sealed = _sealed(monkeypatch, b"seven")
    return {
        "log keyid": LOG.keyid,
        "delta keyid": DELTA.keyid,
        "vkey": vkey(ORIGIN, LOG.public_key),
        "leaf": sha256_hex(leaf),
        "leaf hash": merkle.leaf_hash(leaf).hex(),
        "root": root.hex(),
        "checkpoint": sha256_hex(note),
        "tlog-proof": sha256_hex(encode_proof(0, [other], note)),
        "folder digest": folder_digest(FILES),
        "delta.sig": sha256_hex(sign_folder(FILES, "delta", DELTA)),
        "sealed": sealed.stored.hex(),
        "sealed digest": sealed.digest,
        "key commitment": sealed.commitment,
    }


def test_the_published_vectors_are_what_this_version_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    published = dict(re.findall(r"^\| ([a-z-. ]+?) \| `([^`]+)` \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE))
    assert published == _vectors(monkeypatch)


def test_compressed_content_is_marked_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _sealed(monkeypatch, b"seven " * 100).stored[5] == sealing.CODEC_ZSTD
