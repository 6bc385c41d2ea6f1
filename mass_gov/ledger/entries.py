"""From leaf to entry: the one way in which stored bytes become something that is believed.

An entry is believed when (1) its envelope is canonical and signed by exactly the keys that sign at its index (a
rotation by the log's key, the key that hands over and the one that takes over; anything else by the log's key alone),
(2) its predicate is of a known form, and (3) writing the statement again from that predicate gives the signed bytes,
which also proves that its in-toto subjects are the ones that the catalogue wants and that no field was left to a
default.

`learn` feeds a key ring with what a believed entry says about keys: events are read in order, so that a key counts only
after the event that named it was believed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from mass_gov.errors import InputError, IntegrityError, LedgerUnavailableError
from mass_gov.evidence.dsse import PAYLOAD_TYPE, Envelope, common_parts, parse_envelope, sign_envelope
from mass_gov.evidence.keyring import KeyRing
from mass_gov.evidence.merkle import leaf_hash
from mass_gov.evidence.signing import Signer, VerificationKey, parse_spki
from mass_gov.evidence.statement import Subject, build_statement, parse_statement
from mass_gov.records.events import (
    EVENT_FORMAT,
    EVENT_TYPES,
    PREDICATE_TYPE,
    KeyRevoked,
    KeyRotated,
    LogOpened,
    Predicate,
    subjects_of,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One event with its place in the log.

    Attributes:
        index: position, from 0.
        leaf: the signed bytes.
        leaf_hash: RFC 6962 leaf hash, hex: what an approval binds.
        predicate: what the event says.
    """

    index: int
    leaf: bytes = field(repr=False)
    leaf_hash: str
    predicate: Predicate


def make_entry(index: int, predicate: Predicate, signer: Signer, *others: Signer) -> Entry:
    """Sign a predicate, with every signer in this order, and give it its place.

    Raises:
        InputError: the leaf would be longer than 64 KiB.
    """
    leaf = sign_envelope(statement_bytes(predicate, predicate.document()), PAYLOAD_TYPE, signer, *others)
    return Entry(index, leaf, leaf_hash(leaf).hex(), predicate)


