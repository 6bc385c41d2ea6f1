"""One pass over the events: what they are, the tree above them, the heads that were signed, and what they mean.

Numbers as in `mass_gov.flows.audit`. Memory holds the right edge of the tree and one row of each level of it; names of
artifacts and ids of events lie in a notebook on disk. After an event that only a newer program can read,
bytes, tree and heads are still checked, and no meaning is derived.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from mass_gov.errors import IntegrityError
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.merkle import Frontier
from mass_gov.flows.audit_contents import ContentCheck
from mass_gov.flows.audit_decisions import DecisionCheck
from mass_gov.flows.audit_report import Findings
from mass_gov.flows.audit_standing import StandingCheck
from mass_gov.flows.audit_tree import TreeCheck
from mass_gov.ledger import Entry, RawLedger, Replica
from mass_gov.ledger.entries import learn, read_entry
from mass_gov.ledger.schema import log_events
from mass_gov.records.events import ChangeRecorded, ResponseServed


class LogCheck:
    """One pass over the events: (3) what they are, (4) the tree, (5) the signed heads, (8) to (10) what they mean."""

    def __init__(
        self,
        raw: RawLedger,
        replica: Replica,
        contents: ContentCheck,
        findings: Findings,
        keys: KeyRing,
        origin: str,
        frontier: Frontier,
    ) -> None:
        self.raw, self.replica, self.contents, self.findings = raw, replica, contents, findings
        self.decisions = DecisionCheck(contents, findings, contents.notes)
        self._standing = StandingCheck(findings, contents.notes)
        self.frontier = frontier
        self._keys, self._origin = keys, origin
        self.tree = TreeCheck(raw, findings, frontier)
        self._heads = raw.checkpoints()
        self._head = next(self._heads, None)
        self._last_signed = 0
        self._since: list[Entry] = []
        self._time = ""

    def run(self, sizes: Collection[int], roots: dict[int, bytes]) -> None:
        """Check every event; put the roots that the leaves give at `sizes` into `roots`."""
        total = self.raw.count(log_events)
        wanted = frozenset(sizes)
        for expected, row in enumerate(self.raw.events()):
            self.findings.checked(3, total)
            self.findings.checked(4)
            self.findings.count("events")
            leaf = self.tree.event(expected, row)  # (3), (4)
            entry = self._read(expected, leaf)
            if entry is not None and self.findings.cannot_check is None:
                self._mean(entry)
            self._check_heads(expected + 1)
            if expected + 1 in wanted:
                roots[expected + 1] = self.frontier.root()

    def checkpoints_end(self) -> None:
        """(5) The last event is signed for, and no head lies beyond it."""
        if self._last_signed != self.frontier.size:
            self.findings.wrong(
                5, f"log_checkpoints row {self.frontier.size}", "the end of the log has no signed head", None
            )
        while self._head is not None:
            self.findings.wrong(5, f"log_checkpoints row {self._head[0]}", "its size is not one that the log had")
            self._head = next(self._heads, None)

    def _read(self, index: int, leaf: bytes) -> Entry | None:
        """(3) The leaf is canonical, signed by its index's keys, a known event, of this log; clocks are looked at."""
        where = f"log_events row {index}, leaf"
        with self.findings.guard(3, where, index):
            entry = read_entry(index, leaf, self._keys)
            if entry.predicate.origin != self._origin:
                raise IntegrityError(f"It was signed for the log {entry.predicate.origin}. Restore the genuine event.")
            learn(self._keys, entry)  # keys are only ever learned from what was signed under the keys before
            self._event_id(index, entry.predicate.event_id)
            self._clock(entry)
            return entry
        return None

    def _event_id(self, index: int, event_id: str) -> None:
        """(3) No two events have one id."""
        if self.contents.notes.note("event", event_id) is not None:
            self.findings.wrong(3, f"log_events row {index}, event_id", f"{event_id} is an earlier event's", index)

    def _clock(self, entry: Entry) -> None:
        """(3) Times are what the operator's clock said; where they contradict the order, a person should look."""
        for before, after in ((self._time, entry.predicate.time), *pairwise(_stated_times(entry))):
            if after < before:
                self.findings.warn(f"The clock ran backwards at event {entry.index}: {after} < {before}.")
        self._time = entry.predicate.time

    def _mean(self, entry: Entry) -> None:
        """(8) to (10) Replay the event, look into its artifacts, and derive its decision again."""
        self._since.append(entry)
        change_id = change_of(entry)
        with self.findings.guard(8, f"event {entry.index}, {entry.predicate.body.type}", entry.index, change_id):
            self.replica.apply(entry)
        with self.findings.guard(9, f"event {entry.index}, artifacts", entry.index, change_id):
            self.contents.look(entry, change_id)  # (7), (9)
        with self.findings.guard(10, f"event {entry.index}", entry.index, change_id):
            self.decisions.look(entry, change_id)  # (10)
            self._standing.look(entry)  # (10)

    def _check_heads(self, size: int) -> None:
        """(5) A stored head verifies under the log's key of its last event and has the root of its size."""
        while self._head is not None and isinstance(self._head[0], int) and self._head[0] <= size:
            stored, note = self._head
            self.findings.checked(5)
            self.findings.count("checkpoints")
            with self.findings.guard(5, f"log_checkpoints row {stored}, note", size - 1):
                if not isinstance(note, bytes):
                    raise IntegrityError("It is not bytes. Restore it.")
                checkpoint = verify_head(note, self._origin, self._keys)
                if (checkpoint.size, stored, checkpoint.root) != (size, size, self.frontier.root()):
                    raise IntegrityError(f"It is no head of this log at size {size}. Restore the genuine log.")
                self._last_signed = size
            if self.findings.cannot_check is None:
                with self.findings.guard(8, f"append that ends at event {size - 1}", size - 1):
                    self.replica.settle(self._since)
            self._since = []
            self._head = next(self._heads, None)


def _stated_times(entry: Entry) -> tuple[str, ...]:
    """The times that an event states, in the order in which they must have come."""
    body, end = entry.predicate.body, entry.predicate.time
    if isinstance(body, ChangeRecorded):
        return body.change.identity.requested_at, body.change.identity.recorded_at, end
    if isinstance(body, ResponseServed) and body.unadapted is not None:
        return body.unadapted.requested_at, end
    return (end,)


def change_of(entry: Entry) -> str | None:
    """The change that an event is about, for the report."""
    body = entry.predicate.body
    if body.type == "change.recorded":
        return body.change.identity.change_id
    return getattr(body, "change_id", None)
