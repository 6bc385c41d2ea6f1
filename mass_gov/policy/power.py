"""How likely the regression gates are to pass a change, known before any change: power and error of the paired bound.

Exact, in pure Python. The number of cases that flip is binomial; given it, the number gained is binomial as well; a
pair of counts passes when its bound reaches minus the margin. Nothing is simulated and nothing is approximated.

Rules: the power of a suite is stated for a model that is truly as good as before (difference 0) and that answers a
declared share of the cases otherwise (the discordance). What this does not know: which discordance real changes have;
a suite's header declares what was measured (`mass_gov.tasks.suites`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

from mass_gov.errors import PolicyError
from mass_gov.policy.bounds import Method, exceeds

MOST_CASES = 20_000
"""A suite that needs more than this is no suite that every update can run."""
TEETH = 5.0
"""Over margin: how many cases may lie between an n that suffices and a later one that does not. Measured, not proved:
at most 3.8, over every n, of 66 pairs of margin (0.05 to 0.3) and discordance (0.005 to 1), at powers of 0.05 to 0.99.
A tooth is some 1.5 / margin wide and falls less than it rose; twice that where every case flips and counts go by twos.
"""


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
    if not 0 <= abs(difference) <= discordance <= 1 or n < 1:
        raise ValueError(f"no probabilities: discordance {discordance}, difference {difference}, n {n}")
    share = (discordance + difference) / (2 * discordance) if discordance else 0.0
    total = 0.0
    least = round(n * discordance / 2)
    for flips, weight in _binomial(n, discordance):
        least = _least_gained(flips, n, margin, method, least)
        if least <= flips:
            total += weight * _at_least(least, flips, share)
    return min(total, 1.0)


@lru_cache(maxsize=256)
def cases_needed(margin: float, discordance: float, power: float) -> int:
    """Smallest n from which on a truly equal model passes with at least `power`, by the corrected bound.

    Power rises with n in teeth, since counts are whole: bisection finds an n where it comes to suffice, and what is
    returned lies behind the last one of the next `TEETH` / margin that falls short.

    Raises:
        PolicyError: as `check_power`.
    """
    low, high = check_power(margin, discordance, power)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _short(middle, margin, discordance, power) else (low, middle)
    last = high + math.ceil(TEETH / margin)
    return next((n + 1 for n in range(last, high, -1) if _short(n, margin, discordance, power)), high)


@lru_cache(maxsize=256)
def check_power(margin: float, discordance: float, power: float) -> tuple[int, int]:
    """Whether there is a suite that is large enough: returns an n that falls short (0 does) and a larger one that not.

    Raises:
        PolicyError: `MOST_CASES` do not suffice.
    """
    low, high = 0, 1
    while _short(high, margin, discordance, power):
        if high == MOST_CASES:
            raise PolicyError(
                f"{MOST_CASES} cases do not suffice to tell a loss of {margin} with power {power} where {discordance} "
                "of the cases flip; widen the margin."
            )
        low, high = high, min(2 * high, MOST_CASES)
    return low, high


def _short(n: int, margin: float, discordance: float, power: float) -> bool:
    # Rounded sums: where every case flips, a power of 0.5 is met exactly, and on every machine alike.
    return pass_probability(n, margin, discordance) < power - 1e-9


def _least_gained(flips: int, n: int, margin: float, method: Method, near: int) -> int:
    """Fewest gained of so many flips with which the bound passes, looked for from `near`; `flips` + 1 if none.

    More gained and fewer lost never lowers the score.
    """

    def passes(gained: int) -> bool:
        return exceeds(-margin, gained, flips - gained, n, method)

    least = min(near, flips)
    while least > 0 and passes(least - 1):
        least -= 1
    while least <= flips and not passes(least):
        least += 1
    return least


def _binomial(n: int, p: float) -> list[tuple[int, float]]:
    """(k, probability) of a binomial, without the k that are less likely than 1e-15; from its mode to both sides."""
    if p in (0.0, 1.0):
        return [(n if p else 0, 1.0)]
    odds, mode = p / (1 - p), min(int((n + 1) * p), n)
    weight = math.exp(_log_choose(n, mode) + mode * math.log(p) + (n - mode) * math.log1p(-p))
    below = list(_likely(mode, weight, -1, lambda k: k / ((n - k + 1) * odds)))
    return [*reversed(below[1:]), *_likely(mode, weight, 1, lambda k: (n - k) / (k + 1) * odds)]


def _likely(k: int, weight: float, step: int, ratio: Callable[[int], float]) -> Iterator[tuple[int, float]]:
    """From one k on, each with its weight; `ratio` is the next one's to its own."""
    while weight > 1e-15:
        yield k, weight
        weight *= ratio(k)
        k += step


@lru_cache(maxsize=1 << 16)
def _at_least(least: int, n: int, p: float) -> float:
    return math.fsum(weight for k, weight in _binomial(n, p) if k >= least)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
