"""Cosignatures of witnesses (c2sp.org/tlog-cosignature, version 1): who else saw this head, and when.

A cosignature is one more signature line of a checkpoint's note, `— <witness> base64(key id || time || signature)`: the
key id is that of signature type 0x04, the time is 8 bytes big-endian, seconds since 1970, and the signature is Ed25519
(RFC 8032) over

    cosignature/v1\\n
    time <decimal>\\n
    <the checkpoint's text, its last newline included>

It says that at that time this was the largest head of this log that the witness knew, and that it extends every head
that the witness saw before. Rules: lines of unknown witnesses are ignored; a line that claims to be a known witness's
and does not verify spoils the note (signed-note, "Signatures"). This module does not know which witnesses suffice, nor
what time it is: `witness_policy` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.checkpoint import (
    MAX_NOTE_BYTES,
    MAX_NOTE_SIGNATURES,
    NoteSignature,
    check_origin,
    key_id,
    open_note,
    parse_signature,
    parse_vkey,
    vkey,
)
from mass_gov.evidence.signing import Signer, VerificationKey

COSIGNATURE_V1 = b"\x04"
"""Signature type of a timestamped Ed25519 cosignature (signed-note, "Signature types")."""
MAX_TIME = 2**63 - 1

_TIME_BYTES, _SIGNATURE_BYTES = 8, 64


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """Who may cosign: a name, and the Ed25519 key that goes with it."""

    name: str
    key: VerificationKey

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || 0x0A || 0x04 || key)[:4]: with the name, what tells whose line it is."""
        return key_id(self.name, self.key, COSIGNATURE_V1)

    @property
    def vkey(self) -> str:
        """The verifier key `<name>+<key id>+base64(0x04 || key)`: what goes into a verifier's policy."""
        return vkey(self.name, self.key, COSIGNATURE_V1)


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A verified cosignature: whose, and the witness's clock when it was made (seconds since 1970)."""

    witness: WitnessKey
    time: int


def parse_witness_vkey(text: str) -> WitnessKey:
    """Read a witness's verifier key.

    Raises:
        InputError: not one; a log's own key (type 0x01) is none either.
    """
    return WitnessKey(*parse_vkey(text, COSIGNATURE_V1))


def cosign(text: str, name: str, signer: Signer, time: int) -> str:
    """The signature line, newline included, by which a witness vouches for a checkpoint's text.

    Arguments:
        text: the note text, its last newline included. The caller has checked that it extends what was seen before.
        time: seconds since 1970.

    Raises:
        InputError: an unusable name, key or time.
    """
    check_origin(name)
    if not 0 <= time <= MAX_TIME:
        raise InputError(f"{time} is no time for a cosignature. Set this machine's clock.")
    signature = signer.sign(_message(text, time))
    identifier = key_id(name, signer.public_key, COSIGNATURE_V1)
    return NoteSignature(name, identifier, time.to_bytes(_TIME_BYTES, "big") + signature).line()


def cosignatures(note: bytes, witnesses: Iterable[WitnessKey]) -> tuple[Cosignature, ...]:
    """The cosignatures of known witnesses on a note, verified, in the order of its lines; unknown lines are ignored.

    Whether the log itself signed the note is `checkpoint.verify_checkpoint`'s to say.

    Raises:
        IntegrityError: not a signed note, or a line of a known witness does not verify.
    """
    text, signatures = open_note(note)
    known = {(witness.name, witness.key_id): witness for witness in witnesses}
    found = []
    for line in signatures:
        witness = known.get((line.name, line.key_id))
        if witness is not None:
            found.append(_verify(line, witness, text))
    return tuple(found)


def parse_lines(data: bytes) -> tuple[NoteSignature, ...]:
    """The signature lines that a witness answered with, unverified.

    Raises:
        InputError: they are not 1 to 64 lines of that form, each ended by a newline.
    """
    try:
        lines = data.decode("utf-8").split("\n")
        if len(data) > MAX_NOTE_BYTES or lines.pop() or not 0 < len(lines) <= MAX_NOTE_SIGNATURES:
            raise InputError(
                "These are not 1 to 64 signature lines, each ended by a newline. Pass on what was answered."
            )
        return tuple(parse_signature(line) for line in lines)
    except (UnicodeDecodeError, IntegrityError) as error:
        raise InputError("A witness answers in signature lines of a C2SP signed note. Pass them on, whole.") from error


def with_lines(note: bytes, lines: Sequence[NoteSignature]) -> bytes:
    """A note with more signature lines behind its own; one that stands there already is not repeated.

    Raises:
        IntegrityError: not a signed note, or it would have more than 64 signatures.
    """
    _, present = open_note(note)
    more = [line for line in dict.fromkeys(lines) if line not in present]
    cosigned = note + "".join(line.line() for line in more).encode("utf-8")
    open_note(cosigned)
    return cosigned


def without(note: bytes, name: str, identifier: bytes) -> tuple[bytes, tuple[NoteSignature, ...]]:
    """Part a note into the one that the key (name, key id) alone signed, and the other lines.

    Raises:
        IntegrityError: not a signed note.
    """
    text, signatures = open_note(note)
    mine = [line for line in signatures if (line.name, line.key_id) == (name, identifier)]
    others = tuple(line for line in signatures if (line.name, line.key_id) != (name, identifier))
    return f"{text}\n{''.join(line.line() for line in mine)}".encode(), others


def _verify(line: NoteSignature, witness: WitnessKey, text: str) -> Cosignature:
    time = int.from_bytes(line.signature[:_TIME_BYTES], "big")
    lawful = len(line.signature) == _TIME_BYTES + _SIGNATURE_BYTES and time <= MAX_TIME
    if not lawful or not witness.key.verify(line.signature[_TIME_BYTES:], _message(text, time)):
        raise IntegrityError(
            f"The cosignature of {witness.name} does not verify: somebody put its name to a head that it did not see. "
            "Ask the witness for the heads that it knows."
        )
    return Cosignature(witness, time)


def _message(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()
