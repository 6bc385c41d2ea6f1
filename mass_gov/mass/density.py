"""How much likelier each text is among real ones than among the model's own: an estimate of p_real / p_model.

A logistic regression tells the two apart from hashed character n-grams (Bickel et al., "Discriminative Learning Under
Covariate Shift", 2009; Sugiyama et al., "Density Ratio Estimation in Machine Learning", 2012): with the classes
balanced, its odds are the ratio. Rules: a text is rated by a fit that did not see it (folds by position); the ratios
are clipped to [1/CLIP, CLIP], divided by their mean, and rounded, so that an optimiser's last bits decide nothing.

Does not know gates, or who asks. scikit-learn's versions differ in their last bits: it is pinned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

CLIP = 4.0
FOLDS = 5
FEATURES = 512
_DIGITS = 6


def density_ratios(written: Sequence[str], real: Sequence[str]) -> list[float]:
    """One ratio per written text, with mean 1 (to rounding); all 1 where there is nothing to compare with.

    Arguments:
        written: what the model wrote.
        real: the pool.
    """
    if len(written) < 2 or not real:
        return [1.0] * len(written)
    count = min(FOLDS, len(written))
    mine, theirs = _features(written), _features(real)
    odds = np.empty(len(written))
    for fold in range(count):
        held = np.arange(len(written)) % count == fold
        fit = _fit(mine[~held], theirs)
        odds[held] = np.exp(np.clip(fit.decision_function(mine[held]), -50, 50))
    clipped = np.clip(odds, 1 / CLIP, CLIP)
    return [round(float(ratio), _DIGITS) for ratio in clipped / clipped.mean()]


def _features(texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(texts, FEATURES): hashed runs of one to three characters, each text of length 1."""
    hashing = HashingVectorizer(
        analyzer="char", ngram_range=(1, 3), n_features=FEATURES, alternate_sign=False, lowercase=False
    )
    dense: np.ndarray[tuple[int, int], np.dtype[np.float64]] = hashing.transform(list(texts)).toarray()
    return dense


def _fit(
    mine: np.ndarray[tuple[int, int], np.dtype[np.float64]], theirs: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> LogisticRegression:
    """1 is real. Balanced, so that the prior odds are even whatever the numbers."""
    labels = np.concatenate([np.zeros(len(mine)), np.ones(len(theirs))])
    return LogisticRegression(C=1.0, class_weight="balanced", max_iter=500).fit(np.vstack([mine, theirs]), labels)
