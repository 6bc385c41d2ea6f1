"""Reading the log itself: entries, proofs, the signed head, artifacts, and what was registered.

Rules: every entry that is handed out was verified first, under the keys valid at its index, so a changed row is an
error and never an answer. Another process may rotate keys meanwhile: the key ring is brought up before it is used.
Artifacts are opened only with the key store, in one order: digest, then key, then commitment and binding.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

from sqlalchemy import select
from sqlalchemy.engine import Connection

from mass_gov.errors import IntegrityError, KeyUnavailableError, NotFoundError, NotRetainedError
from mass_gov.evidence import merkle
from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.sealing import Disclosed, disclose
from mass_gov.evidence.signing import VerificationKey
from mass_gov.ledger.database import Database
from mass_gov.ledger.entries import Entry, read_entry
from mass_gov.ledger.keyrings import bring_up
from mass_gov.ledger.lookups import active_policy, proposers, registration_index
from mass_gov.ledger.schema import artifacts, log_checkpoints, log_events
from mass_gov.ledger.store import last_root, over_nodes
from mass_gov.ledger.subject_rules import subject_row
from mass_gov.ledger.views import Head
from mass_gov.ledger.writing import binding_of
from mass_gov.records.artifacts import ArtifactRole
from mass_gov.records.events import ModelRegistered

_PAGE = 256


class LogReader:
    """The part of a ledger that reads the log. Made by `Ledger.open`."""

    def __init__(self, database: Database, keys: KeyStore | None) -> None:
        self._database = database
        self.keys = keys
        self.origin = ""
        self._ring: KeyRing | None = None
        self._ring_lock = threading.Lock()

    @property
    def log_key(self) -> VerificationKey:
        """The key that this log was opened with: what an auditor pins, and what everything is proven from."""
        return self._known_ring().at(0)

    @property
    def key_ring(self) -> KeyRing:
        """Which key is valid at which index, as far as the log goes now."""
        with self._database.read() as connection:
            return self._trusted(connection)

    def snapshot(self) -> AbstractContextManager[None]:
        """Let everything that this thread reads inside the block be of one moment; nothing may be written in it."""
        return self._database.snapshot()

    def durability_faults(self) -> list[str]:
        """What is set so that an acknowledged event could be lost in a power cut; nothing where all is well."""
        return self._database.durability_faults()

    @property
    def size(self) -> int:
        """Number of events."""
        with self._database.read() as connection:
            return last_root(connection)[0]

    def entry(self, index: int) -> Entry:
        """The event at `index`.

        Raises:
            NotFoundError: the log is shorter.
        """
        for entry in self.entries(index, index + 1):
            return entry
        raise NotFoundError(f"There is no event {index} in this log. `mass-gov log checkpoint` shows its size.")

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Events in order, read in pages: memory does not grow with the log, and no lock is held in between."""
        while stop is None or start < stop:
            last = start + _PAGE if stop is None else min(stop, start + _PAGE)
            wanted = (log_events.c.index >= start) & (log_events.c.index < last)
            query = select(log_events.c.index, log_events.c.leaf).where(wanted).order_by(log_events.c.index)
            with self._database.read() as connection:
                rows = connection.execute(query).all()
                keys = self._trusted(connection)
            if not rows:
                return
            for index, leaf in rows:
                yield read_entry(index, bytes(leaf), keys)
            start = last

    def latest_checkpoint(self) -> Head:
        """The signed head.

        Raises:
            IntegrityError: it does not verify.
        """
        query = select(log_checkpoints.c.note).order_by(log_checkpoints.c.size.desc()).limit(1)
        with self._database.read() as connection:
            note = connection.execute(query).scalar()
            keys = self._trusted(connection)
        if note is None:
            raise IntegrityError("The log has no checkpoint. Run `mass-gov verify`; restore the database.")
        checkpoint = verify_head(bytes(note), self.origin, keys)
        return Head(checkpoint.origin, checkpoint.size, checkpoint.root.hex(), bytes(note))

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """Sibling hashes (32 bytes each) from leaf `index` up to the root of `size`, by default the whole log."""
        with self._database.read() as connection:
            end = last_root(connection)[0] if size is None else size
            return over_nodes(connection, partial(merkle.inclusion_proof, index, end))

    def consistency_proof(self, old: int, new: int | None = None) -> list[bytes]:
        """Hashes which show that the log of `old` events is a prefix of that of `new`, by default the whole log."""
        with self._database.read() as connection:
            end = last_root(connection)[0] if new is None else new
            return over_nodes(connection, partial(merkle.consistency_proof, old, end))

    def stored_artifact(self, digest: str) -> bytes:
        """The sealed bytes of an artifact, as stored.

        Raises:
            IntegrityError: missing, or not the bytes that the digest names.
        """
        query = select(artifacts.c.stored).where(artifacts.c.digest == bytes.fromhex(digest))
        with self._database.read() as connection:
            stored = connection.execute(query).scalar()
        if stored is None or sha256_hex(bytes(stored)) != digest:
            what = "is missing" if stored is None else "is not what was recorded"
            raise IntegrityError(f"The artifact {digest} {what}. Restore it from a back-up.")
        return bytes(stored)

    def artifact(self, entry: Entry, role: ArtifactRole, index: int = 0) -> bytes:
        """The plaintext of an artifact of an event.

        Raises:
            NotFoundError: the event has no such artifact.
            KeyUnavailableError: this ledger was opened without keys.
            NotRetainedError: its subject was erased.
            IntegrityError: it is not what was recorded.
        """
        return self.disclose(entry, role, index).plaintext

    def disclose(self, entry: Entry, role: ArtifactRole, index: int = 0) -> Disclosed:
        """As `artifact`, with the artifact's own data key, for an auditor who is to open it elsewhere.

        Raises:
            NotFoundError, KeyUnavailableError, NotRetainedError, IntegrityError: as `artifact`.
        """
        refs = [ref for ref in entry.predicate.artifacts if (ref.role, ref.index) == (role, index)]
        if not refs:
            raise NotFoundError(f"Event {entry.index} has no artifact {role}[{index}]. `mass-gov changes show` lists.")
        if self.keys is None:
            raise KeyUnavailableError(f"The artifact {role} is sealed. Open the ledger with its key store.")
        stored = self.stored_artifact(refs[0].digest)
        self._refuse_erased(refs[0].subject)
        key = self.keys.subject_key(refs[0].subject)
        binding = binding_of(entry.predicate, refs[0])
        return disclose(stored, key, binding, refs[0].commitment, fetch=self.stored_artifact)

    def _refuse_erased(self, subject: str) -> None:
        """The log's word goes before the key store's: a back-up of the keys brings no erased subject back."""
        with self._database.read() as connection:
            row = subject_row(connection, subject)
        if row is not None and row["erased_index"] is not None:
            raise NotRetainedError(
                f"The subject {subject} was erased by event {row['erased_index']}. What was sealed for it cannot be "
                "read any more."
            )

    def has_model(self, digest: str) -> bool:
        """Whether a base model is registered."""
        return self._registered("model", digest) is not None

    def has_suite(self, digest: str) -> bool:
        """Whether a regression suite is registered."""
        return self._registered("suite", digest) is not None

    def has_policy(self, digest: str) -> bool:
        """Whether a policy was ever activated."""
        return self._registered("policy", digest) is not None

    def active_policy(self) -> str | None:
        """Digest of the policy that decides now; None before the first activation."""
        with self._database.read() as connection:
            return active_policy(connection)

    def policy_proposers(self, digest: str) -> dict[str, int]:
        """Who proposed a policy in the place of the one in force, and by which event."""
        with self._database.read() as connection:
            return proposers(connection, digest)

    def model(self, digest: str) -> ModelRegistered:
        """How a base model was registered.

        Raises:
            NotFoundError: it was not.
        """
        body = self._registration("model", digest).predicate.body
        if not isinstance(body, ModelRegistered):
            raise IntegrityError("The registrations do not follow from the log. Run `mass-gov log rebuild`.")
        return body

    def registered_before(self, kind: Literal["model", "policy", "suite"], digest: str, index: int) -> Entry:
        """The last event before `index` that registered a model or a suite, or activated a policy.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.read() as connection:
            found = registration_index(connection, kind, digest, before=index)
        if found is None:
            raise NotFoundError(f"No {kind} {digest[:16]} was registered before event {index}. Check the digest.")
        return self.entry(found)

    def suite_bytes(self, digest: str) -> bytes:
        """The file of a regression suite."""
        return self._registered_file("suite", digest)

    def policy_bytes(self, digest: str) -> bytes:
        """The file of a policy."""
        return self._registered_file("policy", digest)

    def _trusted(self, connection: Connection) -> KeyRing:
        """The key ring, brought up to what this transaction sees of the log."""
        keys = self._known_ring()
        with self._ring_lock:
            bring_up(connection, keys)
        return keys

    def _known_ring(self) -> KeyRing:
        if self._ring is None:
            raise IntegrityError("The log's first event was not read yet. Open the ledger with `Ledger.open`.")
        return self._ring

    def _registered(self, kind: str, digest: str) -> int | None:
        with self._database.read() as connection:
            return registration_index(connection, kind, digest)

    def _registration(self, kind: str, digest: str) -> Entry:
        index = self._registered(kind, digest)
        if index is None:
            raise NotFoundError(f"The {kind} {digest[:16]} is not registered in this ledger. Check the digest.")
        return self.entry(index)

    def _registered_file(self, kind: ArtifactRole, digest: str) -> bytes:
        content = self.artifact(self._registration(kind, digest), kind)
        if sha256_hex(content) != digest:
            raise IntegrityError(f"The {kind} {digest[:16]} is not the file that its digest names. Restore it.")
        return content
