"""A signed delta: no byte of bundle or files can change, and nothing can be added, dropped or renamed."""

from __future__ import annotations

import base64
import json

import pytest

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import canonical_bytes
from mass_gov.evidence.dsse import PAYLOAD_TYPE, pae
from mass_gov.evidence.model_signing import delta_digest, folder_digest, sign_folder, verify_folder
from mass_gov.evidence.signing import P256_ORDER, Ed25519Signer, P256Signer, decode_dss_signature, encode_dss_signature

SIGNER = P256Signer.generate()
KEY = SIGNER.public_key
FILES = {"adapter_config.json": b'{"r":8}', "adapter_model.safetensors": b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "}
BUNDLE = sign_folder(FILES, "delta", SIGNER)


def test_no_byte_of_a_bundle_can_change() -> None:
    for position in range(len(BUNDLE)):
        for mask in (0x01, 0x20, 0x80):
            flipped = bytearray(BUNDLE)
            flipped[position] ^= mask
            with pytest.raises(IntegrityError):
                verify_folder(FILES, bytes(flipped), KEY)


def test_no_byte_of_a_file_can_change() -> None:
    for name, contents in FILES.items():
        for position in range(len(contents)):
            flipped = contents[:position] + bytes([contents[position] ^ 1]) + contents[position + 1 :]
            with pytest.raises(IntegrityError, match="not those that were signed"):
                verify_folder({**FILES, name: flipped}, BUNDLE, KEY)


@pytest.mark.parametrize(
    "files",
    [
        {**FILES, "README.md": b""},
        {"adapter_config.json": FILES["adapter_config.json"]},
        {"adapter_config.json": FILES["adapter_config.json"], "b": FILES["adapter_model.safetensors"]},
        dict(zip(FILES, reversed(FILES.values()), strict=True)),
        {},
        {**FILES, "../evil": b""},
    ],
)
def test_another_set_of_files_is_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(IntegrityError):
        verify_folder(files, BUNDLE, KEY)


def test_a_bundle_of_another_key_is_refused() -> None:
    for key in (P256Signer.generate().public_key, Ed25519Signer.generate().public_key):
        with pytest.raises(IntegrityError, match="another key"):
            verify_folder(FILES, BUNDLE, key)
    forged = json.loads(sign_folder(FILES, "delta", P256Signer.generate()))
    forged["verificationMaterial"] = json.loads(BUNDLE)["verificationMaterial"]
    with pytest.raises(IntegrityError, match="does not verify"):
        verify_folder(FILES, canonical_bytes(forged), KEY)


def test_the_second_form_of_a_genuine_signature_is_refused() -> None:
    bundle = json.loads(BUNDLE)
    signature = bundle["dsseEnvelope"]["signatures"][0]
    r, s = decode_dss_signature(base64.b64decode(signature["sig"]))
    signature["sig"] = base64.b64encode(encode_dss_signature(r, P256_ORDER - s)).decode()
    with pytest.raises(IntegrityError, match="does not verify"):
        verify_folder(FILES, canonical_bytes(bundle), KEY)


def test_a_genuinely_signed_statement_of_another_layout_is_refused() -> None:
    bundle = json.loads(BUNDLE)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["predicate"]["serialization"]["ignore_paths"] = ["adapter_model.safetensors"]
    payload = canonical_bytes(statement)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    signature = base64.b64encode(SIGNER.sign(pae(PAYLOAD_TYPE, payload))).decode()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = signature
    with pytest.raises(IntegrityError, match="not those that were signed"):
        verify_folder(FILES, canonical_bytes(bundle), KEY)


@pytest.mark.parametrize(
    "bundle", [b"", b"{}", b"[]", b'{"dsseEnvelope":{"payload":"","signatures":[]}}', b"x" * 2_000_000]
)
def test_what_is_no_bundle_is_refused(bundle: bytes) -> None:
    with pytest.raises(IntegrityError):
        verify_folder(FILES, bundle, KEY)


@pytest.mark.parametrize(
    "path", ["../a", "/a", "a//b", ".git/config", "a/.hidden", "", "a\\b", "é", "a/", "C:a", "a b"]
)
def test_an_unlawful_path_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="relative paths"):
        folder_digest({path: b""})
    with pytest.raises(InputError):
        folder_digest({"a": b"", "a/b": b""})


def test_only_p256_keys_and_named_folders_are_signed() -> None:
    with pytest.raises(InputError):
        sign_folder(FILES, "delta", Ed25519Signer.generate())
    with pytest.raises(InputError):
        sign_folder(FILES, "", SIGNER)


def test_a_delta_is_exactly_two_files() -> None:
    assert delta_digest(FILES) == folder_digest(FILES)
    for files in ({}, {**FILES, "x": b""}, {"a": b"", "b": b""}):
        with pytest.raises(InputError, match="adapter_config"):
            delta_digest(files)


def test_a_bundle_verifies_to_the_folder_digest_and_is_the_same_each_time() -> None:
    assert verify_folder(FILES, BUNDLE, KEY) == folder_digest(FILES)
    assert sign_folder(dict(reversed(FILES.items())), "delta", SIGNER) == BUNDLE
