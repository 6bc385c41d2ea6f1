"""Who is acting, and whether they may: asked at the edge of every flow, whatever door it is reached by.

Rules:

- as long as no principal is registered, names are self-asserted (decision 0007): whoever can run this can read the keys
- from the first registration on a bearer token says who acts. It is found by its hash, must not have expired or been
  revoked, and its principal must have a role that may do what is asked; of several the least powerful acts
- the role has to be the principal's, and to allow the action (`policy.permissions`). Asking for an update also takes a
  scope that is the principal's own and that the policy in force lets the role ask for
- every refusal is noted (`Ledger.deny`), so that a flood of them becomes few events

Needs no model and no torch. The ledger's own rules check the same again when the event is written.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn

from mass_gov.errors import PermissionRefusedError, UnprovenError
from mass_gov.ledger import Ledger, PrincipalView, TokenView
from mass_gov.ledger.principal_rules import SYSTEM, UNKNOWN
from mass_gov.policy import Policy, load_policy
from mass_gov.policy.permissions import BY_POWER, PERMISSIONS, Action, acting_as, may
from mass_gov.records.base import timestamp
from mass_gov.records.change import Scope
from mass_gov.records.events import Actor

PLACE = ("system", "principals")
"""Tenant and deployment of events about who may act."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What whoever acts says of themselves.

    Attributes:
        name: the principal that is claimed; with a token it must be the token's, None claims none.
        token: the bearer token, secret; None where there is none.
    """

    name: str | None
    token: str | None = None

    def __repr__(self) -> str:
        return f"Claim({self.name!r}, token={'given' if self.token else None})"


@dataclass(frozen=True, slots=True)
class Acting:
    """Who acts, in which role, and when they last proved who they are (None: never, the name is self-asserted)."""

    actor: Actor
    authenticated_at: str | None


def token_hash(token: str) -> str:
    """The SHA-256 of a token, hex: what the log holds. Enough for 256 random bits; a password would need more."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def identify(
    ledger: Ledger, claim: Claim, action: Action, now: dt.datetime, *, among: Collection[str] = (), fallback: str
) -> Acting:
    """Say who acts, in the least powerful of their roles that may take `action`.

    Arguments:
        among: where it is not empty, only these roles count (a policy's roles of approvers).
        fallback: the name of whoever claims none, while names are self-asserted.

    Raises:
        PermissionRefusedError: no good token where one is needed, a token of somebody else, or no role that may.
    """
    wanted = tuple(role for role in BY_POWER if role in among)
    if not ledger.has_principals():
        if claim.token is not None:
            raise PermissionRefusedError(
                "a token is given and no principal is registered in this ledger. Unset MASS_GOV_TOKEN, or name the "
                "ledger that it is for: MASS_GOV_HOME."
            )
        role = acting_as(BY_POWER, action, wanted) or acting_as(BY_POWER, action)
        return Acting(Actor(principal=claim.name or fallback, role=role or "requester"), None)
    token, principal = prove(ledger, claim.token, now)
    roles = principal.roles if principal is not None else ()
    if claim.name not in (None, token.principal):
        _unproven(ledger, f"the token is not {claim.name}'s. Use a token of their own.")
    role = acting_as(roles, action, wanted) or acting_as(roles, action)
    if role is None:
        who = Actor(principal=token.principal, role=roles[0] if roles else "requester")
        _refuse(ledger, who, action, PLACE, _may_not(token.principal, roles, action))
    return Acting(Actor(principal=token.principal, role=role), token.issued_at)


