"""Records at the boundary: what is refused, and that a stored record is written again as it was."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from mass_gov.errors import IntegrityError, LedgerUnavailableError
from mass_gov.evidence.canonical import canonical_bytes
from mass_gov.evidence.dsse import PAYLOAD_TYPE, sign_envelope
from mass_gov.evidence.keyring import KeyRing
from mass_gov.evidence.signing import Ed25519Signer
from mass_gov.evidence.statement import Subject, build_statement
from mass_gov.ledger.entries import make_entry, read_entry
from mass_gov.records.base import Record
from mass_gov.records.change import Cost
from mass_gov.records.events import EVENT_TYPES, PREDICATE_TYPE, RESERVED_TYPES, AccessDenied, Actor, Predicate

SIGNER = Ed25519Signer.generate()
KEYS = KeyRing(SIGNER.public_key)
PREDICATE = Predicate(
    format=1,
    event_id="01900000-0000-7000-8000-000000000000",
    origin="mass-gov.local/0123456789abcdef",
    time="2026-01-01T00:00:00.000000Z",
    actor=Actor(principal="bob", role="operator"),
    tenant="local",
    deployment="default",
    body=AccessDenied(action="approve", policy="ab" * 32, change_id=None, count=1),
    artifacts=(),
)


def signed(**changes: object) -> bytes:
    """A leaf over the predicate with some fields replaced, signed by the log's own key."""
    document = PREDICATE.document() | changes
    payload = build_statement([Subject("policy", "ab" * 32)], PREDICATE_TYPE, document)
    return sign_envelope(payload, PAYLOAD_TYPE, SIGNER)


def test_an_event_reads_back_as_it_was_written() -> None:
    entry = make_entry(0, PREDICATE, SIGNER)
    assert read_entry(0, entry.leaf, KEYS).predicate == PREDICATE


@pytest.mark.parametrize("kind", [*RESERVED_TYPES, "change.of_heart"])
def test_a_type_that_only_a_newer_release_knows_is_no_tampering(kind: str) -> None:
    with pytest.raises(LedgerUnavailableError, match="newer mass-gov"):
        read_entry(0, signed(body={"type": kind}), KEYS)


def test_a_format_that_only_a_newer_release_knows_is_no_tampering() -> None:
    with pytest.raises(LedgerUnavailableError, match="newer mass-gov"):
        read_entry(0, signed(format=2), KEYS)


@pytest.mark.parametrize(
    "changes", [{"format": 0}, {"extra": 1}, {"time": "2026-99-99T00:00:00.000000Z"}, {"body": {}}]
)
def test_a_known_format_with_another_shape_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        read_entry(0, signed(**changes), KEYS)


def test_a_field_that_a_later_release_adds_leaves_old_records_as_they_were() -> None:
    class Old(Record):
        name: str

    class New(Record):
        name: str
        added: int | None = None

    stored = canonical_bytes(Old(name="x").document())
    assert canonical_bytes(New.model_validate(json.loads(stored)).as_read()) == stored


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_never_enters_a_record(number: float) -> None:
    with pytest.raises(ValidationError):
        Cost(flops="1", generated_tokens=1, seconds={"update": number})


def test_no_free_text_hides_in_the_names_of_costs() -> None:
    with pytest.raises(ValidationError):
        Cost(flops="1", generated_tokens=1, seconds={"my patient John": 1.0})  # type: ignore[dict-item]


def test_reserved_and_known_types_are_apart() -> None:
    assert not EVENT_TYPES & set(RESERVED_TYPES)
    assert "change.recorded" in EVENT_TYPES
