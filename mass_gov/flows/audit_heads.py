"""Heads that were kept elsewhere: steps (6) and (12) of `mass_gov.flows.audit`.

A head outside the database says two things: how long the log was, and what it was. Whoever holds the log's key can
write another log and sign it, so the log's own word settles nothing between two logs; a witness's does.

Rules: a head that bears the verified cosignature of a known witness is judged under (12), and every other one under
(6). Where a head does not fit, the last one before it that does bounds the first event that can be wrong. Of what
witnesses say, only the verifier's own policy decides what counts.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, insort
from dataclasses import dataclass, field

from mass_gov.errors import IntegrityError
from mass_gov.evidence.checkpoint import Checkpoint, NoteSignature, open_note, read_checkpoint
from mass_gov.evidence.cosignature import Cosignature, cosignatures
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.witness_policy import NO_QUORUM, WitnessedBy, WitnessPolicy
from mass_gov.flows.audit_report import Findings, Witnessed
from mass_gov.ledger.outside import OutsideCheckpoints

NO_POLICY = "no witness policy was given (--witnesses): whether anybody else saw this head is not known"


@dataclass(frozen=True, slots=True)
class Witnesses:
    """The verifier's configuration: whose cosignatures count, how old a head may be, and what time it is.

    Attributes:
        policy: None where no witnesses are known to the verifier.
        max_age: seconds; None for any age. Needs a policy.
        now: seconds since 1970.
    """

    policy: WitnessPolicy | None
    max_age: int | None
    now: int


@dataclass
class HeadCheck:
    """Collects kept heads, judges each, and says in the end how far a quorum stands.

    Attributes:
        roots: size -> root that the leaves give, filled while the log is read.
    """

    findings: Findings
    witnesses: Witnesses
    roots: dict[int, bytes]
    origin: str = ""
    ring: KeyRing | None = None
    size: int = 0
    _agreed: list[int] = field(default_factory=list)
    _claimed: set[str] = field(default_factory=set)
    _quorum: tuple[int, WitnessedBy] | None = None
    _newest: tuple[int, WitnessedBy] | None = None

    def outside(self, outside: OutsideCheckpoints | None, sizes: list[int]) -> None:
        """(6), (12): every checkpoint outside verifies, and the log holds it: as long as it, with the same root."""
        if outside is None or self.ring is None:
            self.findings.skipped(6, "no folder of checkpoints was given" if outside is None else "no trust root")
            return
        self._say_what_is_above(outside, sizes)
        for size in sizes:
            for note in outside.notes(size):
                self.look(size, note, len(sizes))

    def look_inside(self, size: int, note: bytes, root: bytes) -> None:
        """(12): a head that came with the events themselves, and was compared with their `root` under (5)."""
        if found := self._cosignatures(size, note):
            outer = self.roots.get(size)
            self.roots[size] = root
            self._judge(12, size, note, found)
            if outer is None:
                del self.roots[size]

    def look(self, size: int, note: bytes, total: int = 0) -> None:
        """(6) or (12): one head that was kept elsewhere, and is said to be of `size`."""
        found = self._cosignatures(size, note)
        self._judge(12 if found else 6, size, note, found, total)

    def _cosignatures(self, size: int, note: bytes) -> tuple[Cosignature, ...]:
        """Those of known witnesses; one that claims to be and does not verify is a fault."""
        self._claimed.update(line.name for line in _lines(note) if line.name != self.origin)
        found: tuple[Cosignature, ...] = ()
        if self.witnesses.policy is not None:
            with self.findings.guard(12, f"cosigned head of size {size}", self._bound(size)):
                found = cosignatures(note, self.witnesses.policy.witnesses.values())
        return found

    def _judge(self, step: int, size: int, note: bytes, found: tuple[Cosignature, ...], total: int = 0) -> None:
        self.findings.checked(step, total)
        where = f"{'cosigned head' if found else 'checkpoint outside'} of size {size}"
        with self.findings.guard(step, where, self._bound(size)):
            if self._holds(step, where, size, note, found) and self.witnesses.policy is not None and found:
                self._count(size, self.witnesses.policy.judge(found, self.witnesses.now))

    def _bound(self, size: int) -> int:
        """The first event that can differ where the head of `size` does not fit: behind the last head that fits."""
        place = bisect_left(self._agreed, size)
        return min(self._agreed[place - 1] if place else 0, self.size)

    def finish(self) -> Witnessed | None:
        """(12) Sum up: the newest head that a quorum has cosigned, and how old it is."""
        policy = self.witnesses.policy
        if policy is None:
            claimed = f". It bears lines of {', '.join(sorted(self._claimed)[:4])}" if self._claimed else ""
            self.findings.skipped(12, NO_POLICY + claimed)
            return None
        self.findings.checked(12)
        self._right_log(policy)
        if self._quorum is None and policy.quorum != NO_QUORUM:
            by = ", ".join(c.witness.name for c in self._newest[1].counted) if self._newest else "nobody"
            self.findings.wrong(12, "witnesses", f"no head of this log has a quorum: cosigned by {by}", 0)
            return None
        return self._age(self._quorum)

    def _holds(self, step: int, where: str, size: int, note: bytes, found: tuple[Cosignature, ...]) -> bool:
        """The log is as long as a head and had its root; faults name the first event that can be wrong."""
        head = self._read(note, size)
        who = f" and {' and '.join(sorted({c.witness.name for c in found}))} cosigned it" if found else ""
        if head.size != size:
            what = f"a head of {head.size} events stands under the name of {size}: an older one was put in its place"
            self.findings.wrong(step, where, f"{what}. Get the head of this size again", self._bound(size))
            return False
        if size > self.size:
            what = f"the log has {self.size} events, and a signed head of {head.size} is known{who}"
            self.findings.wrong(step, where, f"{what}. Events were taken away: restore them", self.size)
            return False
        if head.root != self.roots.get(size):
            what = f"the log was another one when this head was signed{who}: it was forked or rewritten"
            bound = self._bound(size)
            first = f"event {bound}" if bound == size - 1 else f"one of events {bound} to {size - 1}"
            self.findings.wrong(step, where, f"{what}. The first that differs is {first}", bound)
            return False
        if size not in self._agreed[-1:]:
            insort(self._agreed, size)
        return True

    def _read(self, note: bytes, size: int) -> Checkpoint:
        if self.ring is None:
            raise IntegrityError("The log's keys are not known, so this head cannot be judged. Mend its first event.")
        if size <= self.size:
            return verify_head(note, self.origin, self.ring)
        try:
            return verify_head(note, self.origin, self.ring)
        except IntegrityError:
            # Signed by a key that one of the missing events may name: what matters is that it is longer.
            head = read_checkpoint(note)
            if head.origin != self.origin or head.size != size:
                raise
            return head

    def _count(self, size: int, judged: WitnessedBy) -> None:
        for early in judged.early:
            when = f"at {_stamp(early.time)}, which is still to come"
            self.findings.warn(f"{early.witness.name} cosigned size {size} {when}: not counted.")
        if self._newest is None or size >= self._newest[0]:
            self._newest = (size, judged)
        if judged.quorum and (self._quorum is None or size >= self._quorum[0]):
            self._quorum = (size, judged)

    def _right_log(self, policy: WitnessPolicy) -> None:
        keys = {tenure.key.keyid for tenure in self.ring or () if tenure.purpose == "log"}
        if policy.logs and not any(name == self.origin and key.keyid in keys for name, key in policy.logs):
            self.findings.wrong(12, "witness policy", f"it names other logs than {self.origin or 'this one'}", 0)

    def _age(self, quorum: tuple[int, WitnessedBy] | None) -> Witnessed | None:
        size = quorum[0] if quorum else 0
        if size < self.size and quorum is not None:
            above = f"events {size} to {self.size - 1} stand above the newest head that a quorum has cosigned"
            self.findings.unknown(f"step 12 (witnesses): {above}")
            self.findings.warn(f"{above[0].upper()}{above[1:]}: they could still be replaced.")
        since = quorum[1].since if quorum else None
        age = None if since is None else max(0, self.witnesses.now - since)
        limit = self.witnesses.max_age
        if limit is not None and (age is None or age > limit):
            how = "at no known time" if since is None else f"at {_stamp(since)}, {_span(age or 0)} ago"
            what = f"a quorum vouched for it last {how}, and the limit is {_span(limit)}. Ask for a fresh head"
            self.findings.wrong(12, f"head of size {size}", what, size)
        if quorum is None:
            return None
        return Witnessed(size, tuple(c.witness.name for c in quorum[1].counted), since, age)

    def _say_what_is_above(self, outside: OutsideCheckpoints, sizes: list[int]) -> None:
        if not sizes:
            why = f"no checkpoint stands in {outside.folder}: events taken off the end go unseen"
            self.findings.skipped(6, why)
            self.findings.warn(f"{why[0].upper()}{why[1:]}.")
        elif sizes[-1] < self.size:
            self.findings.warn(
                f"Events {sizes[-1]} to {self.size - 1} stand above the newest checkpoint outside: this folder would "
                "not show it if they were taken away."
            )


def _lines(note: bytes) -> tuple[NoteSignature, ...]:
    try:
        return open_note(note)[1]
    except IntegrityError:
        return ()  # step (6) says so


def _stamp(seconds: int) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s after 1970"


def _span(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