def read_entry(index: int, leaf: bytes, keys: KeyRing) -> Entry:
    """Read a leaf under the keys that the ring gives for its index, steps (1) to (3) above.

    Raises:
        IntegrityError: one of the steps fails; the message names the index.
        LedgerUnavailableError: the event is of a type that only a newer program knows.
    """
    try:
        envelope = _opened(index, leaf, keys)  # (1)
        payload = envelope.payload
        raw = parse_statement(payload, PREDICATE_TYPE).predicate
        _refuse_newer(index, raw)
        predicate = Predicate.model_validate(raw)  # (2)
        if isinstance(predicate.body, KeyRotated) != (len(envelope.signatures) > 1):
            raise IntegrityError("Only a rotation is signed by several keys, and each of them must. Restore it.")
        if statement_bytes(predicate, predicate.as_read()) != payload:  # (3)
            raise IntegrityError("Its subjects or its form are not those of the catalogue. Restore it.")
    except IntegrityError as error:
        raise IntegrityError(f"Event {index}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise IntegrityError(f"Event {index} has no lawful form at {where}: {first['msg']}. Restore it.") from error
    return Entry(index, leaf, leaf_hash(leaf).hex(), predicate)


def predicate_in(leaf: bytes) -> Predicate:
    """What a leaf says, unverified: for those who know otherwise that it is the log's.

    Raises:
        IntegrityError: it is no event that this program knows.
    """
    try:
        return Predicate.model_validate(json.loads(base64.b64decode(json.loads(leaf)["payload"]))["predicate"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError("A leaf is no event that this program knows. Run `mass-gov verify`.") from error


def check_signatures(index: int, leaf: bytes, keys: KeyRing) -> None:
    """Check that a leaf is an envelope which the keys of its index signed, step (1) above and no other.

    Raises:
        IntegrityError: as `read_entry`, in the same words.
    """
    try:
        _opened(index, leaf, keys)
    except IntegrityError as error:
        raise IntegrityError(f"Event {index}: {error}") from error


def not_simply_signed(rows: Sequence[tuple[int, bytes]], keys: KeyRing) -> list[tuple[int, bytes]]:
    """Those of many (index, leaf) that are not envelopes of the common form which the key of their index signed alone.

    `check_signatures` holds for all the others, and says of these whether it does. Leaves are taken apart first and
    their signatures verified after, because a processor does many of one thing faster than two in turns.
    """
    parts = [common_parts(leaf) for _, leaf in rows]
    signers = [keys.at(index) for index, _ in rows]
    return [
        row
        for row, part, key in zip(rows, parts, signers, strict=True)
        if part is None or part[0] != key.keyid or not key.verify(part[1], part[2])
    ]


def statement_bytes(predicate: Predicate, content: Mapping[str, object]) -> bytes:
    """The in-toto statement of an event, canonical; `content` is the predicate as plain JSON values."""
    subjects = [Subject(subject.name, subject.sha256) for subject in subjects_of(predicate.body)]
    return build_statement(subjects, PREDICATE_TYPE, content)


def _refuse_newer(index: int, raw: Mapping[str, object]) -> None:
    """A signed event of a form that this program does not know is not tampering: a newer program wrote it."""
    body, form = raw.get("body"), raw.get("format")
    kind = body.get("type") if isinstance(body, dict) else None
    known = form == EVENT_FORMAT and (not isinstance(kind, str) or kind in EVENT_TYPES)
    if isinstance(form, int) and form >= EVENT_FORMAT and not known:
        raise LedgerUnavailableError(
            f"Event {index} is a {str(kind)[:60]!r} of format {form}, which a newer mass-gov wrote. Upgrade mass-gov."
        )


def learn(keys: KeyRing, entry: Entry) -> None:
    """Tell the ring what a believed entry says about keys: the first delta key, a rotation or a revocation.

    Raises:
        IntegrityError: it contradicts what the ring knows, or names a key that cannot be used.
    """
    body, index = entry.predicate.body, entry.index
    match body:
        case LogOpened():
            keys.name_delta(_named_key(index, body.delta_public_key, body.delta_key))
        case KeyRotated():
            keys.rotate(index, body.purpose, body.old_key, _named_key(index, body.new_public_key, body.new_key))
        case KeyRevoked():
            keys.revoke(index, body.key, body.compromised, body.trusted_size)
        case _:
            pass


def claimed_log_key(leaf: bytes) -> VerificationKey:
    """The log key that a `log.opened` leaf claims, unverified: a trust root only where nothing better is at hand.

    Raises:
        IntegrityError: the leaf opens no log.
    """
    try:
        return parse_spki(base64.b64decode(_claimed_body(parse_envelope(leaf))["log_public_key"]))
    except (IntegrityError, ValueError, KeyError, TypeError, InputError) as error:
        raise IntegrityError("Event 0 does not open a log: it names no usable key. Restore it.") from error


def _opened(index: int, leaf: bytes, keys: KeyRing) -> Envelope:
    envelope = parse_envelope(leaf)
    envelope.verify(*_signers(index, envelope, keys))
    return envelope


def _signers(index: int, envelope: Envelope, keys: KeyRing) -> tuple[VerificationKey, ...]:
    """Who must have signed. What a rotation claims only chooses keys: its own signatures then have to bear it out."""
    if len(envelope.signatures) == 1:
        return (keys.at(index),)
    try:
        body = _claimed_body(envelope)
        new = _named_key(index, body["new_public_key"], body["new_key"])
        return keys.signers(index, "delta" if body["purpose"] == "delta" else "log", new)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError("Several keys signed it, and it is no rotation. Restore it.") from error


def _claimed_body(envelope: Envelope) -> dict[str, str]:
    """The body of an event, unverified; whatever may stand in it."""
    body: dict[str, str] = json.loads(envelope.payload)["predicate"]["body"]
    return body


def _named_key(index: int, public_key: str, keyid: str) -> VerificationKey:
    """A public key that an event carries, if it is the one that it names."""
    try:
        key = parse_spki(base64.b64decode(public_key))
    except (ValueError, InputError) as error:
        raise IntegrityError(f"Event {index} names a key that cannot be used. Restore it.") from error
    if key.keyid != keyid:
        raise IntegrityError(f"Event {index} names the key {keyid[:16]} and carries {key.keyid[:16]}. Restore it.")
    return key
