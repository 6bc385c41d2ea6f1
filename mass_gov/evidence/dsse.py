"""DSSE envelopes (secure-systems-lab/dsse v1.0.0): how an event is signed, and what a leaf of the log is.

Rules: the leaf is the canonical JSON of the whole envelope; payload and signatures are standard base64 without slack;
the payload type is in-toto's; every signature must be by a key that the caller trusts and must verify. Therefore no
byte of a leaf can change without `open_envelope` refusing it. Reading, in this order:

    (1) at most 64 KiB
    (2) JSON of the envelope's shape, 1 to 16 signatures
    (3) decoded and written again it gives the same bytes (canonical JSON, base64 without slack, no field more)
    (4) the payload type is the expected one
    (5) no key signs twice
    (6) every signature's key is among the trusted keys, and the signature over the pre-authentication encoding verifies

Several keys sign one leaf only where one hands over to another (`keyring`), and then all of them must.
This module does not know what the payload says, nor which key was valid when.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.signing import Signer, VerificationKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_LEAF_BYTES = 64 * 1024
MAX_SIGNATURES = 16


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: `DSSEv1 LEN(type) type LEN(payload) payload` (protocol.md, "PAE")."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload: bytes, payload_type: str, signer: Signer, *others: Signer) -> bytes:
    """Sign `payload` and return the leaf: the canonical bytes of the whole envelope.

    The first signer is the one that `open_envelope` names; others may sign the same bytes (a key rotation).

    Raises:
        InputError: the leaf would be longer than 64 KiB, or the payload type is not in-toto's.
    """
    if payload_type != PAYLOAD_TYPE:
        raise InputError(f"A leaf's payload type is {PAYLOAD_TYPE}, not {payload_type!r}. Pass that one.")
    message = pae(payload_type, payload)
    leaf = _encode(payload, payload_type, [(s.keyid, s.sign(message)) for s in (signer, *others)])
    if len(leaf) > MAX_LEAF_BYTES:
        raise InputError(
            f"The event takes {len(leaf)} bytes in the log, more than {MAX_LEAF_BYTES}. "
            "Move its long parts into an artifact."
        )
    return leaf


@dataclass(frozen=True, slots=True)
class Envelope:
    """A leaf taken apart, steps (1) to (4): nothing in it is believed before `verify` returned.

    Attributes:
        payload: what was signed.
        signatures: (keyid, signature) in the order in which they stand.
    """

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    def verify(self, *signers: VerificationKey) -> None:
        """Steps (5) and (6) for a leaf that exactly these keys sign, in this order: none less, none more.

        Raises:
            IntegrityError: other keys, or a signature that does not verify.
        """
        if len(self.signatures) != len(signers):
            raise _refuse(f"{len(signers)} keys sign it, and it has {len(self.signatures)} signatures")
        message = pae(PAYLOAD_TYPE, self.payload)
        for (keyid, signature), key in zip(self.signatures, signers, strict=True):
            if keyid != key.keyid:
                raise _refuse(f"it is signed by the key {keyid[:16]}..., where {key.keyid[:16]}... is trusted")
            _check(key, signature, message)


def parse_envelope(leaf: bytes) -> Envelope:
    """Take a leaf apart, steps (1) to (4); `Envelope.verify` does the rest.

    Raises:
        IntegrityError: it is not an envelope in its one form.
    """
    payload, payload_type, signatures = _decode(leaf)
    if payload_type != PAYLOAD_TYPE:  # (4)
        raise _refuse(f"its payload type is not {PAYLOAD_TYPE}")
    return Envelope(payload, tuple(signatures))


def common_parts(leaf: bytes) -> tuple[str, bytes, bytes] | None:
    """(keyid, signature, signed message) of a leaf that one Ed25519 key signed, steps (1) to (4); None for any other.

    For those who verify many: what is None here, or does not verify, is `parse_envelope`'s to judge.
    """
    common = _decode_common(leaf) if len(leaf) <= MAX_LEAF_BYTES else None
    if common is None:
        return None
    payload, kind, [(keyid, signature)] = common
    return keyid, signature, pae(kind, payload)


def open_envelope(leaf: bytes, keys: Mapping[str, VerificationKey]) -> tuple[bytes, str]:
    """Verify a leaf under `keys` (by keyid) and return (payload, keyid of the first signature).

    Raises:
        IntegrityError: any of the steps (1) to (6) above fails; the message says which.
    """
    envelope = parse_envelope(leaf)
    signatures = envelope.signatures
    if len({keyid for keyid, _ in signatures}) != len(signatures):  # (5)
        raise _refuse("one key signed it twice")
    message = pae(PAYLOAD_TYPE, envelope.payload)
    for keyid, signature in signatures:  # (6)
        key = keys.get(keyid)
        if key is None or key.keyid != keyid:
            raise _refuse(f"it is signed by the key {keyid[:16]}..., which is not trusted here")
        _check(key, signature, message)
    return envelope.payload, signatures[0][0]


def envelope_keyids(leaf: bytes) -> tuple[str, ...]:
    """The keyids that a leaf claims, unverified: to look keys up with, never to decide by.

    Raises:
        IntegrityError: the leaf is not an envelope, steps (1) to (3).
    """
    return tuple(keyid for keyid, _ in _decode(leaf)[2])


def _check(key: VerificationKey, signature: bytes, message: bytes) -> None:
    if not key.verify(signature, message):
        raise _refuse(f"the signature of the key {key.keyid[:16]}... does not verify")


def _decode(leaf: bytes) -> tuple[bytes, str, list[tuple[str, bytes]]]:
    if len(leaf) > MAX_LEAF_BYTES:  # (1)
        raise _refuse(f"it is longer than {MAX_LEAF_BYTES} bytes")
    if (common := _decode_common(leaf)) is not None:
        return common
    try:  # base64 is decoded leniently, because step (3) compares every byte
        fields = json.loads(leaf.decode("ascii"))
        payload = binascii.a2b_base64(fields["payload"])
        kind = str(fields["payloadType"])
        signatures = [(str(s["keyid"]), binascii.a2b_base64(s["sig"])) for s in fields["signatures"]]
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:  # (2)
        raise _refuse("it is not a DSSE envelope") from error
    if not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise _refuse(f"it has {len(signatures)} signatures instead of 1 to {MAX_SIGNATURES}")
    if _encode(payload, kind, signatures) != leaf:  # (3)
        raise _refuse("its bytes are not the canonical form of what they say")
    return payload, kind, signatures


# What stands around a payload that one Ed25519 key signed: nearly every leaf. Steps (2) and (3) are comparisons then.
_HEAD, _KEYID, _SIG, _END = (
    b'{"payload":"',
    f'","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"keyid":"'.encode("ascii"),
    b'","sig":"',
    b'"}]}',
)
_AT_KEYID = len(_KEYID)
_AT_SIG = _AT_KEYID + 64 + len(_SIG)
_REST = _AT_SIG + 88 + len(_END)
_HEX256 = re.compile(rb"[0-9a-f]{64}")


def _decode_common(leaf: bytes) -> tuple[bytes, str, list[tuple[str, bytes]]] | None:
    """What `_decode` gives, for a leaf of the common form, in a third of the time; None for any other."""
    encoded, rest = leaf[len(_HEAD) : -_REST], leaf[-_REST:]
    keyid, signed = rest[_AT_KEYID : _AT_KEYID + 64], rest[_AT_SIG : _AT_SIG + 88]
    if leaf[: len(_HEAD)] != _HEAD or rest != _KEYID + keyid + _SIG + signed + _END or not _HEX256.fullmatch(keyid):
        return None
    try:
        payload, signature = binascii.a2b_base64(encoded), binascii.a2b_base64(signed)
    except binascii.Error:
        return None
    # Written again as it was read, or it is another way to write the same bytes.
    again = binascii.b2a_base64(payload, newline=False), binascii.b2a_base64(signature, newline=False)
    return (payload, PAYLOAD_TYPE, [(keyid.decode("ascii"), signature)]) if again == (encoded, signed) else None


def _encode(payload: bytes, payload_type: str, signatures: Sequence[tuple[str, bytes]]) -> bytes:
    # Written by hand because it runs once per event of every verification. Keys stand in RFC 8785 order, and
    # json.dumps agrees with RFC 8785 on ASCII strings without control characters; tests hold it to `rfc8785`.
    signed = ",".join(f'{{"keyid":{json.dumps(k)},"sig":"{_b64(s)}"}}' for k, s in signatures)
    text = f'{{"payload":"{_b64(payload)}","payloadType":{json.dumps(payload_type)},"signatures":[{signed}]}}'
    return text.encode("ascii")


def _b64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _refuse(why: str) -> IntegrityError:
    return IntegrityError(f"The leaf cannot be trusted: {why}. Compare it with a copy from before.")
