"""Verify a ledger: recompute everything from the stored bytes and name the first thing that is wrong.

The procedure is numbered in docs/reference/verification.md, and here by the same numbers:

    (1) schema  (2) trust root  (3) events  (4) tree  (5) checkpoints  (6) checkpoints outside  (7) artifacts
    (8) projections  (9) contents  (10) decisions  (11) storage  (12) witnesses

Rules: nothing in the database is believed before it is proven from the trust root, which comes from outside it. A
fault never stops what can still be checked. One snapshot, one pass over the events; no torch, no network, no writing.
What this does not know: whether the log is all there is (a witness or the checkpoints outside know that), and whether
the metrics in a leaf are what a model would give (`replay` knows that).
"""

from __future__ import annotations

import time
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from mass_gov.errors import IntegrityError, LedgerUnavailableError
from mass_gov.evidence.keyring import KeyRing
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.merkle import Frontier
from mass_gov.evidence.signing import VerificationKey
from mass_gov.evidence.trust import TrustRoot
from mass_gov.evidence.witness_policy import WitnessPolicy
from mass_gov.flows.audit_contents import ContentCheck
from mass_gov.flows.audit_copy import compare_copy
from mass_gov.flows.audit_heads import HeadCheck, Witnesses
from mass_gov.flows.audit_keys import anchor, doubts
from mass_gov.flows.audit_log import LogCheck
from mass_gov.flows.audit_predecessor import check_predecessor
from mass_gov.flows.audit_report import Fault, Findings, Progress, StepResult, VerificationReport, Witnessed
from mass_gov.flows.audit_scan import Only, Part, scan
from mass_gov.flows.audit_signatures import Signed
from mass_gov.ledger import Entry, Ledger, RawLedger, Replica
from mass_gov.ledger.address import Address
from mass_gov.ledger.entries import claimed_log_key, learn, read_entry
from mass_gov.ledger.notebook import Notebook
from mass_gov.ledger.outside import OutsideCheckpoints
from mass_gov.ledger.schema import PROJECTIONS
from mass_gov.records.events import LogOpened, Predecessor

__all__ = ["Fault", "StepResult", "VerificationReport", "verify"]

Trust = Literal["key given", "key store", "consistency only"]


