"""Verify an export: one file, no database, no network.

The same numbers as `mass_gov.flows.audit`, of which an export allows:

    (2) trust root      the first event opens the log under the trusted key, by the hand-overs in the log
    (3) events          every line in its one form and its place; every leaf signed by the keys of its index
    (4) tree            the root over the leaves is the closing line's
    (5) checkpoints     every head verifies and has the root of its size; the last one covers the last event
    (6) outside         heads that were kept elsewhere, where a folder of them is given
    (7) artifacts       where they came along: exactly those that the leaf names, with their digests
    (12) witnesses      cosignatures in the file, and those kept outside, against the verifier's own policy

What it does not know: projections, contents and decisions, (8) to (10), which a restored ledger shows. Memory holds one
event and the right edge of the tree, whatever the file's length.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.export_lines import Closing, ExportedEvent, ExportReader
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.merkle import Frontier, leaf_hash
from mass_gov.evidence.signing import VerificationKey
from mass_gov.evidence.trust import TrustRoot
from mass_gov.evidence.witness_policy import WitnessPolicy
from mass_gov.flows.audit_heads import HeadCheck, Witnesses
from mass_gov.flows.audit_keys import anchor
from mass_gov.flows.audit_report import Findings, Progress, VerificationReport
from mass_gov.flows.log_export import named_artifacts
from mass_gov.ledger.entries import claimed_log_key, learn, read_entry
from mass_gov.ledger.outside import OutsideCheckpoints
from mass_gov.records.events import LogOpened

NOT_IN_AN_EXPORT = "steps 8 to 10 (projections, contents, decisions): restore the export into a ledger and verify that"


def verify_export(
    path: Path,
    *,
    keys: KeyStore | None = None,
    public_key: TrustRoot | VerificationKey | None = None,
    checkpoints: Path | None = None,
    witnesses: WitnessPolicy | None = None,
    max_age: int | None = None,
    now: int | None = None,
    progress: Progress | None = None,
) -> VerificationReport:
    """Verify an exported log. Arguments as in `audit.verify`; of `keys` only the public log keys are used.

    Raises:
        InputError: the file cannot be read.
    """
    root = TrustRoot(public_key) if isinstance(public_key, VerificationKey) else public_key
    clock = Witnesses(witnesses, max_age, int(time.time()) if now is None else now)
    audit = _ExportAudit(Findings(progress), keys, root, checkpoints, clock)
    try:
        with path.open("rb") as stream:
            return audit.run(ExportReader(stream))
    except OSError as error:
        raise InputError(f"The export {path} cannot be read: {error.strerror}. Check --export.") from error


class _ExportAudit:
    """One verification of one file: what is known so far."""

    def __init__(
        self,
        findings: Findings,
        keys: KeyStore | None,
        root: TrustRoot | None,
        checkpoints: Path | None,
        witnesses: Witnesses,
    ) -> None:
        self.findings, self.root = findings, root
        self.pins = (root.key,) if root else keys.public_keys("log") if keys else ()
        self.trust: Literal["key given", "key store", "consistency only"] = (
            "key given" if root else "key store" if keys else "consistency only"
        )
        self.outside = OutsideCheckpoints(checkpoints, lambda step: None) if checkpoints is not None else None
        self.sizes = self.outside.sizes() if self.outside is not None else []
        self.roots: dict[int, bytes] = {}
        self.heads = HeadCheck(findings, witnesses, self.roots)
        self.frontier = Frontier()
        self.ring: KeyRing | None = None
        self.origin = ""
        self.last_note: tuple[int, bytes] | None = None
        self.bare, self.sealed = 0, 0
        """Events whose artifacts are missing from the file, and those whose artifacts came along."""

    def run(self, reader: ExportReader) -> VerificationReport:
        """Read the file once, and say what it is worth."""
        wanted = frozenset(self.sizes)
        try:
            for event in reader:
                self._event(event)  # (2), (3), (4), (7)
                if event.note is not None:
                    self._head(event.index + 1, event.note)  # (5), (12)
                if event.index + 1 in wanted:
                    self.roots[event.index + 1] = self.frontier.root()
        except IntegrityError as error:
            self.findings.checked(3)
            self.findings.wrong(3, f"line {reader.index + 1}", str(error), reader.index)
        closing = reader.closing
        if closing is not None:
            self._closing(closing)  # (4), (5)
        return self._report(closing)

    def _event(self, event: ExportedEvent) -> None:
        self.findings.checked(3)
        self.findings.count("events")
        if event.index == 0:
            self._open(event.leaf)
        self.frontier.append(leaf_hash(event.leaf))
        if self.ring is not None:
            with self.findings.guard(3, f"event {event.index}, leaf", event.index):
                entry = read_entry(event.index, event.leaf, self.ring)
                if entry.predicate.origin != self.origin:
                    raise IntegrityError(f"It was signed for the log {entry.predicate.origin}. Get the genuine export.")
                learn(self.ring, entry)
        if event.artifacts:
            self.sealed += 1
            with self.findings.guard(7, f"event {event.index}, artifacts", event.index):
                self._artifacts(event)
        elif _named(event.leaf):
            self.bare += 1

    def _open(self, leaf: bytes) -> None:
        """(2) The first event opens a log under a key that it names; whether it is the trusted one is seen later."""
        self.findings.checked(2)
        with self.findings.guard(2, "event 0", 0):
            ring = KeyRing(claimed_log_key(leaf))
            opened = read_entry(0, leaf, ring)
            body = opened.predicate.body
            if not isinstance(body, LogOpened) or body.log_key != ring.at(0).keyid:
                raise IntegrityError("It does not open a log under the key that signed it. Get the genuine export.")
            self.ring, self.origin = ring, opened.predicate.origin
            self.heads.origin, self.heads.ring = self.origin, ring
            if self.root is not None and self.root.origin not in (None, self.origin):
                raise IntegrityError(f"The log is {self.origin}, and the trust root is pinned to {self.root.origin}.")

    def _artifacts(self, event: ExportedEvent) -> None:
        """(7) What came along is what the leaf names, all of it and nothing else."""
        for digest, stored in event.artifacts.items():
            self.findings.checked(7)
            if sha256_hex(stored) != digest:
                raise IntegrityError(f"The artifact {digest} is not the bytes that its digest names. Get it again.")
        if set(event.artifacts) != set(named_artifacts(event.leaf)):
            raise IntegrityError("Its artifacts are not those that its leaf names. Get the genuine export.")

    def _head(self, size: int, note: bytes) -> None:
        """(5) A signed head inside the file has the root that the leaves before it give."""
        self.findings.checked(5)
        self.findings.count("checkpoints")
        with self.findings.guard(5, f"event {size - 1}, note", size - 1):
            if self.ring is None:
                raise IntegrityError("The log's keys are not known. Mend its first event.")
            head = verify_head(note, self.origin, self.ring)
            if (head.size, head.root) != (size, self.frontier.root()):
                raise IntegrityError(f"It is no head of this log at size {size}. Get the genuine export.")
            self.last_note = (size, note)
        self.heads.size = size
        self.heads.look_inside(size, note, self.frontier.root())

    def _closing(self, closing: Closing) -> None:
        self.findings.checked(4)
        if closing.root != self.frontier.root().hex():
            self.findings.wrong(4, "closing line, root", "the events before it give another root", self._after_last())
        self.findings.checked(5)
        with self.findings.guard(5, "closing line, checkpoint", self._after_last()):
            if closing.origin != self.origin:
                raise IntegrityError(f"It closes the log {closing.origin[:80]}, not {self.origin}. Get it again.")
            if self.last_note is None or self.last_note != (closing.count, closing.checkpoint):
                raise IntegrityError("It is not the signed head of the last event. Get the genuine export.")
        if closing.artifacts and self.bare:
            what = f"{self.bare} events came without the artifacts that they name"
            self.findings.wrong(7, "artifacts", f"{what}. Get the genuine export")
        elif not closing.artifacts and self.sealed:
            what = f"the closing line says that it has no artifacts, and {self.sealed} events have"
            self.findings.wrong(7, "artifacts", f"{what}. Get the genuine export")
        elif self.bare:
            self.findings.skipped(7, f"the export came without artifacts, which {self.bare} events name")

    def _after_last(self) -> int:
        """The first event that no sound head covers."""
        return self.last_note[0] if self.last_note else 0

    def _report(self, closing: Closing | None) -> VerificationReport:
        findings, heads = self.findings, self.heads
        pinned = self._anchor()
        heads.size = self.frontier.size
        heads.outside(self.outside, self.sizes)
        witnessed = heads.finish()
        findings.unknown(NOT_IN_AN_EXPORT)
        for step in (1, 8, 9, 10, 11):
            findings.absent(step, "not in an export")
        if self.trust == "consistency only":
            findings.unknown("who wrote it: no trust root was given")
            findings.warn(
                "No trust root was given: this checks that the export agrees with itself, not who wrote it. "
                "Give --pubkey."
            )
        doubted = self.ring.doubted(self.frontier.size, pinned.keyid) if self.ring and pinned else ()
        for gap in doubted:
            if gap:
                findings.unknown(f"events {gap[0]} to {gap[-1]}: a log key that was stolen signed them, or handed over")
        return VerificationReport(
            ok=not findings.any_wrong() and findings.cannot_check is None and closing is not None,
            trust=self.trust,
            origin=self.origin or None,
            log_key=pinned.keyid if pinned else None,
            trusted_size=doubted[0].start if doubted else None,
            size=self.frontier.size,
            root=self.frontier.root().hex(),
            witnessed=witnessed,
            steps=findings.steps(),
            first_wrong=findings.first(),
            cannot_check=findings.cannot_check,
            counts=findings.counts,
            not_checked=findings.not_checked(),
            warnings=tuple(findings.warnings),
        )

    def _anchor(self) -> VerificationKey | None:
        """(2) The log is the trusted key's."""
        if self.ring is None:
            return None
        pinned = self.ring.at(0)
        with self.findings.guard(2, "event 0", 0):
            pinned = anchor(self.ring, self.pins)
        return pinned


def _named(leaf: bytes) -> tuple[str, ...]:
    """Artifacts that a leaf names; none where it is no event, which step (3) says."""
    try:
        return named_artifacts(leaf)
    except IntegrityError:
        return ()
