"""Which role may do what: one table, asked by every door, by every flow and by the ledger's own rules.

Rules: an action names the roles that may take it and the events that it may leave behind, so that "who may cause this
event" is read off the same lines. `system` is nobody's role: it is what acts by itself. An automatic consequence (the
pointer moves, an answer is served) is caused by whoever took the action that brought it about.

This module does not know who has which role, nor which scopes a policy lets a role ask for.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from mass_gov.records.events import Role

Action = Literal[
    "solve",
    "read",
    "verify",
    "replay",
    "export",
    "approve",
    "reject",
    "promote",
    "rollback",
    "freeze",
    "incidents",
    "rebase",
    "subjects",
    "policies",
    "principals",
    "tokens",
    "keys",
    "automatic",
]
ACTIONS: tuple[Action, ...] = get_args(Action)

BY_POWER: tuple[Role, ...] = ("requester", "auditor", "operator", "admin")
"""Roles that people have, the least powerful first: who has several acts as the first that may do what is asked."""


@dataclass(frozen=True, slots=True)
class Permission:
    """Who may take an action, what they may leave in the log by it, and how people call it."""

    roles: frozenset[Role]
    events: frozenset[str]
    means: str


def _to(*roles: Role, means: str, events: Collection[str] = ()) -> Permission:
    return Permission(frozenset(roles), frozenset(events), means)


_PREPARED = ("model.registered", "suite.registered")
_DECIDED = ("change.activated", "response.served")

PERMISSIONS: dict[Action, Permission] = {
    "solve": _to(
        "requester",
        "operator",
        "admin",
        means="ask for an answer, and for an update within its scopes",
        events=("change.recorded", *_DECIDED, *_PREPARED),
    ),
    "read": _to("auditor", "operator", "admin", means="read changes, events and contents"),
    "verify": _to("auditor", "operator", "admin", means="verify the ledger"),
    "replay": _to(
        "auditor", "operator", "admin", means="replay a change or an answer", events=("replay.performed", *_PREPARED)
    ),
    "export": _to(
        "auditor",
        "operator",
        "admin",
        means="take a copy of the log, of a change, or a report",
        events=("export.made",),
    ),
    "approve": _to("operator", "admin", means="approve a held change", events=("change.approved", *_DECIDED)),
    "reject": _to("operator", "admin", means="reject a held change", events=("change.rejected",)),
    "promote": _to(
        "operator", "admin", means="make a change the pointer's next state", events=("change.approved", *_DECIDED)
    ),
    "rollback": _to("operator", "admin", means="undo a change", events=("change.rolled_back",)),
    "freeze": _to(
        "operator", "admin", means="stop learning, and let it go on", events=("control.frozen", "control.unfrozen")
    ),
    "incidents": _to(
        "operator",
        "admin",
        means="open, update and close incidents",
        events=("incident.opened", "incident.updated", "incident.closed"),
    ),
    "rebase": _to(
        "operator",
        "admin",
        means="move a pointer to another base model, or test its state again",
        events=("pointer.rebased", "regression.performed", "change.recorded", *_DECIDED, *_PREPARED),
    ),
    "subjects": _to(
        "operator",
        "admin",
        means="hold, release and erase a person's data",
        events=("subject.held", "subject.released", "subject.erased", "change.rejected", "change.rolled_back"),
    ),
    "policies": _to(
        "admin", means="propose and activate policies", events=("policy.proposed", "policy.activated", *_PREPARED)
    ),
    "principals": _to("admin", means="say who may act", events=("principal.registered", "token.issued")),
    "tokens": _to("admin", means="issue and revoke tokens", events=("token.issued", "token.revoked")),
    "keys": _to("admin", means="rotate and revoke signing keys", events=("key.rotated", "key.revoked")),
    "automatic": _to(
        "system",
        means="what happens by itself: expiry, alarms, tests after an activation",
        events=(
            "log.opened",
            "change.rejected",
            "change.rolled_back",
            "control.frozen",
            "regression.performed",
            *_PREPARED,
        ),
    ),
}
"""Every action. What is not here, nobody may do."""

ANYBODY: frozenset[str] = frozenset({"access.denied"})
"""Events that whoever caused them had no right to anything: that is what they say."""


def may(role: Role, action: Action) -> bool:
    """Whether a role may take an action."""
    return role in PERMISSIONS[action].roles


def may_cause(role: Role, event: str) -> bool:
    """Whether some action of this role leaves events of this type."""
    return event in ANYBODY or any(role in one.roles and event in one.events for one in PERMISSIONS.values())


def acting_as(roles: Collection[Role], action: Action, among: Collection[Role] = ()) -> Role | None:
    """The least powerful of `roles` that may take an action; None where none of them may.

    Arguments:
        among: where it is not empty, only these count (a policy's roles of approvers).
    """
    allowed = [role for role in BY_POWER if role in roles and may(role, action) and (not among or role in among)]
    return allowed[0] if allowed else None
