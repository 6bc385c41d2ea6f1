"""Statistics of ranks: how well one number orders another.

Rules: ties get their mean rank. NaN where a figure has no meaning (one class only, or no variation).
Does not know what the numbers are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def mean_ranks(values: Sequence[float]) -> Array:
    """Ranks from 1, equal values sharing the mean of theirs."""
    array = np.asarray(values, dtype=np.float64)
    _, place, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    found: Array = (ends - (counts - 1) / 2)[place]
    return found


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """The chance that a positive outranks a negative (Mann-Whitney U / n+ n-), ties counting half."""
    mask = np.asarray(positive, dtype=bool)
    wins, losses = int(mask.sum()), int((~mask).sum())
    if not wins or not losses:
        return float("nan")
    return float((mean_ranks(scores)[mask].sum() - wins * (wins + 1) / 2) / (wins * losses))


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rho: Pearson's correlation of the mean ranks."""
    a, b = (ranks - ranks.mean() for ranks in (mean_ranks(first), mean_ranks(second)))
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else float("nan")