def authorise(
    ledger: Ledger,
    actor: Actor,
    action: Action,
    place: tuple[str, str],
    *,
    scope: Scope | None = None,
    policy: Policy | None = None,
    change_id: str | None = None,
    every_tenant: bool = False,
) -> None:
    """Insist that an actor may take an action.

    Arguments:
        place: tenant and deployment that it is about.
        scope: what is asked for, where an update is.
        policy: the one in force, where it is at hand.
        change_id: the change that it is about.
        every_tenant: whether it reaches all of them, so that whoever is let into some may not.

    Raises:
        PermissionRefusedError: they may not; noted as a denial.
    """
    registered = ledger.principal(actor.principal)
    why = None
    if registered is not None or ledger.has_principals():
        why = _no_role(actor, registered, action)
        if why is None and registered is not None and not registered.sees(place[0]):
            why = (
                f"{actor.principal} is not let into the tenant {place[0]}. An admin can do that: "
                "`mass-gov principals register --tenant`."
            )
        if why is None and every_tenant and registered is not None and registered.tenants is not None:
            why = (
                f"{actor.principal} is let into some tenants alone, and this reaches all of them. Ask somebody who is "
                "let into all."
            )
        if why is None and scope is not None and registered is not None and scope not in registered.scopes:
            why = (
                f"{actor.principal} may not ask for scope {scope}. An admin can allow it: "
                "`mass-gov principals register --scope`."
            )
    if why is None and scope is not None:
        why = _no_scope(policy or _in_force(ledger), actor, scope)
    if why is not None:
        _refuse(ledger, actor, action, place, why, change_id)


def prove(ledger: Ledger, token: str | None, now: dt.datetime) -> tuple[TokenView, PrincipalView | None]:
    """Find a bearer token that is in use, and its principal as registered now; None where they never were.

    Raises:
        UnprovenError: none is given, it is unknown, expired or revoked; noted as a denial under nobody's name.
    """
    if token is None:
        _unproven(
            ledger,
            "principals are registered in this ledger, and a name alone is worth nothing. Set MASS_GOV_TOKEN to a "
            "token of yours; an admin issues one: `mass-gov tokens issue`.",
        )
    found, principal = ledger.bearer(token_hash(token))
    if found is None:
        _unproven(ledger, "the token is unknown here. Use one that this ledger issued.")
    expired = found.expires_at is not None and found.expires_at <= timestamp(now)
    if expired or found.revoked_index is not None:
        what = f"expired at {found.expires_at}" if expired else f"was revoked by event {found.revoked_index}"
        who = f"the token {found.token_id} of {found.principal}"
        _unproven(ledger, f"{who} {what}. An admin issues another: `mass-gov tokens issue`.")
    return found, principal


def _no_role(actor: Actor, registered: PrincipalView | None, action: Action) -> str | None:
    if (actor.principal, actor.role) == (SYSTEM, "system"):
        return None  # what it may leave in the log is the ledger's to say
    if registered is None or actor.role not in registered.roles:
        return (
            f"{actor.principal} is not registered as {actor.role}. An admin can do that: "
            "`mass-gov principals register`."
        )
    return None if may(actor.role, action) else _may_not(actor.principal, (actor.role,), action)


def _in_force(ledger: Ledger) -> Policy | None:
    digest = ledger.active_policy()
    return load_policy(ledger.policy_bytes(digest)) if digest is not None else None


def _no_scope(policy: Policy | None, actor: Actor, scope: Scope) -> str | None:
    if policy is None or policy.document.scopes.may_ask(actor.role, scope):
        return None
    return f"policy {policy.label} does not let a {actor.role} ask for scope {scope}. Ask for the other scope."


def _may_not(principal: str, roles: Collection[str], action: Action) -> str:
    who = f"{principal} is {', '.join(roles)}" if roles else f"{principal} is retired"
    allowed = " or ".join(role for role in BY_POWER if may(role, action))
    return f"{who} and may not {PERMISSIONS[action].means}. That takes the role {allowed}."


def _refuse(
    ledger: Ledger, actor: Actor, action: str, place: tuple[str, str], why: str, change_id: str | None = None
) -> NoReturn:
    ledger.deny(actor, action, place, change_id)
    raise PermissionRefusedError(why)


def _unproven(ledger: Ledger, why: str) -> NoReturn:
    """Refuse whoever did not show who they are: under no name, because a name that is only claimed is somebody's."""
    ledger.deny(Actor(principal=UNKNOWN, role="requester"), "authenticate", PLACE)
    raise UnprovenError(why)
