"""Reading who may act: principals and tokens as the log leaves them. Secrets are not here; the log holds hashes."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.engine import RowMapping

from mass_gov.errors import NotFoundError
from mass_gov.ledger import principal_rules
from mass_gov.ledger.schema import principals, tokens
from mass_gov.ledger.subject_reader import SubjectReader
from mass_gov.records.change import Scope
from mass_gov.records.events import Role


@dataclass(frozen=True, slots=True)
class PrincipalView:
    """Who may act, as what.

    Attributes:
        index: log index of the event that says so.
        roles: none of one who may do nothing any more.
        scopes: what it may ask for, within what its role may.
        public_key: base64 SubjectPublicKeyInfo of the key that it signs approvals with.
        tenants: those it is let into; None for all.
    """

    principal: str
    index: int
    roles: tuple[Role, ...]
    scopes: tuple[Scope, ...]
    public_key: str | None
    tenants: tuple[str, ...] | None

    def sees(self, tenant: str) -> bool:
        """Whether it is let into a tenant."""
        return self.tenants is None or tenant in self.tenants


@dataclass(frozen=True, slots=True)
class TokenView:
    """A bearer token without the token. Times are those of the log."""

    token_id: str
    index: int
    principal: str
    token_hash: str
    issued_at: str
    expires_at: str | None
    revoked_index: int | None


class PrincipalReader(SubjectReader):
    """The part of a ledger that answers questions about principals. Made by `Ledger.open`."""

    def has_principals(self) -> bool:
        """Whether anybody is registered: from then on, names alone are worth nothing."""
        with self._database.read() as connection:
            return principal_rules.any_principal(connection)

    def proven_since(self) -> int | None:
        """The index from which on names were proved; None while nobody is registered.

        Who is registered first gets a token in the same append.
        """
        with self._database.read() as connection:
            found = connection.execute(select(func.min(tokens.c.index))).scalar()
        return None if found is None else int(found)

    def principal(self, name: str) -> PrincipalView | None:
        """A principal as it is registered now; None where it never was."""
        with self._database.read() as connection:
            row = principal_rules.principal_row(connection, name)
        return None if row is None else _principal(row)

    def principals(self) -> list[PrincipalView]:
        """Everybody who was ever registered, by name."""
        with self._database.read() as connection:
            return [_principal(row) for row in connection.execute(_BY_NAME).mappings()]

    def tokens(self, principal: str | None = None) -> list[TokenView]:
        """Tokens in the order in which they were issued, of one principal or of all."""
        query = select(tokens).order_by(tokens.c.index, tokens.c.token_id)
        if principal is not None:
            query = query.where(tokens.c.principal == principal)
        with self._database.read() as connection:
            return [TokenView(**row) for row in connection.execute(query).mappings()]

    def token(self, token_id: str) -> TokenView:
        """One token, by its id.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.read() as connection:
            row = connection.execute(select(tokens).where(tokens.c.token_id == token_id)).mappings().first()
        if row is None:
            raise NotFoundError(f"There is no token {token_id[:40]!r}. `mass-gov tokens list` shows them.")
        return TokenView(**row)

    def bearer(self, token_hash: str) -> tuple[TokenView | None, PrincipalView | None]:
        """The token of this SHA-256, revoked and expired ones too, and its principal as registered now.

        None where no such token was ever issued, and where its principal never was registered.

        The index finds it, and the comparison that counts takes the same time wherever two hashes differ. What could be
        learned from the time of the first is about a hash of 256 random bits, from which no token follows.
        """
        with self._database.read() as connection:
            row = connection.execute(_BEARER, {"token_hash": token_hash}).mappings().first()
        found = str(row["token_hash"]) if row is not None else "0" * 64
        if not hmac.compare_digest(found, token_hash) or row is None:
            return None, None
        token = TokenView(*(row[column.name] for column in tokens.c))
        its = {name: row[f"its_{name}"] for name in _COLUMNS}
        return token, None if its["principal"] is None else _principal(its)


def _principal(row: RowMapping | Mapping[str, Any]) -> PrincipalView:
    tenants = tuple(str(row["tenants"]).split(",")) if row["tenants"] is not None else None
    listed = {name: tuple(part for part in str(row[name]).split(",") if part) for name in ("roles", "scopes")}
    return PrincipalView(row["principal"], row["index"], listed["roles"], listed["scopes"], row["public_key"], tenants)  # type: ignore[arg-type]  # the projector wrote them from typed records


_BY_NAME = select(principals).order_by(principals.c.principal)
_COLUMNS = [column.name for column in principals.c]
_BEARER = (
    select(tokens, *(column.label(f"its_{column.name}") for column in principals.c))
    .select_from(tokens.outerjoin(principals, principals.c.principal == tokens.c.principal))
    .where(tokens.c.token_hash == bindparam("token_hash"))
)
