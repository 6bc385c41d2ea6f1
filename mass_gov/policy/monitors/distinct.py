"""Distinct-2: the share of different pairs of neighbouring words among all of them.

Rules: a word is a run of letters, one digit, or one other sign, so that numbers count by their digits. Case-folded.
Source: Li et al. 2016, "A diversity-promoting objective function for neural conversation models" (distinct-n).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

_WORD = re.compile(r"[0-9]|[^\W\d_]+|[^\w\s]|_|\d")


def distinct_bigrams(texts: Iterable[str]) -> float:
    """Different pairs over pairs, in (0, 1]; 1 where there is no pair to repeat."""
    pairs: list[tuple[str, str]] = []
    for text in texts:
        words = _WORD.findall(text.casefold())
        pairs += pairwise(words)
    return len(set(pairs)) / len(pairs) if pairs else 1.0
