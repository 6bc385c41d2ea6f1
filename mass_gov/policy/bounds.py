"""One-sided 95% lower bounds on a paired difference of proportions, by the method that a policy names.

- `tango`: the score bound of T. Tango ("Equivalence test and confidence interval for the difference in proportions for
  the paired-sample design", Statistics in Medicine 17:891-908, 1998). Its error at a true difference of exactly minus
  the margin goes up to 6.7%: 2.7/n is enough of a margin where nothing flipped, and (1 - 2.7/n)^n is 6.7%. It stays
  for what was decided by it: policies of format 1.
- `corrected`: the same score with its distance shortened by half a step of the lattice that gained - lost lives on, and
  with the quantile `Z_CORRECTED`. The step is 1 where most cases are ties and 2 where none is (gained - lost then has
  the parity of n), so half a step is taken as (1 + discordant / n) / 2. By exact enumeration over the nuisance the
  error is at most 5% for every suite size and margin that was looked at: `bench/regression_power.py`,
  docs/explanation/regression.md.

Pure Python and cached by counts, so that an auditor recomputes every bound. What this does not know: margins.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

Method = Literal["tango", "corrected"]

Z_95 = 1.6448536269514722
"""95th percentile of the standard normal distribution: one-sided 95%."""
Z_CORRECTED = 1.66
"""With 1.65 the largest enumerated error is 4.995%, with this 4.92%: room for suite sizes that were not enumerated."""


@lru_cache(maxsize=65_536)
def paired_lower_bound(gained: int, lost: int, n: int, method: Method = "corrected") -> float:
    """Return the lower confidence bound of (gained - lost) / n.

    Arguments:
        gained: cases wrong before and right after.
        lost: cases right before and wrong after.
        n: all cases.
        method: which bound, see above.

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
        if middle in (low, high):  # as close as numbers get: it would stay here
            break
        if exceeds(middle, gained, lost, n, method):
            low = middle
        else:
            high = middle
    return round(low, 12)


def exceeds(delta: float, gained: int, lost: int, n: int, method: Method) -> bool:
    """Whether these counts say, at one-sided 95%, that the true difference is above `delta`."""
    if method == "tango":
        return _score(delta, gained, lost, n, 0.0) > Z_95
    return _score(delta, gained, lost, n, (1 + (gained + lost) / n) / 2) > Z_CORRECTED


def _score(delta: float, gained: int, lost: int, n: int, correction: float) -> float:
    """Tango's score statistic for H0: difference = delta (his equations 9 and 10; b = gained, c = lost)."""
    a = 2 * n
    b = -gained - lost + (2 * n - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * q + delta * (1 - delta))
    distance = gained - lost - n * delta - correction
    if variance <= 0:
        return math.inf if distance > 0 else 0.0
    return distance / math.sqrt(variance)