def verify(
    ledger: Ledger | Address | Path | str,
    *,
    keys: KeyStore | None = None,
    public_key: TrustRoot | VerificationKey | None = None,
    checkpoints: Path | None = None,
    witnesses: WitnessPolicy | None = None,
    max_age: int | None = None,
    against: Path | None = None,
    now: int | None = None,
    only: Only | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> VerificationReport:
    """Verify a ledger, open or as a file.

    Arguments:
        ledger: an open ledger (its keys and its checkpoint folder are used unless others are given), a file, or an
            address.
        keys: opens artifacts, so that their contents are checked as well; its log key is a trust root.
        public_key: the trust root, from outside; stronger than the key store's.
        checkpoints: the folder of checkpoints outside the database.
        witnesses: the verifier's own policy: whose cosignatures count, and how many.
        max_age: seconds since a quorum last vouched for the newest head that it cosigned; older is a fault.
        against: an export that was kept from before, to find the first event that differs from it.
        now: seconds since 1970; by default this machine's clock.
        only: a part of it, much faster: hashes, order and `tree`, or all `signatures` as well. None is everything.
        processes: how many check signatures, where only they are wanted. More than one need a main module that can be
            imported again without effect (`multiprocessing`, "spawn").
        progress: called with (step, done, total).

    Raises:
        LedgerUnavailableError: there is no such file, or it cannot be read.
    """
    if isinstance(ledger, Ledger):
        keys, checkpoints = keys or ledger.keys, checkpoints or ledger.checkpoints
        address = ledger.address
    else:
        address = Address.of(ledger)
    root = TrustRoot(public_key) if isinstance(public_key, VerificationKey) else public_key
    clock = Witnesses(witnesses, max_age, int(time.time()) if now is None else now)
    audit = _Audit(Findings(progress), keys, root, checkpoints, clock, against)
    # Read before the snapshot: of who appends meanwhile, a head that is kept outside is then never newer than the log.
    audit.sizes = audit.outside_sizes()
    try:
        with RawLedger.open(address) as raw:
            if not raw.schema() and not audit.sizes:
                raise LedgerUnavailableError(f"{address} holds no ledger yet. Run `mass-gov init` to make one.")
            audit.run(raw, only and Part(address, only, processes))
    except IntegrityError as error:
        audit.findings.wrong(1, address.short, str(error))
    return audit.report()


class _Audit:
    """One verification: what is known so far, and the steps that add to it."""

    def __init__(
        self,
        findings: Findings,
        keys: KeyStore | None,
        root: TrustRoot | None,
        checkpoints: Path | None,
        witnesses: Witnesses,
        against: Path | None,
    ) -> None:
        self.findings = findings
        self.keys = keys
        self.root = root
        self.outside = OutsideCheckpoints(checkpoints, lambda step: None) if checkpoints is not None else None
        self.predecessor: Predecessor | None = None
        self.trust: Trust = "key given" if root else "key store" if keys else "consistency only"
        self.pins = (root.key,) if root else keys.public_keys("log") if keys else ()
        self.ring: KeyRing | None = None
        self.anchor: VerificationKey | None = None
        self.trusted_size: int | None = None
        self.origin: str | None = None
        self.frontier = Frontier()
        self.sizes: list[int] = []
        self.roots: dict[int, bytes] = {}
        """Size -> root that the leaves give, for every size that has a checkpoint outside."""
        self.heads = HeadCheck(findings, witnesses, self.roots)
        self.witnessed: Witnessed | None = None
        self.against = against
        self.notes = Notebook()

    def outside_sizes(self) -> list[int]:
        """Sizes of the checkpoints outside; none where no folder was given."""
        return self.outside.sizes() if self.outside is not None else []

    def run(self, raw: RawLedger, part: Part | None = None) -> None:
        """Run every step that can be run, or those of a part."""
        replica = Replica()
        try:
            self._schema(raw, replica)  # (1)
            if self._trust_root(raw) and part is not None:  # (2)
                self._scan(raw, part)  # (3), (4), (5)
            elif part is None:
                self._log(raw, replica)  # (3) to (10)
            self._outside(raw)  # (6), (12)
            if part is None:
                self._storage(raw)  # (11)
        finally:
            replica.close()
            self.notes.close()

    def report(self) -> VerificationReport:
        """Sum up."""
        findings = self.findings
        if self.trust == "consistency only":
            findings.unknown("who wrote it: no trust root was given")
            findings.warn(
                "No trust root was given: this checks that the log agrees with itself, not who wrote it. "
                "Give --pubkey, or the key store."
            )
        return VerificationReport(
            ok=not findings.any_wrong() and findings.cannot_check is None,
            trust=self.trust,
            origin=self.origin,
            log_key=self.anchor.keyid if self.anchor else None,
            trusted_size=self.trusted_size,
            size=self.frontier.size,
            root=self.frontier.root().hex(),
            witnessed=self.witnessed,
            steps=findings.steps(),
            first_wrong=findings.first(),
            cannot_check=findings.cannot_check,
            counts=findings.counts,
            not_checked=findings.not_checked(),
            warnings=tuple(findings.warnings),
        )

    def _schema(self, raw: RawLedger, replica: Replica) -> None:
        """(1) Tables, indexes and triggers are exactly what the migrations make; the revision is this program's.

        A schema that an older release made is no fault; it is to be brought up first.
        """
        self.findings.checked(1)
        with self.findings.guard(1, "schema"):
            found, wanted = raw.schema(), raw.wanted_schema(replica)
            if found != wanted:
                raw.refuse_older()
            for name in sorted(found.keys() | wanted.keys()):
                if found.get(name) != wanted.get(name):
                    what = "is missing" if name not in found else "is extra" if name not in wanted else "was altered"
                    self.findings.wrong(1, name, f"it {what}. Restore the schema from a back-up")
        with self.findings.guard(1, "alembic_version"):
            if self.findings.cannot_check is None and raw.revisions() != replica.revisions():
                rows = [str(row[0])[:40] for row in raw.revisions()]
                self.findings.wrong(
                    1,
                    "alembic_version row, version_num",
                    f"{rows} is not this program's revision. If a newer mass-gov made it, upgrade; else restore it",
                )

    def _trust_root(self, raw: RawLedger) -> bool:
        """(2) The first event opens the log under a key that it names itself. `_anchor` judges it."""
        self.findings.checked(2)
        with self.findings.guard(2, "log_events row 0, leaf", index=0):
            first = next(raw.events(), None)
            if first is None or not isinstance(first[1], bytes):
                raise IntegrityError("The log has no first event. Restore the database from a back-up.")
            self.ring = KeyRing(claimed_log_key(first[1]))
            self._open(read_entry(0, first[1], self.ring), self.ring)
        return self.origin is not None

    def _open(self, opened: Entry, ring: KeyRing) -> None:
        body = opened.predicate.body
        if not isinstance(body, LogOpened) or body.log_key != ring.at(0).keyid:
            raise IntegrityError("It does not open a log under the key that signed it. Restore it.")
        self.origin, self.predecessor = opened.predicate.origin, body.predecessor
        with self.findings.guard(2, "log_events row 0, delta_public_key", index=0):
            learn(ring, opened)
        if self.root is not None and self.root.origin not in (None, self.origin):
            raise IntegrityError(f"The log is {self.origin}, and the trust root is pinned to {self.root.origin}.")

    def _anchor(self, raw: RawLedger, ring: KeyRing) -> None:
        """(2) The log is the trusted key's, by the hand-overs that were read; and how far it is believed."""
        self.anchor = ring.at(0)  # the rest can still be checked against itself
        with self.findings.guard(2, "log_events row 0", index=0):
            self.anchor = anchor(ring, self.pins)
        with self.findings.guard(2, "log_keys"):
            self.trusted_size = doubts(ring, self.anchor, raw, self.frontier.size, self.findings)

    def _log(self, raw: RawLedger, replica: Replica) -> None:
        if self.ring is None or self.origin is None:
            return
        contents = ContentCheck(raw, self.keys, self.ring, self.findings, self.notes)
        log = LogCheck(raw, replica, contents, self.findings, self.ring, self.origin, self.frontier)
        with self.findings.guard(3, "log_events"):
            log.run(self.sizes, self.roots)  # (3), (4), (5), and per event (7) to (10)
        self._anchor(raw, self.ring)  # (2)
        with self.findings.guard(4, "log_nodes"):
            log.tree.ends()  # (4)
        with self.findings.guard(5, "log_checkpoints"):
            log.checkpoints_end()  # (5)
        contents.erased_subjects()  # (9)
        if self.findings.cannot_check is not None:
            return  # what a newer program named and derived is not this one's to judge
        with self.findings.guard(7, "artifacts"):
            contents.stored_rows()  # (7)
        _compare_projections(raw, replica, self.findings)  # (8)

    def _scan(self, raw: RawLedger, part: Part) -> None:
        if self.ring is None or self.origin is None:
            return
        signed = Signed(self.origin, self.ring)
        scan(raw, part, signed, self.frontier, self.findings, self.sizes, self.roots)
        self._anchor(raw, self.ring)  # (2)

    def _outside(self, raw: RawLedger) -> None:
        """(6), (12) What was kept outside the database: heads, cosigned heads, a copy of the log."""
        heads = self.heads
        heads.origin, heads.ring, heads.size = self.origin or "", self.ring, self.frontier.size
        if self.origin is None:
            self.findings.skipped(6, "no trust root")
        else:
            heads.outside(self.outside, self.sizes)
            self._predecessor()
        if self.against is not None and self.ring is not None:
            compare_copy(self.against, raw, heads.origin, self.ring, self.findings)
        self.witnessed = heads.finish()

    def _predecessor(self) -> None:
        """(6) The log that this one succeeds ended where the first event says."""
        if self.predecessor is not None and self.ring is not None:
            folder = self.outside.folder if self.outside is not None else None
            check_predecessor(self.predecessor, self.ring, self.keys, folder, self.findings)

    def _storage(self, raw: RawLedger) -> None:
        """(11) The engine's own check of its pages and indexes."""
        with self.findings.guard(11, "database file"):
            found = raw.storage()
            for fault in found.faults:
                self.findings.wrong(11, "database file", fault)
            if not found.ran:
                self.findings.skipped(11, found.unasked)
                return
            self.findings.remark(11, found.unasked)
        self.findings.checked(11)


def _compare_projections(raw: RawLedger, replica: Replica, findings: Findings) -> None:
    """(8) Every row of every projection is what the log gives, and there is no other."""
    for table in PROJECTIONS:
        names = [column.name for column in table.columns]
        keys = [column.name for column in table.primary_key.columns]
        with findings.guard(8, table.name):
            for found, wanted in zip_longest(raw.rows(table), replica.rows(table)):
                findings.checked(8)
                if found is not None and found == wanted and [*map(type, found)] == [*map(type, wanted)]:
                    continue
                row = dict(zip(names, wanted if wanted is not None else found, strict=True))
                place = f"{table.name} row {', '.join(str(row[key]) for key in keys)}"
                differing = "" if found is None or wanted is None else _columns(names, found, wanted)
                what = "is missing" if found is None else "is extra" if wanted is None else "is not what the log gives"
                change = row.get("change_id")
                findings.wrong(8, place + differing, f"it {what}; run `mass-gov log rebuild`", None, _text(change))
                break  # rows after it are compared out of step


def _columns(names: list[str], found: tuple[object, ...], wanted: tuple[object, ...]) -> str:
    return ", " + ", ".join(name for name, a, b in zip(names, found, wanted, strict=True) if a != b)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
