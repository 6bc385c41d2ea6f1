"""What a policy asks to know of an update, and what the log says of a change: denial first, then figures by hand."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mass_gov.policy import Facts, Policy, decide, diversity, judge
from mass_gov.policy.diversity import FROM_THE_SAMPLES, self_bleu, tokens
from mass_gov.policy.measures import PARTS, STATISTICS
from mass_gov.policy.metrics import metric_of
from mass_gov.policy.standing import FROM_THE_LOG, HOUR, NEVER, Spent, Standing, log_measures, since, spent_before
from mass_gov.policy.update_measures import FROM_THE_UPDATE, asked_for, mean, percentile, update_measures
from mass_gov.records.artifacts import ModuleStep, UpdateContent
from mass_gov.records.base import timestamp
from mass_gov.records.change import Decision, Measure, PairedCounts
from tests.fakes import facts as ordinary
from tests.fakes.policies import policy_with

HOLD = {"on_fail": "hold"}
GATES: dict[str, dict[str, Any]] = {
    "update.spectral_norm": {"limit": 1.0, **HOLD},
    "update.cumulative_spectral_norm": {"limit": 2.0, **HOLD},
    "update.anchor_kl": {"limit": 0.1, **HOLD},
    "update.anchor_kl_p99": {"limit": 1.0, **HOLD},
    "update.loss_jump": {"limit": 0.0, **HOLD},
    "update.generation_depth": {"limit": 1.0, **HOLD},
    "update.cooldown": {"limit": 600.0, **HOLD},
}
GOOD = {
    "update.spectral_norm": 1.0,
    "update.cumulative_spectral_norm": 2.0,
    "update.anchor_kl": 0.1,
    "update.anchor_kl_p99": 1.0,
    "update.loss_jump": -0.5,
    "update.generation_depth": 1.0,
    "update.cooldown": 600.0,
    "update.budget.changes": 10.0,
    "update.budget.flops": 1e9,
}
BUDGET = {"changes_per_hour": 10, "flops_per_hour": 1e9, **HOLD}
BAD = {
    "update.spectral_norm": 1.0001,
    "update.cumulative_spectral_norm": 2.0001,
    "update.anchor_kl": 0.1001,
    "update.anchor_kl_p99": 1.001,
    "update.loss_jump": 1e-9,
    "update.generation_depth": 2.0,
    "update.cooldown": 599.9,
    "update.budget.changes": 11.0,
    "update.budget.flops": 1.0001e9,
}


def everything() -> Policy:
    return policy_with({**GATES, "update.budget": BUDGET})


def facts(measures: dict[str, float | None]) -> Facts:
    """A change that passes every other gate."""
    same = PairedCounts(both_right=4000, lost=0, gained=0, both_wrong=0, difference=0.0, lower_bound=0.0, margin=0.1)
    found = {name: Measure(name=name, value=value, n=1) for name, value in measures.items()}
    return Facts("instance", ordinary.synthesis(), ordinary.update(), ordinary.regression(same, same), found)


def decided(measures: dict[str, float | None], policy: Policy) -> Decision:
    given = facts(measures)
    return decide(judge(given, policy), given.update, given.scope, policy, given.measures)


def gate_of(name: str) -> str:
    return name.removesuffix(".changes").removesuffix(".flops")


# --- each gate by itself ---


@pytest.mark.parametrize("name", BAD)
def test_each_gate_alone_stops_what_goes_beyond_it(name: str) -> None:
    decision = decided({**GOOD, name: BAD[name]}, everything())
    assert (decision.verdict, decision.violated) == ("hold", (gate_of(name),))


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("missing", ["absent", "not a number"])
def test_each_gate_fails_what_was_not_measured_or_is_no_number(name: str, missing: str) -> None:
    measures: dict[str, float | None] = {**GOOD, name: None}
    if missing == "absent":
        del measures[name]
    decision = decided(measures, everything())
    assert (decision.verdict, decision.violated) == ("hold", (gate_of(name),))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_measure_that_is_not_finite_cannot_be_written_down(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Measure(name="update.anchor_kl", value=value, n=1)


def test_what_reaches_every_limit_exactly_passes() -> None:
    assert decided(dict(GOOD), everything()).verdict == "apply"


# --- what is asked for ---


def test_nothing_is_measured_that_nobody_asks_for() -> None:
    assert asked_for(policy_with({}).document, "instance") == frozenset()


def test_a_gate_a_limit_of_the_envelope_and_a_rule_each_ask() -> None:
    assert "update.anchor_kl" in asked_for(
        policy_with({"update.anchor_kl": GATES["update.anchor_kl"]}).document, "instance"
    )
    assert {"update.budget.changes", "update.budget.flops"} <= asked_for(everything().document, "instance")
    plain = policy_with({}).document
    wider = plain.model_copy(update={"envelope": plain.envelope.model_copy(update={"loss_jump": 0.0})})
    assert "update.loss_jump" in asked_for(wider, "instance")
    rule = {"name": "deep", "require": "update_generation_depth <= 3.0", "on_fail": "hold", "why": "too deep"}
    assert "update.generation_depth" in asked_for(policy_with({}, rules=[rule]).document, "instance")


def test_what_a_window_is_made_of_is_asked_for_in_the_scopes_of_its_gate() -> None:
    gate = {"window": 4, "limit": 3.0, "on_fail": "hold", "scopes": ["deployment"]}
    document = policy_with({"window.generation_depth": gate}).document
    assert asked_for(document, "deployment") == {"update.generation_depth"}
    assert asked_for(document, "instance") == frozenset()


@pytest.mark.parametrize("name", [*FROM_THE_SAMPLES, *FROM_THE_UPDATE, *FROM_THE_LOG])
def test_a_rule_asks_for_whatever_it_names(name: str) -> None:
    rule = {"name": "one", "require": f"{metric_of(name)} <= 3.0", "on_fail": "hold", "why": "one"}
    assert asked_for(policy_with({}, rules=[rule]).document, "instance") == {name}


def test_every_measure_here_is_in_the_catalogue() -> None:
    assert {*FROM_THE_UPDATE, *FROM_THE_LOG} <= STATISTICS.keys() | set(PARTS)


# --- figures from the artifact ---


def module(name: str, **more: float | None) -> ModuleStep:
    return ModuleStep(module=name, step_size=0.1, step_norm=0.1, cumulative_norm=0.2, **more)


def content(**more: Any) -> UpdateContent:
    modules = (
        module("a", spectral_norm=0.3, cumulative_spectral_norm=0.4),
        module("b", spectral_norm=0.5, cumulative_spectral_norm=0.1),
    )
    return UpdateContent(losses=(2.0, 1.5), gradient_norms=(1.0, 1.0), modules=more.pop("modules", modules), **more)


def test_an_auditor_finds_the_figures_in_the_artifact() -> None:
    tokens = tuple(float(i) for i in range(200))
    found = {
        measure.name: (measure.value, measure.n)
        for measure in update_measures(content(divergences=tokens, loss_after=1.25), FROM_THE_UPDATE)
    }
    assert found == {
        "update.spectral_norm": (0.5, 2),
        "update.cumulative_spectral_norm": (0.4, 2),
        "update.anchor_kl": (99.5, 200),
        "update.anchor_kl_p99": (197.0, 200),
        "update.loss_jump": (-0.75, 2),
    }


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("update.spectral_norm", {"modules": (module("a", spectral_norm=0.3), module("b"))}),
        ("update.spectral_norm", {"modules": ()}),
        ("update.anchor_kl", {"divergences": (0.1, None)}),
        ("update.anchor_kl_p99", {"divergences": (0.1, None)}),
        ("update.anchor_kl", {"divergences": ()}),
        ("update.anchor_kl", {}),
        ("update.loss_jump", {}),
    ],
)
def test_one_part_that_is_not_known_leaves_the_figure_unknown(name: str, given: dict[str, Any]) -> None:
    (measure,) = update_measures(content(**given), {name})
    assert measure.value is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(values: list[float], percent: int) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert all(sum(v <= value for v in values) * 100 < percent * len(values) for value in values if value < found)
    assert mean(values) == pytest.approx(statistics.fmean(values))


# --- the hour and the cooldown ---

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def at(seconds: float) -> str:
    return timestamp(NOON + dt.timedelta(seconds=seconds))


def spent(*seconds: float) -> list[Spent]:
    """In the order of the log; each cost 10."""
    return [Spent(at(moment), 10) for moment in reversed(seconds)]


def test_an_hour_counts_what_was_recorded_in_it_to_the_microsecond() -> None:
    assert spent_before(at(HOUR), spent(-0.000001, 0.0, 10.0)) == (2, 20)
    assert spent_before(at(HOUR + 10), spent(-5, 0.0, 10.0)) == (1, 10)
    assert spent_before(at(0), []) == (0, 0)


def test_a_clock_that_is_set_back_refills_no_budget() -> None:
    """Ten changes at noon; then the clock shows eleven o'clock, or last year: all ten still count."""
    ten = spent(*range(10))
    assert spent_before(at(-HOUR), ten) == (10, 100)
    assert spent_before(at(-365 * 86400), ten) == (10, 100)


