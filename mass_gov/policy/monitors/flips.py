"""An e-process on paired flips: evidence, over many changes, that a deployment loses more answers than it gains.

H0 for a comparison of two states on fresh cases: P(lost) <= P(gained) + tolerance. With Y = 1 for a case that was lost,
-1 for one that was gained and 0 for the rest, E[Y] <= tolerance, so a bet of the share b on losses,

    1 + b * (Y - tolerance),    0 < b < 1 / (1 + tolerance)

is never negative and has expectation <= 1 under H0; its product over cases is a test martingale (at tolerance 0 the
bets are on a coin that is tossed per flip: a lost case multiplies by 1 + b, a gained one by 1 - b). The share that pays
best is not known beforehand, so the capital is spread over a grid of them; a mixture of martingales is one.

A process that has run through many healthy changes has lost its capital and would notice late. So a part of the capital
is kept for every block of `window` probes: block j starts anew with the share 1 / (j * (j + 1)), which add up to 1, and
what an earlier block won or lost stays as it is. That too is a non-negative supermartingale that starts at 1, so by
Ville's inequality it ever reaches 1/alpha under H0 with probability <= alpha, however long it runs and whenever one
looks. A change is compared with its parent and with the base: the mean of the two processes is one as well.

What this does not know: whether the cases are fresh, which validity hangs on (`mass_gov.tasks.probes`).

Sources: Ville 1939; Ramdas, Gruenwald, Vovk & Shafer, "Game-theoretic statistics and safe anytime-valid inference",
Statistical Science 2023; the bet for bounded means: Waudby-Smith & Ramdas, "Estimating means of bounded random
variables by betting", JRSS B 2024.

Decimal arithmetic with a fixed precision, so that an auditor's machine finds the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from functools import lru_cache

BETS = tuple(Decimal(text) for text in ("0.02", "0.05", "0.1", "0.2", "0.35", "0.5", "0.7", "0.9"))
"""Shares of the capital bet on losses, as parts of the largest that is allowed."""
LARGEST = 1e12
"""E-values are recorded up to here: beyond it nothing changes any more."""
_CONTEXT = Context(prec=34)


@dataclass(frozen=True, slots=True)
class Flips:
    """Outcomes of the same cases under two states; `cases` counts those without a flip as well."""

    lost: int
    gained: int
    cases: int

    def __add__(self, other: Flips) -> Flips:
        return Flips(self.lost + other.lost, self.gained + other.gained, self.cases + other.cases)


NO_FLIPS = Flips(0, 0, 0)


def total(flips: Iterable[Flips]) -> Flips:
    """Add up several comparisons; their order does not matter to the e-value."""
    return sum(flips, NO_FLIPS)


def e_value(flips: Flips, tolerance: float) -> float:
    """The capital that the bets of one block make of these flips, from 1; at most `LARGEST`.

    Raises:
        ValueError: more flips than cases.
    """
    same = flips.cases - flips.lost - flips.gained
    if min(same, flips.lost, flips.gained) < 0:
        raise ValueError(f"{flips.lost} lost and {flips.gained} gained do not fit into {flips.cases} cases")
    with localcontext(_CONTEXT):
        capital = sum(a**flips.lost * b**flips.gained * c**same for a, b, c in _factors(tolerance))
        return min(float(capital / len(BETS)), LARGEST)


@lru_cache(maxsize=64)
def _factors(tolerance: float) -> tuple[tuple[Decimal, Decimal, Decimal], ...]:
    """Per bet: what a lost case, a gained one and any other multiply the capital by."""
    with localcontext(_CONTEXT):
        slack = Decimal(repr(tolerance))
        shares = [part / (1 + slack) for part in BETS]
        return tuple((1 + b * (1 - slack), 1 - b * (1 + slack), 1 - b * slack) for b in shares)


def block_of(probe: int, window: int) -> int:
    """The block, counted from 1, that the probe of this number (from 1) belongs to."""
    return (probe - 1) // window + 1


def share_of(block: int) -> float:
    """The part of the capital that a block starts with."""
    return 1.0 / (block * (block + 1))


def carried(before: float, block: int, gained: float) -> float:
    """The process inside a block: what it was when the block began, with the block's part turned into its e-value.

    Arguments:
        before: the process at the end of the block before; 1 for the first.
        block: number of this block, from 1.
        gained: the e-value of the flips in this block so far.
    """
    part = share_of(block)
    return min(max(before - part, 0.0) + part * gained, LARGEST)
