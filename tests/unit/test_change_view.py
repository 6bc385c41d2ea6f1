"""What people see of a change: how near to each limit it came, and what a rule that stood in the way says to them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console

from mass_gov.cli.change_view import print_change
from mass_gov.cli.change_why import limit_used
from mass_gov.documents.changes import change_document
from mass_gov.documents.contents import Contents, read_contents
from mass_gov.ledger import ChangeView
from mass_gov.policy import load_policy
from mass_gov.records.change import GateResult
from tests.fakes.ledger_world import LedgerWorld
from tests.fakes.policies import lean_source

WHY = "Ask the person on duty: two samples are too few to learn from."
RULES = [
    {"name": "enough-samples", "require": "kept >= 2", "on_fail": "hold", "why": WHY},
    {"name": "some-sample", "require": "kept >= 1", "on_fail": "hold", "why": "This one holds."},
]


def result(value: float | None, limit: float, comparison: Literal["<=", ">="]) -> GateResult:
    return GateResult(
        name="update.distinct_2",
        level="update",
        statistic="distinct_bigrams",
        value=value,
        limit=limit,
        comparison=comparison,
        n=5,
        verdict="pass",
        on_fail="hold",
    )


@pytest.mark.parametrize(
    ("value", "limit", "comparison", "drawn"),
    [
        (0.5, 1.0, "<=", "████····"),
        (1.5, 1.0, "<=", "███████▶"),
        (-0.025, -0.05, ">=", "████····"),
        (-0.1, -0.05, ">=", "███████▶"),
        (0.02, -0.05, ">=", "········"),
        (0.0, 0.0, ">=", "········"),
        (-0.1, 0.0, ">=", "███████▶"),
        (0.8, 0.4, ">=", "████····"),
        (0.4, 0.4, ">=", "████████"),
        (0.3, 0.4, ">=", "███████▶"),
        (0.0, 0.4, ">=", "███████▶"),
        (-1.0, 0.4, ">=", "███████▶"),
        (1e9, 300.0, ">=", "█·······"),
        (None, 0.4, ">=", "no value"),
    ],
)
def test_a_bar_is_full_at_the_limit_and_breaks_out_beyond_it_on_either_side(
    value: float | None, limit: float, comparison: Literal["<=", ">="], drawn: str
) -> None:
    assert limit_used(result(value, limit, comparison), 8).plain == drawn


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    world = LedgerWorld.make(tmp_path, load_policy(lean_source(rules=RULES)))
    yield world
    world.close()


def shown(change: ChangeView, contents: Contents) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    print_change(console, change, contents, (), full_samples=False)
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def test_a_rule_that_stood_in_the_way_says_why(world: LedgerWorld) -> None:
    change = world.record("one")
    contents = read_contents(world.ledger, change)
    assert change.status == "held" and change.body.decision.violated == ("rule.enough-samples",)
    assert WHY in shown(change, contents) and "This one holds." not in shown(change, contents)
    assert change_document(change, contents, (), full_samples=False)["rules"] == {"rule.enough-samples": WHY}


def test_without_the_policy_at_hand_a_rule_is_named_and_nothing_is_made_up(world: LedgerWorld) -> None:
    change = world.record("one")
    said = shown(change, Contents())
    assert "rule.enough-samples" in said and "mass-gov policy show" in said and WHY not in said


def test_a_change_that_no_rule_held_back_names_none(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path, load_policy(lean_source(rules=RULES[1:])))
    change = world.record("one")
    assert change_document(change, read_contents(world.ledger, change), (), full_samples=False)["rules"] == {}
    world.close()
