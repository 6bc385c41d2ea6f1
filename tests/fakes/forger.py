"""The operator as an adversary: has every key, and writes a ledger again from its first event with lies in it.

Leaves, tree, heads, seals and the folder outside are all as they would be had the lies been told from the start. What
is left to find them by is what they say.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mass_gov.errors import MassGovError
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical
from mass_gov.evidence.checkpoint import Checkpoint, sign_checkpoint
from mass_gov.evidence.dsse import PAYLOAD_TYPE, sign_envelope
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.merkle import EMPTY_ROOT, Frontier, leaf_hash
from mass_gov.evidence.sealing import seal
from mass_gov.evidence.statement import Subject, build_statement
from mass_gov.flows.audit import VerificationReport, verify
from mass_gov.ledger import Entry, Ledger, projector
from mass_gov.ledger.engines import open_database
from mass_gov.ledger.entries import make_entry
from mass_gov.ledger.store import LogHead, insert_artifact, insert_checkpoint, insert_event
from mass_gov.ledger.writing import binding_of
from mass_gov.policy import Facts, Policy, decide, judge
from mass_gov.records.artifacts import ArtifactRef
from mass_gov.records.change import ChangeBody
from mass_gov.records.events import PREDICATE_TYPE, Predicate, subjects_of
from tests.fakes.engines import address_of, furnished_address


class Genuine(Protocol):
    """A ledger that is open, and the home that it lies in."""

    @property
    def ledger(self) -> Ledger:
        """Opened with its keys."""

    @property
    def folder(self) -> Path:
        """Where its keys are."""


@dataclass
class Sheet:
    """One artifact in plain text."""

    role: str
    index: int
    subject: str
    plain: bytes


@dataclass
class Event:
    """One event as a document that can be edited, and its artifacts."""

    document: dict[str, Any]
    sheets: list[Sheet]
    leaf_hash: str
    newer: dict[str, Any] | None = None
    """Fields of the predicate that this program does not know, put in just before signing."""

    @property
    def body(self) -> Any:
        """The event's body."""
        return self.document["body"]

    @property
    def change(self) -> Any:
        """The change of a `change.recorded`."""
        return self.body["change"]

    def sheet(self, role: str) -> Sheet:
        """The first artifact of a role."""
        return next(sheet for sheet in self.sheets if sheet.role == role)

    def read(self, role: str) -> Any:
        """An artifact as JSON values."""
        return parse_canonical(self.sheet(role).plain)

    def write(self, role: str, content: Any) -> None:
        """Put another content into an artifact."""
        self.sheet(role).plain = canonical_bytes(content)

    def drop(self, *roles: str) -> None:
        """Leave artifacts out."""
        self.sheets = [sheet for sheet in self.sheets if sheet.role not in roles]

    def decide_again(self, policy: Policy) -> None:
        """Make gates and decision what the policy gives for the lies."""
        change = ChangeBody.model_validate(self.change)
        facts = Facts(change.identity.scope, change.synthesis, change.update, change.regression)
        gates = judge(facts, policy)
        self.change["gates"] = [gate.document() for gate in gates]
        self.change["decision"] = decide(gates, facts.update, facts.scope, policy).document()


def events_of(world: Genuine) -> list[Event]:
    """Every event of a genuine ledger, opened."""
    return [
        Event(
            entry.predicate.document(),
            [
                Sheet(ref.role, ref.index, ref.subject, world.ledger.artifact(entry, ref.role, ref.index))
                for ref in entry.predicate.artifacts
            ],
            entry.leaf_hash,
        )
        for entry in world.ledger.entries()
    ]


def forged(world: Genuine, events: Sequence[Event], home: Path) -> Path:
    """Write `events` as a home of its own, under the same keys; returns it."""
    shutil.copytree(world.folder / "keys", home / "keys")
    (home / "checkpoints").mkdir()
    keys, database = KeyStore.open(home / "keys"), open_database(furnished_address(home))
    head, renamed = LogHead(Frontier(), EMPTY_ROOT), dict[str, str]()
    with database.write() as connection:
        for index, event in enumerate(events):
            entry = _entry(index, event, keys, renamed, connection)
            renamed[event.leaf_hash] = entry.leaf_hash
            insert_event(connection, entry, head)
            try:
                with connection.begin_nested():
                    projector.apply(connection, entry)
            except MassGovError:
                pass  # the honest program would not have written it; the forger does
            note = sign_checkpoint(Checkpoint(entry.predicate.origin, head.size, head.root), keys.log_signer)
            insert_checkpoint(connection, head.size, note)
    (home / "checkpoints" / f"{head.size:020d}.checkpoint").write_bytes(note)
    database.close()
    return home


def report_on(home: Path) -> VerificationReport:
    """Verify a home with everything that lies in it."""
    return verify(address_of(home), keys=KeyStore.open(home / "keys"), checkpoints=home / "checkpoints")


def _entry(index: int, event: Event, keys: KeyStore, renamed: dict[str, str], connection: Any) -> Entry:
    document = copy.deepcopy(event.document) | {"artifacts": []}
    if "recorded" in document["body"]:
        document["body"]["recorded"] = renamed.get(document["body"]["recorded"], document["body"]["recorded"])
    predicate = Predicate.model_validate(document)
    refs = []
    for sheet in event.sheets:
        blank = {"digest": "0" * 64, "size": 0, "commitment": "0" * 64}
        ref = ArtifactRef.model_validate(blank | {"role": sheet.role, "index": sheet.index, "subject": sheet.subject})
        sealed = seal(sheet.plain, keys.subject_key(sheet.subject, create=True), binding_of(predicate, ref))
        insert_artifact(connection, sealed.digest, sealed.stored)
        refs.append(
            ref.model_copy(
                update={"digest": sealed.digest, "size": len(sealed.stored), "commitment": sealed.commitment}
            )
        )
    predicate = predicate.model_copy(update={"artifacts": tuple(refs)})
    return (
        make_entry(index, predicate, keys.log_signer) if event.newer is None else _newer(index, predicate, event, keys)
    )


def _newer(index: int, predicate: Predicate, event: Event, keys: KeyStore) -> Entry:
    """An event as a later release would sign it."""
    subjects = [Subject(subject.name, subject.sha256) for subject in subjects_of(predicate.body)]
    statement = build_statement(subjects, PREDICATE_TYPE, predicate.document() | (event.newer or {}))
    leaf = sign_envelope(statement, PAYLOAD_TYPE, keys.log_signer)
    return Entry(index, leaf, leaf_hash(leaf).hex(), predicate)
