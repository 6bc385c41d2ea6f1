"""A second opinion on the regression gates: scipy's distributions, its root finder and its exact test.

statsmodels has no score bound for paired proportions; what is asked here instead is each step that one is made of.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, binomtest, multinomial

from mass_gov.policy.bounds import Z_95, Z_CORRECTED, paired_lower_bound
from mass_gov.policy.power import pass_probability

COUNTS = [(3, 7, 60), (0, 2, 48), (1, 9, 160), (5, 0, 24), (12, 30, 320), (0, 0, 100), (20, 20, 48), (10, 14, 24)]


def _score(delta: float, gained: int, lost: int, n: int, correction: float) -> float:
    """The score with its nuisance found by a maximiser of the trinomial likelihood instead of in closed form."""

    def negative(p_lost: float) -> float:
        cells = (p_lost + delta, p_lost, 1 - 2 * p_lost - delta)
        counts = (gained, lost, n - gained - lost)
        return -sum(k * math.log(max(p, 1e-300)) for k, p in zip(counts, cells, strict=True) if k)

    lowest, highest = max(0.0, -delta), (1 - delta) / 2
    p_lost = minimize_scalar(negative, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-13}).x
    variance = n * (2 * p_lost + delta - delta**2)
    return (gained - lost - n * delta - correction) / math.sqrt(variance)


@pytest.mark.parametrize(("gained", "lost", "n"), COUNTS)
def test_both_bounds_are_the_roots_that_scipy_finds(gained: int, lost: int, n: int) -> None:
    half_a_step = (1 + (gained + lost) / n) / 2
    for method, correction, z in (("tango", 0.0, Z_95), ("corrected", half_a_step, Z_CORRECTED)):
        root = brentq(
            lambda delta, shift=correction, at=z: _score(delta, gained, lost, n, shift) - at,
            -0.999,
            (gained - lost) / n - 1e-9,
        )
        assert paired_lower_bound(gained, lost, n, method) == pytest.approx(root, abs=2e-5)


@pytest.mark.parametrize("method", ["tango", "corrected"])
@pytest.mark.parametrize(
    ("n", "margin", "rate", "difference"),
    [(48, 0.1, 0.1, -0.1), (48, 0.1, 0.3, -0.1), (60, 0.05, 0.08, 0.0), (40, 0.2, 1.0, -0.2), (80, 0.1, 0.12, 0.02)],
)
def test_the_pass_probability_is_that_of_scipys_trinomial(
    n: int, margin: float, rate: float, difference: float, method: str
) -> None:
    """Summed over every pair of counts and judged by the bound itself, where `power` sums binomials of the score."""
    cells = [(rate + difference) / 2, (rate - difference) / 2, 1 - rate]
    pairs = [(gained, lost) for gained in range(n + 1) for lost in range(n + 1 - gained)]
    passing = [pair for pair in pairs if paired_lower_bound(*pair, n, method) >= -margin]
    rows = np.array([(gained, lost, n - gained - lost) for gained, lost in passing])
    expected = multinomial.pmf(rows, n, cells).sum()
    assert pass_probability(n, margin, rate, difference, method) == pytest.approx(expected, abs=1e-9)


def test_with_no_gains_the_corrected_bound_is_no_bolder_than_the_exact_binomial_one() -> None:
    """Where nothing can be gained the paired difference is a binomial, and Clopper and Pearson's bound is exact."""
    for n in (24, 48, 160, 320):
        for lost in range(n // 4):
            exact = -binomtest(lost, n).proportion_ci(0.90, method="exact").high  # 5% on either side
            corrected, tango = paired_lower_bound(0, lost, n), paired_lower_bound(0, lost, n, "tango")
            assert corrected <= tango
            assert corrected <= exact + 0.25 / n
    assert paired_lower_bound(0, 0, 100, "tango") > -binomtest(0, 100).proportion_ci(0.90, method="exact").high


def test_with_no_gains_the_error_is_a_binomial_tail() -> None:
    for n, margin in ((48, 0.1), (160, 0.1), (320, 0.05)):
        most = max(lost for lost in range(n) if paired_lower_bound(0, lost, n) >= -margin)
        tail = float(binom.cdf(most, n, margin))
        assert pass_probability(n, margin, margin, -margin) == pytest.approx(tail, abs=1e-9)
        assert tail <= 0.05
