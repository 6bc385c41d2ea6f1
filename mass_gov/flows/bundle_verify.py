"""Verify a bundle: one change and everything that proves it, with no database, no network and no torch.

The procedure is numbered in docs/reference/verification.md, and here by the same numbers, which are the ledger's
(`mass_gov.flows.audit`) wherever the two do the same:

    (1) archive        the zip has its one form; every member is called for by an event, and none is missing
    (2) trust root     the first event opens the log under the trusted key, by the hand-overs in the bundle; the keys in
                       keys/ are those of the change's index
    (3) events         every leaf is signed by the keys of its index, is of this log, and `leaf.json` says what it says
    (4) inclusion      every event stands in the log under `checkpoint.txt`
    (5) checkpoint     it is signed by the log's keys, and covers every event
    (7) artifacts      sealed bytes have the digests, and data keys the commitments, that the leaf names; what is shown
                       is what is sealed
    (8) story          one change; every event is about it or needed to judge it, they follow one another, and they
                       agree about tenant, states, policy and suite
    (9) contents       as for a ledger, the delta's signature included
    (10) decisions     as for a ledger: derived again from the recorded metrics and the policy in the bundle; window
                       figures as they are recorded, since the changes that they follow from are not in it
    (12) witnesses     cosignatures on the checkpoint, against the verifier's own policy

Nothing is written to disk. What this cannot know: that nothing happened that the bundle leaves out (a later rollback,
the revocation of a key); the log itself, or a fresher bundle, says that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal

from mass_gov.errors import IntegrityError
from mass_gov.evidence.bundle import read_bundle
from mass_gov.evidence.bundle_members import DELTA_KEY, LOG_KEY
from mass_gov.evidence.checkpoint import Checkpoint
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.merkle import leaf_hash, verify_inclusion
from mass_gov.evidence.signing import VerificationKey
from mass_gov.evidence.tlog_proof import parse_proof
from mass_gov.evidence.trust import TrustRoot, check_fingerprint
from mass_gov.evidence.witness_policy import WitnessPolicy
from mass_gov.flows.audit_decisions import DecisionCheck
from mass_gov.flows.audit_heads import HeadCheck, Witnesses
from mass_gov.flows.audit_keys import anchor
from mass_gov.flows.audit_report import Fault, Findings, StepResult, VerificationReport, Witnessed
from mass_gov.flows.bundle_contents import BundleContents
from mass_gov.flows.bundle_parts import Parts, take_apart
from mass_gov.flows.bundle_story import check_story
from mass_gov.ledger import Entry
from mass_gov.ledger.entries import claimed_log_key, learn, read_entry
from mass_gov.records.change import ChangeBody
from mass_gov.records.events import ChangeRecorded, LogOpened

TITLES: dict[int, str] = {
    1: "archive",
    2: "trust root",
    3: "events",
    4: "inclusion",
    5: "checkpoint",
    7: "artifacts",
    8: "story",
    9: "contents",
    10: "decisions",
    12: "witnesses",
}


@dataclass(frozen=True, slots=True)
class BundleFault(Fault):
    """A fault of a bundle: as a ledger's, with the titles of this procedure."""

    def __str__(self) -> str:
        return f"step {self.step} ({TITLES[self.step]}): {self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class BundleReport(VerificationReport):
    """What a bundle proves. As a ledger's report, and of the change:

    Attributes:
        change_id, index: which change, and its place in the log; None where the bundle does not say.
        verdict: what was decided when it was recorded.
        became: types of the later events about it that the bundle holds, in the order of the log.
    """

    change_id: str | None
    index: int | None
    verdict: Literal["apply", "hold", "reject"] | None
    became: tuple[str, ...]


class BundleFindings(Findings):
    """Findings under the titles of this procedure."""

    def first(self) -> Fault | None:
        """The first fault in the order of the steps."""
        found = super().first()
        return None if found is None else _named(found)

    def steps(self) -> tuple[StepResult, ...]:
        """Every step of this procedure with its verdict."""
        return tuple(
            replace(step, title=TITLES[step.number], faults=tuple(_named(fault) for fault in step.faults))
            for step in super().steps()
            if step.number in TITLES
        )


