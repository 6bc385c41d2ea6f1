"""Signed heads at work: shown with the witnesses' cosignatures, proven to have only grown, and cosigned.

Rules: a cosignature is kept only after it was verified, under a key that the operator's own witness policy names, over
a head that this log signed. It is kept outside the database, where whoever holds the database cannot strip it. A head
that was cosigned and is not this log's is a fork, and is an error wherever it is met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mass_gov.errors import InputError, IntegrityError, NotFoundError
from mass_gov.evidence.add_checkpoint import encode_request
from mass_gov.evidence.checkpoint import NoteSignature, open_note
from mass_gov.evidence.cosignature import Cosignature, cosignatures, parse_lines, with_lines
from mass_gov.evidence.merkle import Frontier
from mass_gov.evidence.tlog_proof import encode_proof
from mass_gov.evidence.witness_policy import WitnessPolicy
from mass_gov.ledger import Head, Ledger

LOOKED_THROUGH = 1024
"""Newest heads among which the one that a witness answered for is looked for."""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """What was kept: the head, and the cosignatures on it that are new or were sent again."""

    head: Head
    cosignatures: tuple[Cosignature, ...]


def cosigned_head(ledger: Ledger, size: int | None = None) -> Head:
    """The signed head of a size, by default the newest, its note with every cosignature that is kept.

    Raises:
        NotFoundError: none was signed at this size.
        IntegrityError: it does not verify, or witnesses have cosigned another one.
    """
    head = ledger.latest_checkpoint() if size is None else ledger.head(size)
    return replace(head, note=merged(head.note, ledger.outside.cosigned(head.size)))


def insist_on_root(head: Head, frontier: Frontier) -> None:
    """Insist that the leaves that were read are those that a head was signed for.

    Raises:
        IntegrityError: they are not; whatever was made of them is not to be used.
    """
    if (frontier.size, frontier.root().hex()) != (head.size, head.root):
        raise IntegrityError(
            f"The {frontier.size} events are not those that the head of size {head.size} was signed for. Nothing that "
            "was made of them is whole; `mass-gov verify` names the first that is wrong."
        )


def merged(note: bytes, cosigned: bytes | None) -> bytes:
    """A signed head with the cosignatures of a kept copy of it, in the order of their bytes.

    Raises:
        IntegrityError: the copy is of another head: the log was forked.
    """
    if cosigned is None:
        return note
    (text, own), (seen, lines) = open_note(note), open_note(cosigned)
    if text != seen:
        raise IntegrityError(
            f"Witnesses have cosigned another head of size {seen.splitlines()[1]} than this log signed: it was "
            "forked. Run `mass-gov verify`."
        )
    return with_lines(note, sorted(set(lines) - set(own), key=NoteSignature.line))


def prove_event(ledger: Ledger, index: int, size: int | None = None) -> bytes:
    """The C2SP tlog-proof that the event at `index` stands under a signed head, by default the newest.

    Raises:
        NotFoundError: there is no such event or head.
    """
    head = cosigned_head(ledger, size)
    if index >= head.size:
        raise NotFoundError(f"there is no event {index}: this head has {head.size}, counted from 0.")
    return encode_proof(index, ledger.inclusion_proof(index, head.size), head.note)


def prove_growth(ledger: Ledger, old: int, new: int | None = None) -> bytes:
    """The proof that the log of `old` events is a prefix of a signed head: the request that a witness takes.

    Raises:
        InputError: `old` is larger than the head.
        NotFoundError: none was signed at the size `new`.
    """
    head = cosigned_head(ledger, new)
    return encode_request(old, ledger.consistency_proof(old, head.size), head.note)


def keep_cosignatures(ledger: Ledger, answer: bytes, policy: WitnessPolicy, size: int | None = None) -> Cosigned:
    """Verify what a witness answered, and keep it.

    Arguments:
        answer: the signature lines, or the whole cosigned note.
        policy: the witnesses that the operator knows.
        size: of the head that they are on; by default it is found among the newest.

    Raises:
        InputError: not signature lines, or of witnesses that the policy does not name.
        IntegrityError: they fit no head of this log.
    """
    lines = _lines(answer, ledger.origin)
    known = {(witness.name, witness.key_id) for witness in policy.witnesses.values()}
    strangers = sorted({line.name for line in lines if (line.name, line.key_id) not in known})
    if strangers:
        raise InputError(f"{', '.join(strangers)} is no witness of your policy. Name it there, or leave its line out.")
    for head in _heads(ledger, size):
        try:
            found = cosignatures(with_lines(head.note, lines), policy.witnesses.values())
        except IntegrityError:
            continue
        ledger.outside.keep_cosigned(head.size, with_lines(head.note, lines))
        return Cosigned(head, found)
    where = f"the head of size {size}" if size is not None else f"none of the {LOOKED_THROUGH} newest heads"
    raise IntegrityError(
        f"What the witness answered does not verify on {where} of this log: it was altered, or the witness saw another "
        "log. Ask the witness which head it saw."
    )


def _lines(answer: bytes, origin: str) -> tuple[NoteSignature, ...]:
    if b"\n\n" not in answer:
        return parse_lines(answer)
    lines = tuple(line for line in open_note(answer)[1] if line.name != origin)
    if not lines:
        raise InputError("No witness has signed this note. Give it to one with `mass-gov log prove --from SIZE`.")
    return lines


def _heads(ledger: Ledger, size: int | None) -> Sequence[Head]:
    if size is not None:
        return [ledger.head(size)]
    return [ledger.head(one) for one in ledger.head_sizes(LOOKED_THROUGH)]
