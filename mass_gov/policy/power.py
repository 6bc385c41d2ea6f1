"""How likely the regression gates are to pass a change, known before any change: power and error of the paired bound.

Exact, in pure Python. The number of cases that flip is binomial; given it, the number gained is binomial as well; a
pair of counts passes when its bound reaches minus the margin. Nothing is simulated and nothing is approximated.

Rules: the power of a suite is stated for a model that is truly as good as before (difference 0) and that answers a
declared share of the cases otherwise (the discordance). What this does not know: which discordance real changes have;
a suite's header declares what was measured (`mass_gov.tasks.suites`).
"""

from __future__ import annotations

import math
from functools import lru_cache

from mass_gov.errors import PolicyError
from mass_gov.policy.bounds import Method, exceeds

MOST_CASES = 20_000
"""A suite that needs more than this is no suite that every update can run."""


def pass_probability(
    n: int, margin: float, discordance: float, difference: float = 0.0, method: Method = "corrected"
) -> float:
    """Probability that the bound of n cases reaches `-margin`.

    Arguments:
        discordance: probability that a case flips, gained or lost.
        difference: probability gained minus probability lost; at most the discordance in size.

    Raises:
        ValueError: no such probabilities.
    """
    if not 0 <= abs(difference) <= discordance <= 1 or n < 0:
        raise ValueError(f"no probabilities: discordance {discordance}, difference {difference}, n {n}")
    share = (discordance + difference) / (2 * discordance) if discordance else 0.0
    total = 0.0
    for flips, weight in _binomial(n, discordance):
        least = _least_gained(flips, n, margin, method)
        if least is not None:
            total += weight * _at_least(least, flips, share)
    return min(total, 1.0)


@lru_cache(maxsize=256)
def cases_needed(margin: float, discordance: float, power: float) -> int:
    """Smallest n from which on a truly equal model passes with at least `power`, by the corrected bound.

    Power rises with n in teeth, since counts are whole; the n returned lies behind the last tooth that falls short.

    Raises:
        PolicyError: more than `MOST_CASES` would be needed.
    """
    low, high = 1, 2
    while _short(high, margin, discordance, power):
        low, high = high, high * 2
        if high > 2 * MOST_CASES:
            raise PolicyError(
                f"more than {MOST_CASES} cases are needed to tell a loss of {margin} where {discordance} of the cases "
                "flip; widen the margin."
            )
    # The teeth are a case or two of lost more, so some 3 / margin cases wide: beyond that, no n falls short again.
    last = high + math.ceil(3 / margin)
    return next((n + 1 for n in range(last, low, -1) if _short(n, margin, discordance, power)), low + 1)


def _short(n: int, margin: float, discordance: float, power: float) -> bool:
    return pass_probability(n, margin, discordance) < power


def _least_gained(flips: int, n: int, margin: float, method: Method) -> int | None:
    """Fewest gained of so many flips with which the bound passes; None where even all do not."""
    if not exceeds(-margin, flips, 0, n, method):
        return None
    low, high = 0, flips  # more gained and fewer lost never lowers the score
    while low < high:
        middle = (low + high) // 2
        if exceeds(-margin, middle, flips - middle, n, method):
            high = middle
        else:
            low = middle + 1
    return low


def _binomial(n: int, p: float) -> list[tuple[int, float]]:
    """(k, probability) of a binomial, without the k that are less likely than 1e-15."""
    if p in (0.0, 1.0):
        return [(n if p else 0, 1.0)]
    found = ((k, math.exp(_log_choose(n, k) + k * math.log(p) + (n - k) * math.log1p(-p))) for k in range(n + 1))
    return [(k, weight) for k, weight in found if weight > 1e-15]


def _at_least(least: int, n: int, p: float) -> float:
    return math.fsum(weight for k, weight in _binomial(n, p) if k >= least)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
