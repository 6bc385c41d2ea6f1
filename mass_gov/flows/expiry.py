"""Held changes that nobody approved in time: rejected by the system, as the policy that held them says.

Rules: what counts is the time between two events of the log, that which recorded the change and that which rejects it;
`verify` checks both. Expiry happens when somebody looks: `mass-gov changes expire`, before anything is solved or
approved on the command line, and while a server is asked to solve, once a minute at most. Until then an expired change
is held, and nobody can approve it. Needs no model and no torch.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from contextlib import suppress

from mass_gov.errors import OutageError, RefusedError
from mass_gov.evidence.canonical import canonical_bytes
from mass_gov.flows.handles import SYSTEM_SUBJECT
from mass_gov.ledger import ChangeView, Ledger
from mass_gov.ledger.ledger import SYSTEM
from mass_gov.policy import Policy, load_policy
from mass_gov.policy.approving import expires_at
from mass_gov.records.artifacts import ReasonContent
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import ChangeRejected

_PAGE = 200
_EVERY = 60.0
"""Seconds between two looks of a process that stays."""


def expire(ledger: Ledger) -> list[ChangeView]:
    """Reject every held change whose time is over; returns them as they stand then, oldest first.

    A change that somebody decided about meanwhile is theirs and is left alone.
    """
    policies: dict[str, Policy] = {}
    found: list[str] = []
    cursor: int | None = None
    while page := ledger.changes(limit=_PAGE, cursor=cursor, status="held", newest_first=False):
        for change in page:
            digest = change.body.parents.policy
            policy = policies.setdefault(digest, policies.get(digest) or load_policy(ledger.policy_bytes(digest)))
            if expire_one(ledger, change, policy):
                found.append(change.change_id)
        cursor = page[-1].index
    return [ledger.change(change_id) for change_id in found]


class Overdue:
    """Rejects what is over again and again, for whoever stays: at most once a minute, and not at once."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._clock = ledger, clock
        self._due = clock() + _EVERY

    def reject(self) -> None:
        """Reject it if it is time. An outage is left to whoever is asked next, and says so."""
        if self._clock() >= self._due:
            self._due = self._clock() + _EVERY
            with suppress(OutageError):
                expire(self._ledger)


def expire_one(ledger: Ledger, change: ChangeView, policy: Policy) -> bool:
    """Reject a held change if its time is over; says whether it did."""
    due = expires_at(policy, change.entry.predicate.time)
    if change.status != "held" or due is None or ledger.now() < due:
        return False
    try:
        ledger.append([_rejection(change, due)])
    except RefusedError:
        return False  # somebody decided first, or another process said the same
    return True


def _rejection(change: ChangeView, due: dt.datetime) -> EventDraft:
    text = f"nobody approved it until {due:%Y-%m-%d %H:%M} UTC, when its policy stops waiting"
    reason = ArtifactDraft("reason", canonical_bytes(ReasonContent(text=text).document()), SYSTEM_SUBJECT)
    body = ChangeRejected(change_id=change.change_id, recorded=change.entry.leaf_hash, cause="expired")
    identity = change.body.identity
    return EventDraft(SYSTEM, identity.tenant, identity.deployment, body, (reason,))
