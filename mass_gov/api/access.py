"""Who is calling, and whether they may: asked before every route, from the bearer token in `Authorization`.

Rules:

- over HTTP a name alone is never believed: where no principal is registered yet, nobody is let in
- who is calling is asked before a byte of the body is read (`Route`): nobody's body is parsed, and nothing is learned
  from how it would have been refused
- what a token is worth is for an `Authenticator` to say: `LedgerTokens` finds the token's hash in the ledger; another
  one (OIDC, say) takes its place without a route knowing
- of several roles the least powerful that may do what is asked acts; without one it is 403, noted as a denial
- a tenant that the caller is not let into does not exist for them: the answer is that of an absent thing
- requests are counted by principal; those without a good token by address, so that guessing is slow
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from fastapi import Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from starlette.concurrency import run_in_threadpool

from mass_gov.api.problems import Problem, absent
from mass_gov.errors import UnprovenError
from mass_gov.flows.authority import PLACE, prove
from mass_gov.ledger import Ledger
from mass_gov.policy.permissions import PERMISSIONS, Action, acting_as
from mass_gov.records.events import Actor, Role

if TYPE_CHECKING:
    from mass_gov.api.service import Service

PREFIX = "/v1"
"""Where every route lies; a route's own path does not say it."""
_bearer = HTTPBearer(auto_error=False, description="A token of `mass-gov tokens issue`.")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who showed a good token.

    Attributes:
        tenants: those they are let into; None for all.
        authenticated_at: when they last proved who they are.
    """

    principal: str
    roles: tuple[Role, ...]
    tenants: tuple[str, ...] | None
    authenticated_at: str | None


class Authenticator(Protocol):
    """Says whose a bearer token is."""

    def authenticate(self, token: str | None) -> Identity:
        """Raises UnprovenError where it is nobody's, or not good any more; noted as a denial."""


@dataclass(frozen=True, slots=True)
class LedgerTokens:
    """Tokens that the ledger issued: hashed, compared in constant time, revocable."""

    ledger: Ledger

    def authenticate(self, token: str | None) -> Identity:
        """Find the token's principal."""
        found, principal = prove(self.ledger, token, self.ledger.now())
        if principal is None:
            return Identity(found.principal, (), (), found.issued_at)
        return Identity(found.principal, principal.roles, principal.tenants, found.issued_at)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, in the role in which they may do what they ask."""

    identity: Identity
    actor: Actor

    def sees(self, tenant: str) -> bool:
        """Whether the caller is let into a tenant."""
        return self.identity.tenants is None or tenant in self.identity.tenants

    def insist(self, tenant: str) -> None:
        """Raises the problem of an absent thing where the caller is not let into its tenant."""
        if not self.sees(tenant):
            raise absent()

    def in_role_of(self, action: Action, among: Collection[Role]) -> Actor:
        """The caller in the least powerful role of `among` that may take `action`; else as they are."""
        role = acting_as(self.identity.roles, action, among)
        return self.actor if role is None else Actor(principal=self.identity.principal, role=role)


class Route(APIRoute):
    """A route that insists on a good token before it reads the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the question who is calling."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            request.state.identity = await run_in_threadpool(_identify, request)
            return await handle(request)

        return handled


def may(action: Action, *others: Action) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who may take `action` or one of the others."""

    async def resolve(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> Caller:
        service: Service = request.app.state.service
        identity: Identity | None = getattr(request.state, "identity", None)
        if identity is None:
            identity = await run_in_threadpool(_identify, request)
        roles = (acting_as(identity.roles, one) for one in (action, *others))
        role = next((role for role in roles if role is not None), None)
        if role is None:
            who = Actor(principal=identity.principal, role=identity.roles[0] if identity.roles else "requester")
            await run_in_threadpool(service.ledger.deny, who, action, PLACE)
            raise Problem("forbidden", f"Your roles do not let you {PERMISSIONS[action].means}. Ask an admin for one.")
        _refuse_unknown(request)
        return Caller(identity, Actor(principal=identity.principal, role=role))

    return resolve


def _refuse_unknown(request: Request) -> None:
    """What a route does not take is refused, so that a misspelt filter never looks like one that matched everything.

    So is a parameter that stands twice: one of the two would be passed over.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    known = request.app.state.queries.get((request.scope["route"].path.removeprefix(PREFIX), request.method))
    if known is not None and (strange := set(names) - known):
        said = [{"where": "query", "what": f"{len(strange)} parameter(s) that this operation does not take"}]
        raise Problem("invalid", errors=said)
    if len(names) != len(set(names)):
        raise Problem("invalid", errors=[{"where": "query", "what": "a parameter stands there more than once"}])


def _identify(request: Request) -> Identity:
    service: Service = request.app.state.service
    scheme, token = get_authorization_scheme_param(request.headers.get("Authorization"))
    address = request.client.host if request.client is not None else "unknown"
    try:
        identity = service.authenticator.authenticate(token if scheme.lower() == "bearer" and token else None)
    except UnprovenError:
        _count(service, f"address {address}")
        raise
    _count(service, f"principal {identity.principal}")
    return identity


def _count(service: Service, name: str) -> None:
    if (seconds := service.rates.wait(name)) > 0:
        raise Problem("too-many-requests", headers={"Retry-After": str(math.ceil(seconds))})
