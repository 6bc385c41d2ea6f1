"""The regression gates are sized before they judge: no true loss of the margin passes often, an equal model does."""

from __future__ import annotations

import math
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import regression_power as bench
from mass_gov.errors import PolicyError
from mass_gov.policy import Facts, Policy, judge, load_policy
from mass_gov.policy.bounds import exceeds, paired_lower_bound
from mass_gov.policy.document import PolicyDocument
from mass_gov.policy.power import cases_needed, pass_probability
from mass_gov.stages.regression import paired
from mass_gov.tasks.suites import SuiteHeader
from mass_gov.wiring import find_policy
from tests.fakes import facts

SUITES = bench.headers()


@pytest.fixture(params=sorted(SUITES))
def header(request: pytest.FixtureRequest) -> SuiteHeader:
    return SUITES[request.param]


# What must not pass


@pytest.mark.parametrize("rate", bench.DISCORDANCE)
def test_a_true_loss_of_the_margin_passes_a_shipped_suite_at_most_5_percent(header: SuiteHeader, rate: float) -> None:
    if rate >= header.margin:  # a loss of the margin flips as many cases at least
        assert bench.error(header.cases, header.margin, rate, "corrected") <= 0.05
        assert bench.error(header.needed, header.margin, rate, "corrected") <= 0.05


@pytest.mark.parametrize("n", [10, 17, 24, 28, 48, 56, 80, 96, 160])
@pytest.mark.parametrize("margin", [0.03, 0.05, 0.1, 0.2])
def test_whatever_flips_no_enumerated_size_lets_more_than_5_percent_pass(n: int, margin: float) -> None:
    assert bench.largest_error(n, margin, "corrected")[0] <= 0.05


def test_tangos_bound_lets_more_pass_than_it_says() -> None:
    """What the correction is for: this fails once Tango's bound would do."""
    assert bench.largest_error(28, 0.1, "tango")[0] > 0.055
    assert bench.error(48, 0.02 + 0.01, 0.03, "tango") <= bench.largest_error(48, 0.03, "tango")[0] > 0.06


def test_half_a_point_again_and_again_is_stopped_by_the_base_and_not_by_the_previous_state() -> None:
    policy, n = bench.deployment_policy(), SUITES["deployment-v1"].cases
    both = [bench.ratchet(seed, policy, n, both=True, attempts=30) for seed in range(8)]
    alone = [bench.ratchet(seed, policy, n, both=False, attempts=30) for seed in range(8)]
    assert all(run["points"] > 12 for run in alone)
    assert max(run["first"] for run in both) <= 10  # ten times half a point is the margin
    assert all(run["promoted"] < 20 for run in both)


# What must pass


def test_an_equal_model_passes_a_shipped_suite_at_least_80_percent(header: SuiteHeader) -> None:
    assert header.cases >= header.needed
    for n in (header.cases, header.needed):
        assert pass_probability(n, header.margin, header.discordance) >= header.power >= 0.8


def test_the_declared_need_is_what_the_margin_takes(header: SuiteHeader) -> None:
    assert header.needed == cases_needed(header.margin, header.discordance, header.power)


@pytest.mark.parametrize(("margin", "discordance"), [(0.1, 0.03), (0.1, 0.15), (0.05, 0.08), (0.2, 0.5)])
def test_from_the_needed_size_on_power_never_falls_short_again(margin: float, discordance: float) -> None:
    needed = cases_needed(margin, discordance, 0.8)
    assert pass_probability(needed - 1, margin, discordance) < 0.8
    assert all(pass_probability(n, margin, discordance) >= 0.8 for n in range(needed, needed + math.ceil(4 / margin)))


@pytest.mark.parametrize(("margin", "discordance"), [(0.1, 0.08), (0.2, 0.9), (0.15, 1.0), (0.3, 0.02)])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_needed_size_is_the_one_that_trying_every_size_gives(
    margin: float, discordance: float, power: float
) -> None:
    """Power rises in teeth, so that bisection alone finds a size behind which a larger one may fall short."""
    needed = cases_needed(margin, discordance, power)
    sizes, enough = range(1, needed + math.ceil(20 / margin)), power - 1e-9  # 0.5 is met exactly, but for rounding
    falls_short = [n for n in sizes if pass_probability(n, margin, discordance) < enough]
    assert needed == falls_short[-1] + 1


