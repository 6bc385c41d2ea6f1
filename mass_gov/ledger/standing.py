"""What a tenant spent, when its deployment was last rolled back, and which changes stand in its windows.

Rules: a figure is read from the signed event, never from a projection; which event, the projections say. What one
change cost and measured never changes, so both are kept in memory for the next request, for so many changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from sqlalchemy import func, select

from mass_gov.errors import IntegrityError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.ledger.database import Database
from mass_gov.ledger.principal_reader import PrincipalReader
from mass_gov.ledger.schema import changes
from mass_gov.policy.monitors.windows import Past, past_of
from mass_gov.policy.standing import Spent
from mass_gov.records.change import ChangeBody, Scope
from mass_gov.records.events import ChangeRecorded

_PAGE = 64
"""Changes that are looked up at first; every further page is twice as long."""
_MOST_SPENT, _MOST_PAST = 20_000, 1_000


class StandingReader(PrincipalReader):
    """The part of a ledger that budgets, cooldowns and window monitors ask. Made by `Ledger.open`."""

    def __init__(self, database: Database, keys: KeyStore | None) -> None:
        super().__init__(database, keys)
        self._spent_at = lru_cache(_MOST_SPENT)(self._read_spent)
        self._past_at = lru_cache(_MOST_PAST)(self._read_past)

    def spending(self, tenant: str, size: int) -> Iterator[Spent]:
        """What the tenant's changes among the first `size` events cost, the newest first; read as it is asked for."""
        before, page = size, _PAGE
        while True:
            query = select(changes.c.index).where((changes.c.tenant == tenant) & (changes.c.index < before))
            with self._database.read() as connection:
                found = connection.execute(query.order_by(changes.c.index.desc()).limit(page)).scalars().all()
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
        wanted = (changes.c.tenant == tenant) & (changes.c.deployment == deployment) & changes.c.delta.is_not(None)
        wanted &= changes.c.scope.in_(scopes)
        if upto is not None:
            wanted &= changes.c.index <= upto
        query = select(changes.c.index).where(wanted).order_by(changes.c.index.desc()).limit(limit)
        with self._database.read() as connection:
            found = connection.execute(query).scalars().all()
        return tuple(self._past_at(index) for index in reversed(found))

    def last_rollback(self, tenant: str, deployment: str, size: int) -> str | None:
        """When a change of the deployment was last rolled back within the first `size` events; None: never."""
        wanted = (changes.c.tenant == tenant) & (changes.c.deployment == deployment)
        query = select(func.max(changes.c.rollback_index)).where(wanted & (changes.c.rollback_index < size))
        with self._database.read() as connection:
            index = connection.execute(query).scalar()
        return None if index is None else self.entry(int(index)).predicate.time

    def _read_spent(self, index: int) -> Spent:
        change = self._change_at(index)
        return Spent(change.identity.recorded_at, int(change.cost.flops))

    def _read_past(self, index: int) -> Past:
        return past_of(index, self._change_at(index))

    def _change_at(self, index: int) -> ChangeBody:
        body = self.entry(index).predicate.body
        if not isinstance(body, ChangeRecorded):
            raise IntegrityError(f"Event {index} records no change. Run `mass-gov log rebuild`.")
        return body.change
