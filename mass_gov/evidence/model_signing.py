"""Adapter deltas, signed as OpenSSF model signing bundles that the `model_signing verify key` program accepts.

A bundle is a Sigstore bundle v0.3 (JSON) around a DSSE envelope around an in-toto statement of predicate type
`https://model_signing/signature/v1.0`. Its subject digest, here *folder digest*, is SHA-256 over the raw SHA-256
digests of the files, in the order of their paths compared segment by segment.

Rules: bundle and statement have one layout, written as canonical JSON; a reader rebuilds both from the files and
compares every byte. Paths are relative, of plain ASCII segments that do not start with a dot (so nothing that
`model_signing` would ignore, and no way out of the folder). The signature is ECDSA P-256 in its one form (`signing`).

The folder digest covers contents and order, not names: files renamed without changing their order keep it. Names are
bound by the signature, and for a delta by `delta_digest`, which knows the two names that there may be. Verifying:

    (1) the folder's paths are lawful
    (2) the bundle has the one layout, with the hint (SHA-256 of the PEM) of the expected public key
    (3) its statement is exactly the one that the files yield under the bundle's own name for them
    (4) the signature over the pre-authentication encoding verifies

Source: model_signing 1.1 (sigstore/model-transparency); it is a test's judge, never imported here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import Json, canonical_bytes, parse_canonical, sha256_hex
from mass_gov.evidence.dsse import PAYLOAD_TYPE, pae
from mass_gov.evidence.signing import Signer, VerificationKey
from mass_gov.evidence.statement import STATEMENT_TYPE

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MAX_BUNDLE_BYTES = 1 << 20
DELTA_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""What a delta's PEFT folder holds: these two files and nothing else."""

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


def folder_digest(files: Mapping[str, bytes]) -> str:
    """The statement's subject digest for {relative path: contents}, hex.

    Raises:
        InputError: no file, or a path that is not lawful.
    """
    digests = [hashlib.sha256(files[path]).digest() for path in _ordered(files)]
    return sha256_hex(b"".join(digests))


def delta_digest(files: Mapping[str, bytes]) -> str:
    """The delta digest: `folder_digest` of a PEFT folder of exactly `DELTA_FILES`, so that names are bound too.

    Raises:
        InputError: other files, or fewer.
    """
    if set(files) != set(DELTA_FILES):
        raise InputError(f"A delta holds {' and '.join(DELTA_FILES)}, not {sorted(files)}. Export the adapter again.")
    return folder_digest(files)


def sign_folder(files: Mapping[str, bytes], name: str, signer: Signer) -> bytes:
    """The bundle (`delta.sig`) over {relative path: contents}, under an informative `name`.

    Raises:
        InputError: no file, a path that is not lawful, an empty name, or a key that is not P-256.
    """
    if not name or signer.public_key.algorithm != "ecdsa-p256":
        raise InputError("A folder is signed under a name and with a P-256 key. Give the key store's delta key.")
    payload = _statement(files, name)
    return _bundle(payload, signer.sign(pae(PAYLOAD_TYPE, payload)), signer.public_key)


def verify_folder(files: Mapping[str, bytes], bundle: bytes, public_key: VerificationKey) -> str:
    """Verify that `bundle` is this key's signature over exactly these files; returns the folder digest, hex.

    Raises:
        IntegrityError: one of the steps (1) to (4) above fails.
    """
    try:
        digest = folder_digest(files)  # (1)
    except InputError as error:
        raise IntegrityError(str(error)) from error
    payload, signature = _parse_bundle(bundle)
    if _bundle(payload, signature, public_key) != bundle:  # (2)
        raise _refuse("the bundle is another key's, or not written in its one form")
    if _statement(files, _subject_name(payload)) != payload:  # (3)
        raise _refuse("the files are not those that were signed")
    if public_key.algorithm != "ecdsa-p256" or not public_key.verify(signature, pae(PAYLOAD_TYPE, payload)):  # (4)
        raise _refuse("its signature does not verify")
    return digest


def _ordered(files: Mapping[str, bytes]) -> list[str]:
    """The paths in the order of the manifest, all lawful."""
    paths = sorted(files, key=lambda path: path.split("/"))
    lawful = all(_SEGMENT.fullmatch(segment) for path in paths for segment in path.split("/"))
    nested = any(other.startswith(f"{path}/") for path in paths for other in paths)
    if not paths or not lawful or nested:
        raise InputError(
            f"{paths!r} are not the paths of a folder that can be signed. Use relative paths of letters, digits, "
            "'.', '_' and '-' that do not start with a dot."
        )
    return paths


def _statement(files: Mapping[str, bytes], name: str) -> bytes:
    resources = [{"algorithm": "sha256", "digest": sha256_hex(files[path]), "name": path} for path in _ordered(files)]
    return canonical_bytes(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": folder_digest(files)}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
                "resources": resources,
            },
        }
    )


def _bundle(payload: bytes, signature: bytes, key: VerificationKey) -> bytes:
    envelope = {
        "payload": _b64(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {"keyid": "", "sig": _b64(signature)}
        ],  # model_signing leaves the keyid empty; the hint names it
    }
    material = {"publicKey": {"hint": sha256_hex(key.pem)}, "tlogEntries": []}
    return canonical_bytes({"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})


def _parse_bundle(bundle: bytes) -> tuple[bytes, bytes]:
    """(payload, signature) as they stand; `verify_folder` rebuilds the bundle from them to see the rest."""
    if len(bundle) > MAX_BUNDLE_BYTES:
        raise _refuse("the bundle is too long")
    envelope = _field(parse_canonical(bundle), "dsseEnvelope")
    signatures = _field(envelope, "signatures")
    first = signatures[0] if isinstance(signatures, list) and signatures else None
    try:
        payload, signature = str(_field(envelope, "payload")), str(_field(first, "sig"))
        return base64.b64decode(payload, validate=True), base64.b64decode(signature, validate=True)
    except ValueError as error:
        raise _refuse("the bundle is not base64 where it should be") from error


def _subject_name(payload: bytes) -> str:
    subject = _field(parse_canonical(payload), "subject")
    name = _field(subject[0] if isinstance(subject, list) and subject else None, "name")
    if not isinstance(name, str) or not name:
        raise _refuse("its statement names no subject")
    return name


def _field(value: Json, key: str) -> Json:
    if not isinstance(value, dict) or key not in value:
        raise _refuse(f"the bundle lacks {key}")
    return value[key]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _refuse(why: str) -> IntegrityError:
    return IntegrityError(f"The signed folder cannot be trusted: {why}. Restore it from a copy from before.")
