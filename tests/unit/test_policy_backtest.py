"""A candidate policy over recorded changes: what flips, what nobody can tell, and that nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mass_gov.errors import KeyUnavailableError
from mass_gov.flows.backtest import Backtest, backtest
from mass_gov.ledger import Ledger
from mass_gov.policy import Policy, load_policy
from tests.fakes.engines import address_of
from tests.fakes.ledger_world import SUITE, LedgerWorld, digest, shipped_policy

pytestmark = pytest.mark.both_engines

DEFAULT = shipped_policy("default")
SUITES = {"instance": SUITE, "deployment": SUITE}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    """Four changes: two applied, one held for its step, one that learned nothing."""
    made = LedgerWorld.make(tmp_path / "home", DEFAULT)
    made.record("small", step_norm=0.05)
    made.record("larger", step_norm=0.4)
    made.record("large", step_norm=0.7)
    made.record("nothing", learned=False)
    yield made
    made.close()


def candidate(*edits: tuple[str, str]) -> Policy:
    source = DEFAULT.source.decode()
    for old, new in edits:
        assert old in source, old
        source = source.replace(old, new)
    return load_policy(source.encode(), "candidate")


def replay(world: LedgerWorld, policy: Policy, **options: object) -> Backtest:
    return backtest(world.ledger, policy, **({"suites": SUITES} | options))  # type: ignore[arg-type]


def rule(require: str) -> tuple[str, str]:
    return "rules: []", f"rules:\n  - {{name: mine, require: {require!r}, on_fail: reject, why: x}}"


def test_the_policy_that_decided_flips_nothing(world: LedgerWorld) -> None:
    found = replay(world, DEFAULT)
    assert (found.changes, found.flips, found.unknown) == (4, 0, 0)
    assert found.outcomes == {("apply", "apply"): 2, ("hold", "hold"): 1, ("reject", "reject"): 1}


def test_a_narrower_envelope_holds_what_applied_and_says_why(world: LedgerWorld) -> None:
    found = replay(world, candidate(("  step_norm: 0.6\n", "  step_norm: 0.3\n")))
    assert found.outcomes[("apply", "hold")] == found.flips == 1
    assert found.reasons[("apply", "hold")] == {"envelope.step_norm": 1}
    larger = world.ledger.changes(newest_first=False)[1]
    assert found.examples[("apply", "hold")] == [larger.change_id]


def test_a_wider_envelope_applies_what_was_held_and_says_what_stood_in_the_way(world: LedgerWorld) -> None:
    wider = candidate(
        ("  step_norm: 0.6\n", "  step_norm: 0.9\n"), ("cumulative_norm: 0.8\n", "cumulative_norm: 0.9\n")
    )
    found = replay(world, wider)
    assert found.outcomes[("hold", "apply")] == found.flips == 1
    assert found.reasons[("hold", "apply")] == {"envelope.step_norm": 1}


def test_a_rule_is_replayed_like_a_gate(world: LedgerWorld) -> None:
    found = replay(world, candidate(rule("step_norm < 0.1")))
    assert found.outcomes == {
        ("apply", "apply"): 1,
        ("apply", "reject"): 1,
        ("hold", "reject"): 1,
        ("reject", "reject"): 1,
    }


@pytest.mark.parametrize(
    ("edit", "missing"),
    [
        (("update.anchor_kl: unused", "update.anchor_kl: {limit: 0.5, on_fail: hold}"), "update.anchor_kl"),
        (("  anchor_kl: unused", "  anchor_kl: 0.5"), "envelope.anchor_kl"),
        (rule("update_anchor_kl < 20.0"), "rule.mine"),
        (("sample.secrets: unused", "sample.secrets: {limit: 0.0, on_fail: hold}"), "samples"),
        (("similarity: 0.8\n", "similarity: 0.7\n"), "samples"),
        (("real_share: 0.0\n", "real_share: 0.2\n"), "samples"),
        (
            ("update.budget: unused", "update.budget: {changes_per_hour: 9, flops_per_hour: 1.0e+9, on_fail: hold}"),
            "update.budget",
        ),
    ],
)
def test_what_was_not_recorded_is_named_and_never_guessed(
    world: LedgerWorld, edit: tuple[str, str], missing: str
) -> None:
    found = replay(world, candidate(edit))
    assert found.flips == 0
    assert found.unknown >= 3
    assert found.missing[missing] == found.unknown


def test_a_change_that_learned_nothing_is_rejected_whatever_was_not_measured(world: LedgerWorld) -> None:
    found = replay(world, candidate(("update.anchor_kl: unused", "update.anchor_kl: {limit: 0.5, on_fail: hold}")))
    assert found.outcomes[("reject", "reject")] == 1


def test_a_gate_that_is_for_the_other_scope_needs_nothing(world: LedgerWorld) -> None:
    gate = "update.anchor_kl: {limit: 0.5, on_fail: hold, scopes: [deployment]}"
    assert replay(world, candidate(("update.anchor_kl: unused", gate))).unknown == 0


def test_another_suite_leaves_the_regression_unknown_and_a_reject_a_reject(world: LedgerWorld) -> None:
    other = {"instance": digest("another suite"), "deployment": SUITE}
    found = replay(world, DEFAULT, suites=other)
    assert (found.unknown, found.missing["suite"], found.outcomes[("reject", "reject")]) == (3, 3, 1)
    found = replay(world, candidate(rule("step_norm < 0.01")), suites=other)
    assert (found.unknown, found.outcomes[("apply", "reject")]) == (0, 2)


def test_a_step_that_would_have_been_projected_is_unknown_and_a_small_one_is_not(world: LedgerWorld) -> None:
    projecting = candidate(("projection: never", "projection: instance"), ("trust_radius: unused", "trust_radius: 0.5"))
    found = replay(world, projecting)
    assert (found.unknown, found.missing) == (1, {"update.projection": 1})


def test_only_changes_since_then_are_replayed(world: LedgerWorld) -> None:
    views = world.ledger.changes(newest_first=False)
    assert replay(world, DEFAULT, since=views[2].body.identity.recorded_at).changes == 2
    assert replay(world, DEFAULT, since="2999-01-01T00:00:00.000000Z").changes == 0


def test_no_more_ids_are_kept_than_were_asked_for(world: LedgerWorld) -> None:
    found = replay(world, candidate(rule("step_norm < 0.01")), examples=1)
    assert found.outcomes[("apply", "reject")] == 2
    assert len(found.examples[("apply", "reject")]) == 1


def test_without_keys_nobody_knows_under_what_a_change_was_decided(world: LedgerWorld) -> None:
    sealed = Ledger.open(address_of(world.folder), keys=None, checkpoints=world.folder / "checkpoints")
    with sealed, pytest.raises(KeyUnavailableError):
        backtest(sealed, DEFAULT, suites={"instance": SUITE, "deployment": SUITE})
