"""From leaf to entry: the one way in which stored bytes become something that is believed.

An entry is believed when (1) its envelope is canonical and signed by a trusted key, (2) its predicate is of a known
form, and (3) writing the statement again from that predicate gives the signed bytes, which also proves that its
in-toto subjects are the ones that the catalogue wants and that no field was left to a default.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pydantic import ValidationError

from mass_gov.errors import InputError, IntegrityError, LedgerUnavailableError
from mass_gov.evidence.dsse import PAYLOAD_TYPE, open_envelope, sign_envelope
from mass_gov.evidence.merkle import leaf_hash
from mass_gov.evidence.signing import Signer, VerificationKey, verification_key
from mass_gov.evidence.statement import Subject, build_statement, parse_statement
from mass_gov.records.events import EVENT_FORMAT, EVENT_TYPES, PREDICATE_TYPE, Predicate, subjects_of


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


def make_entry(index: int, predicate: Predicate, signer: Signer) -> Entry:
    """Sign a predicate and give it its place.

    Raises:
        InputError: the leaf would be longer than 64 KiB.
    """
    leaf = sign_envelope(statement_bytes(predicate, predicate.document()), PAYLOAD_TYPE, signer)
    return Entry(index, leaf, leaf_hash(leaf).hex(), predicate)


def read_entry(index: int, leaf: bytes, keys: Mapping[str, VerificationKey]) -> Entry:
    """Read a leaf under trusted keys (by keyid), steps (1) to (3) above.

    Raises:
        IntegrityError: one of the steps fails; the message names the index.
        LedgerUnavailableError: the event is of a type that only a newer program knows.
    """
    try:
        payload, _ = open_envelope(leaf, keys)  # (1)
        raw = parse_statement(payload, PREDICATE_TYPE).predicate
        _refuse_newer(index, raw)
        predicate = Predicate.model_validate(raw)  # (2)
        if statement_bytes(predicate, predicate.as_read()) != payload:  # (3)
            raise IntegrityError("Its subjects or its form are not those of the catalogue. Restore it.")
    except IntegrityError as error:
        raise IntegrityError(f"Event {index}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise IntegrityError(f"Event {index} has no lawful form at {where}: {first['msg']}. Restore it.") from error
    return Entry(index, leaf, leaf_hash(leaf).hex(), predicate)


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


def claimed_log_key(leaf: bytes) -> VerificationKey:
    """The log key that a `log.opened` leaf claims, unverified: a trust root only where nothing better is at hand.

    Raises:
        IntegrityError: the leaf opens no log.
    """
    try:
        payload = base64.b64decode(json.loads(leaf)["payload"])
        body = json.loads(payload)["predicate"]["body"]
        return verification_key(load_der_public_key(base64.b64decode(body["log_public_key"])))
    except (ValueError, KeyError, TypeError, UnsupportedAlgorithm, InputError) as error:
        raise IntegrityError("Event 0 does not open a log: it names no usable key. Restore it.") from error
