"""The e-process against scipy and against exact fractions: its expectation, its value, and how often it alarms."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import multinomial

from mass_gov.policy.monitors.flips import BETS, Flips, block_of, carried, e_value

CASES = 12


def expectation(lost: float, gained: float, tolerance: float) -> float:
    """Sum over every outcome of CASES cases, weighed by scipy's multinomial probabilities."""
    outcomes = [(a, b, CASES - a - b) for a in range(CASES + 1) for b in range(CASES + 1 - a)]
    chances = multinomial.pmf(outcomes, CASES, (lost, gained, 1 - lost - gained))
    values = [e_value(Flips(a, b, CASES), tolerance) for a, b, _ in outcomes]
    return float(np.dot(chances, values))


@pytest.mark.parametrize("tolerance", [0.0, 0.02])
@pytest.mark.parametrize("gained", [0.01, 0.05, 0.2])
def test_its_expectation_is_one_at_the_edge_of_h0_and_below_one_inside(gained: float, tolerance: float) -> None:
    assert expectation(gained + tolerance, gained, tolerance) == pytest.approx(1.0, abs=1e-12)
    assert expectation(gained / 2, gained, tolerance) < 1.0
    assert expectation(gained + tolerance + 0.1, gained, tolerance) > 1.05


@pytest.mark.parametrize("flips", [Flips(7, 3, 60), Flips(0, 9, 40), Flips(25, 5, 400)])
@pytest.mark.parametrize("tolerance", ["0", "0.01"])
def test_its_value_is_that_of_exact_fractions(flips: Flips, tolerance: str) -> None:
    slack, total = Fraction(tolerance), Fraction(0)
    for part in BETS:
        bet = Fraction(part) / (1 + slack)
        same = flips.cases - flips.lost - flips.gained
        total += (
            (1 + bet * (1 - slack)) ** flips.lost * (1 - bet * (1 + slack)) ** flips.gained * (1 - bet * slack) ** same
        )
    assert e_value(flips, float(tolerance)) == pytest.approx(float(total / len(BETS)), rel=1e-12)


def test_at_the_edge_of_h0_no_more_streams_alarm_than_ville_allows() -> None:
    rng, alarms, streams, window, cases = np.random.default_rng(5), 0, 300, 20, 40
    for _ in range(streams):
        value, start, inside, block = 1.0, 1.0, Flips(0, 0, 0), 1
        for number in range(1, 101):
            if block_of(number, window) != block:
                start, inside, block = value, Flips(0, 0, 0), block_of(number, window)
            lost, gained, _same = rng.multinomial(cases, (0.06, 0.05, 0.89))
            inside += Flips(int(lost), int(gained), cases)
            value = carried(start, block, e_value(inside, 0.01))
            if value >= 20:
                alarms += 1
                break
    assert 0 < alarms <= 0.05 * streams + 2 * (streams * 0.05 * 0.95) ** 0.5
