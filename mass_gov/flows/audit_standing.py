"""Depth, budget and cooldown of each change, derived again from the log: part of step (10) of `mass_gov.flows.audit`.

Rules: the definitions are those of `mass_gov.policy.standing`, by their numbers. A change names how much of the log it
was decided on; that may be less than stands before it, because others record meanwhile, and it is never more. Where a
tenant's changes pile up in between, far beyond what a race explains, a person is told.

What has to be remembered of every change goes into the notebook on disk; the newest of each tenant stay in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from mass_gov.flows.audit_report import Findings
from mass_gov.ledger import Entry
from mass_gov.ledger.notebook import Notebook
from mass_gov.policy.standing import FROM_THE_LOG, Spent, Standing, log_measures, since, spent_before
from mass_gov.records.change import ChangeBody
from mass_gov.records.events import ChangeRecorded, ChangeRolledBack

_NEWEST = 256
"""Changes of a tenant that stay in memory."""
_RACE = 16
"""Changes of one tenant that may have been under way at once before a person should look."""


class StandingCheck:
    """Looks at changes and rollbacks as they pass by, in the order of the log."""

    def __init__(self, findings: Findings, notes: Notebook) -> None:
        self._findings, self._notes = findings, notes
        self._counted: dict[str, int] = {}
        self._newest: dict[str, deque[tuple[int, Spent]]] = {}

    def look(self, entry: Entry) -> None:
        """(10) Derive again what an event was told by the log before it, and remember it for later ones."""
        match entry.predicate.body:
            case ChangeRecorded(change=change):
                self._derive(entry, change)
                self._remember(entry.index, change)
            case ChangeRolledBack():
                place = f"rollback {entry.predicate.tenant}/{entry.predicate.deployment}"
                self._note(place, f"{entry.index} {entry.predicate.time}")

    def _derive(self, entry: Entry, change: ChangeBody) -> None:
        recorded = tuple(measure for measure in change.measures or () if measure.name in FROM_THE_LOG)
        size, change_id = change.log_size, change.identity.change_id
        if not recorded and size is None:
            return
        where = f"event {entry.index}, measures"
        self._findings.checked(10)
        if size is None or not recorded or size > entry.index:
            what = f"it was decided on {size} events of the log, and {entry.index} stand before it"
            self._findings.wrong(10, where, what, entry.index, change_id)
            return
        names = {measure.name for measure in recorded}
        standing = self._standing(change, size)
        derived = {measure.name: measure for measure in log_measures(standing, int(change.cost.flops), names)}
        for was in recorded:
            if was != (now := derived[was.name]):
                what = f"{was.name}: {was.value} (n {was.n}) is recorded, the log gives {now.value} (n {now.n})"
                self._findings.wrong(10, where, what, entry.index, change_id)
        between = sum(1 for index, _ in self._newest.get(change.identity.tenant, ()) if index >= size)
        if between > _RACE:
            self._findings.warn(
                f"Change {change_id} (event {entry.index}) was decided without {between} changes that its tenant had "
                "recorded before: its budget did not count them."
            )

    def _standing(self, change: ChangeBody, size: int) -> Standing:
        identity = change.identity
        at, place = identity.recorded_at, f"rollback {identity.tenant}/{identity.deployment}"
        depth = int(self._notes.find("depth of state", change.parents.parent_state) or 0)  # (2)
        changes, flops = spent_before(at, self._spent(identity.tenant, size))  # (3)
        last = next((text.split(" ")[1] for text in self._noted(place) if int(text.split(" ")[0]) < size), None)
        return Standing(at, size, depth, changes, flops, since(last, at))  # (4)

    def _spent(self, tenant: str, size: int) -> Iterator[Spent]:
        """(1) The tenant's changes among the first `size` events, the newest first."""
        newest = self._newest.get(tenant, ())
        yield from (spent for index, spent in reversed(newest) if index < size)
        for text in self._noted(f"spent {tenant}", skip=len(newest)):
            index, recorded_at, flops = text.split(" ")
            if int(index) < size:
                yield Spent(recorded_at, int(flops))

    def _remember(self, index: int, change: ChangeBody) -> None:
        tenant, spent = change.identity.tenant, Spent(change.identity.recorded_at, int(change.cost.flops))
        self._newest.setdefault(tenant, deque(maxlen=_NEWEST)).append((index, spent))
        self._note(f"spent {tenant}", f"{index} {spent.recorded_at} {spent.flops}")
        if change.update.delta is not None:
            depth = int(self._notes.find("depth of state", change.parents.parent_state) or 0) + 1
            self._notes.note("depth of state", change.update.state, str(depth))

    def _note(self, kind: str, text: str) -> None:
        number = self._counted.get(kind, 0)
        self._notes.note(kind, str(number), text)
        self._counted[kind] = number + 1

    def _noted(self, kind: str, skip: int = 0) -> Iterator[str]:
        """What was noted of a kind, the newest first."""
        for number in range(self._counted.get(kind, 0) - 1 - skip, -1, -1):
            yield self._notes.find(kind, str(number)) or ""
