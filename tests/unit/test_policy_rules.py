"""Rules in CEL: what is refused when a policy is read, and that nothing but a boolean true lets a change pass."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mass_gov.errors import PolicyError
from mass_gov.policy import Facts, Policy, decide, judge, load_policy, rederive
from mass_gov.policy.cel import compile_program
from mass_gov.policy.gate_settings import Gates
from mass_gov.policy.measures import PARTS, STATISTICS
from mass_gov.policy.metrics import LARGEST, METRICS, metrics_of
from mass_gov.records.change import GateResult, Measure
from tests.fakes.policies import lean_source
from tests.unit.test_policy import SOURCE, body, default, facts

LEAN = lean_source(base="default").decode()


def with_rule(require: str, on_fail: str = "hold") -> str:
    rule = f'rules:\n  - {{name: mine, require: {require!r}, on_fail: {on_fail}, why: "Because."}}'
    assert "rules: []" in LEAN
    return LEAN.replace("rules: []", rule, 1)


def policy_with(require: str, on_fail: str = "hold") -> Policy:
    return load_policy(with_rule(require, on_fail).encode(), "p.yaml")


def rule_of(given: Facts, require: str) -> GateResult:
    (result,) = [gate for gate in judge(given, policy_with(require)) if gate.name == "rule.mine"]
    return result


@pytest.mark.parametrize(
    ("require", "says"),
    [
        ("step_nrm < 1.0", "no metric step_nrm; perhaps step_norm"),
        ("step_norm < 1", "whole numbers and decimals do not mix"),
        ("kept == 'six'", "no matching overload"),
        ("step_norm", "no yes or no"),
        ("kept", "no yes or no"),
        ("scope", "no yes or no"),
        ("[forced]", "no yes or no"),
        ("step_norm <", "at character"),
        ("step_norm < 1.0)", "at character"),
        ("kept / 0 > 1", "'/'"),
        ("kept % 2 == 0", "'%'"),
        ("size(scope) > 3", "only functions"),
        ("scope.startsWith('i')", "'.'"),
        ("scope.matches('(a+)+')", "'.'"),
        ("has(scope)", "only functions"),
        ("[1, 2].all(x, x > 0)", "'.'"),
        ("dyn(forced)", "only functions"),
        ("timestamp('2026-01-01')", "only functions"),
        ("{'a': forced}['a']", "'{'"),
        ("step_norm < 1e400", "beyond 1e30"),
        ("kept < 0x10", "'0'"),
        ("kept < 10u", "'1'"),
        (r"scope == 'a\n'", "is not accepted"),
        ("scope == b'a'", "no metric b"),
        ("forced; forced", "';'"),
        ("forced // true", "'/'"),
        ("", "at least 1"),
        (" ", "at character"),
    ],
)
def test_a_rule_that_is_not_understood_is_refused_with_file_and_line(require: str, says: str) -> None:
    source = with_rule(require)
    line = source[: source.index("- {name: mine")].count("\n") + 1
    with pytest.raises(PolicyError, match=re.escape(f"p.yaml, line {line}: rules > 0 > require")) as caught:
        load_policy(source.encode(), "p.yaml")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ("window_flips < 20.0", "window_flips where window.flips is unused"),
        ("window_flips_lost < 20.0", "window_flips_lost where window.flips is unused"),
        ("window_distinct_2_own < 1.0", "window_distinct_2_own where window.distinct_2 is unused"),
        ("window_kinds_linear < 1.0", "where window.tail_coverage or window.density_ratio is unused"),
        ("window_head > 1.0", "window_head where window.flips or window.distinct_2"),
        ("dropped_secrets == 0 || forced", "dropped_secrets where sample.secrets is unused"),
        ("!projected || projected_norm < 0.5", "projected_norm where update.projection is never"),
        ("update_budget < 1.0", "no metric update_budget; perhaps update_budget_"),
    ],
)
def test_a_rule_over_what_no_change_under_the_policy_can_have_is_refused_with_its_line(metric: str, says: str) -> None:
    line = LEAN[: LEAN.index("rules: []")].count("\n") + 2
    with pytest.raises(PolicyError, match=f"p.yaml, line {line}: rules > 0 > require: .*{re.escape(says)}"):
        policy_with(metric)


def test_a_gate_in_use_for_one_scope_is_enough_for_a_rule_to_name_what_it_measures() -> None:
    for name, metrics in (
        ("sample.secrets", ["dropped_secrets == 0"]),
        ("window.flips", ["window_flips < 20.0", "window_flips_gained_to_base >= 0.0", "window_since < 1e9"]),
        ("window.density_ratio", ["window_kinds_operator >= 0.0"]),
    ):
        gate = everything(name) | {"scopes": ["deployment"]}
        rules = [{"name": f"r{n}", "require": one, "on_fail": "hold", "why": "x"} for n, one in enumerate(metrics)]
        assert len(load_policy(lean_source({name: gate}, base="default", rules=rules)).document.rules) == len(metrics)


def everything(gate: str) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load(SOURCE)["gates"][gate]
    return settings


@pytest.mark.parametrize(
    "bomb",
    [
        "(" * 400 + "forced" + ")" * 400,
        "[" * 400 + "1" + "]" * 400 + " == []",
        "!" * 900 + "forced",
        "-" * 900 + "kept == 1",
        "forced" + " && forced" * 5_000,
        "forced ? " * 60 + "forced" + " : forced" * 60,
        "kept" + "*kept" * 100 + " > 0",
        "step_norm < " + "9" * 900,
        "'" + "a" * 9_000 + "' == scope",
        "scope in [" + ", ".join(["'a'"] * 2_000) + "]",
    ],
    ids=["brackets", "lists", "nots", "minuses", "ands", "choices", "products", "digits", "text", "long list"],
)
def test_a_rule_that_would_cost_much_is_refused_at_once(bomb: str) -> None:
    started = time.process_time()
    with pytest.raises(PolicyError, match="rules > 0 > require"):
        policy_with(bomb)
    assert time.process_time() - started < 2


def test_the_largest_rule_that_is_accepted_costs_next_to_nothing() -> None:
    program = compile_program("kept>=0" + "&&kept>=0" * 63)
    started = time.process_time()
    assert all(program.holds({"kept": 3}) for _ in range(1_000))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("require", "given"),
    [
        ("update_anchor_kl < 20.0", facts()),  # never measured
        ("!(update_anchor_kl >= 20.0)", facts()),
        ("update_anchor_kl == update_anchor_kl", facts()),
        ("step_norm < 9.0", facts(norm=None)),  # not a finite number
        ("!(step_norm >= 9.0)", facts(norm=None)),
        ("9223372036854775807 + kept > 0", facts()),  # more than an integer holds
        ("[forced][kept]", facts()),
        ("int(1e30) > 0", facts()),
    ],
)
def test_what_cannot_be_told_does_not_hold(require: str, given: Facts) -> None:
    result = rule_of(given, require)
    assert (result.value, result.verdict) == (None, "fail")


def test_either_side_of_an_or_is_enough_and_neither_is_not() -> None:
    assert rule_of(facts(), "update_anchor_kl < 20.0 || scope == 'instance'").verdict == "pass"
    assert rule_of(facts(scope="deployment"), "update_anchor_kl < 20.0 || scope == 'instance'").value is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2e30, -2e30])
@pytest.mark.parametrize("require", ["step_norm < 1.0", "!(step_norm < 1.0)", "step_norm != 1.0", "step_norm > 1.0"])
def test_a_number_that_is_not_finite_is_not_there(value: float, require: str) -> None:
    assert compile_program(require).holds({"step_norm": value}) is None


@pytest.mark.parametrize("value", ["0.5", None, True, [0.5], {"a": 1}, 10**40])
def test_a_metric_of_another_type_never_makes_a_rule_true(value: object) -> None:
    assert compile_program("step_norm < 1.0").holds({"step_norm": value}) is not True  # type: ignore[dict-item]


@given(st.lists(st.sampled_from([LARGEST, -LARGEST, 1.0, 0.0, 1e-300, -3.5]), min_size=3, max_size=3))
def test_no_arithmetic_that_is_accepted_yields_what_is_no_number(numbers: list[float]) -> None:
    """Infinity minus itself, or times zero, would be NaN, of which every negated comparison is true."""
    metrics = dict(zip(("step_norm", "loss_first", "loss_last"), numbers, strict=True))
    factor = "(step_norm+loss_first+loss_last+1e30+1e30)"
    product = "*".join([factor] * 5)
    assert compile_program(f"{product} - {product} == 0.0").holds(metrics) is True
    assert compile_program(f"!({product} < 0.0 || {product} >= 0.0)").holds(metrics) is False


def test_every_metric_is_one_that_some_change_has() -> None:
    every = {name: Measure(name=name, value=1.0, n=1) for name in (*STATISTICS, *PARTS)}
    plain = facts()
    dropped = {str(field.alias): 0 for field in Gates.model_fields.values() if str(field.alias).startswith("sample.")}
    full = Facts(
        plain.scope,
        plain.synthesis.model_copy(update={"dropped": dropped}),
        plain.update.model_copy(update={"projected": True, "projected_norm": 0.1}),
        plain.regression,
        every,
    )
    assert metrics_of(full).keys() == METRICS.keys()


@pytest.mark.parametrize(("on_fail", "verdict"), [("hold", "hold"), ("reject", "reject")])
def test_a_rule_alone_stops_a_change_as_it_says(on_fail: str, verdict: str) -> None:
    given = facts()
    policy = policy_with("kept >= 7", on_fail)
    decision = decide(judge(given, policy), given.update, given.scope, policy)
    assert (decision.verdict, decision.violated) == (verdict, ("rule.mine",))
    met = policy_with("kept >= 6", on_fail)
    assert decide(judge(given, met), given.update, given.scope, met).verdict == "apply"


def test_an_auditor_derives_a_rule_again_from_the_leaf() -> None:
    policy = policy_with("double(kept) >= 0.5 * double(generated) && previous_lost <= base_lost")
    given = facts(lost=1)
    gates = judge(given, policy)
    change = body(given).model_copy(
        update={"gates": gates, "decision": decide(gates, given.update, given.scope, policy)}
    )
    assert rederive(change, policy) == (change.gates, change.decision)
    assert gates[-1].model_dump(include={"name", "level", "value", "limit", "comparison", "n"}) == {
        "name": "rule.mine",
        "level": "update",
        "value": 1.0,
        "limit": 1.0,
        "comparison": ">=",
        "n": 4,
    }


def test_where_nothing_was_learned_rules_have_nothing_to_judge() -> None:
    assert not [
        gate for gate in judge(facts(outcome="no_valid_samples"), policy_with("forced")) if gate.name == "rule.mine"
    ]


def test_two_rules_of_one_name_are_refused() -> None:
    rule = "\n  - {name: a, require: forced, on_fail: hold, why: x}"
    with pytest.raises(PolicyError, match="two rules have one name"):
        load_policy(SOURCE.replace("rules: []", f"rules:{rule}{rule}").encode())


def test_rules_load_no_torch() -> None:
    code = "import sys, mass_gov.policy.cel; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_shipped_policies_still_load_without_rules() -> None:
    assert default().document.rules == ()


@pytest.mark.parametrize(
    "text",
    [
        "!(step_norm > double('nan'))",
        "!(double('NaN') <= 1.0)",
        "step_norm < double('inf')",
        "double('1e300') * double('1e300') > 1.0",
        'step_norm < double(true ? "infinity" : "x")',
        "double('na' + 'n') != step_norm",
        "!(double('i' + 'nf') < step_norm)",
        "double(kept > 0 ? 'na' + 'n' : 'x') != step_norm",
        "!(step_norm > double((scope)))",
    ],
)
def test_a_number_in_quotes_is_no_way_past_the_bounds(text: str) -> None:
    """A conversion reads it: NaN makes the negated comparison true of every change."""
    source = lean_source(rules=[{"name": "limit", "require": text, "on_fail": "reject", "why": "too far"}])
    with pytest.raises(PolicyError, match="is text; a conversion is of numbers"):
        load_policy(source, new=True)
    assert load_policy(source).document.rules  # a log that holds one is still read
