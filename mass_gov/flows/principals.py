"""Say who may act, and give them tokens to show it by. Needs no model and no torch.

Rules: a token is 256 random bits behind the prefix `mgv_`, shown once and never stored: the log holds its SHA-256. The
first principal is an admin and gets a token in the same append, because from then on nobody acts without one. Retiring
somebody takes every role away and revokes their tokens, for good: registered again, they get new ones. All of it is for
admins, and the ledger's rules see to it that one is left who can let others in.
"""

from __future__ import annotations

import base64
import datetime as dt
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from uuid6 import uuid7

from mass_gov.errors import InputError, NotFoundError, RefusedError
from mass_gov.evidence.signing import VerificationKey
from mass_gov.flows.authority import PLACE, authorise, token_hash
from mass_gov.ledger import Ledger, PrincipalView, TokenView
from mass_gov.policy.permissions import BY_POWER
from mass_gov.records.base import timestamp
from mass_gov.records.change import SCOPES, Scope
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, Body, PrincipalRegistered, Role, TokenIssued, TokenRevoked

TOKEN_PREFIX = "mgv_"  # noqa: S105 - what tokens begin with, so that scanners of leaked secrets find them
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token: the one time that it can be read."""

    view: TokenView
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Registered:
    """Who may act now, and the token that the very first of them got."""

    principal: PrincipalView
    issued: Issued | None


def register(
    ledger: Ledger,
    name: str,
    actor: Actor,
    *,
    roles: Sequence[Role],
    scopes: Sequence[Scope],
    public_key: VerificationKey | None = None,
    tenants: Sequence[str] | None = None,
) -> Registered:
    """Register a principal, or put a new registration in the place of theirs.

    Arguments:
        tenants: those they are let into; None for all, and for every admin who says who may act.

    Raises:
        PermissionRefusedError: the actor is no admin.
        RefusedError: the name or the key is taken, the first one is no admin, or no admin would be left.
        InputError: no role, or a key that is not Ed25519.
    """
    authorise(ledger, actor, "principals", PLACE)
    if not roles:
        raise InputError("a principal without a role may do nothing. Give --role, or retire them.")
    if public_key is not None and public_key.algorithm != "ed25519":
        raise InputError("an approver's key is Ed25519, and this is another kind. Make one: `openssl genpkey`.")
    first = not ledger.has_principals()
    drafts = [_draft(actor, _registration(ledger, name, roles, scopes, public_key, tenants))]
    token, body = _new_token(name, None)
    if first:
        drafts.append(_draft(actor.model_copy(update={"principal": name, "role": "admin"}), body))
    ledger.append(drafts)
    registered = ledger.principal(name)
    if registered is None:
        raise NotFoundError(f"There is no principal {name}. `mass-gov principals list` shows them.")
    return Registered(registered, Issued(ledger.token(body.token_id), token) if first else None)


def retire(ledger: Ledger, name: str, actor: Actor) -> PrincipalView:
    """Take every role from a principal, and revoke every token of theirs.

    Raises:
        PermissionRefusedError: the actor is no admin.
        NotFoundError: nobody of that name is registered.
        RefusedError: they are retired already, or no admin would be left.
    """
    authorise(ledger, actor, "principals", PLACE)
    known = _known(ledger, name)
    if not known.roles:
        raise RefusedError(f"{name} is retired already. `mass-gov principals register` lets them act again.")
    revoked = [_revocation(actor, token) for token in ledger.tokens(name) if token.revoked_index is None]
    retired = _draft(actor, _registration(ledger, name, (), (), None, known.tenants))
    ledger.append([*revoked, retired])  # who retires himself goes last
    return _known(ledger, name)


def issue(ledger: Ledger, name: str, actor: Actor, *, expires_at: dt.datetime | None = None) -> Issued:
    """Make a token for a principal.

    Raises:
        PermissionRefusedError: the actor is no admin.
        NotFoundError: nobody of that name is registered.
        RefusedError: they are retired, or it would have expired already.
    """
    authorise(ledger, actor, "tokens", PLACE)
    _known(ledger, name)
    token, body = _new_token(name, expires_at)
    ledger.append([_draft(actor, body)])
    return Issued(ledger.token(body.token_id), token)


def revoke(ledger: Ledger, token_id: str, actor: Actor) -> TokenView:
    """Revoke a token, by its id.

    Raises:
        PermissionRefusedError: the actor is no admin.
        NotFoundError: there is no such token.
        RefusedError: it was revoked before, or no admin would be left with one.
    """
    authorise(ledger, actor, "tokens", PLACE)
    found = ledger.token(token_id)
    ledger.append([_revocation(actor, found)])
    return ledger.token(found.token_id)


def _registration(
    ledger: Ledger,
    name: str,
    roles: Sequence[Role],
    scopes: Sequence[Scope],
    key: VerificationKey | None,
    tenants: Sequence[str] | None,
) -> PrincipalRegistered:
    policy = ledger.active_policy()
    if policy is None:
        raise NotFoundError("no policy is in force in this ledger yet. Run `mass-gov init`.")
    return PrincipalRegistered(
        principal=name,
        roles=tuple(role for role in BY_POWER if role in roles),
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        public_key=base64.b64encode(key.spki).decode("ascii") if key is not None else None,
        policy=policy,
        tenants=tuple(dict.fromkeys(tenants)) if tenants is not None else None,
    )


def _revocation(actor: Actor, token: TokenView) -> EventDraft:
    return _draft(actor, TokenRevoked(token_id=token.token_id, token_hash=token.token_hash))


def _new_token(name: str, expires_at: dt.datetime | None) -> tuple[str, TokenIssued]:
    token = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    until = timestamp(expires_at) if expires_at is not None else None
    body = TokenIssued(token_id=str(uuid7()), principal=name, token_hash=token_hash(token), expires_at=until)
    return token, body


def _known(ledger: Ledger, name: str) -> PrincipalView:
    found = ledger.principal(name)
    if found is None:
        raise NotFoundError(f"There is no principal {name}. `mass-gov principals list` shows them.")
    return found


def _draft(actor: Actor, body: Body) -> EventDraft:
    return EventDraft(actor, *PLACE, body)
