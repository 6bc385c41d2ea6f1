"""The table of permissions: what nobody may do, and that nothing is missing from it."""

from __future__ import annotations

import re

import pytest

from mass_gov.policy.permissions import ACTIONS, ANYBODY, BY_POWER, PERMISSIONS, acting_as, may, may_cause
from mass_gov.records.events import EVENT_TYPES
from tests.contract.checkout import read


@pytest.mark.parametrize(
    "action", ["approve", "reject", "promote", "rollback", "freeze", "subjects", "policies", "keys"]
)
@pytest.mark.parametrize("role", ["requester", "auditor"])
def test_neither_who_asks_nor_who_audits_decides(role: str, action: str) -> None:
    assert not may(role, action)  # type: ignore[arg-type]


@pytest.mark.parametrize("action", ["policies", "principals", "tokens", "keys"])
def test_an_operator_does_not_decide_who_decides(action: str) -> None:
    assert not may("operator", action)  # type: ignore[arg-type]


def test_an_auditor_leaves_nothing_but_replays_exports_and_refusals() -> None:
    left = {event for event in EVENT_TYPES if may_cause("auditor", event)}
    assert left == {"replay.performed", "access.denied", "export.made", "model.registered", "suite.registered"}


def test_what_acts_by_itself_neither_approves_nor_learns_nor_lets_anybody_in() -> None:
    for event in ("change.approved", "change.recorded", "change.activated", "control.unfrozen", "token.issued"):
        assert not may_cause("system", event)
    assert not [action for action in ACTIONS if action != "automatic" and may("system", action)]


def test_every_event_is_caused_by_somebody() -> None:
    orphans = [e for e in EVENT_TYPES if not any(may_cause(role, e) for role in (*BY_POWER, "system"))]
    assert orphans == []
    named = {event for one in PERMISSIONS.values() for event in one.events} | ANYBODY
    assert named <= EVENT_TYPES


def test_who_has_several_roles_acts_in_the_least_powerful_that_may() -> None:
    assert acting_as(("admin", "requester"), "solve") == "requester"
    assert acting_as(("admin", "operator"), "approve") == "operator"
    assert acting_as(("admin", "operator"), "approve", ("admin",)) == "admin"
    assert acting_as(("requester",), "approve") is None


def test_the_page_says_what_the_table_says() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \| ([a-z, ]+) \| (.+) \|$", read("docs/reference/permissions.md"), re.MULTILINE)
    expected = [
        (action, ", ".join(role for role in (*BY_POWER, "system") if role in one.roles), one.means)
        for action, one in PERMISSIONS.items()
    ]
    assert rows == expected
