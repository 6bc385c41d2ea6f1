"""How alike two texts are: TF-IDF over character n-grams.

Rules: n-grams of 1 to 4 characters, spaces included; tf is the count, idf = ln((1+N)/(1+df)) + 1 (as scikit-learn
smooths it); vectors have length 1; what the reference texts do not contain is ignored.

Does not know what the texts mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

LONGEST = 4
MOST_FEATURES = 4096
Vector = npt.NDArray[np.float32]


def counts_of(text: str) -> Counter[str]:
    """How often each n-gram stands in a text."""
    return Counter(text[i : i + n] for n in range(1, LONGEST + 1) for i in range(len(text) - n + 1))


def vocabulary_of(texts: Sequence[str]) -> tuple[dict[str, int], Vector]:
    """Column of each n-gram (those in most texts first, at most MOST_FEATURES), and the idf of every column."""
    frequency = Counter(gram for text in texts for gram in counts_of(text))
    chosen = sorted(frequency, key=lambda gram: (-frequency[gram], gram))[:MOST_FEATURES]
    idf = [np.log((1 + len(texts)) / (1 + frequency[gram])) + 1 for gram in chosen]
    return {gram: column for column, gram in enumerate(chosen)}, np.asarray(idf, dtype=np.float32)


def unit_vectors(texts: Sequence[str], index: Mapping[str, int], idf: Vector) -> Vector:
    """(texts, columns) float32, rows of length 1 (or 0 where nothing is known)."""
    matrix = np.zeros((len(texts), len(index)), dtype=np.float32)
    for row, text in enumerate(texts):
        for gram, count in counts_of(text).items():
            if gram in index:
                matrix[row, index[gram]] = count
    matrix *= idf
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix /= np.where(norms > 0, norms, np.float32(1.0))
    return matrix