def verify_bundle(
    data: bytes,
    *,
    public_key: TrustRoot | None = None,
    fingerprint: str | None = None,
    witnesses: WitnessPolicy | None = None,
    max_age: int | None = None,
    now: int | None = None,
) -> BundleReport:
    """Verify a bundle.

    Arguments:
        data: the zip.
        public_key: the log's key, from outside the bundle.
        fingerprint: its keyid, instead: the key itself may then come from the bundle.
        witnesses: whose cosignatures count; None where none are known.
        max_age: seconds since a quorum vouched for the head; older is a fault.
        now: seconds since 1970; None for this machine's clock.

    Raises:
        InputError: the fingerprint is not a whole keyid.
    """
    clock = Witnesses(witnesses, max_age, int(time.time()) if now is None else now)
    check = _BundleCheck(BundleFindings(), public_key, fingerprint, clock)
    with check.findings.guard(1, "archive"):
        check.findings.checked(1)
        check.run(take_apart(read_bundle(data)))  # (1)
    return check.report()


class _BundleCheck:
    """One verification: what is known so far."""

    def __init__(
        self, findings: BundleFindings, root: TrustRoot | None, fingerprint: str | None, witnesses: Witnesses
    ) -> None:
        self.findings, self.root, self.fingerprint = findings, root, fingerprint
        self.heads = HeadCheck(findings, witnesses, {})
        self.ring: KeyRing | None = None
        self.origin = ""
        self.anchor: VerificationKey | None = None
        self.head: Checkpoint | None = None
        self.entries: list[Entry] = []
        self.change: ChangeBody | None = None
        self.change_index: int | None = None
        self.witnessed: Witnessed | None = None
        self.trusted_size: int | None = None

    def run(self, parts: Parts) -> None:
        """Every step that can be done; what fails does not stop what can still be checked."""
        self.change_index = parts.change_index
        self._events(parts)  # (2), (3)
        self._head(parts)  # (5), (12)
        self._inclusion(parts)  # (4)
        if self.ring is None:
            return
        self._trust(parts, self.ring)  # (2)
        found = next((e for e in self.entries if e.index == parts.change_index), None)
        if found is None or not isinstance(found.predicate.body, ChangeRecorded):
            self.findings.checked(8)
            self.findings.wrong(8, "event.dsse.json", "it records no change", parts.change_index)
            return
        self.change = found.predicate.body.change
        check_story(self.entries, found, self.change, self.findings)  # (8)
        contents = BundleContents(parts, self.ring, self.findings)
        decisions = DecisionCheck(contents, self.findings, whole=False)
        for entry in self.entries:
            with self.findings.guard(9, f"event {entry.index}, artifacts", entry.index):
                contents.look(entry, self.change.identity.change_id)  # (7), (9)
            with self.findings.guard(10, f"event {entry.index}", entry.index):
                decisions.look(entry, self.change.identity.change_id)  # (10)
        contents.end(self.entries)  # (1), (7)

    def _events(self, parts: Parts) -> None:
        """(2) The first event opens the log; (3) each is read under the keys that those before it named."""
        ids = set()
        for index, event in sorted(parts.events.items()):
            self.findings.checked(3)
            self.findings.count("events")
            with self.findings.guard(3, event.where, index):
                if index == 0:
                    self.ring = KeyRing(claimed_log_key(event.leaf))
                if self.ring is None:
                    raise IntegrityError("The bundle lacks the event that opens the log. Export it again.")
                entry = read_entry(index, event.leaf, self.ring)
                self._origin(entry)
                learn(self.ring, entry)
                if entry.predicate.event_id in ids:
                    raise IntegrityError("Another event of the bundle has its id. Export it again.")
                ids.add(entry.predicate.event_id)
                self.entries.append(entry)

    def _origin(self, entry: Entry) -> None:
        body = entry.predicate.body
        if entry.index == 0:
            if not isinstance(body, LogOpened) or self.ring is None or body.log_key != self.ring.at(0).keyid:
                raise IntegrityError("It does not open a log under the key that signed it. Get the genuine bundle.")
            self.origin = entry.predicate.origin
        if entry.predicate.origin != self.origin:
            raise IntegrityError(f"It was signed for the log {entry.predicate.origin}. Get the genuine bundle.")

    def _trust(self, parts: Parts, ring: KeyRing) -> None:
        """(2) The trusted key is one of the log's; keys/ holds those of the change's index; nothing is in doubt."""
        self.findings.checked(2)
        self.anchor = ring.at(0)
        with self.findings.guard(2, "trust root", 0):
            if self.root is not None and self.root.origin not in (None, self.origin):
                raise IntegrityError(f"The log is {self.origin}, and the trust root is pinned to {self.root.origin}.")
            self.anchor = anchor(ring, self._pins(ring))
        for name, purpose in ((LOG_KEY, "log"), (DELTA_KEY, "delta")):
            with self.findings.guard(2, name, parts.change_index):
                if parts.members[name] != ring.at(parts.change_index, "log" if purpose == "log" else "delta").pem:
                    raise IntegrityError("It is not the key that the log names for this change. Get the genuine one.")
        doubted = ring.doubted(self.head.size if self.head else parts.change_index + 1, self.anchor.keyid)
        self.trusted_size = doubted[0].start if doubted else None
        for entry in self.entries:
            if any(entry.index in gap for gap in doubted):
                what = "a log key that was stolen signed it, or handed over: nobody knows who wrote it"
                self.findings.wrong(2, f"event {entry.index}", what, entry.index)
        if parts.change_index in ring.tenure_at(parts.change_index, "delta").doubted:
            self.findings.unknown("who made the delta: its signing key was stolen")

    def _pins(self, ring: KeyRing) -> tuple[VerificationKey, ...]:
        if self.root is not None:
            if self.fingerprint is not None:
                check_fingerprint(self.root.key, self.fingerprint)
            return (self.root.key,)
        if self.fingerprint is None:
            return ()
        keys = [tenure.key for tenure in ring if tenure.purpose == "log"]
        wanted = self.fingerprint.strip().lower().removeprefix("sha256:")
        pinned = next((key for key in keys if key.keyid == wanted), keys[0])
        check_fingerprint(pinned, self.fingerprint)
        return (pinned,)

    def _head(self, parts: Parts) -> None:
        """(5) The checkpoint is the log's; (12) who else saw it."""
        self.findings.checked(5)
        with self.findings.guard(5, "checkpoint.txt"):
            if self.ring is None:
                raise IntegrityError("The log's keys are not known. Mend its first event.")
            self.head = verify_head(parts.checkpoint, self.origin, self.ring)
            if self.head.size <= max(parts.events):
                raise IntegrityError(
                    f"It covers {self.head.size} events, and event {max(parts.events)} is in the bundle. Export again."
                )
        self.heads.origin, self.heads.ring = self.origin, self.ring
        if self.head is not None:
            self.heads.size = self.head.size
            self.heads.look_inside(self.head.size, parts.checkpoint, self.head.root)
        self.witnessed = self.heads.finish()

    def _inclusion(self, parts: Parts) -> None:
        """(4) Each proof is under this very checkpoint, at this very index."""
        for index, event in parts.events.items():
            self.findings.checked(4)
            with self.findings.guard(4, event.where.replace("event.dsse.json", "inclusion.tlog-proof"), index):
                proof = parse_proof(event.proof)
                if proof.checkpoint != parts.checkpoint or proof.index != index:
                    raise IntegrityError("It is a proof of another event, or under another head. Export it again.")
                if self.head is None:
                    raise IntegrityError("There is no sound head to prove it under. Get the genuine checkpoint.")
                verify_inclusion(leaf_hash(event.leaf), index, self.head.size, proof.hashes, self.head.root)

    def report(self) -> BundleReport:
        """Sum up."""
        findings, change = self.findings, self.change
        given = self.root is not None or self.fingerprint is not None
        if not given:
            findings.unknown("who wrote it: no trust root was given")
            findings.warn(
                "Only consistency was checked: this bundle agrees with itself, and keys that come along prove nothing "
                "about who wrote it. Give --pubkey or --fingerprint, from somebody whom you trust."
            )
        findings.unknown("what happened after, or beside, the events in the bundle: the log itself says that")
        at = self.change_index
        later = tuple(e.predicate.body.type for e in self.entries if at is not None and e.index > at)
        return BundleReport(
            ok=not findings.any_wrong() and findings.cannot_check is None and change is not None,
            trust="key given" if given else "consistency only",
            origin=self.origin or None,
            log_key=self.anchor.keyid if self.anchor else None,
            trusted_size=self.trusted_size,
            size=self.head.size if self.head else 0,
            root=self.head.root.hex() if self.head else "",
            witnessed=self.witnessed,
            steps=findings.steps(),
            first_wrong=findings.first(),
            cannot_check=findings.cannot_check,
            counts=findings.counts,
            not_checked=findings.not_checked(),
            warnings=tuple(findings.warnings),
            change_id=change.identity.change_id if change else None,
            index=at,
            verdict=change.decision.verdict if change else None,
            became=tuple(dict.fromkeys(kind for kind in later if not kind.startswith("key."))),
        )


def _named(fault: Fault) -> Fault:
    return BundleFault(fault.step, fault.where, fault.what, fault.index, fault.change_id)
