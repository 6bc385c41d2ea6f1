"""What a tenant spent and when its deployment was last rolled back, as far as a log of a given size tells.

Rules: a figure is read from the signed event, never from a projection; which event, the projections say. What one
change cost never changes, so it is kept in memory for the next request, up to `_MOST`.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import func, select

from mass_gov.errors import IntegrityError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.ledger.database import Database
from mass_gov.ledger.principal_reader import PrincipalReader
from mass_gov.ledger.schema import changes
from mass_gov.policy.standing import Spent
from mass_gov.records.events import ChangeRecorded

_PAGE = 64
_MOST = 20_000


class StandingReader(PrincipalReader):
    """The part of a ledger that budgets and cooldowns ask. Made by `Ledger.open`."""

    def __init__(self, database: Database, keys: KeyStore | None) -> None:
        super().__init__(database, keys)
        self._spent: dict[int, Spent] = {}

    def spending(self, tenant: str, size: int) -> Iterator[Spent]:
        """What the tenant's changes among the first `size` events cost, the newest first; read as it is asked for."""
        before = size
        while True:
            query = select(changes.c.index).where((changes.c.tenant == tenant) & (changes.c.index < before))
            with self._database.read() as connection:
                found = connection.execute(query.order_by(changes.c.index.desc()).limit(_PAGE)).scalars().all()
            for index in found:
                yield self._spent_at(index)
            if len(found) < _PAGE:
                return
            before = found[-1]

    def last_rollback(self, tenant: str, deployment: str, size: int) -> str | None:
        """When a change of the deployment was last rolled back within the first `size` events; None: never."""
        wanted = (changes.c.tenant == tenant) & (changes.c.deployment == deployment)
        query = select(func.max(changes.c.rollback_index)).where(wanted & (changes.c.rollback_index < size))
        with self._database.read() as connection:
            index = connection.execute(query).scalar()
        return None if index is None else self.entry(int(index)).predicate.time

    def _spent_at(self, index: int) -> Spent:
        if index not in self._spent:
            body = self.entry(index).predicate.body
            if not isinstance(body, ChangeRecorded):
                raise IntegrityError(f"Event {index} records no change. Run `mass-gov log rebuild`.")
            if len(self._spent) >= _MOST:
                self._spent.clear()
            self._spent[index] = Spent(body.change.identity.recorded_at, int(body.change.cost.flops))
        return self._spent[index]