def test_bisection_alone_would_take_a_size_too_small() -> None:
    """Why the teeth are looked at: this fails once power rises with every case."""
    needed = cases_needed(0.15, 1.0, 0.8)
    assert any(pass_probability(n, 0.15, 1.0) >= 0.8 for n in range(needed - 18, needed - 1))


def test_the_size_for_a_narrow_margin_is_found_in_seconds() -> None:
    started = time.process_time()
    assert cases_needed(0.02, 0.08, 0.8) == 1334
    assert time.process_time() - started < 10  # trying every size takes minutes


@pytest.mark.parametrize(
    ("margin", "discordance", "power"), [(0.001, 0.3, 0.8), (1e-9, 1.0, 0.8), (0.01, 0.5, 0.999999)]
)
def test_a_margin_that_no_suite_could_tell_is_refused_at_once(margin: float, discordance: float, power: float) -> None:
    started = time.process_time()
    with pytest.raises(PolicyError, match="widen the margin"):
        cases_needed(margin, discordance, power)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("margin", ["margin: 0.0005, instance_margin: 0.10", "margin: 0.05, instance_margin: 0.0005"])
def test_a_policy_that_no_suite_could_satisfy_is_refused_when_it_is_read_and_not_when_it_judges(margin: str) -> None:
    source = find_policy("default").source.decode()
    line = source[: source.index("regression.power")].count("\n") + 1
    impossible = source.replace("margin: 0.05, instance_margin: 0.10", margin)
    with pytest.raises(PolicyError, match=f"p.yaml, line {line}: gates > regression.power: 20000 cases do not suffice"):
        load_policy(impossible.encode(), "p.yaml")
    unused = re.sub(r"regression.power: .*", "regression.power: unused", impossible)
    assert load_policy(unused.encode()).document.gates.regression_power == "unused"


# The gate


def _judged(n: int, *, margin: float, discordance: float = 0.08) -> tuple[str, float]:
    shipped = find_policy("default")
    document = shipped.document.model_dump(by_alias=True)
    for name in ("regression.previous", "regression.base"):
        document["gates"][name] |= {"margin": margin, "instance_margin": None}
    document["gates"]["regression.power"] = {"discordance": discordance, "power": 0.8, "on_fail": "hold"}
    policy: Policy = shipped.model_copy(update={"document": PolicyDocument.model_validate(document)})
    gates = policy.document.gates
    same = paired([(True, True)] * n, gates.regression_base)
    given = Facts("instance", facts.synthesis(), facts.update(), facts.regression(same, same))
    (gate,) = [gate for gate in judge(given, policy) if gate.name == "regression.power"]
    return gate.verdict, gate.limit


@pytest.mark.parametrize(("n", "verdict"), [(75, "inconclusive"), (76, "pass"), (160, "pass")])
def test_a_suite_too_small_for_the_margin_is_inconclusive_and_so_no_pass(n: int, verdict: str) -> None:
    assert _judged(n, margin=0.1) == (verdict, 76.0)


def test_a_narrower_margin_wants_more_cases() -> None:
    assert _judged(160, margin=0.05) == ("inconclusive", float(cases_needed(0.05, 0.08, 0.8)))


# The bound


@settings(max_examples=200)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60))
def test_the_corrected_bound_lies_below_tangos_and_rises_with_gains(gained: int, lost: int, same: int) -> None:
    n = gained + lost + same
    bound = paired_lower_bound(gained, lost, n, "corrected")
    assert -1 <= bound <= paired_lower_bound(gained, lost, n, "tango")
    if same:
        assert paired_lower_bound(gained + 1, lost, n, "corrected") >= bound
        assert paired_lower_bound(gained, lost + 1, n, "corrected") <= bound


@pytest.mark.parametrize("method", ["tango", "corrected"])
def test_a_bound_reaches_the_margin_exactly_where_the_score_says_so(method: bench.Method) -> None:
    """The enumeration above asks the score, the gate asks the bound."""
    for n, margin in ((24, 0.1), (40, 0.05)):
        for lost in range(n + 1):
            for gained in range(n + 1 - lost):
                passes = paired_lower_bound(gained, lost, n, method) >= -margin
                assert passes == exceeds(-margin, gained, lost, n, method), (n, gained, lost)
