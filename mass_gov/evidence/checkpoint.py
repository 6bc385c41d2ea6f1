"""Checkpoints: the signed head of the log (C2SP signed-note and tlog-checkpoint), and proofs that travel with one.

A note is text, an empty line, and signature lines `— <key name> base64(4-byte key id || signature)`. A checkpoint's
text is three lines: origin, size in decimal, root in base64; the log signs under its origin as key name. Opening one:

    (1) at most 128 KiB, UTF-8, no control character but the newline; text and signatures parted by the last empty line
    (2) 1 to 64 signature lines of the form above, base64 without slack
    (3) lines whose (name, key id) is not the log's are ignored (cosignatures of witnesses); exactly one is the log's
    (4) the log's Ed25519 signature over the text, its last newline included, verifies
    (5) the text is exactly the three lines, written as this module would write them, with the expected origin

Rules: extension lines are refused (the log never writes one). A cosignature that is ignored here proves nothing and is
not covered by the log's signature. This module does not know which sizes the log may sign.

Sources: c2sp.org/signed-note, c2sp.org/tlog-checkpoint; verifier keys as in golang.org/x/mod/sumdb/note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.merkle import HASH_BYTES
from mass_gov.evidence.signing import Signer, VerificationKey, verification_key

ED25519_NOTE = b"\x01"
"""Signature type of a log's own line; `cosignature` has the witnesses'."""
MAX_NOTE_BYTES = 128 * 1024
MAX_NOTE_SIGNATURES = 64
MAX_ORIGIN_BYTES = 255
MAX_SIZE = 2**63 - 1

_DASH = "\u2014 "
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_NOT_IN_NAME = re.compile(r"[+\s\x00-\x1f]")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A head: `origin` names the log, `size` counts its leaves, `root` is its 32-byte Merkle root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note text that is signed, its last newline included."""
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: key name, 4-byte key id, and the signature bytes as they stand (unverified)."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """The line as it stands in a note, its newline included."""
        return f"{_DASH}{self.name} {_b64(self.key_id + self.signature)}\n"


@lru_cache(maxsize=64)
def key_id(name: str, key: VerificationKey, signature_type: bytes = ED25519_NOTE) -> bytes:
    """SHA-256(name || 0x0A || signature type || 32-byte Ed25519 key)[:4] (signed-note, "Signatures")."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + signature_type + _ed25519(key)).digest()[:4]


def vkey(name: str, key: VerificationKey, signature_type: bytes = ED25519_NOTE) -> str:
    """The verifier key `<name>+<key id in hex>+base64(signature type || key)`: what an auditor pins."""
    check_origin(name)
    return f"{name}+{key_id(name, key, signature_type).hex()}+{_b64(signature_type + _ed25519(key))}"


def parse_vkey(text: str, signature_type: bytes = ED25519_NOTE) -> tuple[str, VerificationKey]:
    """(key name, key) of a verifier key of a signature type.

    Raises:
        InputError: not a verifier key, of another type, or the key id is not that of name and key.
    """
    parts = text.split("+", 2)
    try:
        if len(parts) != 3:
            raise ValueError("it is not `name+id+key`")
        name, identifier, encoded = parts
        material = _unb64(encoded)
        if material[:1] != signature_type or len(material) != 33:
            raise ValueError(f"not an Ed25519 key of type 0x{signature_type.hex()}")
        key = verification_key(Ed25519PublicKey.from_public_bytes(material[1:]))
        if vkey(name, key, signature_type) != text or key_id(name, key, signature_type).hex() != identifier:
            raise ValueError("its parts do not belong together")
    except ValueError as error:
        raise InputError(f"This is not a C2SP verifier key ({error}). Copy it again, whole.") from error
    return name, key


def check_origin(origin: str) -> None:
    """Refuse an origin that cannot be a note's key name: 1 to 255 bytes, no space, no `+`, no control character.

    Raises:
        InputError: it cannot.
    """
    if not 0 < len(origin.encode("utf-8", "replace")) <= MAX_ORIGIN_BYTES or not _is_name(origin):
        raise InputError(
            f"{origin!r} cannot name a log. Use a schema-less address such as example.org/log, without spaces or '+'."
        )


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer, *others: Signer) -> bytes:
    """The signed note: text, empty line, one signature line by each of the log's keys (mostly one) under its origin.

    Raises:
        InputError: an unusable origin, size or root, or a key that is not Ed25519.
    """
    check_origin(checkpoint.origin)
    if not 0 <= checkpoint.size <= MAX_SIZE or len(checkpoint.root) != HASH_BYTES:
        raise InputError("A checkpoint has a size from 0 to 2^63 - 1 and a root of 32 bytes. Rebuild it from the log.")
    return sign_note(checkpoint.text(), checkpoint.origin, signer, *others)


