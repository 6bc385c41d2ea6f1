"""Who may act: the rows of `principals` and `tokens`, derived from the log, and what an event's actor may cause.

Rules, which hold from the event on that registers the first principal; before it names are self-asserted:

- whoever causes an event is registered, has the role that the event says, and that role may cause it
  (`policy.permissions`); what the system does by itself is caused by `system`. A refusal may be anybody's
- who asks for an update asks in their own name, for a scope that is theirs; a change that is made again stays theirs
- whoever is let into some tenants alone causes events under no other
- the first principal is an admin, and always some admin of all tenants holds a token that neither expires nor was
  revoked: nobody locks everybody out
- a later registration takes the place of an earlier one; a key belongs to one principal; some names are nobody's
- a token belongs to a principal who may do something, is used once and revoked once
- whoever registered a key signs their approvals with it, and nobody signs with another; when they last proved who they
  are is the time at which a token of theirs was issued, or of a signed approval any time up to now

What a token is, and how long ago a proof may lie, is not known here: the log holds hashes, and policies hold limits.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select
from sqlalchemy import exists as exists_
from sqlalchemy.engine import Connection, RowMapping

from mass_gov.errors import IntegrityError, NotFoundError, PermissionRefusedError, RefusedError
from mass_gov.evidence.approval import approver_key, verify_approval
from mass_gov.ledger.control_rules import check_policy_in_force
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.lookups import exists
from mass_gov.ledger.rows import alter, put
from mass_gov.ledger.schema import principals, tokens
from mass_gov.policy.permissions import ANYBODY, may_cause
from mass_gov.records.events import ChangeApproved, ChangeRecorded, PrincipalRegistered, TokenIssued, TokenRevoked

SYSTEM, UNKNOWN = "system", "unauthenticated"
RESERVED = frozenset({SYSTEM, UNKNOWN, "policy"})
"""Names that nobody can have: what acts by itself, who showed no good token, and who decides automatically."""
_ANY = exists_(select(principals.c.principal)).select()
# Made once: building a statement takes longer than running it, and every event asks this.
_ACTOR = select(
    _ANY.scalar_subquery(),
    select(principals.c.roles).where(principals.c.principal == bindparam("principal")).scalar_subquery(),
    select(principals.c.tenants).where(principals.c.principal == bindparam("principal")).scalar_subquery(),
)


def check_actor(connection: Connection, entry: Entry) -> None:
    """Check that who caused an event may cause it.

    Raises:
        PermissionRefusedError: they may not, do not have the role, or are not registered.
    """
    actor, body = entry.predicate.actor, entry.predicate.body
    if body.type in ANYBODY:
        return
    any_, roles, tenants = connection.execute(_ACTOR, {"principal": actor.principal}).one()
    if not any_:
        return
    if actor.principal != SYSTEM and (roles is None or actor.role not in str(roles).split(",")):
        raise PermissionRefusedError(
            f"Event {entry.index}: {actor.principal} is not registered as {actor.role}. An admin can do that: "
            "`mass-gov principals register`."
        )
    if tenants is not None and entry.predicate.tenant not in str(tenants).split(","):
        raise PermissionRefusedError(
            f"Event {entry.index}: {actor.principal} is not let into the tenant {entry.predicate.tenant}. An admin can "
            "do that: `mass-gov principals register --tenant`."
        )
    if not may_cause(actor.role, body.type) or (actor.role == "system") != (actor.principal == SYSTEM):
        raise PermissionRefusedError(
            f"Event {entry.index}: {actor.principal} acts as {actor.role}, who cannot cause a {body.type}. Let "
            "somebody do it whose role allows it: docs/reference/permissions.md."
        )
    if isinstance(body, ChangeRecorded):
        _check_request(connection, entry, body)


def register(connection: Connection, entry: Entry, body: PrincipalRegistered) -> None:
    """Say who may act, as what.

    Raises:
        PermissionRefusedError: neither the first one nor by an admin.
        RefusedError: the name or the key is somebody else's, or the first one is no admin.
        IntegrityError: a role or a scope is named twice, or the key is not Ed25519.
        StaleChangeError: another policy is in force than the event names.
    """
    if entry.predicate.actor.role != "admin":
        raise PermissionRefusedError(f"Event {entry.index}: only an admin says who may act. Let one of them do it.")
    check_policy_in_force(connection, entry, body.policy)
    if body.principal in RESERVED:
        raise RefusedError(f"The name {body.principal} is reserved. Give the principal another one.")
    if "system" in body.roles or any(len(set(named)) != len(named) for named in _named(body)):
        raise IntegrityError(f"Event {entry.index}: a role, scope or tenant stands twice, or is nobody's. Mend it.")
    if not connection.execute(_ANY).scalar() and ("admin" not in body.roles or body.tenants is not None):
        raise RefusedError(
            f"{body.principal} would be the first principal and no admin of all tenants, so that nobody could register "
            "another. Register an admin first: --role admin."
        )
    if body.public_key is not None:
        approver_key(body.public_key)
        shared = (principals.c.public_key == body.public_key) & (principals.c.principal != body.principal)
        if exists(connection, shared):
            raise RefusedError(f"The key of {body.principal} is another principal's. Each signs with a key of its own.")
    row = {
        "index": entry.index,
        "roles": ",".join(body.roles),
        "scopes": ",".join(body.scopes),
        "public_key": body.public_key,
        "tenants": ",".join(body.tenants) if body.tenants is not None else None,
    }
    if (before := principal_row(connection, body.principal)) is None:
        put(connection, principals, {"principal": body.principal, **row})
    else:
        alter(connection, principals, before, row)


def issue(connection: Connection, entry: Entry, body: TokenIssued) -> None:
    """Note a token by its hash.

    Raises:
        NotFoundError: its principal is not registered.
        RefusedError: its principal may do nothing, it was used before, or it expires before it begins.
    """
    row = principal_row(connection, body.principal)
    if row is None:
        raise NotFoundError(f"There is no principal {body.principal}. `mass-gov principals list` shows them.")
    if not row["roles"]:
        raise RefusedError(f"{body.principal} is retired and may do nothing. Register it with a role first.")
    if exists(connection, (tokens.c.token_id == body.token_id) | (tokens.c.token_hash == body.token_hash)):
        raise RefusedError(f"The token {body.token_id} was issued before. Make a new one.")
    if body.expires_at is not None and body.expires_at <= entry.predicate.time:
        raise RefusedError(f"The token {body.token_id} would have expired before it is issued. Give it longer.")
    put(
        connection,
        tokens,
        {
            "token_id": body.token_id,
            "index": entry.index,
            "principal": body.principal,
            "token_hash": body.token_hash,
            "issued_at": entry.predicate.time,
            "expires_at": body.expires_at,
        },
    )


def revoke(connection: Connection, entry: Entry, body: TokenRevoked) -> None:
    """Note that a token is not accepted any more.

    Raises:
        NotFoundError: there is none of that id and hash.
        RefusedError: it was revoked before.
    """
    wanted = (tokens.c.token_id == body.token_id) & (tokens.c.token_hash == body.token_hash)
    row = connection.execute(select(tokens).where(wanted)).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no token {body.token_id}. `mass-gov tokens list` shows them.")
    if row["revoked_index"] is not None:
        raise RefusedError(f"The token {body.token_id} was revoked by event {row['revoked_index']}.")
    alter(connection, tokens, row, {"revoked_index": entry.index})


def check_approval(connection: Connection, entry: Entry, body: ChangeApproved) -> None:
    """Check an approver's signature, and when they say that they last proved who they are.

    Raises:
        RefusedError: it is not signed though a key is registered, or the proof is of no token of theirs.
        IntegrityError: the signature is not that of the registered key.
    """
    principal = entry.predicate.actor.principal
    row = principal_row(connection, principal)
    public_key = row["public_key"] if row is not None else None
    if (body.signing_key is None) != (body.signature is None) or (public_key is None and body.signature is not None):
        raise IntegrityError(
            f"The approval of {body.change_id} is signed by a key that {principal} has not registered. Register it: "
            "`mass-gov principals register --public-key`."
        )
    if public_key is not None:
        _check_signature(body, principal, public_key)
    if body.authenticated_at is None:
        return
    if body.authenticated_at > entry.predicate.time:
        raise IntegrityError(f"The approval of {body.change_id} is said to be authenticated later than it was given.")
    if body.signature is None and not _token_of(connection, principal, body.authenticated_at, entry.predicate.time):
        raise IntegrityError(
            f"The approval of {body.change_id}: {principal} has no token in use that was issued at "
            f"{body.authenticated_at}. Say when it was, or sign the approval."
        )


def settle(connection: Connection, entries: Sequence[Entry]) -> None:
    """Check, at the end of an append, that somebody can still say who may act.

    Raises:
        RefusedError: no admin would hold a token that neither expires nor was revoked.
    """
    if not any(isinstance(entry.predicate.body, PrincipalRegistered | TokenRevoked) for entry in entries):
        return
    usable = tokens.c.expires_at.is_(None) & tokens.c.revoked_index.is_(None) & principals.c.tenants.is_(None)
    query = select(principals.c.roles).join(tokens, tokens.c.principal == principals.c.principal).where(usable)
    if not any("admin" in str(roles).split(",") for roles in connection.execute(query).scalars()):
        raise RefusedError(
            "No admin would be left with a token that does not expire, so that nobody could let anybody in. Issue one "
            "first: `mass-gov tokens issue`."
        )


def principal_row(connection: Connection, principal: str) -> RowMapping | None:
    """A principal as it is registered now."""
    return connection.execute(select(principals).where(principals.c.principal == principal)).mappings().first()


def any_principal(connection: Connection) -> bool:
    """Whether anybody is registered, so that names alone are worth nothing any more."""
    return bool(connection.execute(_ANY).scalar())


def _named(body: PrincipalRegistered) -> tuple[tuple[str, ...], ...]:
    return (body.roles, body.scopes, body.tenants or ())


def _check_request(connection: Connection, entry: Entry, body: ChangeRecorded) -> None:
    identity, actor = body.change.identity, entry.predicate.actor
    if identity.rebased_from is not None:
        return  # made again by an operator for whoever asked first; the projector holds it to the change before
    row = principal_row(connection, actor.principal)
    if identity.requester != actor.principal:
        raise PermissionRefusedError(f"Change {identity.change_id}: {actor.principal} asks in the name of another.")
    if row is not None and identity.scope not in str(row["scopes"]).split(","):
        raise PermissionRefusedError(
            f"Change {identity.change_id}: {actor.principal} may not ask for scope {identity.scope}. An admin can "
            "allow it: `mass-gov principals register --scope`."
        )


def _check_signature(body: ChangeApproved, principal: str, public_key: str) -> None:
    if body.signature is None:
        raise RefusedError(
            f"{principal} has registered a key, and the approval of {body.change_id} is not signed. Sign it: "
            "--sign-with KEYFILE."
        )
    key = approver_key(public_key)
    if body.signing_key != key.keyid or not verify_approval(body.document(), body.signature, key):
        raise IntegrityError(
            f"The approval of {body.change_id} is not signed by the key that {principal} registered. Sign it with that "
            "key."
        )


def _token_of(connection: Connection, principal: str, issued_at: str, now: str) -> bool:
    usable = tokens.c.revoked_index.is_(None) & (tokens.c.expires_at.is_(None) | (tokens.c.expires_at > now))
    return exists(connection, usable & (tokens.c.principal == principal) & (tokens.c.issued_at == issued_at))
