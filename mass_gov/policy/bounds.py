"""One-sided bound on a paired difference of proportions.

Tango's score interval (T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", Statistics in Medicine 17:891-908, 1998). Pure Python, so that an auditor recomputes it.
"""

from __future__ import annotations

import math

Z_95 = 1.6448536269514722
"""95th percentile of the standard normal distribution: one-sided 95%."""


def paired_lower_bound(gained: int, lost: int, n: int, z: float = Z_95) -> float:
    """Return the lower confidence bound of (gained - lost) / n.

    Arguments:
        gained: cases wrong before and right after.
        lost: cases right before and wrong after.
        n: all cases.
        z: normal quantile of the one-sided level.

    Returns:
        The bound in [-1, 1], rounded to 12 decimals; -1 when there is no case, since nothing is then known.
    """
    if min(gained, lost) < 0 or gained + lost > n:
        raise ValueError(f"impossible counts: gained {gained}, lost {lost}, n {n}")
    if n == 0:
        return -1.0
    low, high = -1.0, (gained - lost) / n
    for _ in range(100):
        middle = (low + high) / 2
        if _score(middle, gained, lost, n) > z:
            low = middle
        else:
            high = middle
    return round(low, 12)


def _score(delta: float, gained: int, lost: int, n: int) -> float:
    """Tango's score statistic for H0: difference = delta (his equations 9 and 10; b = gained, c = lost)."""
    a = 2 * n
    b = -gained - lost + (2 * n - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * q + delta * (1 - delta))
    distance = gained - lost - n * delta
    if variance <= 0:
        return math.inf if distance > 0 else 0.0
    return distance / math.sqrt(variance)
