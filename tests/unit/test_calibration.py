"""Limits follow from recorded distributions by the rules that stand beside them, and from nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mass_gov.config_data import data_folder
from mass_gov.flows.calibrate import RULES, LimitRule, distribution, limits, outward, yaml_lines
from mass_gov.policy import Policy, load_policy
from mass_gov.policy.document import MEASURED_LIMITS

SHIPPED = json.loads((data_folder("policies") / "calibration.json").read_text())


def test_the_shipped_limits_follow_from_the_shipped_distributions() -> None:
    assert limits(SHIPPED["statistics"]) == SHIPPED["limits"]
    assert {rule.gate for rule in RULES} == SHIPPED["limits"].keys()
    assert SHIPPED["tasks"] >= 100


CALIBRATED = ("default", "solo", "strict")
"""Shipped policies whose limits come from calibration; those of `research` are wide on purpose."""
LIKE_THE_RULE = [rule for rule in RULES if rule.gate != "sample.perplexity"]


def shipped(name: str) -> Policy:
    return load_policy((data_folder("policies") / name / "v1.yaml").read_bytes(), name)


@pytest.mark.parametrize("name", CALIBRATED)
@pytest.mark.parametrize("rule", LIKE_THE_RULE, ids=lambda rule: rule.gate)
def test_the_limit_of_a_shipped_policy_is_the_calibrated_one(name: str, rule: LimitRule) -> None:
    settings = shipped(name).document.gates.model_dump(by_alias=True)[rule.gate]
    assert settings[rule.field] == SHIPPED["limits"][rule.gate][rule.field]["limit"]


def test_the_band_of_perplexity_is_that_of_right_samples_and_in_strict_that_of_real_practice() -> None:
    """A sample that is right may be harder to write than the median of real practice; one in a hundred is let go."""
    right, limits = SHIPPED["statistics"]["perplexity.right"], SHIPPED["limits"]["sample.perplexity"]
    for name in ("default", "solo"):
        band = shipped(name).document.gates.sample_perplexity
        assert band != "unused"
        assert band.low <= right["min"] and right["p99"] <= band.high <= right["p99"] * 1.01
    band = shipped("strict").document.gates.sample_perplexity
    assert band != "unused"
    assert (band.low, band.high) == (limits["low"]["limit"], limits["high"]["limit"])


@pytest.mark.parametrize(("name", "percent"), [("default", 99), ("solo", 99), ("strict", 95)])
def test_the_envelope_of_a_shipped_policy_is_a_percentile_of_what_was_seen(name: str, percent: int) -> None:
    """Inside it 99 (strict: 95) of 100 ordinary steps apply by themselves, limit for limit."""
    envelope = shipped(name).document.envelope
    for limit in ("step_norm", "cumulative_norm", *MEASURED_LIMITS):
        found = getattr(envelope, limit)
        if found != "unused" and limit != "generation_depth":
            exact = max(SHIPPED["statistics"][f"update.{limit}"][f"p{percent}"], 0.0)
            assert exact <= found <= exact * 1.01, limit


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.gate}.{rule.field}")
def test_no_rounding_makes_a_limit_stricter_than_its_rule(rule: LimitRule) -> None:
    found = SHIPPED["limits"][rule.gate][rule.field]["limit"]
    exact = max(SHIPPED["statistics"][rule.statistic][f"p{rule.percent}"] * rule.factor, 0.0)
    assert found >= exact - 1e-12 if rule.above else found <= exact + 1e-12
    assert found == pytest.approx(exact, rel=0.01)


@given(st.floats(1e-6, 1e9), st.booleans())
def test_rounding_goes_outward_and_keeps_three_digits(value: float, above: bool) -> None:
    rounded = outward(value, above)
    assert rounded == pytest.approx(value, rel=0.0101)
    assert rounded >= value * (1 - 1e-9) if above else rounded <= value * (1 + 1e-9)


def test_a_distribution_is_of_values_that_were_seen() -> None:
    found = distribution([3.0, 1.0, 2.0])
    assert (found["n"], found["min"], found["p50"], found["max"], found["mean"]) == (3, 1.0, 2.0, 3.0, 2.0)


def test_every_limit_has_a_line_for_a_policy_file() -> None:
    lines = yaml_lines(SHIPPED)
    assert len(lines) == len(SHIPPED["limits"])
    assert all(line.startswith("  ") and ": " in line for line in lines)
