"""Limits follow from recorded distributions by the rules that stand beside them, and from nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mass_gov.config_data import data_folder
from mass_gov.flows.calibrate import RULES, distribution, limits, outward, yaml_lines

SHIPPED = json.loads((data_folder("policies") / "calibration.json").read_text())


def test_the_shipped_limits_follow_from_the_shipped_distributions() -> None:
    assert limits(SHIPPED["statistics"]) == SHIPPED["limits"]
    assert {rule.gate for rule in RULES} == SHIPPED["limits"].keys()
    assert SHIPPED["tasks"] >= 100


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.gate}.{rule.field}")
def test_no_rounding_makes_a_limit_stricter_than_its_rule(rule: object) -> None:
    assert rule in RULES
    found = SHIPPED["limits"][rule.gate][rule.field]["limit"]  # type: ignore[attr-defined]
    exact = max(SHIPPED["statistics"][rule.statistic][f"p{rule.percent}"] * rule.factor, 0.0)  # type: ignore[attr-defined]
    assert found >= exact - 1e-12 if rule.above else found <= exact + 1e-12  # type: ignore[attr-defined]
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
