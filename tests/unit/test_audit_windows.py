"""What `verify` says of windows that do not show what lay before a change: losses that somebody kept out of sight."""

from __future__ import annotations

from pathlib import Path

import pytest

from mass_gov.flows.audit_standing import RACE
from mass_gov.flows.audit_windows import WindowCheck
from mass_gov.policy import Policy
from mass_gov.policy.monitors.windows import History, measures_of, past_of, reach_of
from mass_gov.records.change import ChangeBody, Measure
from mass_gov.records.events import ChangeRecorded
from tests.fakes.ledger_world import LedgerWorld
from tests.fakes.policies import policy_with

POLICY = policy_with({"window.distinct_2": {"window": 50, "limit": 0.35, "on_fail": "hold"}})


@pytest.fixture
def change(tmp_path: Path) -> ChangeBody:
    world = LedgerWorld.make(tmp_path)
    body = world.change_drafts("one")[0].body
    world.close()
    assert isinstance(body, ChangeRecorded)
    return body.change


def watched(change: ChangeBody, seen: list[tuple[int, ChangeBody]], policy: Policy = POLICY) -> ChangeBody:
    """The change with the figures of a window over the changes that it saw, by index."""
    own = Measure(name="window.distinct_2.own", value=0.9, n=4)
    reach = reach_of(policy.document.gates)
    assert reach is not None
    past = tuple(past_of(index, body) for index, body in seen)
    found = measures_of(policy.document.gates, {own.name: own}, reach.cut(History(past, past)))
    return change.model_copy(update={"measures": (own, *found)})


def history(change: ChangeBody, count: int) -> tuple[WindowCheck, list[tuple[int, ChangeBody]]]:
    check, seen = WindowCheck(), list[tuple[int, ChangeBody]]()
    for index in range(count):
        recorded = watched(change, seen)
        assert not list(check.faults(recorded, POLICY)) and check.unseen == 0
        check.remember(index, recorded)
        seen.append((index, recorded))
    return check, seen


def test_a_window_that_ends_long_before_its_change_is_told(change: ChangeBody) -> None:
    check, seen = history(change, RACE + 2)
    assert not list(check.faults(watched(change, seen[:1]), POLICY)), (
        "its figures are those of the window that it names"
    )
    assert check.unseen == RACE + 1
    assert not list(check.faults(watched(change, []), POLICY))
    assert check.unseen == RACE + 2, "a window without an end has seen nothing"
    assert not list(check.faults(watched(change, seen), POLICY))
    assert check.unseen == 0


def test_a_window_cannot_end_at_a_change_that_is_not_there(change: ChangeBody) -> None:
    check, seen = history(change, 3)
    late = watched(change, [*seen, (7, change)])
    assert ["which is no change of this deployment" in fault for fault in check.faults(late, POLICY)] == [True]


def test_figures_of_another_window_are_named(change: ChangeBody) -> None:
    check, seen = history(change, 3)
    honest = watched(change, seen)
    better = tuple(
        one.model_copy(update={"value": 1.0}) if one.name == "window.distinct_2" else one
        for one in honest.measures or ()
    )
    (fault,) = check.faults(honest.model_copy(update={"measures": better}), POLICY)
    assert fault.startswith("window.distinct_2 is recorded as 1.0")
    (gone,) = check.faults(
        honest.model_copy(
            update={"measures": tuple(m for m in honest.measures or () if m.name != "window.distinct_2")}
        ),
        POLICY,
    )
    assert gone.startswith("window.distinct_2 is recorded as nothing")