def sign_note(text: str, name: str, *signers: Signer) -> bytes:
    """The signed note of `text` (its last newline included) with a signature line of each signer under `name`."""
    message = text.encode("utf-8")
    blobs = (key_id(name, signer.public_key) + signer.sign(message) for signer in signers)
    return (text + "\n" + "".join(f"{_DASH}{name} {_b64(blob)}\n" for blob in blobs)).encode("utf-8")


def verify_checkpoint(note: bytes, origin: str, key: VerificationKey) -> Checkpoint:
    """Verify a checkpoint of the log `origin` under its key.

    Raises:
        IntegrityError: one of the steps (1) to (5) above fails; the message says which.
    """
    checkpoint = _parse_text(verify_note(note, origin, key))  # (5)
    if checkpoint.origin != origin:
        raise _refuse(f"it is a head of another log than {origin}")
    return checkpoint


def verify_note(note: bytes, name: str, key: VerificationKey) -> str:
    """Verify a signed note under one key and its name; returns the text, its last newline included.

    Raises:
        IntegrityError: one of the steps (1) to (4) above fails.
    """
    text, signatures = open_note(note)
    mine = [s for s in signatures if (s.name, s.key_id) == (name, key_id(name, key))]  # (3)
    if len(mine) != 1:
        raise _refuse(f"{len(mine)} of its lines are signed by the key of {name}, instead of one")
    if not key.verify(mine[0].signature, text.encode("utf-8")):  # (4)
        raise _refuse(f"the signature of {name} does not verify")
    return text


def read_checkpoint(note: bytes) -> Checkpoint:
    """The head that a note claims, unverified: to look things up with, never to decide by.

    Raises:
        IntegrityError: it is not a checkpoint, steps (1), (2) and (5).
    """
    return _parse_text(open_note(note)[0])


def open_note(note: bytes) -> tuple[str, tuple[NoteSignature, ...]]:
    """Part a signed note into its text (last newline included) and its signature lines, all unverified.

    Raises:
        IntegrityError: malformed, steps (1) and (2).
    """
    try:
        content = note.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refuse("it is not UTF-8") from error
    head, blank, tail = content.rpartition("\n\n")  # (1)
    if len(note) > MAX_NOTE_BYTES or _CONTROL.search(content) or not (blank and head and tail.endswith("\n")):
        raise _refuse("it is not a signed note")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_NOTE_SIGNATURES:
        raise _refuse(f"it has more than {MAX_NOTE_SIGNATURES} signatures")
    return head + "\n", tuple(parse_signature(line) for line in lines)  # (2)


def parse_signature(line: str) -> NoteSignature:
    """Read one signature line, without its newline.

    Raises:
        IntegrityError: malformed, step (2).
    """
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        blob = _unb64(encoded)
    except ValueError as error:
        raise _refuse("a signature line is not base64") from error
    if not line.startswith(_DASH) or not _is_name(name) or len(blob) <= 4:
        raise _refuse("a signature line is malformed")
    return NoteSignature(name, blob[:4], blob[4:])


def _parse_text(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or not lines[0] or not _DECIMAL.fullmatch(lines[1]):
        raise _refuse("its text is not origin, size and root")
    try:
        root = _unb64(lines[2])
    except ValueError as error:
        raise _refuse("its root is not base64") from error
    checkpoint = Checkpoint(lines[0], int(lines[1]), root)
    if len(root) != HASH_BYTES or checkpoint.size > MAX_SIZE or checkpoint.text() != text:
        raise _refuse("its text is not written in the one form of a checkpoint")
    return checkpoint


def _is_name(name: str) -> bool:
    return bool(name) and not _NOT_IN_NAME.search(name)


def _ed25519(key: VerificationKey) -> bytes:
    if key.algorithm != "ed25519":
        raise InputError("Checkpoints are signed with Ed25519, and this key is another kind. Use the log's key.")
    return key.raw


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(text: str) -> bytes:
    """Standard base64 with padding and without slack, or ValueError."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if _b64(data) != text:
        raise ValueError("base64 with slack")
    return data


def _refuse(why: str) -> IntegrityError:
    return IntegrityError(f"The checkpoint cannot be trusted: {why}. Compare with the copy kept outside.")
