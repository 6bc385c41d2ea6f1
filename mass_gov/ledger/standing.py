"""What a tenant spent, when its deployment was last rolled back, and which changes stand in its windows.

Rules: a figure is read from the signed event, never from a projection; which event, the projections say. What one
change cost and measured never changes, so both are kept in memory for the next request, for so many changes; those of a
change that this process itself recorded are kept from the moment that it is durable.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from sqlalchemy import BigInteger, Integer, bindparam, func, select

from mass_gov.errors import IntegrityError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.ledger.database import Database
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.incident_reader import IncidentReader
from mass_gov.ledger.schema import changes
from mass_gov.policy.monitors.windows import Past, past_of
from mass_gov.policy.standing import Spent
from mass_gov.records.change import ChangeBody, Scope
from mass_gov.records.events import ChangeRecorded

_PAGE = 64
"""Changes that are looked up at first; every further page is twice as long."""
_MOST_SPENT, _MOST_PAST = 20_000, 1_000

# Made once: a statement takes longer to make than to run.
_ALL = 2**62
_OF_TENANT, _OF_PLACE = changes.c.tenant == bindparam("tenant"), changes.c.deployment == bindparam("deployment")
_NEWEST = select(changes.c.index).where(_OF_TENANT & (changes.c.index < bindparam("before", type_=BigInteger)))
_SPENDING = _NEWEST.order_by(changes.c.index.desc()).limit(bindparam("page", type_=Integer))
_PAST = _SPENDING.where(
    _OF_PLACE & changes.c.delta.is_not(None) & changes.c.scope.in_(bindparam("scopes", expanding=True))
)
_ROLLED_BACK = select(func.max(changes.c.rollback_index)).where(
    _OF_TENANT & _OF_PLACE & (changes.c.rollback_index < bindparam("before", type_=BigInteger))
)

Figure = TypeVar("Figure")


class _Newest(Generic[Figure]):
    """The last `most` figures by the log index that they are of, safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self._most, self._by_index, self._lock = most, dict[int, Figure](), threading.Lock()

    def get(self, index: int) -> Figure | None:
        return self._by_index.get(index)

    def keep(self, index: int, figure: Figure) -> Figure:
        with self._lock:
            self._by_index[index] = figure
            if len(self._by_index) > self._most:
                del self._by_index[next(iter(self._by_index))]
        return figure


class StandingReader(IncidentReader):
    """The part of a ledger that budgets, cooldowns and window monitors ask. Made by `Ledger.open`."""

    def __init__(self, database: Database, keys: KeyStore | None) -> None:
        super().__init__(database, keys)
        self._spent, self._past = _Newest[Spent](_MOST_SPENT), _Newest[Past](_MOST_PAST)

    def remember(self, entries: Sequence[Entry]) -> None:
        """Keep the figures of durable events that this process wrote and signed: it need not read them back."""
        for entry in entries:
            if isinstance(entry.predicate.body, ChangeRecorded):
                self._spent.keep(entry.index, _spent_of(entry.predicate.body.change))
                self._past.keep(entry.index, past_of(entry.index, entry.predicate.body.change))

    def spending(self, tenant: str, size: int) -> Iterator[Spent]:
        """What the tenant's changes among the first `size` events cost, the newest first; read as it is asked for."""
        before, page = size, _PAGE
        while True:
            asked = {"tenant": tenant, "before": before, "page": page}
            with self._database.read() as connection:
                found = connection.execute(_SPENDING, asked).scalars().all()
            for index in found:
                yield self._spent_at(index)
            if len(found) < page:
                return
            before, page = found[-1], 2 * page

    def past(
        self, tenant: str, deployment: str, *, limit: int, upto: int | None, scopes: Sequence[Scope]
    ) -> tuple[Past, ...]:
        """The last changes of a deployment that made a new state, oldest first, whatever became of them.

        Arguments:
            upto: log index of the last one to look at; None looks at all.
        """
        if limit == 0 or not scopes:
            return ()
        asked = {
            "tenant": tenant,
            "deployment": deployment,
            "before": _ALL if upto is None else upto + 1,
            "scopes": list(scopes),
            "page": limit,
        }
        with self._database.read() as connection:
            found = connection.execute(_PAST, asked).scalars().all()
        return tuple(self._past_at(index) for index in reversed(found))

    def last_rollback(self, tenant: str, deployment: str, size: int) -> str | None:
        """When a change of the deployment was last rolled back within the first `size` events; None: never."""
        asked = {"tenant": tenant, "deployment": deployment, "before": size}
        with self._database.read() as connection:
            index = connection.execute(_ROLLED_BACK, asked).scalar()
        return None if index is None else self.entry(int(index)).predicate.time

    def _spent_at(self, index: int) -> Spent:
        return self._spent.get(index) or self._spent.keep(index, _spent_of(self._change_at(index)))

    def _past_at(self, index: int) -> Past:
        return self._past.get(index) or self._past.keep(index, past_of(index, self._change_at(index)))

    def _change_at(self, index: int) -> ChangeBody:
        body = self.entry(index).predicate.body
        if not isinstance(body, ChangeRecorded):
            raise IntegrityError(f"Event {index} records no change. Run `mass-gov log rebuild`.")
        return body.change


def _spent_of(change: ChangeBody) -> Spent:
    return Spent(change.identity.recorded_at, int(change.cost.flops))
