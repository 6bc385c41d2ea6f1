"""What a policy asks of an approval, as questions that a flow and an auditor put alike.

Rules: where other people than the requester have to decide, they have to have seen what they decide about. Files of
format 1 come from before anything could be shown, and ask for it of nobody.

Pure: times come in as the log's, and nothing here knows which principal is whose.
"""

from __future__ import annotations

import datetime as dt

from mass_gov.policy.document import Policy


def must_be_shown(policy: Policy) -> bool:
    """Whether an approval has to say which behaviour diff was shown: always, but where one person may do all of it."""
    return not policy.document.approvals.self_approval and policy.document.format > 1


def role_counts(policy: Policy, role: str) -> bool:
    """Whether the approval of somebody in this role counts."""
    return role in policy.document.approvals.roles


def expires_at(policy: Policy, recorded: str) -> dt.datetime | None:
    """When a held change stops waiting; None where the policy lets it wait for ever.

    Arguments:
        recorded: time of its `change.recorded` event.
    """
    hours = policy.document.approvals.expires_after_hours
    return None if hours is None else dt.datetime.fromisoformat(recorded) + dt.timedelta(hours=hours)


def fresh_until(policy: Policy, authenticated_at: str | None) -> dt.datetime | None:
    """Until when a proof of identity is good enough; None where the policy asks for none."""
    limit = policy.document.approvals.max_authentication_age_seconds
    if limit is None or authenticated_at is None:
        return None
    return dt.datetime.fromisoformat(authenticated_at) + dt.timedelta(seconds=limit)


def too_old(policy: Policy, authenticated_at: str | None, now: dt.datetime) -> str | None:
    """Why a proof of identity is not good enough; None where it is, or where the policy asks for none."""
    limit = policy.document.approvals.max_authentication_age_seconds
    if limit is None:
        return None
    if authenticated_at is None:
        return f"{policy.label} wants a proof of identity of at most {limit} seconds ago, and there is none"
    age = (now - dt.datetime.fromisoformat(authenticated_at)).total_seconds()
    if age <= limit:
        return None
    return f"{policy.label} wants a proof of identity of at most {limit} seconds ago, and it is {age:.0f} seconds old"
