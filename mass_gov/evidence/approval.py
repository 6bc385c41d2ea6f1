"""An approver's own signature: Ed25519 over the canonical bytes of an approval without its `signature`.

Rules: what is signed names the recorded event by its leaf hash, so that a signature is good for one change in one log;
it names the key, so that nobody else's signature can take its place. The reason lies sealed in an artifact, unsigned.

This module does not know whose key a key is.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import canonical_bytes
from mass_gov.evidence.signing import Signer, VerificationKey, parse_spki


def signed_bytes(approval: Mapping[str, object]) -> bytes:
    """What an approver signs: the approval's body as plain JSON values, without `signature`, canonical."""
    return canonical_bytes({name: value for name, value in approval.items() if name != "signature"})


def sign_approval(approval: Mapping[str, object], signer: Signer) -> str:
    """The signature of an approval that names the signer's key, base64."""
    return base64.b64encode(signer.sign(signed_bytes(approval))).decode("ascii")


def verify_approval(approval: Mapping[str, object], signature: str, key: VerificationKey) -> bool:
    """Whether `signature` is this key's over this approval."""
    try:
        raw = base64.b64decode(signature, validate=True)
    except binascii.Error:
        return False
    return key.verify(raw, signed_bytes(approval))


def approver_key(public_key: str) -> VerificationKey:
    """The Ed25519 key in base64 SubjectPublicKeyInfo, as `principal.registered` carries it.

    Raises:
        IntegrityError: it is no key, or of another algorithm.
    """
    try:
        key = parse_spki(base64.b64decode(public_key, validate=True))
    except (InputError, binascii.Error) as error:
        raise IntegrityError("A principal's key is no public key. Give its Ed25519 key as PEM.") from error
    if key.algorithm != "ed25519":
        raise IntegrityError("A principal's key is not Ed25519. Give an Ed25519 key.")
    return key