def test_one_change_from_the_future_does_not_hide_those_before_it() -> None:
    assert spent_before(at(5), spent(0, 86400, 1)) == (3, 30)


def test_the_run_ends_where_the_clock_had_moved_on_by_more_than_an_hour() -> None:
    assert spent_before(at(10_000), spent(0, 1, 9_000)) == (1, 10)


def test_a_rollback_by_a_clock_that_runs_backwards_was_just_now() -> None:
    assert since(at(100), at(0)) == 0.0
    assert since(at(0), at(90)) == 90.0
    assert since(None, at(0)) is None


def test_no_rollback_ever_is_a_number_that_every_cooldown_is_below() -> None:
    standing = Standing(at(0), 5, 0, 2, 20, None)
    found = {measure.name: measure for measure in log_measures(standing, 7, FROM_THE_LOG)}
    assert (found["update.cooldown"].value, found["update.cooldown"].n) == (NEVER, 0)
    assert found["update.generation_depth"].value == 1.0
    assert (found["update.budget.changes"].value, found["update.budget.flops"].value) == (3.0, 27.0)
    again = {m.name: m for m in log_measures(replace(standing, since_rollback=3.0, depth=4), 0, FROM_THE_LOG)}
    assert (again["update.cooldown"].value, again["update.generation_depth"].value) == (3.0, 5.0)


@given(st.lists(st.text(alphabet="ab 1+?", max_size=24), min_size=2, max_size=8))
def test_self_bleu_is_that_of_each_text_with_the_others_written_out(texts: list[str]) -> None:
    """Word for word by its definition: no count is kept from one text to the next."""
    read = [[tuple(t[i : i + n]) for i in range(len(t) - n + 1)] for t in map(tokens, texts) for n in (1, 2, 3, 4)]
    grams = [list(map(Counter, read[place : place + 4])) for place in range(0, len(read), 4)]
    lengths = [sum(orders[0].values()) for orders in grams]
    values = []
    for place, mine in enumerate(grams):
        others = [orders for other, orders in enumerate(grams) if other != place]
        matches = [
            sum(min(count, max(orders[n][gram] for orders in others)) for gram, count in mine[n].items())
            for n in range(4)
        ]
        values.append(diversity._bleu(lengths[place], matches, lengths[:place] + lengths[place + 1 :]))
    assert self_bleu(texts) == round(math.fsum(values) / len(values), 12)
