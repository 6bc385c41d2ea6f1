"""in-toto Statement v1: what an event's envelope carries.

Rules: the payload is canonical JSON with exactly the four fields of the specification; every subject is named and has
exactly one digest, SHA-256 in lowercase hex; names do not repeat. The predicate is the caller's: this module does not
know what an event says.

Source: in-toto/attestation, spec/v1/statement.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import Json, canonical_bytes, parse_canonical

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

_HEX256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that a statement is about: a name and the SHA-256 (64 lowercase hex digits) of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed statement: its subjects in their order, its predicate's type and its predicate."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: dict[str, Json]


def build_statement(subjects: Sequence[Subject], predicate_type: str, predicate: Mapping[str, object]) -> bytes:
    """The canonical bytes of a statement, ready for `sign_envelope`.

    Raises:
        InputError: no subject, a subject's name empty or repeated, a digest that is not 64 lowercase hex digits, an
            empty predicate type, or a predicate without canonical form.
    """
    fault = _subjects_fault(subjects)
    if fault or not predicate_type:
        raise InputError(f"The statement {fault or 'has no predicate type'}. Mend it before it is signed.")
    return canonical_bytes(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": s.name, "digest": {"sha256": s.sha256}} for s in subjects],
            "predicateType": predicate_type,
            "predicate": dict(predicate),
        }
    )


def parse_statement(payload: bytes, predicate_type: str) -> Statement:
    """Read a statement of the expected predicate type, strictly.

    Raises:
        IntegrityError: not canonical, a field missing or too many, a wrong type, or another predicate type.
    """
    value = parse_canonical(payload)
    if not isinstance(value, dict) or value.keys() != {"_type", "subject", "predicateType", "predicate"}:
        _refuse("does not have exactly the fields of in-toto Statement v1")
    if value["_type"] != STATEMENT_TYPE:
        _refuse(f"is not of type {STATEMENT_TYPE}")
    if value["predicateType"] != predicate_type:
        _refuse(f"has another predicate type than {predicate_type}")
    entries, predicate = value["subject"], value["predicate"]
    if not isinstance(entries, list) or not isinstance(predicate, dict):
        _refuse("has a subject that is no list or a predicate that is no object")
    subjects = tuple(_parse_subject(entry) for entry in entries)
    if fault := _subjects_fault(subjects):
        _refuse(fault)
    return Statement(subjects, predicate_type, predicate)


def _parse_subject(entry: Json) -> Subject:
    if isinstance(entry, dict) and entry.keys() == {"name", "digest"}:
        name, digest = entry["name"], entry["digest"]
        if isinstance(name, str) and isinstance(digest, dict) and digest.keys() == {"sha256"}:
            sha256 = digest["sha256"]
            if isinstance(sha256, str):
                return Subject(name, sha256)
    _refuse("has a subject that is not exactly a name and a SHA-256 digest")


def _subjects_fault(subjects: Sequence[Subject]) -> str | None:
    names = [subject.name for subject in subjects]
    if not names or not all(names) or len(set(names)) != len(names):
        return "needs at least one subject, each with a name of its own"
    bad = [s.name for s in subjects if not _HEX256.fullmatch(s.sha256)]
    return f"names no SHA-256 of 64 lowercase hex digits for {bad[0]!r}" if bad else None


def _refuse(why: str) -> NoReturn:
    raise IntegrityError(f"The signed statement {why}. It was not written by this project; do not trust it.")
