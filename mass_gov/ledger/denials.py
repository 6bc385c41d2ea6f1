"""Refusals, counted: a flood of them becomes a handful of events whose counts add up.

Rules:

- of one principal and one action there is at most one event a minute; the first refusal is logged at once
- what comes in between is counted in the table `denials`, which all processes share; refusals within a second of the
  last write stay in this process's memory until the next refusal of that kind, or the close. The first refusal after
  the minute, or the next process that closes the ledger after it, logs the sum
- a clean close writes down what is in memory. A crash loses what was there, one second's refusals of each kind at most,
  and what was just taken out of the table to be logged
- where nothing can be written (an auditor's ledger, or one without a policy yet), nothing is counted

Times are the ledger's clock. A clock that ran backwards logs at once rather than waiting for it to catch up.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection, RowMapping

from mass_gov.errors import MassGovError
from mass_gov.ledger.database import Database
from mass_gov.ledger.lookups import active_policy
from mass_gov.ledger.schema import denials
from mass_gov.records.base import timestamp
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import AccessDenied, Actor

INTERVAL = dt.timedelta(minutes=1)
"""Between two events of the same principal and action."""
_MEMORY = dt.timedelta(seconds=1)
"""How long refusals are counted in memory alone."""


@dataclass(frozen=True, slots=True)
class Denied:
    """Refusals of one principal and one action."""

    actor: Actor
    action: str
    tenant: str
    deployment: str
    change_id: str | None
    """What they were about, where that is one change."""
    count: int = 1

    @property
    def key(self) -> tuple[str, str]:
        """What is counted together."""
        return self.actor.principal, self.action

    def plus(self, other: Denied) -> Denied:
        """Both of them, under the newer one's role and place."""
        same = self.change_id if self.change_id == other.change_id else None
        return replace(other, change_id=same, count=self.count + other.count)


@dataclass
class DenialCounter:
    """Counts the refusals of one open ledger."""

    database: Database
    append: Callable[[list[EventDraft]], object]
    clock: Callable[[], dt.datetime]
    _memory: dict[tuple[str, str], Denied] = field(default_factory=dict)
    _written: dict[tuple[str, str], dt.datetime] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, denied: Denied) -> None:
        """Count a refusal, and log it with those before it when it is time.

        Raises:
            OutageError: the database cannot be written; the refusal stays counted in memory.
        """
        key = denied.key
        with self._lock:
            before = self._memory.get(key)
            self._memory[key] = denied if before is None else before.plus(denied)
            now, last = self.clock(), self._written.get(key)
            if last is None or not dt.timedelta(0) <= now - last < _MEMORY:
                self._write(key, now)

    def close(self) -> None:
        """Write down what is in memory, and log what has waited long enough, whoever counted it.

        Raises:
            OutageError: what is in memory cannot be written. What waits in the table waits for the next process.
        """
        with self._lock:
            now = self.clock()
            for key in list(self._memory):
                self._write(key, now)
            with suppress(MassGovError):
                for key in self._waiting(now):
                    self._write(key, now)

    def _waiting(self, now: dt.datetime) -> list[tuple[str, str]]:
        with self.database.read() as connection:
            rows = connection.execute(select(denials).where(denials.c.count > 0)).mappings().all()
        return [(row["principal"], row["action"]) for row in rows if _due(row, now)]

    def _write(self, key: tuple[str, str], now: dt.datetime) -> None:
        held = self._memory.get(key)
        with self.database.write() as connection:
            due, policy = self._settle(connection, key, held, now), active_policy(connection)
        self._memory.pop(key, None)  # from here on the table has it, or `due`
        self._written[key] = now
        if due is None or policy is None:
            return
        body = AccessDenied(action=due.action, policy=policy, change_id=due.change_id, count=due.count)
        try:
            self.append([EventDraft(due.actor, due.tenant, due.deployment, body)])
        except BaseException:
            self._memory[key] = due  # counted still: the next refusal, or the close, writes it down
            raise

    def _settle(
        self, connection: Connection, key: tuple[str, str], held: Denied | None, now: dt.datetime
    ) -> Denied | None:
        """Put what is in memory into the table, or take everything out of it to be logged."""
        wanted = (denials.c.principal == key[0]) & (denials.c.action == key[1])
        row = connection.execute(select(denials).where(wanted)).mappings().first()
        counted = _counted(row) if row is not None and row["count"] else None
        total = held if counted is None else counted if held is None else counted.plus(held)
        if total is None:
            return None
        due = row is None or _due(row, now)
        values = {
            "role": total.actor.role,
            "tenant": total.tenant,
            "deployment": total.deployment,
            "change_id": None if due else total.change_id,
            "count": 0 if due else total.count,
            "logged_at": timestamp(now) if row is None or due else row["logged_at"],
        }
        if row is None:
            connection.execute(insert(denials), {"principal": key[0], "action": key[1], **values})
        else:
            connection.execute(update(denials).where(wanted).values(values))
        return total if due else None


def _counted(row: RowMapping) -> Denied:
    actor = Actor(principal=row["principal"], role=row["role"])
    return Denied(actor, row["action"], row["tenant"], row["deployment"], row["change_id"], int(row["count"]))


def _due(row: RowMapping, now: dt.datetime) -> bool:
    return not dt.timedelta(0) <= now - dt.datetime.fromisoformat(row["logged_at"]) < INTERVAL
